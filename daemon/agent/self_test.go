package agent_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent"
	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

func newSelf(t *testing.T, log io.Writer) *agent.Self {
	t.Helper()
	cfg := config.DefaultAgent()
	cfg.GroupID, cfg.APIKey, cfg.BaseURL, cfg.StateDir = "5f3a1c0e9d8b7a6f5e4d3c2b", "0123456789abcdef", "http://server.test", t.TempDir()
	s, err := agent.New(agent.Options{
		Type: model.AgentBackup, Folder: "x", Config: cfg, Log: slog.New(slog.NewTextHandler(log, nil)), HTTP: http.DefaultClient, Version: "1.2.3",
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestACallTakesTheServersTimeAndTellsNewsOnce(t *testing.T) {
	var log bytes.Buffer
	s := newSelf(t, &log)
	away := errors.New("no route")
	for _, tt := range []struct {
		answer agent.Conf
		err    error
		news   string // "" for silence
		offset time.Duration
	}{
		{agent.Conf{}, away, "configuration call failed", 0},
		{agent.Conf{}, away, "", 0},
		{agent.Conf{State: "ACTIVE", Offset: 300 * time.Millisecond}, nil, "answers configuration calls again", 0},
		{agent.Conf{State: "ACTIVE"}, nil, "", 0},
		{agent.Conf{State: "STANDBY", Offset: time.Minute}, nil, "clock differs", time.Minute},
		{agent.Conf{State: "STANDBY", Offset: time.Minute + 400*time.Millisecond}, nil, "", time.Minute + 400*time.Millisecond},
		{agent.Conf{State: "ACTIVE"}, nil, "told this agent's state", 0},
	} {
		log.Reset()
		err := s.Call(t.Context(), func(context.Context) (agent.Conf, error) { return tt.answer, tt.err })
		if !errors.Is(err, tt.err) || s.Offset() != tt.offset || !strings.Contains(log.String(), tt.news) || tt.news == "" && log.Len() > 0 {
			t.Errorf("%+v: %v, offset %v, it told %q", tt, err, s.Offset(), log.String())
		}
	}
	info := s.Info("me")
	if info.ConfCount != 7 || info.ID != "me" || info.Type != "BACKUP" || info.Version != "1.2.3" || info.Session == "" {
		t.Errorf("%+v", info)
	}
}

func TestCallsComeAsTheServerSaysAndLaterWhileItIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSelf(t, io.Discard)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var mu sync.Mutex
		calls, seconds, fault := 0, int32(10), error(nil)
		go s.Refreshing(ctx, func(context.Context) (int32, error) {
			mu.Lock()
			defer mu.Unlock()
			calls++
			return seconds, fault
		})
		set := func(sec int32, err error) {
			mu.Lock()
			defer mu.Unlock()
			seconds, fault = sec, err
		}
		expect := func(what string, wait time.Duration, least, most int) {
			t.Helper()
			mu.Lock()
			calls = 0
			mu.Unlock()
			time.Sleep(wait)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if calls < least || calls > most {
				t.Errorf("%s: %d calls in %v, want %d to %d", what, calls, wait, least, most)
			}
		}
		synctest.Wait()
		s.Hurry()
		expect("every ten seconds", 100*time.Second, 9, 11)
		set(0, nil)
		expect("nothing said: every minute", 10*time.Minute, 9, 12)
		set(1<<30, nil)
		s.Hurry()
		expect("never mind what is too long", time.Hour, 5, 7)
		set(0, errors.New("no route"))
		s.Hurry()
		expect("away: at most a minute", time.Hour, 60, 140)
		if text, err := agent.Health(s.Dir, time.Now()); err != nil || !strings.Contains(text, "server is away") {
			t.Errorf("its health is %q, %v", text, err)
		}
		set(0, &call.Refusal{Status: http.StatusUnauthorized, Code: wire.CodeBadKey})
		s.Hurry()
		expect("refused", time.Minute, 1, 10)
		if _, err := agent.Health(s.Dir, time.Now()); err == nil {
			t.Error("an agent that is refused is well")
		}
		cancel()
		synctest.Wait()
	})
}
