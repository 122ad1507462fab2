package sqlitedoc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

const childEnv = "HEARTWOOD_SQLITEDOC_CHILD"

// TestKill starts itself again in a child process that writes without pause, kills it with SIGKILL in the middle of a batch,
// and checks that every write the child saw acknowledged is there.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "heartwood.db")
	if child := os.Getenv(childEnv); child != "" {
		writeForEver(t, open(t, Options{Path: child}))
	}
	acked := map[string]int64{}
	for round := range 4 {
		killOne(t, path, 150*(round+1), acked)
		e := open(t, Options{Path: path})
		checkAcked(t, e, acked)
		if faults, err := e.Check(t.Context()); err != nil || len(faults) > 0 {
			t.Errorf("round %d: Check: %v, %v", round, faults, err)
		}
		res, err := e.Write(t.Context(), []docstore.Op{{Kind: docstore.Put, Collection: "rows", ID: "probe", Body: body(t, 10)}}, true)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		revs := map[int64]string{res[0].Rev: "the write after the kill"}
		for id, r := range acked {
			if other, ok := revs[r]; ok {
				t.Errorf("round %d: %s and %s have one revision, %d", round, id, other, r)
			}
			revs[r] = id
		}
		if err := e.Close(); err != nil {
			t.Fatalf("round %d: Close: %v", round, err)
		}
	}
}

// killOne runs a child until it has reported enough writes, kills it, and adds what it reported to acked.
func killOne(t *testing.T, place string, enough int, acked map[string]int64) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), childEnv+"="+place)
	cmd.ExtraFiles = []*os.File{w}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	lines := bufio.NewScanner(r)
	n := 0
	for lines.Scan() {
		id, rev, ok := strings.Cut(lines.Text(), " ")
		v, err := strconv.ParseInt(rev, 10, 64)
		if !ok || err != nil {
			break // the last line, cut by the kill
		}
		acked[id] = v
		if n++; n == enough {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if n < enough || !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the child ended by itself after %d writes: %v\n%s", n, err, out.String())
	}
}

// writeForEver is the child: several writers, each batch reported when it is acknowledged, one line a document.
func writeForEver(t *testing.T, e *Engine) {
	if err := e.Ensure(t.Context(), rows); err != nil {
		fmt.Println("Ensure:", err)
		os.Exit(3)
	}
	pipe := os.NewFile(3, "pipe")
	failed := make(chan error)
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				var ops []docstore.Op
				for k := range 10 {
					id := fmt.Sprintf("%d/%d/%d/%d", os.Getpid(), w, i, k)
					// The field of the index says which document it is, so that a half-written one would show.
					doc, err := bson.Marshal(bson.D{{Key: "g", Value: id}})
					if err != nil {
						failed <- err
						return
					}
					ops = append(ops, docstore.Op{Kind: docstore.Put, Collection: "indexed", ID: id, Body: doc})
				}
				res, err := e.Write(context.Background(), ops, i%2 == 0)
				if err != nil {
					failed <- err
					return
				}
				var b strings.Builder
				for k, r := range res {
					if r.Err == nil {
						fmt.Fprintf(&b, "%s %d\n", ops[k].ID, r.Rev)
					}
				}
				if _, err := pipe.WriteString(b.String()); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	fmt.Println("child:", <-failed)
	os.Exit(3)
}

func checkAcked(t *testing.T, e *Engine, acked map[string]int64) {
	t.Helper()
	for _, q := range []docstore.Query{{Collection: "indexed"}, {Collection: "indexed", Index: "g"}} {
		found := map[string]int64{}
		for {
			p, err := e.Scan(t.Context(), q)
			if err != nil {
				t.Fatalf("scan: %v", err)
			}
			for _, d := range p.Docs {
				found[d.ID] = d.Rev
				if g, _ := d.Body.Lookup("g").StringValueOK(); g != d.ID {
					t.Errorf("document %s has the body of %s", d.ID, g)
				}
			}
			if q.Resume = p.Next; p.Next == "" {
				break
			}
		}
		lost := 0
		for id, rev := range acked {
			if found[id] != rev {
				lost++
			}
		}
		if lost > 0 {
			t.Errorf("%d of %d acknowledged writes are gone", lost, len(acked))
		}
	}
}
