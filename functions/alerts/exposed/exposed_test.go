package exposed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
)

var t0 = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

type site struct {
	mu     sync.Mutex
	groups []model.Group
	hosts  map[model.HostID]*model.Host
	fail   error
	asked  map[string]int
	answer func(host string) Finding
}

func (s *site) Groups(context.Context) ([]model.Group, error) { return s.groups, nil }

func (s *site) Hosts(_ context.Context, group model.ID) ([]model.Host, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []model.Host
	for _, h := range s.hosts {
		if h.GroupID == group {
			all = append(all, *h)
		}
	}
	return all, nil
}

func (s *site) UpdateHost(_ context.Context, _ model.ID, id model.HostID, change func(*model.Host) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	return change(s.hosts[id])
}

func (s *site) Probe(_ context.Context, host string, _ int) Finding {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[host]++
	return s.answer(host)
}

func newSite(names ...string) *site {
	s := &site{hosts: map[model.HostID]*model.Host{}, asked: map[string]int{}}
	s.groups = []model.Group{{ID: "g1", Settings: model.DefaultGroupSettings()}, {ID: "g2", Settings: model.GroupSettings{SkipExposed: true}}}
	for _, name := range names {
		s.hosts[model.HostID(name)] = &model.Host{ID: model.HostID(name), GroupID: "g1", Hostname: name, Port: 27017, Enabled: true}
	}
	return s
}

func (s *site) pass(t *testing.T, now time.Time) (done int64, more bool, err error) {
	t.Helper()
	c, err := New(Options{Inventory: s, Prober: s})
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Pass(t.Context(), now)
	return r.Done, r.More, err
}

func TestEachHostIsCheckedOnceADay(t *testing.T) {
	s := newSite("db1", "hidden", "deleted", "off", "unwanted")
	s.hosts["hidden"].Hidden, s.hosts["deleted"].Deleted, s.hosts["off"].Enabled, s.hosts["unwanted"].GroupID = true, true, false, "g2"
	s.answer = func(string) Finding { return Finding{Known: true, Reason: "refuses"} }
	for i, c := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {time.Hour, 1}, {23 * time.Hour, 1}, {24 * time.Hour, 2}, {25 * time.Hour, 2}, {-time.Hour, 3}} {
		if _, _, err := s.pass(t, t0.Add(c.after)); err != nil {
			t.Fatal(err)
		}
		if s.asked["db1"] != c.want {
			t.Errorf("pass %d: asked %d times, want %d", i, s.asked["db1"], c.want)
		}
	}
	if len(s.asked) != 1 {
		t.Errorf("asked %v", s.asked)
	}
}

func TestWhatIsKept(t *testing.T) {
	s := newSite("db1")
	for day, c := range []struct {
		name  string
		found Finding
		since int // day; -1: not exposed
	}{
		{"well", Finding{Known: true, Reason: "refuses"}, -1},
		{"could not be found out", Finding{Reason: "no way"}, -1},
		{"exposed", Finding{Known: true, Exposed: true, Reason: "lists"}, 2},
		{"still", Finding{Known: true, Exposed: true, Reason: "lists"}, 2},
		{"could not be found out while exposed", Finding{Reason: "no way"}, 2},
		{"locked down", Finding{Known: true, Reason: "refuses"}, -1},
		{"exposed again", Finding{Known: true, Exposed: true, Reason: "lists"}, 6},
	} {
		now := t0.AddDate(0, 0, day)
		s.answer = func(string) Finding { return c.found }
		if done, _, err := s.pass(t, now); err != nil || done != 1 {
			t.Fatal(done, err)
		}
		want := time.Time{}
		if c.since >= 0 {
			want = t0.AddDate(0, 0, c.since)
		}
		if h := s.hosts["db1"]; !h.ExposedSince.Equal(want) || !h.ExposedChecked.Equal(now) || h.ExposedNote != c.found.Reason {
			t.Errorf("%s: since %s, checked %s, %q", c.name, h.ExposedSince, h.ExposedChecked, h.ExposedNote)
		}
	}
}

func TestManyHostsTakeSeveralRuns(t *testing.T) {
	var names []string
	for i := range bound + 3 {
		names = append(names, fmt.Sprintf("db%d", i))
	}
	s := newSite(names...)
	s.answer = func(string) Finding { return Finding{Known: true} }
	if done, more, err := s.pass(t, t0); done != bound || !more || err != nil {
		t.Errorf("first run: %d, %t, %v", done, more, err)
	}
	if done, more, err := s.pass(t, t0); done != 3 || more || err != nil {
		t.Errorf("second run: %d, %t, %v", done, more, err)
	}
}

func TestFailuresOfTheStore(t *testing.T) {
	s := newSite("db1")
	s.answer = func(string) Finding { return Finding{Known: true} }
	s.fail = errors.New("disk full")
	if _, _, err := s.pass(t, t0); !errors.Is(err, s.fail) {
		t.Errorf("error %v", err)
	}
	s.fail = docstore.ErrNotFound // deleted meanwhile
	if _, _, err := s.pass(t, t0); err != nil {
		t.Errorf("error %v", err)
	}
}

func TestBeingStoppedLeavesTheHostDue(t *testing.T) {
	s := newSite("db1")
	ctx, cancel := context.WithCancel(t.Context())
	s.answer = func(string) Finding {
		cancel()
		return Finding{Reason: "the check was stopped"}
	}
	c, err := New(Options{Inventory: s, Prober: s})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Pass(ctx, t0); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if !s.hosts["db1"].ExposedChecked.IsZero() {
		t.Error("it counts as checked")
	}
}
