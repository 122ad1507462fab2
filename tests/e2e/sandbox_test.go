package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mongodb-forks/digest"

	"github.com/heartwood-db/heartwood/tests/harness"
)

// TestTheDemoInTheSandboxShowsTheSameCharts runs the demo natively, then on the same data with its functions as WebAssembly guests:
// the charts of the past are the same to the last digit, new minutes arrive, and the pages are whole in a browser.
func TestTheDemoInTheSandboxShowsTheSameCharts(t *testing.T) {
	harness.Need(t, "chromium")
	folder, data := sandboxed(t)
	p, login := harness.Demo(t, data, "--history", "2h")
	to := time.Now().UTC().Truncate(time.Minute).Add(-time.Minute)
	from := to.Add(-time.Hour)
	native := numbers(t, login, from, to)
	if n := values(t, native); n < 1000 {
		t.Fatalf("only %d values natively", n)
	}
	if err := p.Stop(time.Minute); err != nil {
		t.Fatal(err)
	}

	_, login = harness.Demo(t, data, "--history", "2h", "--sandbox", "wasm", "--set", "heartwood.sandbox.guests="+folder)
	before, after := measurements(t, native), measurements(t, numbers(t, login, from, to))
	same := 0
	for name, want := range before {
		got, ok := after[name]
		if !ok { // the member may have become primary or secondary since, which have some of their own
			t.Logf("%s is of a member in another state", name)
			continue
		}
		same++
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s in the past (-native +sandbox):\n%.2000s", name, diff)
		}
	}
	if same < 50 || same < len(before)*9/10 {
		t.Errorf("only %d of %d measurements are there", same, len(before))
	}
	began := time.Now().UTC()
	harness.Eventually(t, 3*time.Minute, "new minutes in the charts", func(ctx context.Context) error {
		fresh := numbers(t, login, began.Truncate(time.Minute), time.Now().UTC().Add(time.Minute))
		if values(t, fresh) == 0 {
			return errors.New("nothing yet")
		}
		return ctx.Err()
	})
	b := newBrowser(t)
	signIn(t, b, login)
	host, cluster := firstIDs(t, login)
	g := login.URL + "/g/" + login.GroupID
	for _, page := range []struct {
		name, url string
		settled   []step
	}{
		{"sandbox-deployment", g + "/deployment?view=hosts", nil},
		{"sandbox-host", g + "/hosts/" + host, []step{chartsDrawn()}},
		{"sandbox-cluster", g + "/clusters/" + cluster, []step{chartsDrawn()}},
		{"sandbox-alerts", g + "/alerts", nil},
		{"sandbox-watch", login.URL + "/admin/watch", nil},
	} {
		b.visit(t, looks[0], page.name, page.url, page.settled...)
	}
}

// sandboxed gives the folder of the guests, and one for a demo whose cache of compiled guests is that of all tests.
func sandboxed(t *testing.T) (folder, data string) {
	t.Helper()
	folder, compiled := harness.Guests(t)
	data = t.TempDir()
	if err := os.MkdirAll(compiled, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(compiled, filepath.Join(data, "guests.cache")); err != nil {
		t.Fatal(err)
	}
	return folder, data
}

// numbers are the answers of the Public API with all measurements of a host in a time, one a minute.
func numbers(t *testing.T, login harness.Login, from, to time.Time) string {
	t.Helper()
	client := &http.Client{Transport: digest.NewTransport(login.PublicKey, login.PrivateKey)}
	host, _ := firstIDs(t, login)
	q := url.Values{"granularity": {"PT1M"}, "start": {from.Format(time.RFC3339)}, "end": {to.Format(time.RFC3339)}}
	resp, err := client.Get(fmt.Sprintf("%s/api/public/v1.0/groups/%s/hosts/%s/measurements?%s", login.URL, login.GroupID, host, q.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("measurements: %s %v %.300s", resp.Status, err, b)
	}
	var answer map[string]any
	if err := json.Unmarshal(b, &answer); err != nil {
		t.Fatal(err)
	}
	delete(answer, "links") // they name the port
	text, err := json.MarshalIndent(answer, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// measurements are an answer's data points by name of what was measured.
func measurements(t *testing.T, text string) map[string]any {
	t.Helper()
	var m struct {
		Measurements []struct {
			Name       string
			DataPoints any
		}
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	for _, x := range m.Measurements {
		out[x.Name] = x.DataPoints
	}
	return out
}

// values counts the points that have one.
func values(t *testing.T, text string) (n int) {
	t.Helper()
	var m struct {
		Measurements []struct{ DataPoints []struct{ Value *float64 } }
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	for _, s := range m.Measurements {
		for _, p := range s.DataPoints {
			if p.Value != nil {
				n++
			}
		}
	}
	return n
}

// TestTheDemoInTheSandboxRestores backs the demo's replica set up through guests, restores a moment that has passed since and fetches
// its archive: it is whole, and what the server says of it holds.
func TestTheDemoInTheSandboxRestores(t *testing.T) {
	folder, data := sandboxed(t)
	_, _ = harness.Demo(t, data, "--history", "10m", "--backup=true", "--sandbox", "wasm", "--set", "heartwood.sandbox.guests="+folder)
	program := harness.Binary(t)
	run := func(ctx context.Context, args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // our own
		cmd.Env = append(os.Environ(), "HEARTWOOD_PROFILE_FILE="+filepath.Join(data, "profiles.yaml"))
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("%v: %w: %s", args, err, said.String())
		}
		return out, err
	}
	harness.Eventually(t, 5*time.Minute, "a snapshot", func(ctx context.Context) error {
		var list []any
		out, err := run(ctx, "snapshots", "list", "rs0", "--json")
		if err == nil {
			err = json.Unmarshal(out, &list)
		}
		if err == nil && len(list) == 0 {
			err = fmt.Errorf("none yet: %.200s", out)
		}
		return err
	})
	archives := t.TempDir()
	harness.Eventually(t, 5*time.Minute, "a restore of ten seconds ago", func(ctx context.Context) error {
		_, err := run(ctx, "restore", "start", "rs0", "--at", "10s", "--output", archives)
		return err
	})
	files, err := filepath.Glob(filepath.Join(archives, "*.tar.gz"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v %v", files, err)
	}
	archive, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	said, err := run(t.Context(), "restore", "list", "rs0", "--json")
	if err != nil {
		t.Fatal(err)
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(archive)); !bytes.Contains(said, []byte(sum)) {
		t.Errorf("the archive's digest is %s; the server says %s", sum, said)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	names := 0
	for r := tar.NewReader(unpacked); ; names++ {
		if _, err := r.Next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil { //nolint:gosec // made by this test
			t.Fatal(err)
		}
	}
	if names < 3 {
		t.Errorf("the archive holds %d files", names)
	}
}
