package remedy

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
)

func TestRemediesNameTheCommand(t *testing.T) {
	v := &view.Visit{Request: httptest.NewRequestWithContext(t.Context(), "GET", "/", nil), Group: &model.Group{ID: "g1"}}
	for _, c := range []struct {
		word, err string
		code      int
		want      string // of the first remedy's commands or link
	}{
		{"down", "dial tcp 10.0.0.1:27017: connect: connection refused", 6, "systemctl status mongod"},
		{"down", "dial tcp: lookup db1 on 10.0.0.53:53: no such host", 6, "getent hosts db1"},
		{"down", "dial tcp 10.0.0.1:27017: i/o timeout", 89, "nc -vz db1 27017"},
		{"down", "tls: failed to verify certificate", 0, "openssl s_client -connect db1:27017"},
		{"down", "", 0, "nc -vz db1 27017"},
		{"down", "the agent sends nothing about this host", 0, "/g/g1/agents"},
		{"not authorised", "command requires authentication", 13, "createUser"},
		{"not authorised", "Authentication failed.", 18, "changeUserPassword"},
		{"slow", "", 50, "currentOp"},
		{"lags", "", 0, "rs.printSecondaryReplicationInfo()"},
		{"stale", "", 0, "/g/g1/agents"},
		{"paused", "", 0, "/g/g1/settings/hosts"},
	} {
		got := For(v, view.State{Word: c.word}, &model.Host{Hostname: "db1", Port: 27017}, &model.HostStatus{Error: c.err, ErrorCode: c.code})
		if len(got) == 0 || !strings.Contains(strings.Join(got[0].Commands, "\n")+got[0].Link, c.want) {
			t.Errorf("%s (%s): %+v, want first %s", c.word, c.err, got, c.want)
		}
	}
	if got := For(v, view.State{Word: "primary"}, &model.Host{}, nil); got != nil {
		t.Errorf("a healthy host has remedies %+v", got)
	}
}

// Names come from replica set configurations: what is pasted into a shell must be the name and nothing else.
func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{
		"db1.example.com": "db1.example.com", "::1": "::1", "": "''", "-rf": "'-rf'", "a b": "'a b'", "$(reboot)": "'$(reboot)'", "it's": `'it'\''s'`,
	} {
		if got := shellWord(in); got != want {
			t.Errorf("%q becomes %s, want %s", in, got, want)
		}
	}
}
