package cli

import (
	"context"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
)

// simulated starts a deployment for a test.
func simulated(t *testing.T, o mongosim.Options) *mongosim.Deployment {
	t.Helper()
	d, err := mongosim.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer stop()
		if err := d.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return d
}

// nobody is an address at which nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed at once
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestConfigCheckLooksAtTheDatabase(t *testing.T) {
	set := simulated(t, mongosim.Options{})
	locked := simulated(t, mongosim.Options{Members: []mongosim.MemberOptions{{}}, Username: "admin", Password: "secret"})
	alone := simulated(t, mongosim.Options{Standalone: true})
	away := nobody(t)
	const soon = "serverSelectionTimeoutMS=1500"
	for _, c := range []struct {
		name     string
		uri      string
		set      []string
		code     int
		faults   []string // a part of each
		warnings []string
	}{
		{name: "a replica set", uri: set.URI()},
		{
			name: "one host of a replica set", uri: "mongodb://" + set.Addresses()[1] + "/",
			warnings: []string{"names 1 host(s): name at least three members"},
		},
		{
			name: "a standalone", uri: alone.URI(), code: exitFailed,
			faults: []string{"it is a standalone server: a write it acknowledges can be lost with it: name a replica set of at least three members"}, warnings: []string{"names 1 host(s)"},
		},
		{
			name: "a standalone that is allowed", uri: alone.URI(), set: []string{"heartwood.mongo.allowStandalone=true"},
			warnings: []string{"names 1 host(s)"},
		},
		{
			name: "nobody there", uri: "mongodb://" + away + "/?replicaSet=rs0&" + soon, code: exitFailed,
			faults: []string{"no primary: " + away + ": dial tcp " + away + ": connect: connection refused: check the addresses"}, warnings: []string{"names 1 host(s)"},
		},
		{
			name: "another set's name", uri: "mongodb://" + set.Addresses()[0] + "/?replicaSet=other&" + soon, code: exitFailed,
			faults: []string{"no address answers as a member of the replica set"}, warnings: []string{"names 1 host(s)"},
		},
		{
			name: "a wrong password", uri: "mongodb://admin:geheim@" + locked.Addresses()[0] + "/?" + soon, code: exitFailed,
			faults: []string{"Authentication failed"}, warnings: []string{"names 1 host(s)"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{"config", "check", "--json", "--data", filepath.Join(t.TempDir(), "data"), "--set", "mongo.mongoUri=" + c.uri}
			for _, kv := range c.set {
				args = append(args, "--set", kv)
			}
			out := wantRun(t, c.code, "", "", args...)
			var got struct{ Faults, Warnings []string }
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			match := func(what string, got, want []string) {
				if len(got) != len(want) {
					t.Errorf("%s %q, want %q", what, got, want)
					return
				}
				for i := range got {
					if !strings.Contains(got[i], want[i]) || strings.Contains(got[i], "geheim") || strings.Contains(got[i], "\n") {
						t.Errorf("%s %q, want %q", what, got[i], want[i])
					}
				}
			}
			match("fault", got.Faults, c.faults)
			match("warning", got.Warnings, c.warnings)
			for _, f := range got.Faults {
				if strings.HasPrefix(f, "reach") && !strings.HasSuffix(f, "mongosh with the same connection string must work from here") {
					t.Errorf("the fault does not say what to do: %q", f)
				}
			}
		})
	}
}

// TestConfigSetOnAReplicaSet: a value that is kept in the database counts for every server of the site.
func TestConfigSetOnAReplicaSet(t *testing.T) {
	set := simulated(t, mongosim.Options{})
	data := filepath.Join(t.TempDir(), "data")
	at := []string{"--data", data, "--set", "mongo.mongoUri=" + set.URI()}
	run := func(want string, args ...string) string { return wantRun(t, exitOK, want, "", append(args, at...)...) }
	run("", "config", "set", "mms.session.maxHours", "8")
	if out := run("", "config", "show"); !strings.Contains(strings.Join(strings.Fields(out), " "), "mms.session.maxHours 8 database") {
		t.Errorf("%s", out)
	}
	run("", "config", "set", "mms.session.maxHours", "--unset")
	if out := run("", "config", "show"); !strings.Contains(strings.Join(strings.Fields(out), " "), "mms.session.maxHours 12 default") {
		t.Errorf("%s", out)
	}
	// Without the key file the site is not opened; show still prints what it knows, and says so.
	wantRun(t, exitOK, "mms.session.maxHours", "without the values kept in the database", "config", "show",
		"--data", filepath.Join(t.TempDir(), "other"), "--set", "mongo.mongoUri="+set.URI())
}
