package push_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/daemon/monitoragent/push"
	"github.com/heartwood-db/heartwood/shared/wire"
)

func TestConfMeasuresTheClock(t *testing.T) {
	serverAhead := 3 * time.Hour
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, seeds, err := wire.ParseConfQuery(r.URL.Query())
		if err != nil || info.ID != "id" || len(seeds) != 2 {
			t.Errorf("query %s: %v", r.URL.RawQuery, err)
		}
		b, _ := wire.EncodeConf(wire.Conf{Version: wire.Version, Time: time.Now().Add(serverAhead)})
		_, _ = w.Write(b)
	}))
	defer srv.Close()
	c := push.NewClient(call.NewClient(srv.URL, "group", "key", srv.Client()), time.Now)
	_, offset, err := c.Conf(t.Context(), wire.AgentInfo{ID: "id", Session: "s", Started: time.Now()}, []string{"a:1", "b:2"}, false)
	if err != nil || (offset-serverAhead).Abs() > time.Minute {
		t.Errorf("offset %v, %v", offset, err)
	}
}

func TestAnswersThatAreNoMessages(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))
	defer srv.Close()
	c := push.NewClient(call.NewClient(srv.URL, "group", "key", srv.Client()), time.Now)
	if _, _, err := c.Conf(t.Context(), wire.AgentInfo{}, nil, false); err == nil {
		t.Error("a configuration that is none was taken")
	}
	if _, err := c.Post(t.Context(), nil); err == nil {
		t.Error("an acknowledgement that is none was taken")
	}
}
