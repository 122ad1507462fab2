// Package storetest opens stores for tests, on a SQLite file of their own, and breaks them on purpose.
package storetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
	"github.com/heartwood-db/heartwood/shared/seal"
	"github.com/heartwood-db/heartwood/shared/store"
)

// GenKey is the gen.key of every test site.
const GenKey = "heartwood tests gen.key!"

// Box is the box of every test site.
func Box(t testing.TB) *seal.Box {
	t.Helper()
	box, err := seal.New([]byte(GenKey))
	if err != nil {
		t.Fatal(err)
	}
	return box
}

// dir is a folder for databases, in memory where the system has such: waiting for a disk would be most of these tests'
// time, and none of them pulls the plug.
func dir(t testing.TB) string {
	t.Helper()
	d, err := os.MkdirTemp("/dev/shm", "heartwood-test-*") //nolint:usetesting // T.TempDir is on the disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(d) })
	return d
}

// Engine opens a new embedded database that is closed when the test ends.
func Engine(t testing.TB) *sqlitedoc.Engine {
	t.Helper()
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: filepath.Join(dir(t), "heartwood.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// Prepared lets prepare fill a new embedded database once and returns a function that opens copies of it: many tests
// begin with the same state, and making it anew for each would take most of their time.
func Prepared(t testing.TB, prepare func(e docstore.Engine)) func(t *testing.T) docstore.Engine {
	t.Helper()
	original := filepath.Join(dir(t), "original.db")
	e := Engine(t)
	prepare(e)
	if err := e.Backup(t.Context(), original, nil); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(original) //nolint:gosec // made above
	if err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T) docstore.Engine {
		t.Helper()
		path := filepath.Join(dir(t), "heartwood.db")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := sqlitedoc.Open(sqlitedoc.Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		return e
	}
}

// Open opens a store with the collections on a new embedded database.
func Open(t testing.TB, collections ...docstore.Collection) *store.Store {
	t.Helper()
	return OpenOn(t, Engine(t), collections...)
}

// OpenOn opens a store with the collections on an engine.
func OpenOn(t testing.TB, e docstore.Engine, collections ...docstore.Collection) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Engine: e, Box: Box(t), Version: "test", Collections: collections})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Fault says how a Faulty engine breaks.
type Fault int

// The ways to break.
const (
	// Refuse: the write and all after it fail with ErrUnavailable and do nothing, as when the database went away.
	Refuse Fault = iota
	// Lose: the write is done but its answer is lost, and all after it fail with ErrUnavailable: the process died.
	Lose
	// Blink: the write is done but its answer is lost; what comes after works.
	Blink
	// Miss: the write is not done and its answer is lost; what comes after works.
	Miss
)

// Faults are all ways to break.
func Faults() []Fault { return []Fault{Refuse, Lose, Blink, Miss} }

// Faulty is an engine whose n-th writing call (Write or DeleteRange) breaks.
type Faulty struct {
	docstore.Engine

	mu     sync.Mutex
	fault  Fault
	at     int
	calls  int
	broken bool
	clock  func() time.Time
}

// Break wraps an engine so that the at-th writing call from now (1 is the next) breaks; 0 breaks none.
func Break(e docstore.Engine, fault Fault, at int) *Faulty {
	return &Faulty{Engine: e, fault: fault, at: at}
}

// Calls is how many writing calls came in.
func (f *Faulty) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// SetClock makes Now tell the time of a function.
func (f *Faulty) SetClock(now func() time.Time) { f.clock = now }

// Now is the engine's clock, or the one that was set.
func (f *Faulty) Now(ctx context.Context) (time.Time, error) {
	if f.clock != nil {
		return f.clock(), nil
	}
	return f.Engine.Now(ctx)
}

// step counts a call and says whether to carry it out and what to answer instead.
func (f *Faulty) step() (do bool, answer error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.broken {
		return false, docstore.ErrUnavailable
	}
	if f.calls != f.at {
		return true, nil
	}
	switch f.fault {
	case Refuse:
		f.broken = true
		return false, docstore.ErrUnavailable
	case Lose:
		f.broken = true
		return true, docstore.ErrOutcomeUnknown
	case Blink:
		return true, docstore.ErrOutcomeUnknown
	default:
		return false, docstore.ErrOutcomeUnknown
	}
}

// Write breaks or passes on.
func (f *Faulty) Write(ctx context.Context, ops []docstore.Op, ordered bool) ([]docstore.Result, error) {
	do, answer := f.step()
	if !do {
		return nil, answer
	}
	results, err := f.Engine.Write(ctx, ops, ordered)
	if answer != nil {
		return nil, answer
	}
	return results, err
}

// DeleteRange breaks or passes on.
func (f *Faulty) DeleteRange(ctx context.Context, collection, from, to string, limit int) (int, error) {
	do, answer := f.step()
	if !do {
		return 0, answer
	}
	n, err := f.Engine.DeleteRange(ctx, collection, from, to, limit)
	if answer != nil {
		return 0, answer
	}
	return n, err
}

// EachStep runs a multi-step write against every way of breaking every one of its writing calls. For each case fresh
// gives an engine in the state before, run does the work once and may fail, and check sees the engine whole again and
// must bring the work to its end and look at the outcome. run is told which error to expect: none with Blink and Miss
// if the work hides a lost answer.
func EachStep(t *testing.T, fresh func(t *testing.T) docstore.Engine, run func(t *testing.T, e docstore.Engine) error, check func(t *testing.T, e docstore.Engine, failed error)) {
	t.Helper()
	whole := Break(fresh(t), Refuse, 0)
	if err := run(t, whole); err != nil {
		t.Fatalf("without faults: %v", err)
	}
	if whole.Calls() == 0 {
		t.Fatal("the work writes nothing")
	}
	for _, fault := range Faults() {
		for at := 1; at <= whole.Calls(); at++ {
			ok := t.Run(fmt.Sprintf("fault %d at write %d of %d", fault, at, whole.Calls()), func(t *testing.T) {
				e := fresh(t)
				err := run(t, Break(e, fault, at))
				check(t, e, err)
				if t.Failed() {
					t.Logf("the work said: %v", err)
				}
			})
			if !ok {
				return
			}
		}
	}
}
