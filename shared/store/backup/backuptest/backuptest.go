// Package backuptest gives tests of pages and of the API a backup with a history, as a daemon and an agent would leave it.
package backuptest

import (
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// Token is of the lease that History writes under.
const Token = 1

// Daemon is the daemon that History speaks of.
const Daemon = "d1:/heads/"

// History makes a started backup of the set rs0: an epoch, a snapshot at a time, and oplog from a minute before to ten minutes
// after it. The snapshot's id is returned.
func History(t testing.TB, b *backup.Backup, group, cluster model.ID, at time.Time) string {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(b.UpdateJobAs(ctx, cluster, Token, func(j *backup.Job) error {
		j.Daemon, j.Stage, j.StoreID, j.StageSince = Daemon, backup.StageTailing, "local", at
		return nil
	}))
	must(b.MarkStarted(ctx, cluster, at))
	pos := func(minutes int, i uint32) oplog.OpTime {
		return oplog.OpTime{TS: bson.Timestamp{T: uint32(at.Unix() + int64(60*minutes)), I: i}, Term: 1} //nolint:gosec // times of tests
	}
	_, err := b.BeginEpoch(ctx, backup.Epoch{
		Job: cluster, Number: 1, SetName: "rs0", ReplicaSetID: "5f00000000000000000000ee", Start: pos(-1, 1), Version: "7.0.14", FCV: "7.0",
	}, at)
	must(err)
	builder := chain.Begin(string(cluster), 1, oplog.OpTime{}, chain.Digest{})
	for _, p := range []oplog.OpTime{pos(-1, 1), pos(0, 3), pos(10, 1)} {
		raw, err := bson.Marshal(bson.D{
			{Key: "ts", Value: p.TS},
			{Key: "t", Value: int64(1)},
			{Key: "v", Value: int64(2)},
			{Key: "op", Value: "n"},
			{Key: "ns", Value: ""},
			{Key: "o", Value: bson.D{}},
		})
		must(err)
		e, err := oplog.Decode(raw)
		must(err)
		must(builder.Add(e, e.Raw))
	}
	s, _, err := builder.Finish()
	must(err)
	_, _, err = b.AddSlice(ctx, backup.OplogSlice{Slice: *s, Key: "oplog/x", Stored: 10, At: at}, at.Add(10*time.Minute))
	must(err)
	id := string(model.NewID())
	must(b.AddSnapshot(ctx, Token, backup.Snapshot{
		ID: id, GroupID: group, Job: cluster, Epoch: 1, At: at, Kinds: []snapshot.Kind{snapshot.Base}, Expires: at.Add(48 * time.Hour), Complete: true,
		Created: at, Finished: at.Add(time.Minute), Applied: pos(0, 3), ReplayFrom: pos(0, 3), StoreID: "local", SetName: "rs0", Version: "7.0.14",
		FCV: "7.0", FileBytes: 1 << 20, AddedBytes: 1 << 19,
	}))
	must(b.SetContents(ctx, cluster, id, []restoreplan.Namespace{{NS: "shop.orders", Bytes: 1000}}))
	must(b.UpdateJobAs(ctx, cluster, Token, func(j *backup.Job) error {
		j.Last, j.Next = id, at.Add(24*time.Hour)
		return nil
	}))
	return id
}

// Tail adds one slice of oplog to epoch 1 of a backup that History made: a single entry at a moment after what is stored.
func Tail(t testing.TB, b *backup.Backup, cluster model.ID, at time.Time) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	e, err := b.Epoch(t.Context(), cluster, 1)
	must(err)
	pos := oplog.OpTime{TS: bson.Timestamp{T: uint32(at.Unix()), I: 1}, Term: 1} //nolint:gosec // times of tests
	raw, err := bson.Marshal(bson.D{
		{Key: "ts", Value: pos.TS},
		{Key: "t", Value: int64(1)},
		{Key: "v", Value: int64(2)},
		{Key: "op", Value: "n"},
		{Key: "ns", Value: ""},
		{Key: "o", Value: bson.D{}},
	})
	must(err)
	entry, err := oplog.Decode(raw)
	must(err)
	builder := chain.Begin(string(cluster), 1, e.Head.Last, e.Head.Sum)
	must(builder.Add(entry, entry.Raw))
	s, _, err := builder.Finish()
	must(err)
	_, _, err = b.AddSlice(t.Context(), backup.OplogSlice{Slice: *s, Key: "oplog/" + at.Format("20060102T150405"), Stored: 10, At: at}, at)
	must(err)
}
