package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/tests/mongod"
)

// scene is a source that all cases write to at once, each into databases of its own.
type scene struct {
	t      *testing.T
	source *mongod.Deployment
	client *mongo.Client

	writing sync.RWMutex // locked for writing where the source stands still

	mu    sync.Mutex
	did   map[string]int // rounds of each case that went through, since last asked
	noted map[string]bool
}

// workload is what one case writes.
type workload struct {
	name string // the case of backup.md it belongs to, and what it is about
	// before is run once, before the backup begins.
	before func(ctx context.Context, s *scene) error
	// round is run again and again while the source is read and followed. n counts from 0. It must live with what an earlier round
	// left half done.
	round func(ctx context.Context, s *scene, n int, r *mathrand.Rand) error
	every time.Duration // between two rounds
}

func doc(e ...any) bson.D {
	d := make(bson.D, 0, len(e)/2)
	for i := 0; i < len(e); i += 2 {
		d = append(d, bson.E{Key: e[i].(string), Value: e[i+1]}) //nolint:forcetypeassert // a test's own
	}
	return d
}

func (s *scene) db(name string) *mongo.Database { return s.client.Database(name) }

// run runs a command on a database.
func (s *scene) run(ctx context.Context, db string, cmd bson.D) error {
	if i := slices.IndexFunc(cmd, func(e bson.E) bool { return e.Key == "writeConcern" }); i < 0 {
		cmd = append(cmd, bson.E{Key: "writeConcern", Value: doc("w", "majority")})
	}
	return s.db(db).RunCommand(ctx, cmd).Err()
}

// atLeast reports whether the source's version is that or later.
func (s *scene) atLeast(major, minor int) bool {
	var a, b int
	if _, err := fmt.Sscanf(s.source.Version(), "%d.%d", &a, &b); err != nil {
		s.t.Error(err)
	}
	return a > major || a == major && b >= minor
}

// unless runs what the stand-in may not know, and says so once where it does not. A real server must know it.
func (s *scene) unless(what string, err error) error {
	var c mongo.CommandError
	if s.source.Real() || !errors.As(err, &c) || passing(err) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.noted[what] {
		s.noted[what] = true
		s.t.Logf("the stand-in refuses %s: %v", what, err)
	}
	return nil
}

// passing reports whether an error is what elections, pauses and half-done rounds cause.
func passing(err error) bool {
	if err == nil {
		return false
	}
	if mongo.IsNetworkError(err) || mongo.IsTimeout(err) || mongo.IsDuplicateKeyError(err) || errors.Is(err, mongo.ErrNoDocuments) {
		return true
	}
	var labelled mongo.LabeledError
	if errors.As(err, &labelled) && (labelled.HasErrorLabel("TransientTransactionError") || labelled.HasErrorLabel("RetryableWriteError")) {
		return true
	}
	// Create and drop give what a stepdown does to their write concern in a type that the driver keeps to itself.
	if strings.Contains(err.Error(), "write command error: [{write errors: []}, {") {
		return true
	}
	var server mongo.ServerError
	if !errors.As(err, &server) {
		return false
	}
	for _, code := range []int{
		6, 7, 89, 91, 9001, 189, 10107, 13435, 11600, 11602, 10058, 262, 50, // elections and connections
		26, 27, 48, 85, 86, 68, 276, // there or not there already
		251, 246, 112, 211, 24, 117, 12587, 43, 175, 237, 51003, // interrupted transactions, cursors, builds; a user that is there
		11, 31, 51002, // a user that is not, roles
	} {
		if server.HasErrorCode(code) {
			return true
		}
	}
	return false
}

// start begins all workloads, each on its own. What it gives ends them.
func (s *scene) start(all []workload, seed uint64) (end func()) {
	ctx, stop := context.WithCancel(s.t.Context())
	var running sync.WaitGroup
	for i, w := range all {
		if w.round == nil {
			continue
		}
		r := mathrand.New(mathrand.NewPCG(seed, uint64(100+i))) //nolint:gosec // a workload
		running.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-ctx.Done():
					return
				case <-time.After(w.every):
				}
				if err := s.one(ctx, &w, n, r); err != nil && ctx.Err() == nil {
					s.t.Errorf("%s, round %d: %v", w.name, n, err)
					return
				}
			}
		})
	}
	end = sync.OnceFunc(func() {
		stop()
		running.Wait()
	})
	s.t.Cleanup(end)
	return end
}

func (s *scene) one(ctx context.Context, w *workload, n int, r *mathrand.Rand) error {
	s.writing.RLock()
	defer s.writing.RUnlock()
	if ctx.Err() != nil {
		return nil
	}
	// A round that has begun goes to its end, so that nothing is under way where the source stands still.
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	err := w.round(within, s, n, r)
	if passing(err) {
		return nil
	}
	if err == nil {
		s.mu.Lock()
		s.did[w.name]++
		s.mu.Unlock()
	}
	return err
}

// happened waits until each workload went through some rounds more.
func (s *scene) happened(all []workload, rounds int) {
	s.t.Helper()
	s.mu.Lock()
	clear(s.did)
	s.mu.Unlock()
	var missing []string
	for over := time.Now().Add(3 * time.Minute); time.Now().Before(over); pause(s.t, 200*time.Millisecond) {
		missing = nil
		s.mu.Lock()
		for _, w := range all {
			if w.round != nil && s.did[w.name] < rounds {
				missing = append(missing, fmt.Sprintf("%s: %d", w.name, s.did[w.name]))
			}
		}
		s.mu.Unlock()
		if len(missing) == 0 || s.t.Failed() {
			return
		}
	}
	s.t.Fatalf("%d rounds of each do not happen: %s", rounds, strings.Join(missing, "; "))
}

// moment is what the source held at a position of its oplog.
type moment struct {
	at   bson.Timestamp
	wall time.Time
	dump dump
}

func (m *moment) position() string { return fmt.Sprintf("%d:%d", m.at.T, m.at.I) }

// still stops all writes, and dumps the source as it is then.
func (s *scene) still(keep func(ns string) bool) *moment {
	s.t.Helper()
	s.writing.Lock()
	defer s.writing.Unlock()
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Minute)
	defer cancel()
	session, err := s.client.StartSession()
	if err != nil {
		s.t.Fatal(err)
	}
	defer session.EndSession(ctx)
	m := &moment{}
	within := mongo.NewSessionContext(ctx, session)
	if _, err := s.db("marker").Collection("marks").UpdateOne(within, doc("_id", 1), doc("$inc", doc("n", 1)), options.UpdateOne().SetUpsert(true)); err != nil {
		s.t.Fatal(err)
	}
	m.at = *session.OperationTime()
	if m.dump, err = takeDump(ctx, s.client, keep); err != nil {
		s.t.Fatal(err)
	}
	m.wall = time.Now()
	s.t.Logf("at %s the source holds %d namespaces and %d documents", m.position(), len(m.dump), m.dump.count())
	return m
}

// noise is binary data that does not compress.
func noise(n int) bson.Binary {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return bson.Binary{Data: b}
}

// transaction runs f in a transaction.
func (s *scene) transaction(ctx context.Context, f func(ctx context.Context) error) error {
	session, err := s.client.StartSession()
	if err != nil {
		return err
	}
	defer session.EndSession(ctx)
	_, err = session.WithTransaction(ctx, func(ctx context.Context) (any, error) { return nil, f(ctx) })
	return err
}
