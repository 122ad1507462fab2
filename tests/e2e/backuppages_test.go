package e2e

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/heartwood-db/heartwood/functions/app"
	"github.com/heartwood-db/heartwood/functions/app/backups"
	"github.com/heartwood-db/heartwood/functions/app/trial"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/backup/backuptest"
	"github.com/heartwood-db/heartwood/shared/store/series"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
	"github.com/heartwood-db/heartwood/tests/harness"
)

// mute is a sender of messages that no page of backups uses.
type mute struct{}

func (mute) Missing(string) string { return "not in this test" }

func (mute) Send(context.Context, notify.Target, notify.Message) (notify.Result, error) {
	return notify.Result{}, nil
}

// backupSite is an application in this process, so that a test sets every state of a backup as daemons and agents would leave it.
type backupSite struct {
	t       *testing.T
	site    *areas.Site
	service *backups.Service
	group   model.Group
	login   harness.Login
	now     time.Time
}

func newBackupSite(t *testing.T) *backupSite {
	t.Helper()
	s := &backupSite{t: t, now: time.Now().UTC().Truncate(time.Second)}
	st, err := areas.Open(t.Context(), store.Options{Engine: storetest.Engine(t), Box: storetest.Box(t), Version: "test", Collections: series.Collections()})
	s.ok(err)
	s.site, err = areas.NewSite(st, series.Retention{})
	s.ok(err)
	x := s.site
	s.service, err = backups.New(backups.Options{Store: x.Backup, Inventory: x.Inventory, Alerts: x.Alerting, Series: x.Series})
	s.ok(err)
	trials, err := trial.New(trial.Options{Inventory: x.Inventory, Access: x.Access, Alerting: x.Alerting, Series: x.Series, Log: obs.Discard()})
	s.ok(err)
	h, err := app.New(app.Options{
		Inventory: x.Inventory, Access: x.Access, Events: x.Alerting, Alerting: x.Alerting, Trial: trials, Backups: s.service, Daemons: x.Backup, Sender: mute{},
		Series: x.Series, Site: x.Store, Log: obs.Discard(), Version: "0.0.0-test", Server: "test",
	})
	s.ok(err)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	org := model.Org{ID: model.NewID(), Name: "Example", Created: s.now}
	s.ok(x.Inventory.CreateOrg(t.Context(), org))
	s.group = model.Group{ID: model.NewID(), OrgID: org.ID, Name: "Shop", Created: s.now, Settings: model.DefaultGroupSettings()}
	s.ok(x.Inventory.CreateGroup(t.Context(), s.group))
	s.login = harness.Login{URL: server.URL, GroupID: string(s.group.ID), User: "ann@example.com", Password: "Correct-horse-47"}
	s.user(s.login.User, model.Grant{Role: model.GlobalOwner})
	return s
}

func (s *backupSite) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *backupSite) user(name string, grants ...model.Grant) {
	s.t.Helper()
	hash, err := auth.HashPassword(s.login.Password)
	s.ok(err)
	s.ok(s.site.Access.CreateUser(s.t.Context(), model.User{ID: model.NewID(), Username: name, PasswordHash: hash, Created: s.now, Grants: grants}))
}

// set adds a replica set, or a sharded cluster.
func (s *backupSite) set(kind model.ClusterType, name string) model.ID {
	s.t.Helper()
	id := model.NewID()
	s.ok(s.site.Inventory.UpsertCluster(s.t.Context(), s.group.ID, id, func(c *model.Cluster) error {
		*c = model.Cluster{ID: id, GroupID: s.group.ID, Type: kind, Name: name, ReplicaSet: name, Created: s.now}
		for i, h := range []string{"db1", "db2", "db3"} {
			c.Members = append(c.Members, model.Member{ID: i, Host: h + "." + name + ".databases.example.com:27017"})
		}
		return nil
	}))
	return id
}

func (s *backupSite) one(cluster model.ID) backups.Backup {
	s.t.Helper()
	b, err := s.service.One(s.t.Context(), s.group.ID, cluster)
	s.ok(err)
	return b
}

func (s *backupSite) start(cluster model.ID) {
	s.t.Helper()
	b := s.one(cluster)
	_, _, err := s.service.Save(s.t.Context(), b, b.Config, model.BackupStarted)
	s.ok(err)
}

func (s *backupSite) job(cluster model.ID, change func(*backup.Job)) {
	s.t.Helper()
	s.ok(s.site.Backup.UpdateJobAs(s.t.Context(), cluster, backuptest.Token, func(j *backup.Job) error { change(j); return nil }))
}

