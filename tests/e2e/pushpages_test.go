package e2e

import (
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/heartwood-db/heartwood/functions/app/backups"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/backup/backuptest"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// TestPagesOfPushesInARealBrowser looks at every state of a restore into a running deployment: the choice of a target, the plan that
// is confirmed by its name, the way through daemon and agent, and each end.
func TestPagesOfPushesInARealBrowser(t *testing.T) {
	harness.Need(t, "chromium")
	s := newBackupSite(t)
	b := newBrowser(t)
	signIn(t, b, s.login)
	at := s.login.URL + "/g/" + s.login.GroupID + "/backup"
	everywhere := func(name, url string, settled ...step) {
		t.Helper()
		for _, l := range looks {
			b.visit(t, l, name, url, settled...)
		}
	}
	orders, staging := s.set(model.ClusterReplicaSet, "orders"), model.NewID()
	s.start(orders)
	s.history(orders, 8*time.Second)
	wizard := at + "/" + string(orders) + "/restore"
	everywhere("push-wizard-no-agent", wizard+"?ago=2h&way=push", chromedp.WaitReady(chromedp.CSS(".of-push .banner")))

	s.helpers()
	backuptest.Target(t, s.site.Store, s.group.ID, staging, "staging", s.now)
	other := model.Group{ID: model.NewID(), OrgID: s.group.OrgID, Name: "Warehouse", Created: s.now, Settings: model.DefaultGroupSettings()}
	s.ok(s.site.Inventory.CreateGroup(t.Context(), other))
	s.ok(s.site.Inventory.UpsertCluster(t.Context(), other.ID, model.NewID(), func(c *model.Cluster) error {
		c.GroupID, c.Type, c.Name, c.ReplicaSet, c.Created = other.ID, model.ClusterReplicaSet, "stock", "stock", s.now
		return nil
	}))
	into := func(id model.ID) string { return string(s.group.ID) + "/" + string(id) }
	everywhere("push-wizard", wizard+"?ago=2h&way=push", chromedp.WaitVisible(chromedp.CSS("#f-into")))
	everywhere("push-plan", wizard+"?ago=2h&way=push&plan=1&into="+into(staging)+"&rename=shop%3Dshop_yesterday")
	everywhere("push-plan-replaces", wizard+"?ago=2h&way=push&plan=1&drop=on&users=on&into="+into(orders), chromedp.WaitVisible(chromedp.CSS("#f-confirm")))
	for _, l := range looks {
		b.visitRefused(t, l, "push-plan-refused", wizard+"?ago=2h&way=push&plan=1&into="+into(orders)+"&namespaces=shop&users=on")
	}
	s.confirmed(b, wizard+"?ago=2h&way=push&plan=1&drop=on&into="+into(orders))

	restores := at + "-restores"
	r := s.push(orders, staging)
	change := func(f func(*backup.Restore)) {
		t.Helper()
		s.ok(s.site.Backup.UpdateRestore(t.Context(), r.ID, func(x *backup.Restore) error { f(x); return nil }))
	}
	tell := func(do, step string, done, total int64, ago time.Duration) {
		t.Helper()
		change(func(x *backup.Restore) {
			x.Do, x.Waits, x.Delivery.Status, x.Step, x.Done, x.Total, x.Beat = do, false, model.DeliveryTransferring, step, done, total, s.now.Add(-ago)
		})
	}
	everywhere("push-waits-for-daemon", restores+"/"+r.ID)
	change(func(x *backup.Restore) {
		x.Objects, x.StoreID = []backup.Object{{Key: "restores/x", Name: "part-000001.tar.zst", Bytes: 1}}, "local"
		x.OfferPush(s.now)
	})
	everywhere("push-waits-for-agent", restores+"/"+r.ID)
	change(func(x *backup.Restore) {
		x.Step = "looks for the primary of staging; the agent may not write to staging: set restoreUsername and restorePassword in its configuration, with a user made on the primary: " +
			`db.getSiblingDB("admin").createUser({user: "heartwood-restore", pwd: passwordPrompt(), roles: ["restore", "readWriteAnyDatabase", "dbAdminAnyDatabase", "clusterMonitor"]})`
	})
	everywhere("push-agent-asks", restores+"/"+r.ID)
	tell(restoreplan.DoStage, "writes shop.an_archive_of_all_the_orders_that_were_ever_sent_back_by_customers", 100<<30, 734<<30, time.Hour)
	tell(restoreplan.DoStage, "writes shop.an_archive_of_all_the_orders_that_were_ever_sent_back_by_customers", 310<<30, 734<<30, 0)
	everywhere("push-writes", restores+"/"+r.ID)
	everywhere("push-list", restores)
	tell(restoreplan.DoSwap, "puts collections in place: 1 of 2, shop.orders", 1, 2, 10*time.Minute)
	everywhere("push-silent", restores+"/"+r.ID)
	change(func(x *backup.Restore) { x.Status, x.Finished, x.Step = model.RestoreFinished, s.now, "" })
	everywhere("push-in-place", restores+"/"+r.ID)

	r = s.push(orders, staging)
	change(func(x *backup.Restore) {
		x.Objects = []backup.Object{{Key: "restores/y", Name: "part-000001.tar.zst", Bytes: 1}}
		x.OfferPush(s.now)
	})
	tell(restoreplan.DoStage, "writes shop.orders", 1<<30, 734<<30, 0)
	now, err := s.service.Restore(t.Context(), s.group.ID, r.ID)
	s.ok(err)
	_, err = s.service.Cancel(t.Context(), now, s.login.User)
	s.ok(err)
	everywhere("push-cancelled", restores+"/"+r.ID)

	r = s.push(orders, staging)
	change(func(x *backup.Restore) {
		x.Status, x.Finished, x.Delivery.Status = model.RestoreBroken, s.now, model.DeliveryFinished
		x.Error = "The user restore on staging may not do renameCollectionSameDB; nothing of the target was changed."
		x.Remedy = `Give it the roles restore, readWriteAnyDatabase, dbAdminAnyDatabase and clusterMonitor, then start the restore again.`
	})
	everywhere("push-failed", restores+"/"+r.ID)
}

// push asks for a restore of a backup into a replica set.
func (s *backupSite) push(of, into model.ID) backup.Restore {
	s.t.Helper()
	r, _, err := s.service.Start(s.t.Context(), s.one(of), backups.Order{
		Request:     restoreplan.Request{Second: s.now.Add(-2 * time.Hour), Push: true, Drop: true},
		TargetGroup: s.group.ID, Target: into,
	}, s.login.User)
	s.ok(err)
	return r
}

// confirmed goes from a plan that replaces something to the restore: not without the name of the target, then with it.
func (s *backupSite) confirmed(b *browser, plan string) {
	s.t.Helper()
	if err := looks[0].apply(b.ctx); err != nil {
		s.t.Fatal(err)
	}
	start := chromedp.CSS(`button[name="do"][value="start"]`)
	b.do(s.t, "a plan that replaces", chromedp.Navigate(plan), chromedp.WaitVisible(chromedp.CSS("#f-confirm")), chromedp.SendKeys(chromedp.CSS("#f-confirm"), "order"), chromedp.Click(start),
		chromedp.WaitVisible(chromedp.CSS("#f-confirm[aria-invalid]")))
	if got, _, err := s.service.Restores(s.t.Context(), backup.RestoreQuery{Group: s.group.ID}); err != nil || len(got) > 0 {
		s.t.Fatalf("started without the name: %v, %v", got, err)
	}
	b.take() // the console names the refusal
	b.do(s.t, "the name", chromedp.SendKeys(chromedp.CSS("#f-confirm"), "orders"), chromedp.Click(start), chromedp.WaitVisible(chromedp.CSS(".working")))
	got, _, err := s.service.Restores(s.t.Context(), backup.RestoreQuery{Group: s.group.ID})
	s.ok(err)
	if len(got) != 1 || got[0].Method != model.DeliverPush || !got[0].Drop {
		s.t.Fatalf("after the name: %+v", got)
	}
	b.do(s.t, "cancel", chromedp.Click(chromedp.CSS(`form[action$="/cancel"] button`)), chromedp.WaitVisible(chromedp.CSS(".banner.ok")))
	if got, err := s.service.Restore(s.t.Context(), s.group.ID, got[0].ID); err != nil || got.Status != model.RestoreKilled {
		s.t.Errorf("cancelled: %s, %v", got.Status, err)
	}
	for _, p := range b.take() {
		s.t.Errorf("a push from the page: %s", p)
	}
}
