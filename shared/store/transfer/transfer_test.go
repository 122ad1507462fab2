package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/seal"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/access"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/inventory"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
	"github.com/heartwood-db/heartwood/shared/store/transfer"
)

const group = model.ID("0123456789abcdef01234567")

var (
	t0     = time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	hostID = model.NewHostID(group, "a", 27017)
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantRefusal(t *testing.T, err error, words string) {
	t.Helper()
	var refusal *opererr.Error
	if !errors.As(err, &refusal) || refusal.Hint == "" || !strings.Contains(err.Error(), words) {
		t.Fatalf("want a refusal with a hint that mentions %q, got %v", words, err)
	}
}

func openStore(t testing.TB, e docstore.Engine) *store.Store {
	t.Helper()
	s, err := areas.Open(t.Context(), store.Options{Engine: e, Box: storetest.Box(t), Version: "test"})
	must(t, err)
	return s
}

// site fills an engine with something in every area.
func site(t testing.TB) docstore.Engine {
	t.Helper()
	e := storetest.Engine(t)
	s, ctx := openStore(t, e), t.Context()
	in, ac, al := inventory.New(s), access.New(s), alerting.New(s)
	must(t, in.CreateOrg(ctx, model.Org{ID: "o1", Name: "Org", Created: t0}))
	must(t, in.CreateGroup(ctx, model.Group{ID: group, OrgID: "o1", Name: "Group", Created: t0, Settings: model.DefaultGroupSettings()}))
	must(t, in.CreateHost(ctx, model.Host{
		ID: hostID, GroupID: group, Hostname: "a", Port: 27017, Aliases: []string{"b:27017"}, Created: t0,
		Credentials: model.Credentials{Username: "u", Password: "p"},
	}))
	st, err := in.StatusOp(model.HostStatus{HostID: hostID, GroupID: group, At: t0})
	must(t, err)
	ping, err := in.LastPingOp(model.LastPing{HostID: hostID, GroupID: group, At: t0, Replies: []byte{1}})
	must(t, err)
	must(t, s.Write(ctx, st, ping))
	must(t, in.UpsertCluster(ctx, group, "c1", func(c *model.Cluster) error { c.Name = "rs0"; return nil }))
	must(t, in.UpsertAgent(ctx, group, "agent", func(a *model.Agent) error { a.Hostname = "x"; return nil }))
	_, _, err = in.ClaimActive(ctx, group, "agent", "s", t0, time.Minute)
	must(t, err)
	must(t, in.AddChanges(ctx, model.Change{GroupID: group, HostID: hostID, At: t0, Kind: "version"}))
	must(t, ac.CreateFirstUser(ctx, model.User{ID: "u1", Username: "ann", Created: t0}, model.Grant{Role: model.GlobalOwner}))
	must(t, ac.CreateSession(ctx, model.Session{Key: "k", UserID: "u1", Created: t0, Seen: t0, Expires: t0}))
	must(t, ac.CreateAPIKey(ctx, model.APIKey{ID: "k1", PublicKey: "abcdefgh", HA1: "ha1"}))
	must(t, ac.SetGlobalAccessList(ctx, []model.AccessEntry{{CIDR: "10.0.0.0/8", Created: t0}}))
	must(t, ac.CreateAgentKey(ctx, model.AgentKey{ID: "k1", GroupID: group, Digest: access.KeyDigest("key")}))
	var events []model.Event
	for i := range 50 {
		at := t0.Add(time.Duration(i) * time.Minute)
		events = append(events, model.Event{ID: alerting.EventID(at, fmt.Sprint(i)), GroupID: group, Type: model.EventLogin, At: at})
	}
	must(t, al.AddEvents(ctx, events...))
	must(t, s.SetSecretSetting(ctx, "mail.password", "hush"))
	_, err = s.RunPass(ctx, "p", time.Minute, t0, func(_ context.Context, _ time.Time) (store.PassReport, error) { return store.PassReport{}, nil })
	must(t, err)
	return e
}

// content is everything in an engine but what is not copied.
func content(t testing.TB, e docstore.Engine) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, c := range append(store.Collections(), areas.Collections()...) {
		if c.Name == "instances" {
			continue
		}
		page, err := e.Scan(t.Context(), docstore.Query{Collection: c.Name, Limit: 10_000})
		must(t, err)
		for _, doc := range page.Docs {
			all[c.Name+" "+doc.ID] = doc.Body.String()
		}
	}
	return all
}

