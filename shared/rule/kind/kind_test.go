package kind

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/model"
)

// constants are the names of the event types of shared/model and their values.
func constants(t *testing.T) map[string]model.EventType {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../../model/event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]model.EventType{}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := v.Type.(*ast.Ident); ok && id.Name == "EventType" {
			if lit, ok := v.Values[0].(*ast.BasicLit); ok {
				s, _ := strconv.Unquote(lit.Value)
				all[v.Names[0].Name] = model.EventType(s)
			}
		}
		return true
	})
	if len(all) < 80 {
		t.Fatalf("found only %d event types", len(all))
	}
	return all
}

// emitted are the event types that the code that adds events names: what people do and what pings tell. Code that only shows
// events, and the evaluation of alerts, are left out.
func emitted(t *testing.T) map[model.EventType]bool {
	t.Helper()
	names, out := constants(t), map[model.EventType]bool{}
	for _, root := range []string{"../../topology", "../../../functions/ingestion", "../../../functions/app", "../../../daemon/backupd"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && (d.Name() == "activity" || d.Name() == "chart" || strings.HasPrefix(d.Name(), "alert") || d.Name() == "trial" || d.Name() == "testdata") {
				return filepath.SkipDir
			}
			if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "model" && names[s.Sel.Name] != "" {
						out[names[s.Sel.Name]] = true
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(out) < 30 {
		t.Fatalf("found only %d event types that are emitted", len(out))
	}
	return out
}

// TestWhatTellsOfEventsIsRaisedWhereTheyAreEmitted derives what can be offered: the other half of it, what is judged from a
// snapshot, is tested beside the code that judges.
func TestWhatTellsOfEventsIsRaisedWhereTheyAreEmitted(t *testing.T) {
	all, ends := emitted(t), map[model.EventType]bool{}
	for _, k := range Types() {
		ends[k.ClosedBy] = true
	}
	for _, k := range Types() {
		// What only ends alerts may be mentioned: it is told by those alerts.
		if k.Inform && k.Raised != all[k.Name] && (k.Raised || !ends[k.Name]) {
			t.Errorf("%s: offered %v, emitted %v", k.Name, k.Raised, all[k.Name])
		}
		if k.Raised && (k.Label == "" || !strings.HasSuffix(k.Help, ".")) {
			t.Errorf("%s has no words", k.Name)
		}
	}
	// Emitted, and nobody is to be alerted: it is in the activity feed.
	feedOnly := map[model.EventType]bool{
		model.EventLogin: true, model.EventLoginFailed: true, model.EventLogout: true, model.EventPasswordChanged: true,
		model.EventAlertAcknowledged: true, model.EventAlertUnacknowledged: true, model.EventAlertConfigAdded: true,
		model.EventAlertConfigDeleted: true, model.EventAlertConfigChanged: true, model.EventAlertConfigEnabled: true,
		model.EventAlertConfigDisabled: true, model.EventMaintenanceAdded: true, model.EventMaintenanceChanged: true,
		model.EventMaintenanceDeleted: true, model.EventSilenceAdded: true, model.EventSilenceEnded: true, model.EventIntegrationChanged: true,
	}
	for name := range all {
		k, ok := TypeOf(name)
		if offered := ok && k.Raised; offered == feedOnly[name] && !ends[name] {
			t.Errorf("%s is emitted: offered %v, for the feed only %v", name, offered, feedOnly[name])
		}
	}
}

func TestTheTableIsSound(t *testing.T) {
	types := map[model.EventType]bool{}
	for _, name := range constants(t) {
		types[name] = true
	}
	seen := map[model.EventType]bool{}
	for _, k := range Types() {
		if seen[k.Name] {
			t.Errorf("%s is there twice", k.Name)
		}
		seen[k.Name] = true
		got, ok := TypeOf(k.Name)
		if !ok || got.Label != k.Label {
			t.Errorf("%s is not found", k.Name)
		}
		if k.Raised && !types[k.Name] {
			t.Errorf("%s is offered and no event type of the model", k.Name)
		}
		if k.ClosedBy != "" && !types[k.ClosedBy] {
			t.Errorf("%s is closed by %s, which is no event type of the model", k.Name, k.ClosedBy)
		}
		if k.Inform && (k.ClosedBy != "" || k.Metric || k.Repeat != 0 || k.MinDelay != 0) {
			t.Errorf("%s tells of events and has what only states have", k.Name)
		}
		if (k.Category == Site) != k.Global {
			t.Errorf("%s: category %s, global %v", k.Name, k.Category, k.Global)
		}
		if !strings.Contains(string(k.Name), "_") || strings.ToUpper(string(k.Name)) != string(k.Name) {
			t.Errorf("%q is a strange name", k.Name)
		}
	}
	// A few of each list of the Public API.
	for _, name := range []model.EventType{"BACKUP_AGENT_CONF_CALL_FAILURE", "CLUSTER_CHECKKPOINT_UPDATED_AUDIT", "CLUSTER_CHECKPOINT_UPDATED_AUDIT", "TEAM_CREATED", "ORG_EMPLOYEE_ACCESS_UNRESTRICTED", "ONE_PRIMARY", "DATA_EXPLORER"} {
		if _, ok := TypeOf(name); !ok {
			t.Errorf("%s is not known", name)
		}
	}
	if _, ok := TypeOf("HOST_ON_FIRE"); ok {
		t.Error("anything is known")
	}
	if len(Windows()) != 5 || len(Fields()) != 7 {
		t.Error("windows or fields")
	}
}
