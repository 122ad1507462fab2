package alerts_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/mongodoc"
)

// TestThreeEvaluatorsOnAReplicaSet is TestThreeEvaluatorsOneKilled on the simulated replica set.
func TestThreeEvaluatorsOnAReplicaSet(t *testing.T) {
	sim, err := mongosim.Start(t.Context(), mongosim.Options{DBPath: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		if err := sim.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	for at := 1; at <= 10; at += 3 {
		t.Run(fmt.Sprintf("at write %d", at), func(t *testing.T) {
			var e docstore.Engine
			e, err := mongodoc.Open(mongodoc.Options{URI: sim.URI(), Database: fmt.Sprintf("heartwood%d", at)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = e.Close() })
			downSite(openSiteOn(t, e, clock))
			threeEvaluators(t, e, at)
		})
	}
}
