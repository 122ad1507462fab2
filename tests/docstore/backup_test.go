package docstore

import (
	"context"
	"errors"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// TestOplogThroughElections: agents that all believe to be the active one post slices of their own cutting through two servers,
// while the primary of the site's database changes. What was acknowledged is there afterwards, and it is one chain.
func TestOplogThroughElections(t *testing.T) {
	sim := startSim(t)
	s := openServers(t, sim, 2)
	const group, cluster = model.ID("5f0000000000000000000001"), model.ID("5f0000000000000000000c01")
	areas := []*backup.Backup{backup.New(s.stores[0]), backup.New(s.stores[1])}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	_, err := areas[0].SaveConfig(ctx, backup.Config{GroupID: group, ClusterID: cluster, Schedule: snapshot.Default()}, day0)
	must(err)
	_, err = areas[0].SetStatus(ctx, cluster, model.BackupStarted, day0)
	must(err)
	must(areas[0].UpdateJobAs(ctx, cluster, 1, func(j *backup.Job) error { j.StoreID = "main"; return nil }))
	at := func(n uint32) oplog.OpTime { return oplog.OpTime{TS: bson.Timestamp{T: 1000, I: n}, Term: 1} }
	_, err = areas[0].BeginEpoch(ctx, backup.Epoch{Job: cluster, Number: 1, AgentID: "a", ReplicaSetID: "aa", Start: at(1), StartEntry: chain.Digest{1}}, day0)
	must(err)

	slice := func(h chain.Head, worker int) (backup.OplogSlice, error) {
		b := chain.Begin(string(cluster), 1, h.Last, h.Sum)
		for n := h.Last.TS.I + 1; n <= h.Last.TS.I+1+uint32(worker); n++ {
			raw, err := bson.Marshal(bson.D{
				{Key: "ts", Value: at(n).TS}, {Key: "t", Value: int64(1)}, {Key: "v", Value: int64(2)}, {Key: "op", Value: "n"}, {Key: "ns", Value: ""}, {Key: "o", Value: bson.D{{Key: "msg", Value: ""}}},
			})
			if err != nil {
				return backup.OplogSlice{}, err
			}
			e, err := oplog.Decode(raw)
			if err != nil {
				return backup.OplogSlice{}, err
			}
			if err := b.Add(e, e.Raw); err != nil {
				return backup.OplogSlice{}, err
			}
		}
		made, _, err := b.Finish()
		if err != nil {
			return backup.OplogSlice{}, err
		}
		return backup.OplogSlice{Slice: *made, Key: made.ID(), Stored: 1, At: day0}, nil
	}
	acked := make(chan chain.Digest, 1<<20)
	s.through(sim, 2, func(ctx context.Context, server, worker int) error {
		e, err := areas[server].Epoch(ctx, cluster, 1)
		if err != nil {
			return err
		}
		made, err := slice(e.Head, worker)
		if err != nil {
			return err
		}
		switch _, _, err = areas[server].AddSlice(ctx, made, day0); {
		case err == nil:
			acked <- made.Slice.Sum()
		case errors.Is(err, chain.ErrOverlap), errors.Is(err, chain.ErrSplice), errors.Is(err, store.ErrConflict): // somebody else was faster
			return nil
		}
		return err
	})
	close(acked)
	stored := map[chain.Digest]bool{}
	var after oplog.OpTime
	for {
		page, err := areas[1].Slices(ctx, cluster, 1, after, 100)
		must(err)
		if len(page) == 0 {
			break
		}
		for _, one := range page {
			if one.Slice.After != after {
				t.Fatalf("%s follows %s, not %s", one.Slice.ID(), one.Slice.After, after)
			}
			stored[one.Slice.Sum()], after = true, one.Slice.Last
		}
	}
	n := 0 // of acknowledgements: two may be for one slice
	for sum := range acked {
		if n++; !stored[sum] {
			t.Errorf("a slice was acknowledged and is not there")
		}
	}
	if n < 3 {
		t.Errorf("only %d slices were acknowledged", n)
	}
	t.Logf("%d acknowledgements, %d slices", n, len(stored))
}
