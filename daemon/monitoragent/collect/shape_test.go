package collect

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/wire"
)

// FuzzShapes gives arbitrary bytes to everything that takes replies apart.
func FuzzShapes(f *testing.F) {
	for _, d := range []bson.D{
		{{Key: "totalLinesWritten", Value: 3}, {Key: "log", Value: bson.A{"a", "b"}}},
		{{Key: "cursor", Value: bson.D{{Key: "firstBatch", Value: bson.A{bson.D{{Key: "ts", Value: bson.Timestamp{T: 1}}}}}}}},
		{{Key: "databases", Value: bson.A{bson.D{{Key: "name", Value: "a"}, {Key: "sizeOnDisk", Value: 5.0}}}}},
		{{Key: "argv", Value: bson.A{"--password", "x"}}, {Key: "token", Value: "x"}},
		{{Key: "data", Value: bson.D{{Key: "systemMetrics", Value: bson.D{{Key: "cpu", Value: 1}}}}}},
	} {
		b, err := bson.Marshal(d)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if wire.Validate(b) != nil {
			t.Skip("replies are checked before they are looked into")
		}
		h := &Host{logLines: 1}
		s := &session{h, echo{b}}
		for i := range matrix() {
			if c := &matrix()[i]; c.shape != nil {
				_, _ = c.shape(context.Background(), s, b)
			}
		}
		_, _ = dbStats(context.Background(), s)
		h.statsByAggregate = true
		_, _ = shapeOplogStats(context.Background(), s, b)
	})
}

// echo answers everything with the same bytes.
type echo struct{ reply bson.Raw }

func (e echo) Run(context.Context, string, bson.D) (bson.Raw, error) { return e.reply, nil }
func (echo) Certificate(context.Context) *wire.Certificate           { return nil }
func (echo) Remote() (string, bool)                                  { return "", false }
func (echo) Close()                                                  {}

// clearedPool is what the driver answers while a pool is emptied because the process was found gone.
type clearedPool struct{ error }

func (clearedPool) Retryable() bool { return true }

func TestRoundPause(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0: 20 * time.Minute, 10 * time.Second: 20 * time.Minute, 30 * time.Second: time.Hour, time.Hour: 24 * time.Hour,
	} {
		if got := roundPause(took); got != want {
			t.Errorf("after %v a pause of %v, want %v", took, got, want)
		}
	}
}

func TestLargestDatabasesComeFirst(t *testing.T) {
	list := bson.A{}
	for i := range 250 {
		list = append(list, bson.D{{Key: "name", Value: fmt.Sprintf("db%03d", i)}, {Key: "sizeOnDisk", Value: float64(i)}})
	}
	b, err := bson.Marshal(bson.D{{Key: "databases", Value: list}})
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{databases: []string{"db120", "gone"}} // left from a round that ran out of time
	if _, err := rememberDatabases(t.Context(), &session{host: h}, b); err != nil {
		t.Fatal(err)
	}
	if len(h.databases) != maxDatabases || h.databases[0] != "db120" || h.databases[1] != "db249" || h.databases[2] != "db248" {
		t.Errorf("%d databases, %v", len(h.databases), h.databases[:3])
	}
}

// TestTooLargeReplies: what is asked seldom may be huge and comes first, from beside; it must not cost the sample.
func TestTooLargeReplies(t *testing.T) {
	doc := func(size int) bson.Raw {
		b, err := bson.Marshal(bson.D{{Key: "x", Value: make([]byte, size)}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	h := &Host{due: map[string]time.Time{}}
	h.commands = matrix()
	p, r := &wire.Ping{}, &replies{}
	h.settle(outcome{command: dbStatsCommand, reply: doc(wire.MaxReplies - 1<<20)}, time.Time{}, p, r)
	for i := range h.commands {
		if c := &h.commands[i]; c.name == "serverStatus" || c.name == "replSetGetStatus" {
			h.settle(outcome{command: c, reply: doc(1 << 20)}, time.Time{}, p, r)
		}
	}
	b, err := r.encode()
	if !errors.Is(err, errRepliesTooLarge) {
		t.Errorf("error %v", err)
	}
	got, err := wire.DecodeReplies(b)
	if err != nil {
		t.Fatal(err)
	}
	elements, err := got.Elements()
	if err != nil || len(elements) != 2 || elements[0].Key() != "serverStatus" || elements[1].Key() != "replSetGetStatus" {
		t.Errorf("%d replies, %v", len(elements), err)
	}
}

func TestClassify(t *testing.T) {
	tests := []struct {
		err  error
		kind Kind
		code int32
	}{
		{context.DeadlineExceeded, TimedOut, codeNetworkTimeout},
		{errors.Join(context.DeadlineExceeded, errors.New("socket was unexpectedly closed")), TimedOut, codeNetworkTimeout},
		{context.Canceled, Unreachable, 0},
		{errors.New("something else"), Failed, 0},
		{fmt.Errorf("hello: %w", clearedPool{errors.New("the pool was cleared")}), Unreachable, codeHostUnreachable},
	}
	for _, tt := range tests {
		f, kind := Classify("serverStatus", tt.err)
		if kind != tt.kind || f.Code != tt.code || f.Command != "serverStatus" || f.Message == "" {
			t.Errorf("%v: %+v, kind %d", tt.err, f, kind)
		}
	}
	long := make([]byte, 4000)
	for i := range long {
		long[i] = 'x'
	}
	if f, _ := Classify("x", errors.New(string(long))); len(f.Message) > maxMessage+3 {
		t.Errorf("a message of %d bytes", len(f.Message))
	}
}
