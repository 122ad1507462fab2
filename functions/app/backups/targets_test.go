package backups_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/functions/app/backups"
	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/backup/backuptest"
	"github.com/heartwood-db/heartwood/shared/store/series"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

const (
	group = model.ID("5f0000000000000000000001")
	rs0   = model.ID("5f0000000000000000000c01")
	rs1   = model.ID("5f0000000000000000000c02")
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// measures is a Series: databases and disks of hosts, with the room on these.
type measures struct {
	databases map[model.HostID][]string
	free      map[model.HostID]map[string]float64
}

func (m measures) Dimensions(_ context.Context, h model.HostID, scope catalog.Scope) (names []string, err error) {
	if scope == catalog.Database {
		return m.databases[h], nil
	}
	for d := range m.free[h] {
		names = append(names, d)
	}
	return names, nil
}

func (m measures) Read(_ context.Context, q series.Query) (series.Result, error) {
	return series.Result{Lines: []series.Line{{Name: q.Measurements[0], Values: []float64{1, m.free[q.Host][q.Dimension], math.NaN()}}}}, nil
}

type site struct {
	t       *testing.T
	store   *store.Store
	backup  *backup.Backup
	service *backups.Service
	now     time.Time
	known   measures
}

// newSite is a group with a backup of rs0 whose only snapshot is of noon, seen 20 minutes later.
func newSite(t *testing.T) *site {
	t.Helper()
	x := &site{t: t, now: noon.Add(20 * time.Minute), known: measures{map[model.HostID][]string{}, map[model.HostID]map[string]float64{}}}
	var err error
	if x.store, err = areas.Open(t.Context(), store.Options{Engine: storetest.Engine(t), Box: storetest.Box(t), Version: "test", Collections: series.Collections()}); err != nil {
		t.Fatal(err)
	}
	s, err := areas.NewSite(x.store, series.Retention{})
	x.ok(err)
	x.backup = s.Backup
	x.service, err = backups.New(backups.Options{Store: s.Backup, Inventory: s.Inventory, Alerts: s.Alerting, Series: x.known, Now: func() time.Time { return x.now }})
	x.ok(err)
	backuptest.Target(t, x.store, group, rs0, "rs0", x.now)
	_, _, err = x.service.Save(t.Context(), x.one(), x.one().Config, model.BackupStarted)
	x.ok(err)
	backuptest.History(t, x.backup, group, rs0, noon)
	return x
}

func (x *site) ok(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

func (x *site) one() backups.Backup {
	x.t.Helper()
	b, err := x.service.One(x.t.Context(), group, rs0)
	x.ok(err)
	return b
}

func order(target model.ID, change ...func(*backups.Order)) backups.Order {
	o := backups.Order{Request: restoreplan.Request{Second: noon.Add(5 * time.Minute), Push: true, Drop: true}, TargetGroup: group, Target: target}
	for _, c := range change {
		c(&o)
	}
	return o
}

// TestPlanKnowsTheTarget takes what monitoring, agents and backups have told of a target into the plan.
func TestPlanKnowsTheTarget(t *testing.T) {
	x := newSite(t)
	b := x.one()
	plan := func(o backups.Order) restoreplan.Plan {
		t.Helper()
		p, err := x.service.Plan(t.Context(), b, o)
		x.ok(err)
		return p
	}
	p := plan(order(rs0))
	if p.Into == nil || *p.Into != (restoreplan.Into{Name: "rs0", Cluster: string(rs0), Version: "7.0.14", FCV: "7.0"}) {
		t.Errorf("into %+v", p.Into)
	}
	if diff := cmp.Diff([]string{"shop.orders"}, p.Overwrites); diff != "" { // its own last snapshot has it
		t.Error(diff)
	}
	if all := strings.Join(p.Warnings, "\n"); !strings.Contains(all, "rs0 is the deployment that the backup is of") || strings.Contains(all, "not known") {
		t.Errorf("warnings\n%s", all)
	}

	backuptest.Target(t, x.store, group, rs1, "rs1", x.now)
	if p = plan(order(rs1)); len(p.Overwrites) != 0 || len(p.MayHold) != 1 || !p.Destroys() {
		t.Errorf("of a target whose databases are not known: overwrites %q, may hold %q", p.Overwrites, p.MayHold)
	}
	a, c := model.NewHostID(group, "rs1-a.example.com", 27017), model.NewHostID(group, "rs1-b.example.com", 27017)
	x.known.databases[a] = []string{"admin", "config", "crm", "local"}
	x.known.databases[c] = []string{"admin", "shop"} // a member that is not asked: the primary knows
	x.known.free[a] = map[string]float64{"/": 5, "/var/lib": 900 << 20, "data": 6}
	x.known.free[c] = map[string]float64{"/boot": 7, "data": 800 << 20}
	p = plan(order(rs1))
	if len(p.MayHold) != 0 || p.Destroys() {
		t.Errorf("a target without these databases: may hold %q", p.MayHold)
	}
	if all := strings.Join(p.Warnings, "\n"); !strings.Contains(all, "800 MiB is left on rs1-b.example.com:27017") {
		t.Errorf("warnings\n%s", all)
	}
	x.known.free[c] = map[string]float64{"data": 100}
	if _, err := x.service.Plan(t.Context(), b, order(rs1)); err == nil || !strings.Contains(err.Error(), "rs1-b.example.com:27017 has 1 KiB of disk left") {
		t.Errorf("a full disk: %v", err)
	}
	delete(x.known.free, c)

	// Another restore into it, then silence of everything.
	r, acts, err := x.service.Start(t.Context(), b, order(rs1, func(o *backups.Order) { o.Users = true }), "ann")
	x.ok(err)
	if r.Method != model.DeliverPush || r.TargetID != rs1 || r.TargetGroup != group || !r.Drop || !r.Users || len(acts) != 1 || !strings.Contains(acts[0].Text, "into the running deployment rs1") {
		t.Errorf("%+v, %+v", r, acts)
	}
	kept, ok := backups.PlanOf(&r)
	if !ok || len(kept.Steps) != 6 || kept.Into == nil {
		t.Errorf("kept %+v", kept)
	}
	x.now = x.now.Add(time.Hour)
	_, err = x.service.Plan(t.Context(), b, order(rs1))
	for _, want := range []string{"restore " + r.ID + " is being written into rs1", "no backup agent"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "primary") {
		t.Errorf("a silent monitoring counts as no primary: %v", err)
	}
	if _, err = x.service.Plan(t.Context(), b, order("5f0000000000000000000cff")); err == nil || !strings.Contains(err.Error(), "no cluster of that group") {
		t.Errorf("a target that is not there: %v", err)
	}
	_, err = x.service.Plan(t.Context(), b, order(""))
	if err == nil || !strings.Contains(err.Error(), "a target deployment is needed") {
		t.Errorf("no target: %v", err)
	}

	choices, err := x.service.Targets(t.Context(), []model.Group{{ID: group, Name: "Shop"}, {ID: "5f0000000000000000000002"}})
	x.ok(err)
	if len(choices) != 2 || choices[0].Cluster.Name != "rs0" || choices[1].Cluster.Name != "rs1" || choices[0].Agent {
		t.Errorf("choices %+v", choices)
	}
	backuptest.Agent(t, x.store, group, x.now)
	if choices, err = x.service.Targets(t.Context(), []model.Group{{ID: group}}); err != nil || !choices[0].Agent {
		t.Errorf("an agent calls: %+v, %v", choices, err)
	}
}

// TestCancellingSaysWhatItLeaves at every point of a push.
func TestCancellingSaysWhatItLeaves(t *testing.T) {
	object := []backup.Object{{Key: "k", Name: "part-000001.tar.zst"}}
	for _, tt := range []struct {
		name   string
		change func(*backup.Restore)
		leaves string
	}{
		{"before a daemon", func(*backup.Restore) {}, "nothing was written into rs0"},
		{"before the agent", func(r *backup.Restore) { r.Objects, r.Delivery.Status = object, model.DeliveryReady }, "nothing was written into rs0"},
		{
			"while it writes",
			func(r *backup.Restore) {
				r.Objects, r.Delivery.Status, r.Step = object, model.DeliveryTransferring, "writes shop.users"
			},
			"removes what it has written into rs0 so far",
		},
		{
			"while it puts in place",
			func(r *backup.Restore) {
				r.Objects, r.Delivery.Status, r.Do, r.Step = object, model.DeliveryTransferring, restoreplan.DoSwap, "looks for the primary of rs0"
			},
			"stops between two collections of rs0 and says which are in place",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := newSite(t)
			r, _, err := x.service.Start(t.Context(), x.one(), order(rs0), "ann")
			x.ok(err)
			x.ok(x.backup.UpdateRestore(t.Context(), r.ID, func(r *backup.Restore) error { tt.change(r); return nil }))
			r, err = x.service.Restore(t.Context(), group, r.ID)
			x.ok(err)
			acts, err := x.service.Cancel(t.Context(), r, "ben")
			x.ok(err)
			if len(acts) != 1 || acts[0].Type != model.EventRestoreCancelled || !strings.Contains(acts[0].Text, tt.leaves) {
				t.Errorf("%+v", acts)
			}
			if r, err = x.service.Restore(t.Context(), group, r.ID); err != nil || r.Status != model.RestoreKilled || !strings.Contains(r.Error, "cancelled by ben; ") || !strings.Contains(r.Error, tt.leaves) {
				t.Errorf("%s %q, %v", r.Status, r.Error, err)
			}
			if acts, err = x.service.Cancel(t.Context(), r, "ben"); err != nil || acts != nil {
				t.Errorf("once more: %+v, %v", acts, err)
			}
		})
	}
}

// TestProgress works out steps and the remaining time from what daemon and agent told last.
func TestProgress(t *testing.T) {
	plan := func(dos ...string) (p restoreplan.Plan) {
		for i, do := range dos {
			p.Steps = append(p.Steps, restoreplan.Step{Do: do, Seconds: int64(10 * (i + 1))})
		}
		return p
	}
	push := plan(restoreplan.DoFetch, restoreplan.DoReplay, restoreplan.DoParts, restoreplan.DoStage, restoreplan.DoIndexes, restoreplan.DoSwap)
	objects := []backup.Object{{}}
	const done, runs, waits = backups.StepDone, backups.StepRunning, backups.StepWaiting
	tests := []struct {
		name  string
		r     backup.Restore
		plan  restoreplan.Plan
		steps []backups.StepState
		left  time.Duration
	}{
		{"nobody has it", backup.Restore{Step: "waits for a backup daemon"}, push, []backups.StepState{waits, waits, waits, waits, waits, waits}, 210},
		{"the first step, no pace yet", backup.Restore{Daemon: "d", Do: restoreplan.DoFetch, Step: "fetches the snapshot", Done: 40, Total: 100, Beat: noon, Since: noon}, push, []backups.StepState{runs, waits, waits, waits, waits, waits}, 206},
		{
			"the replay at its pace",
			backup.Restore{Daemon: "d", Do: restoreplan.DoReplay, Step: "replays the oplog", Done: 50, Total: 100, From: 30, Since: noon, Beat: noon.Add(10 * time.Second)},
			push,
			[]backups.StepState{done, runs, waits, waits, waits, waits},
			205,
		},
		{"parts", backup.Restore{Daemon: "d", Do: restoreplan.DoParts, Step: "writes the parts"}, push, []backups.StepState{done, done, runs, waits, waits, waits}, 180},
		{"it waits for the agent", backup.Restore{Objects: objects, Do: restoreplan.DoStage, Waits: true, Step: "waits for the backup agent beside rs0", Delivery: backup.Delivery{Status: model.DeliveryReady}}, push, []backups.StepState{done, done, done, waits, waits, waits}, 150},
		{
			"the agent writes",
			backup.Restore{Objects: objects, Do: restoreplan.DoStage, Step: "writes shop.index", Delivery: backup.Delivery{Status: model.DeliveryTransferring}, Done: 10, Total: 100, Since: noon, Beat: noon.Add(time.Minute)},
			push,
			[]backups.StepState{done, done, done, runs, waits, waits},
			540 + 110,
		},
		{"indexes", backup.Restore{Objects: objects, Do: restoreplan.DoIndexes, Step: "builds the indexes of shop.orders"}, push, []backups.StepState{done, done, done, done, runs, waits}, 110},
		{"in place", backup.Restore{Objects: objects, Do: restoreplan.DoSwap, Step: "puts shop.orders in place"}, push, []backups.StepState{done, done, done, done, done, runs}, 60},
		{"the end", backup.Restore{Status: model.RestoreFinished, Objects: objects}, push, []backups.StepState{done, done, done, done, done, done}, -1},
		{"an archive", backup.Restore{Daemon: "d", Format: "FILES", Method: model.DeliverHTTP, Do: restoreplan.DoArchive, Step: "writes the archive"}, plan(restoreplan.DoFetch, restoreplan.DoArchive), []backups.StepState{done, runs}, 20},
		{"an archive of BSON", backup.Restore{Daemon: "d", Format: "BSON", Method: model.DeliverHTTP, Do: restoreplan.DoExport, Step: "exports collections"}, plan(restoreplan.DoFetch, restoreplan.DoExport), []backups.StepState{done, runs}, 20},
		{"a head is waited for", backup.Restore{Daemon: "d", Format: "BSON", Method: model.DeliverHTTP, Do: restoreplan.DoExport, Waits: true, Step: "waits for a head"}, plan(restoreplan.DoFetch, restoreplan.DoExport), []backups.StepState{done, waits}, 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.r.Status == "" {
				tt.r.Status = model.RestoreInProgress
			}
			if tt.r.Method == "" {
				tt.r.Method = model.DeliverPush
			}
			p := backups.ProgressOf(&tt.r, &tt.plan)
			if diff := cmp.Diff(tt.steps, p.Steps); diff != "" {
				t.Error(diff)
			}
			if want := tt.left * time.Second; p.Left != want && (tt.left >= 0 || p.Left >= 0) {
				t.Errorf("%s left, want %s", p.Left, want)
			}
		})
	}
	asks := backup.Restore{Method: model.DeliverPush, Status: model.RestoreInProgress, Objects: objects, Step: "looks for the primary of rs0; rs0 refuses the agent; ask somebody"}
	if at, trouble := backups.Trouble(&asks); at != "looks for the primary of rs0" || trouble != "rs0 refuses the agent; ask somebody" {
		t.Errorf("at %q, trouble %q", at, trouble)
	}
	if _, ok := backups.PlanOf(&backup.Restore{Plan: bson.Raw{1}}); ok {
		t.Error("rubbish is a plan")
	}
}
