package backupagent

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/daemon/backupagent/intaketest"
	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	simwire "github.com/heartwood-db/heartwood/local/mongosim/wire"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/wire"
)

func TestCheck(t *testing.T) {
	d := mongosim.Options{Username: "root", Password: "secret", Users: []simwire.User{
		{Name: "backup", DB: "admin", Password: "pw", Roles: []engine.Role{{Role: "backup", DB: "admin"}, {Role: "clusterMonitor", DB: "admin"}}},
		{Name: "reader", DB: "admin", Password: "pw", Roles: []engine.Role{{Role: "readAnyDatabase", DB: "admin"}, {Role: "clusterMonitor", DB: "admin"}}},
	}}
	w := newWorld(t, d, nil)
	w.fill("shop.orders", 10)
	for name, c := range map[string]struct {
		change func(*config.Agent)
		ok     bool
		says   []string
	}{
		"everything in order": {
			func(cfg *config.Agent) { cfg.AuthUsername, cfg.AuthPassword = "backup", "pw" }, true,
			[]string{"ok   server", "1 replica sets to back up", "ok   rs0", "as backup", "replSetResizeOplog"},
		},
		"a user that may only read": {
			func(cfg *config.Agent) { cfg.AuthUsername, cfg.AuthPassword = "reader", "pw" }, false,
			[]string{"FAIL rs0", `grantRolesToUser("reader", [{role: "backup", db: "admin"}, {role: "clusterMonitor", db: "admin"}])`},
		},
		"a wrong password": {
			func(cfg *config.Agent) { cfg.AuthUsername, cfg.AuthPassword = "backup", "guess" }, false,
			[]string{"FAIL rs0", `createUser({user: "heartwood-backup"`},
		},
		"no user": {func(*config.Agent) {}, false, []string{"FAIL rs0", `createUser({user: "heartwood-backup"`}},
		"a wrong key": {
			func(cfg *config.Agent) { cfg.APIKey = "wrong" }, false,
			[]string{"FAIL server", "create one under Settings > Agents", "no replica set: start a backup in the web app"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config.DefaultAgent()
			cfg.BaseURL, cfg.GroupID, cfg.APIKey = w.server.URL, intaketest.Group, intaketest.Key
			cfg.StateDir, cfg.SelectionSeconds = t.TempDir(), 2
			c.change(&cfg)
			a, err := New(Options{Config: cfg, Version: "1.2.3", HTTP: http.DefaultClient})
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := a.Check(t.Context(), &out, false); (err == nil) != c.ok {
				t.Errorf("error %v", err)
			}
			for _, s := range c.says {
				if !strings.Contains(out.String(), s) {
					t.Errorf("it does not say %q:\n%s", s, out.String())
				}
			}
			out.Reset()
			_ = a.Check(t.Context(), &out, true)
			var report CheckReport
			if err := json.Unmarshal(out.Bytes(), &report); err != nil || report.OK != c.ok {
				t.Errorf("%v, %s", err, out.String())
			}
		})
	}
}

func TestAUserWithoutRightsIsTold(t *testing.T) {
	w := newWorld(t, mongosim.Options{Username: "root", Password: "secret", Users: []simwire.User{
		{Name: "reader", DB: "admin", Password: "pw", Roles: []engine.Role{{Role: "readAnyDatabase", DB: "admin"}, {Role: "clusterMonitor", DB: "admin"}}},
	}}, nil)
	a := w.agent(t.TempDir(), func(cfg *config.Agent) { cfg.AuthUsername, cfg.AuthPassword = "reader", "pw" })
	var r wire.JobReport
	w.until("it says what is missing", func() bool {
		for _, j := range a.a.jobs.List() {
			r = j.report()
		}
		return r.Error != ""
	})
	if r.ErrorCode != codePrivileges && r.ErrorCode != codeAuth || !strings.Contains(r.Error, "heartwood-backup") && !strings.Contains(r.Error, "grantRolesToUser") {
		t.Errorf("it says %s: %s", r.ErrorCode, r.Error)
	}
}

// fields are a document's, in any order.
func fields(t *testing.T, doc bson.Raw) (m bson.M) {
	t.Helper()
	if err := bson.Unmarshal(doc, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestTheBuiltInRolesAreEnough backs up a set with access control as a user with the two roles that the documentation asks for:
// neither servers' own commands nor system.views are for it.
func TestTheBuiltInRolesAreEnough(t *testing.T) {
	w := newWorld(t, mongosim.Options{Username: "root", Password: "secret", Users: []simwire.User{
		{Name: "agent", DB: "admin", Password: "pw", Roles: []engine.Role{{Role: "backup", DB: "admin"}, {Role: "clusterMonitor", DB: "admin"}}},
	}}, nil)
	w.fill("shop.orders", 300)
	ctx, shop := t.Context(), w.client.Database("shop")
	if err := shop.CreateView(ctx, "large", "orders", bson.A{bson.D{{Key: "$match", Value: bson.D{{Key: "n", Value: bson.D{{Key: "$gt", Value: 100}}}}}}},
		options.CreateView().SetCollation(&options.Collation{Locale: "fr"})); err != nil {
		t.Fatal(err)
	}
	series := bson.D{{Key: "create", Value: "readings"}, {Key: "timeseries", Value: bson.D{{Key: "timeField", Value: "at"}, {Key: "metaField", Value: "sensor"}}}}
	if err := shop.RunCommand(ctx, series).Err(); err != nil {
		t.Fatal(err)
	}
	w.agent(t.TempDir(), func(cfg *config.Agent) { cfg.AuthUsername, cfg.AuthPassword = "agent", "pw" })
	w.scanned()
	want := map[string]bson.M{} // as root sees them
	cursor, err := shop.Collection("system.views").Find(ctx, bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	for cursor.Next(ctx) {
		want[cursor.Current.Lookup("_id").StringValue()] = fields(t, cursor.Current)
	}
	w.server.Lock(func(_ int64, e *intaketest.Epoch) {
		for ns, doc := range want {
			if c := e.Collections[ns]; c == nil || !c.Done || !reflect.DeepEqual(fields(t, c.View), doc) {
				t.Errorf("%s: want %v, got %+v", ns, doc, c)
			}
		}
		for _, c := range e.Collections {
			if c.Lost != "" {
				t.Errorf("%s is lost: %s", c.NS, c.Lost)
			}
		}
	})
	if len(want) != 2 {
		t.Errorf("%d views: %v", len(want), want)
	}
}
