package docstore

import (
	"context"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/docstoretest"
)

func startSim(t *testing.T) *mongosim.Deployment {
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

// TestSimulator runs the suite on a simulated replica set of three, with two elections in the middle: one that the primary
// asks for, and one because it is killed.
func TestSimulator(t *testing.T) {
	sim := startSim(t)
	d := newDeployment(t, sim.URI())
	docstoretest.Run(t, d.open, append(d.options(),
		docstoretest.Elect(func(t *testing.T, _ docstore.Engine) {
			if err := sim.StepDown(t.Context()); err != nil {
				t.Error(err)
			}
			if err := sim.WaitPrimary(t.Context()); err != nil {
				t.Fatal(err)
			}
			killed := sim.Primary()
			if err := sim.Kill(killed); err != nil {
				t.Fatal(err)
			}
			if err := sim.WaitPrimary(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := sim.Restart(killed); err != nil {
				t.Error(err)
			}
		}),
		docstoretest.Away(func(t *testing.T, _ docstore.Engine) func() {
			for i := range sim.Len() {
				if err := sim.Shutdown(i); err != nil {
					t.Fatal(err)
				}
			}
			return func() {
				for i := range sim.Len() {
					if err := sim.Restart(i); err != nil {
						t.Fatal(err)
					}
				}
			}
		}))...)
}