func copySite(t testing.TB, from, to docstore.Engine, again bool) (transfer.Report, error) {
	t.Helper()
	return copyCollections(t, from, to, areas.Collections(), again)
}

func copyCollections(t testing.TB, from, to docstore.Engine, collections []docstore.Collection, again bool) (transfer.Report, error) {
	t.Helper()
	plan, err := transfer.NewPlan(t.Context(), from, collections)
	must(t, err)
	return transfer.Copy(t.Context(), transfer.CopyOptions{From: from, To: to, Plan: plan, Again: again})
}

func TestACopyIsEqualAndOpens(t *testing.T) {
	from, to := site(t), storetest.Engine(t)
	plan, err := transfer.NewPlan(t.Context(), from, areas.Collections())
	must(t, err)
	if len(content(t, from)) != plan.Total+1 { // the site document comes by itself
		t.Fatalf("the plan has %d documents, the site %d", plan.Total, len(content(t, from)))
	}
	var seen []transfer.Progress
	report, err := transfer.Copy(t.Context(), transfer.CopyOptions{
		From: from, To: to, Plan: plan, Progress: func(p transfer.Progress) { seen = append(seen, p) },
	})
	must(t, err)
	if report.Documents != plan.Total || report.Written != plan.Total || len(seen) != 2*len(plan.Items) {
		t.Fatalf("report %+v of plan %+v, %d progress calls", report, plan, len(seen))
	}
	if diff := cmp.Diff(content(t, from), content(t, to)); diff != "" {
		t.Fatalf("source and target differ:\n%s", diff)
	}
	c, err := inventory.New(openStore(t, to)).HostCredentials(t.Context(), group, hostID)
	if err != nil || c.Password != "p" {
		t.Fatalf("credentials in the copy: %v, %v", c.Username, err)
	}
}

func TestACopyEndsWhateverBreaks(t *testing.T) {
	few := alerting.Collections() // with the kernel's: each collection is copied the same way
	from := storetest.Engine(t)
	s := storetest.OpenOn(t, from, few...)
	must(t, alerting.New(s).AddEvents(t.Context(), model.Event{Type: model.EventLogin, At: t0}, model.Event{Type: model.EventLogout, At: t0}))
	must(t, s.SetSetting(t.Context(), "a", "b"))
	must(t, from.Ensure(t.Context(), areas.Collections())) // so that content can look everywhere
	storetest.EachStep(t, func(t *testing.T) docstore.Engine { return storetest.Engine(t) },
		func(t *testing.T, e docstore.Engine) error {
			_, err := copyCollections(t, from, e, few, false)
			return err
		},
		func(t *testing.T, e docstore.Engine, failed error) {
			// Opening the target now would make a new site of an empty one: the copy is asked for its state instead.
			_, unfinished, err := store.ReadSite(t.Context(), e)
			complete := err == nil && !unfinished
			if failed == nil && !complete {
				t.Errorf("it said that it was done: %v", err)
			}
			if failed != nil {
				if _, err := copyCollections(t, from, e, few, complete); err != nil {
					t.Errorf("again (complete before: %v): %v", complete, err)
				}
			}
			openStore(t, e)
			if diff := cmp.Diff(content(t, from), content(t, e)); diff != "" {
				t.Errorf("source and target differ:\n%s", diff)
			}
		})
}

