package blockstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/local/stores"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/blockstoretest"
	"github.com/heartwood-db/heartwood/shared/model"
)

func simulator(t *testing.T) *mongosim.Deployment {
	t.Helper()
	d, err := mongosim.Start(t.Context(), mongosim.Options{DBPath: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		if err := d.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return d
}

func openMongo(t *testing.T, uri, database string) blockstore.Store {
	t.Helper()
	s, err := stores.Open(t.Context(), model.BlockStore{ID: "m", Type: model.BlockStoreMongo, URI: model.Secret(uri), Database: database}, stores.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stores.Close(s) })
	return s
}

// TestReplicaSet runs the suite on a simulated replica set, each case in a database of its own.
func TestReplicaSet(t *testing.T) {
	uri := simulator(t).URI()
	var n atomic.Int64
	blockstoretest.Run(t, func(t *testing.T) blockstore.Store {
		return openMongo(t, uri, fmt.Sprintf("blocks%d", n.Add(1)))
	})
}

// TestElections writes objects while the replica set changes its primary: what was reported stored is there, whole.
func TestElections(t *testing.T) {
	sim := simulator(t)
	s := openMongo(t, sim.URI(), "blocks")
	ctx := t.Context()
	done := make(chan error, 1)
	go func() {
		for range 3 {
			if err := sim.StepDown(ctx); err != nil {
				done <- err
				return
			}
			if err := sim.WaitPrimary(ctx); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	stored, running := 0, true
	for i := 0; running || i < 20; i++ {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		err := blockstoretest.Write(ctx, s, fmt.Sprintf("k/%04d", i), blockstoretest.Random(uint64(i), 1<<20+i)) //nolint:gosec // a small number
		if err != nil {
			if !errors.Is(err, blockstore.ErrUnavailable) {
				t.Fatalf("object %d: %v", i, err)
			}
			continue
		}
		stored++
		got, err := blockstore.Get(ctx, s, fmt.Sprintf("k/%04d", i), 2<<20)
		if err != nil || !bytes.Equal(got, blockstoretest.Random(uint64(i), 1<<20+i)) { //nolint:gosec // a small number
			t.Fatalf("object %d: %d bytes, %v", i, len(got), err)
		}
	}
	if stored < 10 {
		t.Errorf("only %d objects were stored", stored)
	}
}