// helpers makes a daemon and an agent call.
func (s *backupSite) helpers() {
	s.t.Helper()
	_, err := s.site.Backup.Beat(s.t.Context(), backup.Daemon{
		ID: backuptest.Daemon, Machine: "backup1.example.com", HeadRoot: "/var/lib/heartwood/heads/", Version: "0.0.0-test", Started: s.now.Add(-time.Hour), Beat: s.now,
		Heads: 4, Jobs: 3, Releases: []string{"4.4.29", "5.0.31", "6.0.20", "7.0.16", "8.0.4"}, Free: 120 << 30, Size: 500 << 30,
	})
	s.ok(err)
	s.ok(s.site.Backup.SaveStore(s.t.Context(), model.BlockStore{ID: "nas1", Type: model.BlockStoreFile, Path: "/mnt/backup/nas1", Encrypt: true, AssignmentEnabled: true, LoadFactor: 1}))
	s.ok(s.site.Inventory.UpsertAgent(s.t.Context(), s.group.ID, "agent-1", func(a *model.Agent) error {
		*a = model.Agent{ID: "agent-1", GroupID: s.group.ID, Type: model.AgentBackup, Hostname: "backup1.example.com", Version: "0.0.0-test", Started: s.now, FirstSeen: s.now, LastConf: s.now, State: model.AgentActive}
		return nil
	}))
}

// history gives a backup 20 days of snapshots, oplog of the last two days with a hole in it, and a snapshot that is being taken.
func (s *backupSite) history(cluster model.ID, lag time.Duration) (newest string) {
	s.t.Helper()
	ctx, b := s.t.Context(), s.site.Backup
	newest = backuptest.History(s.t, b, s.group.ID, cluster, s.now.Add(-48*time.Hour))
	for _, ago := range []time.Duration{36 * time.Hour, 20 * time.Hour, 12 * time.Hour, 6 * time.Hour, lag} {
		backuptest.Tail(s.t, b, cluster, s.now.Add(-ago))
	}
	like, err := b.Snapshot(ctx, cluster, newest)
	s.ok(err)
	at := func(ago time.Duration) backup.Snapshot {
		x := like
		x.ID, x.At = string(model.NewID()), s.now.Add(-ago)
		x.Created, x.Finished, x.Expires = x.At, x.At.Add(9*time.Minute), x.At.AddDate(0, 0, 2)
		x.Applied.TS.T = uint32(x.At.Unix()) //nolint:gosec // times of tests
		x.ReplayFrom, x.FileBytes, x.AddedBytes = x.Applied, 734<<30, 3<<30
		return x
	}
	add := func(x backup.Snapshot) {
		s.t.Helper()
		s.ok(b.AddSnapshot(ctx, backuptest.Token, x))
	}
	for day := 20; day > 2; day -= 4 {
		x := at(time.Duration(day) * 24 * time.Hour)
		x.Kinds = []snapshot.Kind{snapshot.Daily, snapshot.Weekly, snapshot.Monthly}
		add(x)
	}
	damaged := at(24 * time.Hour)
	damaged.VerifyError, damaged.Verified = "object pages/5f/12 of the block store is gone", s.now
	add(damaged)
	good := at(8 * time.Hour)
	good.Verified, good.DoNotDelete = s.now, true
	add(good)
	s.ok(b.SetContents(ctx, cluster, good.ID, []restoreplan.Namespace{{NS: "shop.orders", Bytes: 600 << 30}, {NS: "shop.an_archive_of_all_the_orders_that_were_ever_sent_back_by_customers", Bytes: 134 << 30}}))
	making := at(time.Minute)
	making.Complete, making.Finished = false, time.Time{}
	add(making)
	s.ok(b.AddBreak(ctx, cluster, 1, backup.Break{At: like.Applied.TS, Why: "an oplog entry of this kind cannot be replayed"}))
	s.job(cluster, func(j *backup.Job) {
		j.Last, j.Next = good.ID, s.now.Add(2*time.Hour)
		j.Tail = backup.Tail{Source: "db2.shop.databases.example.com:27017", Oldest: s.now.Add(-60 * time.Hour), Newest: s.now, At: s.now}
	})
	return newest
}