func TestAnUnfinishedCopyGoesOn(t *testing.T) {
	from, to := site(t), storetest.Engine(t)
	if _, err := copySite(t, from, storetest.Break(to, storetest.Refuse, 8), false); err == nil {
		t.Fatal("it should have broken off")
	}
	_, err := areas.Open(t.Context(), store.Options{Engine: to, Box: storetest.Box(t)})
	wantRefusal(t, err, "not completed")
	// Meanwhile the source went on: something came, something changed, something went.
	s := openStore(t, from)
	in := inventory.New(s)
	must(t, in.UpsertAgent(t.Context(), group, "agent2", func(*model.Agent) error { return nil }))
	must(t, in.UpdateHost(t.Context(), group, hostID, func(h *model.Host) error { h.Version = "8.0.0"; return nil }))
	must(t, in.DeleteOrg(t.Context(), "o1"))
	report, err := copySite(t, from, to, false)
	must(t, err)
	if report.Written >= report.Documents {
		t.Errorf("all %d documents were written again", report.Written)
	}
	if diff := cmp.Diff(content(t, from), content(t, to)); diff != "" {
		t.Fatalf("source and target differ:\n%s", diff)
	}
}

func TestACompleteCopyIsNotTouchedUnasked(t *testing.T) {
	from, to := site(t), storetest.Engine(t)
	_, err := copySite(t, from, to, false)
	must(t, err)
	must(t, openStore(t, to).SetSetting(t.Context(), "written.since", "x"))
	_, err = copySite(t, from, to, false)
	wantRefusal(t, err, "complete copy")
	if _, ok := content(t, to)["settings written.since"]; !ok {
		t.Fatal("what was written since is gone")
	}
	report, err := copySite(t, from, to, true)
	must(t, err)
	if diff := cmp.Diff(content(t, from), content(t, to)); diff != "" || report.Written != 0 {
		t.Fatalf("%d written; source and target differ:\n%s", report.Written, diff)
	}
}

func TestAnotherSiteIsNotOverwritten(t *testing.T) {
	from, other := site(t), site(t)
	before := content(t, other)
	for _, again := range []bool{false, true} {
		_, err := copySite(t, from, other, again)
		wantRefusal(t, err, "another site")
	}
	if diff := cmp.Diff(before, content(t, other)); diff != "" {
		t.Fatalf("the other site was changed:\n%s", diff)
	}
}

func TestWhatCannotBeCopied(t *testing.T) {
	_, err := transfer.NewPlan(t.Context(), storetest.Engine(t), areas.Collections())
	wantRefusal(t, err, "no site")
	half := storetest.Engine(t)
	must(t, store.BeginCopy(t.Context(), half, store.Site{ID: "x"}, false))
	_, err = transfer.NewPlan(t.Context(), half, areas.Collections())
	wantRefusal(t, err, "not completed")
}

// A target that somebody else writes to is noticed.
type meddler struct{ docstore.Engine }

func (m meddler) Write(ctx context.Context, ops []docstore.Op, ordered bool) ([]docstore.Result, error) {
	results, err := m.Engine.Write(ctx, ops, ordered)
	if err == nil && ops[0].Collection == "hosts" {
		body, _ := bson.Marshal(bson.D{{Key: "x", Value: 1}})
		_, err = m.Engine.Write(ctx, []docstore.Op{{Kind: docstore.Put, Collection: "hosts", ID: "meddled", Body: body}}, false)
	}
	return results, err
}

func TestADifferenceIsNoticed(t *testing.T) {
	to := storetest.Engine(t)
	_, err := copySite(t, site(t), meddler{to}, false)
	wantRefusal(t, err, "collection hosts of the target differs")
	_, err = areas.Open(t.Context(), store.Options{Engine: to, Box: storetest.Box(t)})
	wantRefusal(t, err, "not completed")
}

func TestABackupFileIsACopyThatIsOnlyRead(t *testing.T) {
	from := site(t)
	file := filepath.Join(t.TempDir(), "backup.db")
	must(t, from.(*sqlitedoc.Engine).Backup(t.Context(), file, nil))
	backup, err := sqlitedoc.Open(sqlitedoc.Options{Path: file, ReadOnly: true})
	must(t, err)
	t.Cleanup(func() { _ = backup.Close() })
	report := check(t, backup, storetest.Box(t))
	if report.Errors+report.Warnings != 0 {
		t.Fatalf("the backup: %v", report.Problems)
	}
	to := storetest.Engine(t)
	_, err = copySite(t, backup, to, false)
	must(t, err)
	if diff := cmp.Diff(content(t, from), content(t, to)); diff != "" {
		t.Fatalf("source and target differ:\n%s", diff)
	}
}

