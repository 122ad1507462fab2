package chaos

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/wire"
	"github.com/heartwood-db/heartwood/tests/client"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// send posts a body as an agent would, and returns the status and what the server says is wrong.
func send(ctx context.Context, url, group, key string, body io.Reader) (int, wire.Problem, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+wire.PathPings, body)
	if err != nil {
		return 0, wire.Problem{}, err
	}
	req.SetBasicAuth(group, key)
	req.Header.Set("Content-Type", wire.ContentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, wire.Problem{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode == http.StatusOK {
		return resp.StatusCode, wire.Problem{}, err
	}
	p, err := wire.DecodeProblem(b)
	return resp.StatusCode, p, err
}

// counters reads the samples of one metric by their label's value.
func counters(ctx context.Context, t *testing.T, base int, name string) map[string]float64 {
	t.Helper()
	_, text, err := get(ctx, local(base+diagnostics, "/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, m := range regexp.MustCompile(`(?m)^`+name+`\{\w+="([^"]*)"\} (\S+)$`).FindAllStringSubmatch(text, -1) {
		if values[m[1]], err = strconv.ParseFloat(m[2], 64); err != nil {
			t.Fatal(err)
		}
	}
	return values
}

func compressed(t *testing.T, b []byte) []byte {
	t.Helper()
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return e.EncodeAll(b, nil)
}

// stream hides a body's length.
type stream struct{ io.Reader }

// TestBadPosts sends what a server must refuse, saying why, counting it, and disturbing nothing else.
func TestBadPosts(t *testing.T) {
	t.Parallel()
	data, base := t.TempDir(), harness.PortBase(t)
	srv := startServer(t, data, base)
	site := provision(t, base)
	hosts := addHosts(t, site, 3)
	tpl := template(t)
	now := time.Now().UTC().Truncate(time.Second)
	seq := int64(0)
	good := func() []byte {
		seq++
		return post(t, site, tpl, hosts, now.Add(time.Duration(seq-60)*time.Minute), seq)
	}
	document := func(change func(*wire.Post)) []byte {
		p, err := wire.DecodePost(good())
		if err != nil {
			t.Fatal(err)
		}
		change(&p)
		doc, err := bson.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return compressed(t, doc)
	}
	wrongKey := strings.Repeat("0", len(site.AgentKey))
	valid := good()
	tests := []struct {
		name       string
		group, key string // empty: the right ones
		body       io.Reader
		status     int
		code       string
		reason     string
	}{
		{"a wrong key", "", wrongKey, bytes.NewReader(valid), 401, wire.CodeBadKey, "mmsApiKey"},
		{"no key", "", " ", bytes.NewReader(valid), 401, wire.CodeBadKey, "mmsApiKey"},
		{"an unknown group", string(model.NewID()), "", bytes.NewReader(valid), 401, wire.CodeBadKey, "mmsGroupId"},
		{"a group id that is none", "../../etc", "", bytes.NewReader(valid), 401, wire.CodeBadKey, "mmsGroupId"},
		{"too large", "", "", bytes.NewReader(make([]byte, wire.MaxPost+1)), 413, wire.CodeTooLarge, "larger"},
		{"too large, of unknown length", "", "", stream{bytes.NewReader(make([]byte, wire.MaxPost+1))}, 413, wire.CodeTooLarge, "larger"},
		{"too large once decompressed", "", "", bytes.NewReader(compressed(t, make([]byte, 256<<20))), 413, wire.CodeTooLarge, "decompressed"},
		{"nothing", "", "", bytes.NewReader(nil), 400, wire.CodeMalformed, "empty"},
		{"not zstd", "", "", strings.NewReader("hello"), 400, wire.CodeMalformed, "zstd"},
		{"not BSON", "", "", bytes.NewReader(compressed(t, []byte("hello"))), 400, wire.CodeMalformed, "BSON"},
		{"cut short", "", "", bytes.NewReader(valid[:len(valid)/2]), 400, wire.CodeMalformed, "zstd"},
		{"a version to come", "", "", bytes.NewReader(document(func(p *wire.Post) { p.Version = 99 })), 400, wire.CodeBadVersion, "version 99"},
		{"no agent", "", "", bytes.NewReader(document(func(p *wire.Post) { p.Agent = wire.AgentInfo{} })), 400, wire.CodeMalformed, "agent"},
		{"a clock far ahead", "", "", bytes.NewReader(document(func(p *wire.Post) { p.Sent = now.Add(3 * time.Hour) })), 400, wire.CodeClock, "clock"},
		{"a clock far behind", "", "", bytes.NewReader(document(func(p *wire.Post) { p.Sent = now.Add(-3 * time.Hour) })), 400, wire.CodeClock, "clock"},
	}
	const metric = "heartwood_ingestion_refused_total"
	want := counters(t.Context(), t, base, metric)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			group, key := site.Group, site.AgentKey
			if tt.group != "" {
				group = tt.group
			}
			if tt.key != "" {
				key = tt.key
			}
			status, problem, err := send(t.Context(), site.Ingestion, group, key, tt.body)
			if err != nil {
				t.Fatal(err)
			}
			if status != tt.status || problem.Code != tt.code || !strings.Contains(problem.Reason, tt.reason) {
				t.Errorf("status %d, %s: %s; want %d, %s: … %s …", status, problem.Code, problem.Reason, tt.status, tt.code, tt.reason)
			}
			want[tt.code]++
			if got := counters(t.Context(), t, base, metric); got[tt.code] != want[tt.code] {
				t.Errorf("%s counts %v %s, want %v", metric, got[tt.code], tt.code, want[tt.code])
			}
			ack, err := site.Post(t.Context(), http.DefaultClient, good())
			if err != nil || int(ack.Accepted) != len(hosts) {
				t.Errorf("the next good post: %+v %v", ack, err)
			}
		})
	}
	wrongKeys := events(t, srv.Site(), alerting.EventQuery{AllGroups: true, Types: []model.EventType{model.EventAgentKeyRefused}})
	if len(wrongKeys) != 2 { // one of the group, one of the site for the groups that are none
		t.Errorf("events of wrong keys: %+v", wrongKeys)
	}
	badPings(t, site, base, document)
	status, err := srv.Site().Inventory.Status(t.Context(), groupID(site), model.HostID(hosts[0].ID))
	if err != nil || status.Reach != model.ReachUp {
		t.Errorf("a host is %s: %v", status.Reach, err)
	}
}

// badPings posts good pings with a bad one among them: only that one is refused.
func badPings(t *testing.T, site *client.Site, base int, document func(func(*wire.Post)) []byte) {
	t.Helper()
	tests := []struct {
		name, counted, reason string
		change                func(*wire.Ping)
	}{
		{"of an unknown host", "unknown_host", "no host", func(p *wire.Ping) { p.HostID = strings.Repeat("0", 32) }},
		{"from the future", "future", "ahead", func(p *wire.Ping) { p.At = p.At.Add(10 * time.Hour) }},
		{"of last week", "too_old", "older", func(p *wire.Ping) { p.At = p.At.Add(-7 * 24 * time.Hour) }},
		{"with replies that are none", "malformed", "zstd", func(p *wire.Ping) { p.Replies = []byte("hello") }},
		{"with replies without end", "malformed", "decompressed", func(p *wire.Ping) { p.Replies = compressed(t, make([]byte, 64<<20)) }},
	}
	for _, tt := range tests {
		t.Run("ping "+tt.name, func(t *testing.T) {
			const metric = "heartwood_ingestion_pings_total"
			before := counters(t.Context(), t, base, metric)
			ack, err := site.Post(t.Context(), http.DefaultClient, document(func(p *wire.Post) { tt.change(&p.Pings[1]) }))
			if err != nil || ack.Accepted != 2 || len(ack.Rejected) != 1 || !strings.Contains(ack.Rejected[0].Reason, tt.reason) {
				t.Errorf("%+v: %v", ack, err)
			}
			after := counters(t.Context(), t, base, metric)
			if got := fmt.Sprint(after["accepted"]-before["accepted"], after[tt.counted]-before[tt.counted]); got != "2 1" {
				t.Errorf("counted as accepted and %s: %s", tt.counted, got)
			}
		})
	}
}