// TestPagesOfBackupsInARealBrowser looks at every state of the pages of backups.
func TestPagesOfBackupsInARealBrowser(t *testing.T) {
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
	everywhere("backup-empty", at)
	everywhere("admin-backup-empty", s.login.URL+"/admin/backup")
	everywhere("backup-restores-empty", at+"-restores")

	shop := s.set(model.ClusterReplicaSet, "shop")
	s.set(model.ClusterSharded, "analytics")
	everywhere("backup-never", at)
	everywhere("backup-set-never", at+"/"+string(shop))
	everywhere("backup-restore-nothing", at+"/"+string(shop)+"/restore")
	s.start(shop)
	everywhere("backup-nobody", at)
	everywhere("backup-set-nobody", at+"/"+string(shop))

	s.helpers()
	s.job(shop, func(j *backup.Job) {
		j.Daemon, j.Stage, j.StageSince = backuptest.Daemon, backup.StageSync, s.now.Add(-20*time.Minute)
		j.Tail = backup.Tail{Source: "db2.shop.databases.example.com:27017", Collections: 1210, CollectionsDone: 345, Bytes: 734 << 30, BytesDone: 91 << 30, Throttled: "the source's secondary lags"}
	})
	everywhere("backup-reading", at)
	everywhere("backup-set-reading", at+"/"+string(shop))

	long := s.set(model.ClusterReplicaSet, "production-orders-and-invoices-eu-central-1-replica-set-0")
	s.start(long)
	s.history(long, 8*time.Second)
	orders := s.set(model.ClusterReplicaSet, "orders")
	s.start(orders)
	s.history(orders, 40*time.Minute)
	broken := s.set(model.ClusterReplicaSet, "payments")
	s.start(broken)
	s.history(broken, 3*time.Hour)
	s.job(broken, func(j *backup.Job) {
		j.Problem = &backup.Problem{
			Code: "X", Text: "No release of mongod 7.0 is among the daemon's releases.", Since: s.now.Add(-3 * time.Hour), Retries: 12,
			Remedy: "Put a mongod 7.0.14 or newer into /var/lib/heartwood/releases/7.0.14 of backup1.example.com.",
		}
		j.Tail.Error = "cannot reach db2.payments.databases.example.com:27017: connection refused"
	})
	everywhere("backup", at)
	everywhere("backup-set", at+"/"+string(long))
	everywhere("backup-set-stands-still", at+"/"+string(broken))
	everywhere("backup-set-delete", at+"/"+string(orders)+"/terminate")
	everywhere("backup-wizard", at+"/"+string(long)+"/restore")
	everywhere("backup-wizard-plan", at+"/"+string(long)+"/restore?ago=2h&plan=1&format=BSON")
	for _, l := range looks {
		b.visitRefused(t, l, "backup-wizard-refused", at+"/"+string(long)+"/restore?at=2001-01-01T00:00:00&plan=1")
	}
	s.typedTextIsKept(b, at+"/"+string(long))

	restores := at + "-restores"
	order := func(format restoreplan.Format, ago time.Duration) backup.Restore {
		t.Helper()
		r, _, err := s.service.Start(t.Context(), s.one(long), backups.Order{Request: restoreplan.Request{Second: s.now.Add(-ago), Format: format}, LinkHours: 4, Downloads: 2}, s.login.User)
		s.ok(err)
		return r
	}
	claim := func(change func(*backup.Restore)) backup.Restore {
		t.Helper()
		r, ok, err := s.site.Backup.ClaimRestore(t.Context(), backuptest.Daemon, s.now, time.Minute, nil)
		s.ok(err)
		if !ok {
			t.Fatal("no restore to claim")
		}
		s.ok(s.site.Backup.UpdateRestoreAs(t.Context(), r.ID, r.Token, func(x *backup.Restore) error { change(x); return nil }))
		return r
	}
	order(restoreplan.Files, time.Hour)
	running := claim(func(x *backup.Restore) {
		x.Do, x.Step, x.Done, x.Total, x.Beat = restoreplan.DoFetch, "fetches the snapshot", 190<<30, 734<<30, s.now
	})
	order(restoreplan.BSON, 2*time.Hour)
	failed := claim(func(x *backup.Restore) {
		x.Status, x.Finished = model.RestoreBroken, s.now
		x.Error, x.Remedy = "The disk of the heads has 120 GiB left, 761 GiB are needed.", "Make room in /var/lib/heartwood/heads of backup1.example.com, then start the restore again."
	})
	order(restoreplan.Files, 3*time.Hour)
	ready := claim(func(x *backup.Restore) {
		x.Status, x.Finished = model.RestoreFinished, s.now
		x.Objects = []backup.Object{{Key: "restores/x", Name: "production-orders-and-invoices-eu-central-1-replica-set-0-20260102T030405Z.tar.gz", Bytes: 211 << 30, SHA256: strings.Repeat("ab", 32)}}
		s.site.Backup.OfferDownload(x, s.now)
	})
	order(restoreplan.BSON, 4*time.Hour)
	everywhere("backup-restores", restores)
	everywhere("backup-restore-running", restores+"/"+running.ID)
	everywhere("backup-restore-failed", restores+"/"+failed.ID)
	everywhere("backup-restore-ready", restores+"/"+ready.ID)

	b.do(t, "g b", chromedp.Navigate(s.login.URL+"/g/"+s.login.GroupID+"/activity"), chromedp.WaitReady(chromedp.CSS("h1")),
		chromedp.KeyEvent("g"), chromedp.KeyEvent("b"), chromedp.WaitReady(chromedp.CSS(`a[data-go="b"][aria-current="page"]`)))
	everywhere("cluster-with-backup", s.login.URL+"/g/"+s.login.GroupID+"/clusters/"+string(long))
	everywhere("admin-backup", s.login.URL+"/admin/backup")
	everywhere("agents-with-backup", s.login.URL+"/g/"+s.login.GroupID+"/agents")

	s.user("reader@example.com", model.Grant{Role: model.GroupReadOnly, GroupID: s.group.ID})
	reader := newBrowser(t)
	signIn(t, reader, harness.Login{URL: s.login.URL, User: "reader@example.com", Password: s.login.Password})
	reader.visit(t, looks[0], "backup-set-reader", at+"/"+string(long))
	reader.visit(t, looks[0], "backup-wizard-reader", at+"/"+string(long)+"/restore")
	reader.visit(t, looks[0], "backup-restore-reader", restores+"/"+ready.ID)
}