func check(t testing.TB, e docstore.Engine, box *seal.Box) transfer.CheckReport {
	t.Helper()
	report, err := transfer.Check(t.Context(), transfer.CheckOptions{Engine: e, Box: box, Collections: areas.Collections(), Checks: areas.Checks()})
	must(t, err)
	return report
}

func TestASoundSiteHasNoProblems(t *testing.T) {
	e := site(t)
	report := check(t, e, storetest.Box(t))
	if len(report.Problems) != 0 || report.Documents != len(content(t, e)) || slices.Contains(report.Unchecked, "hosts") {
		t.Fatalf("report %+v", report)
	}
}

// hollow hides one document of an index.
type hollow struct{ docstore.Engine }

func (h hollow) Scan(ctx context.Context, q docstore.Query) (docstore.Page, error) {
	page, err := h.Engine.Scan(ctx, q)
	if q.Collection == "events" && q.Index == "host" && len(page.Docs) > 0 {
		page.Docs = page.Docs[1:]
	}
	return page, err
}

func TestDamageIsFound(t *testing.T) {
	put := func(t *testing.T, e docstore.Engine, collection, id string, v any) {
		t.Helper()
		op, err := store.PutOp(collection, id, v)
		must(t, err)
		results, err := e.Write(t.Context(), []docstore.Op{op}, true)
		must(t, errors.Join(err, results[0].Err))
	}
	key := string(group) + "/" + string(hostID)
	for name, c := range map[string]struct {
		damage  func(t *testing.T, e docstore.Engine) docstore.Engine
		want    string
		warning bool
	}{
		"a document that does not decode": {func(t *testing.T, e docstore.Engine) docstore.Engine {
			put(t, e, "statuses", key, bson.D{{Key: "at", Value: "yesterday"}})
			return e
		}, "does not decode", false},
		"a document under another's id": {func(t *testing.T, e docstore.Engine) docstore.Engine {
			put(t, e, "orgs", "o2", model.Org{ID: "o1"})
			return e
		}, "its id should be", false},
		"credentials of another host": {func(t *testing.T, e docstore.Engine) docstore.Engine {
			docs, err := e.Get(t.Context(), "hosts", key)
			must(t, err)
			var d bson.M
			must(t, bson.Unmarshal(docs[0].Body, &d))
			d["sealed"] = storetest.Box(t).Seal([]byte("x"), "host/another/credentials")
			put(t, e, "hosts", key, d)
			return e
		}, "credentials do not open", false},
		"a group that is missing": {func(t *testing.T, e docstore.Engine) docstore.Engine {
			must(t, openStore(t, e).Delete(t.Context(), "groups", string(group)))
			return e
		}, "refers to groups", true},
		"a host that is not found by its address": {func(t *testing.T, e docstore.Engine) docstore.Engine {
			must(t, openStore(t, e).Delete(t.Context(), "addresses", string(group)+"/b:27017/"+string(hostID)))
			return e
		}, "refers to addresses", true},
		"an index that lost a document": {
			func(_ *testing.T, e docstore.Engine) docstore.Engine { return hollow{e} },
			"index host leads to 49 documents, there are 50", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			report := check(t, c.damage(t, site(t)), storetest.Box(t))
			if len(report.Problems) == 0 || !strings.Contains(report.Problems[0].String(), c.want) || (report.Errors == 0) != c.warning {
				t.Fatalf("want %q, got %v (%d errors)", c.want, report.Problems, report.Errors)
			}
		})
	}
}

func TestAnotherKeyIsFound(t *testing.T) {
	box, err := seal.New([]byte("another key of 24 bytes."))
	must(t, err)
	report := check(t, site(t), box)
	if report.Errors != 4 { // site, setting, host, API key
		t.Fatalf("problems %v", report.Problems)
	}
}
