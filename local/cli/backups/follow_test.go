package backups

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/ask"
	"github.com/heartwood-db/heartwood/local/cli/profile"
	"github.com/heartwood-db/heartwood/local/cli/public"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// TestFollow says how far a restore is and how long it still takes, goes on through a server that is away, and ends with what came
// of it.
func TestFollow(t *testing.T) {
	running := func(done int, left int) string {
		return fmt.Sprintf(`{"id":"x","statusName":"IN_PROGRESS","progress":{"step":"writes shop.orders","doneBytes":%d,"totalBytes":800,"secondsLeft":%d}}`, done, left)
	}
	const away, gone = "503", "404"
	tests := []struct {
		name    string
		answers []string
		said    []string
		err     string
		hint    string
	}{
		{
			"to a good end",
			[]string{
				`{"id":"x","statusName":"IN_PROGRESS","progress":{"step":"waits for a backup daemon","doneBytes":0,"totalBytes":0,"secondsLeft":300}}`,
				running(200, 90), running(200, 90), running(600, 30), `{"id":"x","statusName":"FINISHED"}`,
			},
			[]string{"waits for a backup daemon, about 5 min left", "writes shop.orders, 200 B of 800 B (25 %), about 90 s left", "writes shop.orders, 600 B of 800 B (75 %), about 30 s left"},
			"", "",
		},
		{
			"to a bad one",
			[]string{running(200, 90), `{"id":"x","statusName":"BROKEN","errorText":"the disk is full.","remedy":"Make room."}`},
			[]string{"writes shop.orders, 200 B of 800 B (25 %), about 90 s left"},
			"restore x: it is broken: the disk is full", "Make room.",
		},
		{"cancelled", []string{`{"id":"x","statusName":"KILLED","errorText":"cancelled by ann; nothing was written into rs1"}`}, nil, "restore x: it is killed: cancelled by ann; nothing was written into rs1", ""},
		{"through a restart of the server", []string{running(200, 90), away, away, `{"id":"x","statusName":"FINISHED"}`}, []string{"25 %", "the server does not answer", "the server does not answer"}, "", ""},
		{"one that is not there", []string{gone}, nil, "no such restore", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answers := tt.answers
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != public.Prefix+"/groups/g/clusters/c/restoreJobs/x" || len(answers) == 0 {
					t.Errorf("asked for %s", r.URL)
					return
				}
				now := answers[0]
				answers = answers[1:]
				w.Header().Set("Content-Type", "application/json")
				switch now {
				case away:
					w.WriteHeader(http.StatusServiceUnavailable)
					now = `{"error":503,"detail":"away"}`
				case gone:
					w.WriteHeader(http.StatusNotFound)
					now = `{"error":404,"detail":"no such restore"}`
				}
				_, _ = io.WriteString(w, now)
			}))
			defer srv.Close()
			c, err := public.New(public.Options{URL: srv.URL})
			if err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			cmd := &cobra.Command{}
			cmd.SetErr(&said)
			cmd.SetContext(t.Context())
			a := newApp()
			a.wait = func(context.Context, time.Duration) error { return nil }
			o, err := a.follow(cmd, &set{&ask.Session{Client: c, Group: profile.Group{ID: "g"}}, "c", "rs0"}, "x")
			switch {
			case tt.err == "" && (err != nil || o.Text("statusName") != "FINISHED"):
				t.Errorf("%v, %v", o, err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || tt.hint != "" && opererr.HintOf(err) != tt.hint):
				t.Errorf("error %v with %q, want %q with %q", err, opererr.HintOf(err), tt.err, tt.hint)
			}
			lines := strings.Split(strings.TrimSpace(said.String()), "\n")
			if len(lines) != max(1, len(tt.said)) {
				t.Errorf("it said %q", lines)
			}
			for i, want := range tt.said {
				if !strings.Contains(lines[i], want) {
					t.Errorf("line %d is %q, want %q", i, lines[i], want)
				}
			}
			if len(answers) > 0 {
				t.Errorf("not asked for %d answers", len(answers))
			}
		})
	}
}