// visitRefused is visit for a page whose answer is a refusal: the status that the console names is no fault of the page.
func (b *browser) visitRefused(t *testing.T, l look, name, url string) {
	t.Helper()
	b.visit(t, l, name, url, chromedp.WaitReady(chromedp.CSS("[aria-invalid]")), func(context.Context, *chromedp.Target) (chromedp.Void, error) {
		for _, p := range b.take() {
			if !strings.Contains(p, "status of 422") {
				b.complain(p)
			}
		}
		return chromedp.Void{}, nil
	})
}

// typedTextIsKept refreshes the live part of a page while somebody types beside it: the text, the focus and what is open stay, and
// the buttons of the live part still work.
func (s *backupSite) typedTextIsKept(b *browser, page string) {
	s.t.Helper()
	refresh := chromedp.Evaluate[chromedp.Void](`(() => {
		window.swapped = 0;
		document.body.addEventListener("htmx:afterSettle", () => window.swapped++, {once: true});
		document.getElementById("live").dataset.old = "1"; // a morph takes it away
		htmx.trigger("#live", "refresh");
	})()`)
	swapped := chromedp.Poll[chromedp.Void](`window.swapped > 0 && !document.getElementById("live").dataset.old`, chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(20*time.Second))
	if err := looks[0].apply(b.ctx); err != nil {
		s.t.Fatal(err)
	}
	b.take()
	b.do(s.t, "type", chromedp.Navigate(page), chromedp.WaitReady(chromedp.CSS("#f-namespaces")),
		chromedp.Evaluate[chromedp.Void](`(() => { const f = document.getElementById("f-namespaces"); f.focus(); f.value = "shop.half-ty"; })()`), refresh, swapped)
	if got := ask(s.t, b, "what was typed", chromedp.Evaluate[string](`document.activeElement.id + " " + document.activeElement.value`)); got != "f-namespaces shop.half-ty" {
		s.t.Errorf("after a refresh: %q", got)
	}
	b.do(s.t, "take a snapshot", chromedp.Click(chromedp.CSS(`#live form[action$="/snapshots"] button`)), chromedp.WaitReady(chromedp.CSS(".banner.ok")))
	for _, p := range b.take() {
		s.t.Errorf("a live page: %s", p)
	}
}

