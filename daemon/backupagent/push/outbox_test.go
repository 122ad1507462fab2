package push_test

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/daemon/backupagent/push"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// history makes n slices of one entry each that follow each other.
func history(t *testing.T, n int) (out []*chain.Slice, contents [][]byte) {
	t.Helper()
	var after oplog.OpTime
	var sum chain.Digest
	for i := range n {
		raw, err := bson.Marshal(bson.D{
			{Key: "ts", Value: bson.Timestamp{T: uint32(i + 1), I: 1}}, {Key: "t", Value: int64(1)}, {Key: "v", Value: int64(2)}, {Key: "op", Value: "n"}, {Key: "ns", Value: ""}, {Key: "o", Value: bson.D{}},
		})
		if err != nil {
			t.Fatal(err)
		}
		e, err := oplog.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		b := chain.Begin("j", 1, after, sum)
		if err := b.Add(e, e.Raw); err != nil {
			t.Fatal(err)
		}
		s, content, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		out, contents = append(out, s), append(contents, content)
		after, sum = s.Last, s.Sum()
	}
	return out, contents
}

// server is what Send talks to: it takes what follows its head.
type server struct {
	head  chain.Head
	fails func(n int) error // before it is stored
	deaf  func(n int) error // after
	n     int
}

func (s *server) send(_ context.Context, h wire.OplogHeader, content []byte) (wire.Head, error) {
	s.n++
	if s.fails != nil {
		if err := s.fails(s.n); err != nil {
			return wire.Head{}, err
		}
	}
	docs, err := wire.Decompress(content, h.Slice.Bytes)
	if err == nil {
		err = h.Slice.Open(docs, func(bson.Raw) error { return nil })
	}
	if err != nil {
		return wire.Head{}, &call.Refusal{Status: http.StatusBadRequest, Code: wire.CodeDamaged, Reason: err.Error()}
	}
	next, _, err := s.head.Follow(&h.Slice)
	if err != nil {
		return wire.Head{}, &call.Refusal{Status: http.StatusConflict, Code: wire.CodeGap, Reason: err.Error()}
	}
	s.head = next
	if s.deaf != nil {
		if err := s.deaf(s.n); err != nil {
			return wire.Head{}, err
		}
	}
	return s.known(), nil
}

func (s *server) known() wire.Head {
	return wire.Head{Last: s.head.Last, Sum: s.head.Sum, Entry: s.head.Entry}
}

func open(t *testing.T, dir string, s *server) *push.Outbox {
	t.Helper()
	b, err := push.Open(push.Options{Dir: dir, MaxBytes: 1 << 20, Job: "j", Epoch: 1, Head: s.known(), Send: s.send})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOutboxAfterAnyEnd ends the process after each number of sent slices, with the last answer heard or not, and goes on.
func TestOutboxAfterAnyEnd(t *testing.T) {
	slices, contents := history(t, 6)
	for sent := range len(slices) + 1 {
		for _, heard := range []bool{true, false} {
			s := &server{head: chain.Head{Job: "j", Epoch: 1}}
			dir := filepath.Join(t.TempDir(), "box")
			b := open(t, dir, s)
			for i, x := range slices {
				if err := b.Put(t.Context(), x, time.Time{}, contents[i]); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			killed := errors.New("killed")
			if heard {
				s.fails = func(n int) error {
					if n > sent {
						cancel(killed)
						return killed
					}
					return nil
				}
			} else {
				s.deaf = func(n int) error {
					if n >= sent {
						cancel(killed)
						return killed
					}
					return nil
				}
			}
			if sent == len(slices) && heard {
				time.AfterFunc(100*time.Millisecond, func() { cancel(killed) })
			}
			if err := b.Run(ctx); !errors.Is(err, killed) {
				t.Fatal(err)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			s.fails, s.deaf = nil, nil
			b = open(t, dir, s)
			if end := b.End(); s.head.Last.Before(slices[5].Last) && (end == nil || end.Last != slices[5].Last) {
				t.Errorf("%d sent, heard %v: it goes on behind %+v", sent, heard, end)
			}
			ctx, stop := context.WithCancel(t.Context())
			time.AfterFunc(100*time.Millisecond, stop)
			if err := b.Run(ctx); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if s.head.Sum != slices[5].Sum() {
				t.Errorf("%d sent, heard %v: the server is at %s", sent, heard, s.head.Last)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestOutboxOfAnotherHistoryIsEmptied(t *testing.T) {
	slices, contents := history(t, 4)
	dir := filepath.Join(t.TempDir(), "box")
	s := &server{head: chain.Head{Job: "j", Epoch: 1}}
	b := open(t, dir, s)
	for i, x := range slices {
		if err := b.Put(t.Context(), x, time.Time{}, contents[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	s.head.Last, s.head.Sum, s.head.Entry = slices[1].Last, chain.Digest{1}, chain.Digest{2} // somebody else's slices
	b = open(t, dir, s)
	defer func() { _ = b.Close() }()
	if b.End() != nil || b.Waiting() != 0 {
		t.Errorf("it still holds %d bytes up to %+v", b.Waiting(), b.End())
	}
}

func TestOutboxSaysWhatTheServerSays(t *testing.T) {
	slices, contents := history(t, 1)
	for code, want := range map[string]error{
		wire.CodeGap: push.ErrStale, wire.CodeOverlap: push.ErrStale, wire.CodeSplice: push.ErrStale, wire.CodeConflict: push.ErrStale, wire.CodeMalformed: push.ErrStale,
		wire.CodeEpoch: push.ErrStopped, wire.CodeStopped: push.ErrStopped,
	} {
		s := &server{head: chain.Head{Job: "j", Epoch: 1}, fails: func(int) error { return &call.Refusal{Status: http.StatusConflict, Code: code} }}
		b := open(t, t.TempDir(), s)
		if err := b.Put(t.Context(), slices[0], time.Time{}, contents[0]); err != nil {
			t.Fatal(err)
		}
		if err := b.Run(t.Context()); !errors.Is(err, want) {
			t.Errorf("%s: %v", code, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
