package docstoretest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

const childEnv = "HEARTWOOD_DOCSTORETEST_CHILD"

// Kill starts the calling test again in a child process that writes without pause, kills it with SIGKILL in the middle of
// a batch, and checks with an engine of its own that every write the child saw acknowledged is there. Open opens the
// engine on the data that place (a path, a database name) stands for; it runs in both processes.
func Kill(t *testing.T, place string, open func(t *testing.T, place string) docstore.Engine) {
	if child := os.Getenv(childEnv); child != "" {
		writeForEver(t, open(t, child))
	}
	acked := map[string]int64{}
	revs := map[int64]string{}
	for round := range 4 {
		killOne(t, place, 150*(round+1), acked)
		e := open(t, place)
		if err := e.Ensure(t.Context(), collections()); err != nil {
			t.Fatalf("round %d: Ensure: %v", round, err)
		}
		check(t, e, acked)
		fresh := mustWrite(t, e, docstore.Op{Kind: docstore.Put, Collection: plain, ID: fmt.Sprint("probe ", round), Body: number(t, 1)})[0]
		clear(revs)
		for id, r := range acked {
			if other, ok := revs[r]; ok {
				t.Errorf("round %d: %s and %s have one revision, %d", round, id, other, r)
			}
			revs[r] = id
		}
		if id, ok := revs[fresh]; ok {
			t.Errorf("round %d: revision %d of %s was given again", round, fresh, id)
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
func writeForEver(t *testing.T, e docstore.Engine) {
	if err := e.Ensure(t.Context(), collections()); err != nil {
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
					ops = append(ops, docstore.Op{Kind: docstore.Put, Collection: coll, ID: id, Body: raw(t, thing{S: id, I: int64(k), B: i%2 == 0})})
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

func check(t *testing.T, e docstore.Engine, acked map[string]int64) {
	t.Helper()
	for _, q := range []docstore.Query{{Collection: coll}, {Collection: coll, Index: "s"}} {
		docs, err := all(t.Context(), e, q, 500)
		if err != nil {
			t.Fatalf("scan: %v", err)
		}
		found := map[string]int64{}
		for _, d := range docs {
			found[d.ID] = d.Rev
			if s, _ := d.Body.Lookup("s").StringValueOK(); s != d.ID {
				t.Errorf("document %s has the body of %s", d.ID, s)
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