// TestAPersonRestoresFromThePage goes the whole way in a browser, on a demo with agents, server and daemon: the backup, a minute ago,
// the plan, the restore followed to its end, and the archive fetched by its link.
func TestAPersonRestoresFromThePage(t *testing.T) {
	harness.Need(t, "chromium")
	_, login := harness.Demo(t, t.TempDir(), "--backup", "--history", "5m")
	if !login.Backup {
		t.Fatal("the demo does not back up")
	}
	b := newBrowser(t)
	signIn(t, b, login)
	if err := looks[0].apply(b.ctx); err != nil {
		t.Fatal(err)
	}
	b.take()
	b.do(t, "the backup of rs0", chromedp.Navigate(login.URL+"/g/"+login.GroupID+"/backup"), chromedp.WaitReady(chromedp.CSS("table.backups tbody th a")),
		chromedp.Click(chromedp.CSS("table.backups tbody th a")), chromedp.WaitReady(chromedp.CSS("#f-schedule, #f-interval")))
	page := ask(t, b, "its address", chromedp.Evaluate[string]("location.pathname"))
	const minute = `a.btn[href$="ago=1m"]`
	harness.Eventually(t, 6*time.Minute, "that a minute ago can be restored", func(context.Context) error {
		b.do(t, "the wizard", chromedp.Navigate(login.URL+page+"/restore"), chromedp.WaitReady(chromedp.CSS("h1")))
		if !ask(t, b, "what is offered", chromedp.Evaluate[bool]("!!document.querySelector('"+minute+"')")) {
			return errors.New(ask(t, b, "what the page says", chromedp.Text(chromedp.CSS(".content"))))
		}
		return nil
	})
	start := chromedp.CSS(`button[name="do"][value="start"]`)
	b.do(t, "a minute ago", chromedp.Click(chromedp.CSS(minute)), chromedp.WaitReady(chromedp.CSS(`#f-at[value]`)), chromedp.Click(chromedp.CSS(`button[name="do"][value="plan"]`)), chromedp.WaitReady(start))
	if plan := ask(t, b, "the plan", chromedp.Text(chromedp.CSS(".content"))); !strings.Contains(plan, "Write an archive of the data files") {
		t.Errorf("the plan says %s", plan)
	}
	b.do(t, "start", chromedp.Click(start), chromedp.WaitReady(chromedp.CSS("#live .head")))
	const link = "a.btn.main[download]"
	harness.Eventually(t, 5*time.Minute, "the archive", func(context.Context) error { // the page renews itself
		if !ask(t, b, "the link", chromedp.Evaluate[bool]("!!document.querySelector('"+link+"')")) {
			return errors.New(ask(t, b, "what the page says", chromedp.Text(chromedp.CSS(".content"))))
		}
		return nil
	})
	href := ask(t, b, "the link", chromedp.Evaluate[string]("document.querySelector('"+link+"').href"))
	said := ask(t, b, "the digest", chromedp.Text(chromedp.CSS("#live p.small code")))
	for _, p := range b.take() {
		t.Errorf("on the way: %s", p)
	}
	sum, files := fetched(t, href)
	if sum != strings.TrimSpace(said) {
		t.Errorf("the archive's SHA-256 is %s, the page says %s", sum, said)
	}
	if !files["restoreInfo.txt"] || len(files) < 3 {
		t.Errorf("the archive holds %v", files)
	}

	// The same moment once more, into the set that it is of, under another name.
	cluster := page[strings.LastIndex(page, "/")+1:]
	into := url.Values{"ago": {"1m"}, "way": {"push"}, "plan": {"1"}, "into": {login.GroupID + "/" + cluster}, "rename": {"shop=shop_before"}}
	b.do(t, "the plan of a push", chromedp.Navigate(login.URL+page+"/restore?"+into.Encode()), chromedp.WaitReady(start), chromedp.Click(start), chromedp.WaitReady(chromedp.CSS("#live .head")))
	harness.Eventually(t, 5*time.Minute, "that it is in place", func(context.Context) error {
		if head := ask(t, b, "the state", chromedp.Text(chromedp.CSS("#live .head p"))); !strings.Contains(head, "in place") {
			return errors.New(ask(t, b, "what the page says", chromedp.Text(chromedp.CSS("#live"))))
		}
		return nil
	})
	for _, p := range b.take() {
		t.Errorf("a push: %s", p)
	}
}

// fetched fetches an archive by its link: its digest, and the names of the files below its folder.
func fetched(t *testing.T, href string) (sum string, files map[string]bool) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, href, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", href, resp.Status)
	}
	h := sha256.New()
	z, err := gzip.NewReader(io.TeeReader(resp.Body, h))
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]bool{}
	for r := tar.NewReader(z); ; {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(f.Name, "/")
		files[name] = true
	}
	if _, err := io.Copy(io.Discard, z); err != nil { //nolint:gosec // made by this test
		t.Fatal(err)
	}
	if _, err := io.Copy(h, resp.Body); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil)), files
}
