package script

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/heartwood-db/heartwood/functions/app/backups"
	sites "github.com/heartwood-db/heartwood/local/site"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/backup/backuptest"
)

// running is the server of a script, for the commands that play its agents and daemons.
type running struct{ site *sites.Site }

// siteKey is where a script's running is.
const siteKey = "site"

// scriptTB lets a script use what tests use.
type scriptTB struct {
	testing.TB
	ts *testscript.TestScript
}

func (t scriptTB) Helper()                  {}
func (t scriptTB) Context() context.Context { return context.Background() }
func (t scriptTB) Fatal(args ...any)        { t.ts.Fatalf("%s", fmt.Sprint(args...)) }

// backedUp gives the script's group a replica set rs0 with a backup whose snapshot is 15 minutes old, and another one, rs1, with a
// backup agent beside both.
func backedUp(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: backed-up")
	}
	x, t := site(ts), scriptTB{ts: ts}
	group, now := model.ID(ts.Getenv("GROUP")), time.Now().UTC().Truncate(time.Second)
	rs0, rs1 := model.NewID(), model.NewID()
	backuptest.Target(t, x.Store, group, rs0, "rs0", now)
	backuptest.Target(t, x.Store, group, rs1, "rs1", now)
	service, err := backups.New(backups.Options{Store: x.Backup, Inventory: x.Inventory, Alerts: x.Alerting})
	ts.Check(err)
	b, err := service.One(t.Context(), group, rs0)
	ts.Check(err)
	_, _, err = service.Save(t.Context(), b, b.Config, model.BackupStarted)
	ts.Check(err)
	ts.Setenv("SNAPSHOT", backuptest.History(t, x.Backup, group, rs0, now.Add(-15*time.Minute)))
}

func site(ts *testscript.TestScript) *sites.Site {
	r, ok := ts.Value(siteKey).(*running)
	if !ok || r.site == nil {
		ts.Fatalf("start the server first")
	}
	return r.site
}

// carry plays the daemon and the agent of the one restore that is open, which it waits for: "stored" stores its parts, "written N
// of M" says how far the agent is, "finished" and "broken" end it.
func carry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: carry stored|written N M|finished|broken")
	}
	x, ctx, now := site(ts), context.Background(), time.Now().UTC()
	var open []backup.Restore
	for until := time.Now().Add(30 * time.Second); len(open) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			ts.Fatalf("no restore was asked for")
		}
		var err error
		open, err = x.Backup.OpenRestores(ctx)
		ts.Check(err)
	}
	ts.Setenv("RESTORE", open[0].ID)
	ts.Check(x.Backup.UpdateRestore(ctx, open[0].ID, func(r *backup.Restore) error {
		switch args[0] {
		case "stored":
			r.Objects = []backup.Object{{Key: "restores/x", Name: "part-000001.tar.zst", Bytes: 5, SHA256: strings.Repeat("ab", 32)}}
			r.OfferPush(now)
		case "written":
			r.Do, r.Waits, r.Delivery.Status, r.Step, r.Beat = restoreplan.DoStage, false, model.DeliveryTransferring, "writes shop.orders", now
			_, err := fmt.Sscan(strings.Join(args[1:], " "), &r.Done, &r.Total)
			return err
		case "finished":
			r.Status, r.Finished, r.Delivery.Status = model.RestoreFinished, now, model.DeliveryFinished
		case "broken":
			r.Status, r.Finished, r.Delivery.Status = model.RestoreBroken, now, model.DeliveryFinished
			r.Error, r.Remedy = "the disk of rs1-a.example.com:27017 is full; nothing of the target was changed", "Make room there, then start the restore again."
		default:
			ts.Fatalf("carry what?")
		}
		return nil
	}))
}
