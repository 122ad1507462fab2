package source

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

func TestChoose(t *testing.T) {
	primary := View{Name: "p", Address: "p:1", State: 1}
	second := View{Name: "s", Address: "s:1", State: 2}
	other := View{Name: "t", Address: "t:1", State: 2}
	hidden := View{Name: "h", Address: "h:1", State: 2, Hidden: true}
	with := func(v View, change func(v *View)) View {
		change(&v)
		return v
	}
	for name, c := range map[string]struct {
		members       []View
		want, current string
		order         []string
		not           string
	}{
		"hidden before others before the primary":     {[]View{primary, second, hidden}, Secondary, "", []string{"h", "s", "p"}, ""},
		"the primary where it is asked for":           {[]View{second, hidden, primary}, Primary, "", []string{"p", "h", "s"}, ""},
		"a member that is named":                      {[]View{primary, hidden, second}, "s:1", "", []string{"s", "h", "p"}, ""},
		"the one read so far among equals":            {[]View{second, other}, Secondary, "t:1", []string{"t", "s"}, ""},
		"the one read so far became the primary":      {[]View{primary, second}, Secondary, "p:1", []string{"s", "p"}, ""},
		"one far behind only after the others":        {[]View{primary, with(second, func(v *View) { v.Lag = time.Hour })}, Secondary, "", []string{"p", "s"}, ""},
		"a little lag is no reason to leave":          {[]View{with(second, func(v *View) { v.Lag = 5 * time.Second }), other}, Secondary, "s:1", []string{"s", "t"}, ""},
		"never a delayed one":                         {[]View{primary, with(second, func(v *View) { v.Delay = time.Hour })}, "s:1", "", []string{"p"}, "s is delayed by 1h"},
		"never one in its initial sync":               {[]View{primary, with(second, func(v *View) { v.State = 5 })}, Secondary, "", []string{"p"}, "initial sync"},
		"never one that rolls back":                   {[]View{primary, with(second, func(v *View) { v.State = 9 })}, Secondary, "", []string{"p"}, "rolling back"},
		"never an arbiter, which is not worth a word": {[]View{primary, {Name: "a", Arbiter: true, State: 7}}, Secondary, "", []string{"p"}, ""},
		"none": {[]View{with(primary, func(v *View) { v.Address, v.Why = "", "connection refused" })}, Secondary, "", nil, "p cannot be reached (connection refused)"},
	} {
		t.Run(name, func(t *testing.T) {
			order, not := Choose(c.members, c.want, c.current)
			var names []string
			for _, v := range order {
				names = append(names, v.Name)
			}
			if d := cmp.Diff(c.order, names); d != "" {
				t.Error(d)
			}
			if !strings.Contains(not, c.not) || c.not == "" && not != "" {
				t.Errorf("the others: %q, want %q", not, c.not)
			}
		})
	}
}

func TestMissing(t *testing.T) {
	read := []string{"find", "listCollections", "listIndexes", "collStats"}
	backup := []Privilege{ // what the built-in roles backup and clusterMonitor amount to
		{Actions: read},
		{DB: "local", Actions: read},
		{DB: "config", Actions: read},
		{DB: "", Coll: "system.users", Actions: []string{"find"}},
		{DB: "admin", Coll: "system.roles", Actions: []string{"find"}},
		{DB: "admin", Coll: "system.version", Actions: []string{"find"}},
		{Cluster: true, Actions: []string{"listDatabases", "useUUID", "appendOplogNote", "replSetGetConfig", "replSetGetStatus", "serverStatus"}},
	}
	for name, c := range map[string]struct {
		have []Privilege
		want []string
	}{
		"backup and clusterMonitor":                    {backup, nil},
		"everything":                                   {[]Privilege{{Any: true, Actions: []string{"anyAction"}}}, nil},
		"without clusterMonitor":                       {append(backup[:6:6], Privilege{Cluster: true, Actions: []string{"listDatabases", "useUUID"}}), []string{"replSetGetConfig on the cluster", "replSetGetStatus on the cluster", "serverStatus on the cluster"}},
		"one database is not enough":                   {append([]Privilege{{DB: "shop", Actions: read}}, backup[1:]...), []string{"find on every database", "listCollections on every database", "listIndexes on every database"}},
		"every database is neither local nor config":   {append(backup[:1:1], backup[3:]...), []string{"find on local.oplog.rs", "find on config.transactions"}},
		"readAnyDatabase is not a right to read users": {append(backup[:3:3], backup[6]), []string{"find on admin.system.users", "find on admin.system.roles", "find on admin.system.version"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Missing(c.have)
			for i := range got {
				got[i], _, _ = strings.Cut(got[i], " (")
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	r := Rights{User: "ops", Missing: Missing(nil)}
	if err := r.Check("db1:27017"); err == nil || !strings.Contains(err.Error(), `"ops" lacks find on every database`) {
		t.Errorf("said %v", err)
	}
}

func TestHints(t *testing.T) {
	refused := func(code int32, message string) error {
		return fmt.Errorf("find on db1:27017: %w", mongo.CommandError{Code: code, Message: message})
	}
	for name, c := range map[string]struct {
		err  error
		want string // in the hint; "" for none
	}{
		"nothing":            {nil, ""},
		"no rights":          {refused(13, "not authorized on shop to execute command"), "createUser"},
		"no such user":       {refused(18, "Authentication failed."), "createUser"},
		"a shard of 8.0":     {refused(13, "You are connecting to a sharded cluster improperly by connecting directly to a shard. Please connect to the cluster via a router (mongos)."), "directShardOperations"},
		"majority reads off": {refused(148, "Majority read concern requested, but it is not supported by the storage engine."), "enableMajorityReadConcern"},
		"another refusal":    {refused(11602, "operation was interrupted"), ""},
	} {
		if got := Hint(c.err, ""); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q in it", name, got, c.want)
		}
	}
}
