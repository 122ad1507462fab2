package docstore

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore/docstoretest"
)

// TestFerretDB runs the suite on a server that somebody else wrote. It has no replica set, so no elections.
func TestFerretDB(t *testing.T) {
	if testing.Short() {
		t.Skip("it scans a whole collection for every range: too slow for -short")
	}
	d := newDeployment(t, startFerretDB(t))
	docstoretest.Run(t, d.open, append(d.options(), docstoretest.Slow(),
		// What 1.24.2 with SQLite does not keep, found by this suite:
		docstoretest.Except("decimals come back as they were", "FerretDB closes the connection at a Decimal128"),
		docstoretest.Except("unique index and changed documents", "FerretDB answers InternalError when a change meets a unique index"),
		docstoretest.Except("no replace is lost", "FerretDB reads and changes a document in two steps: a filter on the revision does not hold"),
		docstoretest.Except("unordered batch tries all", "FerretDB ends an unordered update at the first fault, without saying so"))...)
}

// buildFerretDB builds the program of tests/ferretdb into .bin, where it stays.
func buildFerretDB(t *testing.T) string {
	t.Helper()
	module, err := filepath.Abs("../ferretdb")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(module, "..", "..", ".bin", "ferretdb")
	if err := os.MkdirAll(filepath.Dir(program), 0o750); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 15*time.Minute)
	defer stop()
	// The Go tool sees by itself when there is nothing to do.
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "ferretdb_no_postgresql", "-o", program, ".")
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		missing(t, "ferretdb", "FerretDB cannot be built: "+err.Error()+"\n"+string(bytes.TrimSpace(out)))
	}
	return program
}

// startFerretDB runs it for the length of the test and returns its URI.
func startFerretDB(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), buildFerretDB(t), t.TempDir())
	var log bytes.Buffer
	cmd.Stderr = &log
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil && t.Context().Err() == nil {
			t.Logf("FerretDB ended with %v", err)
		}
		if t.Failed() {
			t.Logf("FerretDB's log:\n%s", log.String())
		}
	})
	uri, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("FerretDB did not start: %v\n%s", err, log.String())
	}
	return strings.TrimSpace(uri)
}
