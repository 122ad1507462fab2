package page

import (
	"math"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
)

func TestAnElectionIsSaidOnce(t *testing.T) {
	at := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	election := model.Event{Type: model.EventPrimaryElected, At: at, ClusterID: "c", HostID: "1"}
	for _, c := range []struct {
		name string
		e    model.Event
		want bool
	}{
		{"the winner", model.Event{Type: model.EventHostNowPrimary, At: at.Add(time.Minute), ClusterID: "c", HostID: "1"}, true},
		{"the one before", model.Event{Type: model.EventHostNowSecondary, At: at.Add(time.Minute), ClusterID: "c", HostID: "2"}, true},
		{"noted without its cluster", model.Event{Type: model.EventHostNowSecondary, At: at, HostID: "2"}, true},
		{"another primary", model.Event{Type: model.EventHostNowPrimary, At: at, ClusterID: "c", HostID: "2"}, false},
		{"another cluster", model.Event{Type: model.EventHostNowSecondary, At: at, ClusterID: "d", HostID: "2"}, false},
		{"another time", model.Event{Type: model.EventHostNowSecondary, At: at.Add(time.Hour), ClusterID: "c", HostID: "2"}, false},
		{"another event", model.Event{Type: model.EventHostRestarted, At: at, ClusterID: "c", HostID: "1"}, false},
		{"the election itself", election, false},
	} {
		if got := saidByElection(&c.e, []model.Event{election, c.e}); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestChangeText(t *testing.T) {
	for want, c := range map[string]model.Change{
		"parameters ttl: 1 → 2":       {Kind: "parameters", Path: "ttl", Before: "1", After: "2"},
		"version: 6.0.9 → 7.0.1":      {Kind: "version", Path: "version", Before: "6.0.9", After: "7.0.1"},
		"members x: nothing → {a: 1}": {Kind: "members", Path: "x", After: "{a: 1}"},
		"fcv: 6.0 → nothing":          {Kind: "fcv", Before: "6.0"},
	} {
		if got := changeText(c); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := changeText(model.Change{Kind: "parameters", After: strings.Repeat("x", 5000)}); len(got) > 200 {
		t.Errorf("a long value is printed whole: %d bytes", len(got))
	}
}

func TestSince(t *testing.T) {
	reach, state, at := time.Unix(1, 0), time.Unix(2, 0), time.Unix(3, 0)
	for word, want := range map[string]time.Time{"down": reach, "stale": at, "primary": state, "lags": {}} {
		st := model.HostStatus{At: at, ReachSince: reach, StateSince: state, Reach: model.ReachUp}
		if word == "down" {
			st.Reach = model.ReachDown
		}
		r := hostRow{Host: &model.Host{}, Status: &st, State: view.State{Word: word}}
		if got := r.Since(); !got.Equal(want) {
			t.Errorf("%s since %s, want %s", word, got, want)
		}
	}
	empty := hostRow{Host: &model.Host{}}
	if !empty.Since().IsZero() || !empty.LastPing().IsZero() || empty.Lag()+empty.Window()+empty.Uptime() != "" || !empty.Waiting() {
		t.Error("a host nobody heard of has facts")
	}
}

func TestClusterNames(t *testing.T) {
	for want, c := range map[string]model.Cluster{
		"rs0":           {Type: model.ClusterReplicaSet, Name: "rs0", ReplicaSet: "rs0"},
		"shop / shard1": {Type: model.ClusterReplicaSet, Name: "shop", ShardName: "shard1", ParentID: "p"},
		"shop":          {Type: model.ClusterSharded, Name: "shop", ShardName: "odd"},
		"unnamed":       {ReplicaSet: "unnamed"},
	} {
		if got := clusterName(&c); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	kinds := map[string]bool{}
	for _, c := range []model.Cluster{{Type: model.ClusterReplicaSet}, {Type: model.ClusterReplicaSet, ParentID: "p"}, {Type: model.ClusterConfigServers}, {Type: model.ClusterSharded}} {
		kinds[clusterKind(&c)] = true
	}
	if len(kinds) != 4 {
		t.Errorf("kinds %v", kinds)
	}
}

func TestAShardedClusterIsAsWellAsItsParts(t *testing.T) {
	f := fleet{Clusters: []model.Cluster{
		{ID: "top", Type: model.ClusterSharded, Name: "shop"},
		{ID: "a", Type: model.ClusterReplicaSet, Name: "shop", ShardName: "a", ParentID: "top"},
		{ID: "b", Type: model.ClusterReplicaSet, Name: "shop", ShardName: "b", ParentID: "top"},
	}}
	up := view.State{Level: view.OK, Word: "primary"}
	primary := &model.HostStatus{State: model.StatePrimary}
	add := func(cluster model.ID, s view.State, st *model.HostStatus) {
		f.Rows = append(f.Rows, hostRow{Host: &model.Host{Hostname: "h", ClusterID: cluster}, Status: st, State: s})
	}
	add("a", up, primary)
	add("b", view.State{Level: view.Critical, Word: "down", Why: "x"}, &model.HostStatus{})
	add("", up, primary)
	sets, alone := f.sets()
	if len(alone) != 1 || len(sets) != 3 {
		t.Fatalf("%d sets, %d alone", len(sets), len(alone))
	}
	if top := sets[0]; top.State.Word != "no primary" || top.Shards != 2 || !strings.Contains(top.State.Why, "shop / b") {
		t.Errorf("the cluster is %+v with %d shards", top.State, top.Shards)
	}
	if sets[1].State.Word != "healthy" || sets[1].Primary() != "h:0" {
		t.Errorf("the healthy shard is %+v", sets[1].State)
	}
}

func TestOrderIsStableAndTurns(t *testing.T) {
	rows := []string{"b1", "a1", "b2", "a2"}
	by := func(a, b *string) int { return strings.Compare((*a)[:1], (*b)[:1]) }
	order(rows, by, false)
	if !slices.Equal(rows, []string{"a1", "a2", "b1", "b2"}) {
		t.Errorf("order %v", rows)
	}
	order(rows, nil, true)
	if !slices.Equal(rows, []string{"b2", "b1", "a2", "a1"}) {
		t.Errorf("turned %v", rows)
	}
}

func TestTreeIsBounded(t *testing.T) {
	deep := bson.D{{Key: "x", Value: 1}}
	for range 300 {
		deep = bson.D{{Key: "d", Value: deep}}
	}
	wide := bson.D{}
	for i := range maxNodes + 100 {
		wide = append(wide, bson.E{Key: "k", Value: int32(i)})
	}
	for _, doc := range []bson.D{deep, wide} {
		raw, err := bson.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		var tr tree
		tr.node("root", bson.RawValue{Type: bson.TypeEmbeddedDocument, Value: raw}, 0)
		if n := strings.Count(tr.b.String(), "<details"); n > maxDepth {
			t.Errorf("%d levels", n)
		}
		if n := strings.Count(tr.b.String(), "<p>"); n > maxNodes {
			t.Errorf("%d fields", n)
		}
		s := search{q: "k", reply: "root"}
		s.walk("root", bson.RawValue{Type: bson.TypeEmbeddedDocument, Value: raw}, 0)
		if len(s.hits) > maxHits {
			t.Errorf("%d hits", len(s.hits))
		}
	}
}

// FuzzTree: whatever an agent sent as a reply, the page neither panics nor lets markup through.
func FuzzTree(f *testing.F) {
	raw, err := bson.Marshal(bson.D{{Key: "<a>", Value: "<script>"}, {Key: "l", Value: bson.A{1, "x", bson.D{}}}, {Key: "r", Value: bson.Regex{Pattern: "<"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(raw))
	f.Add([]byte{5, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var tr tree
		tr.node("<root>", bson.RawValue{Type: bson.TypeEmbeddedDocument, Value: b}, 0)
		out := tr.b.String()
		for _, tag := range []string{"<script", "<a>", "<root>", "<img"} {
			if strings.Contains(out, tag) {
				t.Fatalf("markup of a reply reached the page: %s", out)
			}
		}
	})
}

func TestHeadsSayWhichWayRowsRun(t *testing.T) {
	rows := []int{1, 3, 2}
	columns := []column[int]{
		{"up", "Up", true, func(a, b *int) int { return *a - *b }, false},
		{"most", "Most", true, func(a, b *int) int { return *b - *a }, true},
		{"", "Plain", false, nil, false},
	}
	for query, want := range map[string]struct {
		column int
		sort   string
		rows   []int
	}{
		"sort=up":             {0, "ascending", []int{1, 2, 3}},
		"sort=up&dir=desc":    {0, "descending", []int{3, 2, 1}},
		"sort=most":           {1, "descending", []int{3, 2, 1}},
		"sort=most&dir=desc":  {1, "ascending", []int{1, 2, 3}},
		"sort=nothing&page=2": {-1, "", []int{1, 2, 3}},
	} {
		v := &view.Visit{Request: httptest.NewRequestWithContext(t.Context(), "GET", "/p?"+query, nil)}
		got := slices.Clone(rows)
		heads := sortBy(v, got, columns, func(a, b *int) int { return *a - *b })
		if !slices.Equal(got, want.rows) {
			t.Errorf("%s: rows %v, want %v", query, got, want.rows)
		}
		for i, h := range heads {
			if lit := i == want.column; (h.Sort != "") != lit || lit && h.Sort != want.sort {
				t.Errorf("%s: column %s says %q", query, h.Label, h.Sort)
			}
			if (h.Href == "") != (i == 2) || strings.Contains(h.Href, "page=") {
				t.Errorf("%s: column %s leads to %q", query, h.Label, h.Href)
			}
		}
	}
}

func TestTheLastValueIsOfNow(t *testing.T) {
	gap := math.NaN()
	for want, values := range map[float64][]float64{3: {1, 2, 3}, 2: {1, 2, gap, gap}, -1: {1, gap, gap, gap, gap}, -2: nil} {
		got := newest(values)
		if want < 0 && !math.IsNaN(got) || want > 0 && got != want {
			t.Errorf("%v: %v", values, got)
		}
	}
}

func TestAClockThatIsOffIsSaidOnceItMatters(t *testing.T) {
	for _, c := range []struct {
		skewMS int64
		reach  model.Reach
		text   string
		warns  bool
	}{
		{0, model.ReachUp, "", false},
		{-1_900, model.ReachUp, "", false},
		{3_000, model.ReachUp, "clock 3 s ahead", false},
		{-15_000, model.ReachUp, "clock 15 s behind", true},
		{-15_000, model.ReachDown, "", false}, // what a silent host's clock said before is old
	} {
		r := hostRow{Host: &model.Host{}, Status: &model.HostStatus{Reach: c.reach, SkewMS: c.skewMS}}
		if r.Clock() != c.text || r.ClockWarns() != c.warns {
			t.Errorf("%d ms, %s: %q, warns %v", c.skewMS, c.reach, r.Clock(), r.ClockWarns())
		}
	}
}
