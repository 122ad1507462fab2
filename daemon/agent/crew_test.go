package agent_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/daemon/agent"
)

// conf is "name:what it says"; a worker refuses what says "new".
type conf string

func (c conf) name() string {
	n, _, _ := strings.Cut(string(c), ":")
	return n
}

type worker struct {
	conf conf
	log  *[]string
}

func (w *worker) Configure(c conf) bool {
	if strings.HasSuffix(string(c), ":new") {
		return false
	}
	*w.log = append(*w.log, "configure "+string(c))
	w.conf = c
	return true
}

func (w *worker) End() { *w.log = append(*w.log, "end "+string(w.conf)) }

func TestACrewIsWhatTheConfigurationNames(t *testing.T) {
	var crew agent.Crew[conf, *worker]
	for _, tt := range []struct {
		name   string
		wanted []conf
		log    []string
		left   []string
	}{
		{"nothing", nil, nil, nil},
		{"two are started", []conf{"a:1", "b:1"}, []string{"start a:1", "start b:1"}, []string{"a:1", "b:1"}},
		{"one is changed, one ended", []conf{"a:2"}, []string{"configure a:2", "end b:1"}, []string{"a:2"}},
		{"one is replaced before the old one has ended", []conf{"a:new", "c:1"}, []string{"start a:new", "start c:1", "end a:2"}, []string{"a:new", "c:1"}},
		{"none is wanted", nil, []string{"end a:new", "end c:1"}, nil},
	} {
		var log []string
		for _, w := range crew.List() {
			w.log = &log
		}
		crew.Apply(tt.wanted, conf.name, func(c conf) *worker {
			log = append(log, "start "+string(c))
			return &worker{conf: c, log: &log}
		})
		if tt.wanted == nil { // whoever ends first
			slices.Sort(log)
		}
		var left []string
		for _, w := range crew.List() {
			left = append(left, string(w.conf))
		}
		slices.Sort(left)
		if !slices.Equal(log, tt.log) || !slices.Equal(left, tt.left) {
			t.Errorf("%s: %q leaves %q, want %q and %q", tt.name, log, left, tt.log, tt.left)
		}
	}
}
