package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

var orders = oplog.UUID{1, 2}

func seed(attempt, seq int64, text string) SeedSlice {
	var d chain.Digest
	copy(d[:], text)
	return SeedSlice{Attempt: attempt, Seq: seq, Key: "seed/" + text, Docs: 3, Bytes: 100, Stored: 50, Digest: d, Resume: []byte(text), At: t0}
}

func collection(done bool, n int64) Collection {
	raw, err := bson.Marshal(bson.D{{Key: "partialFilterExpression", Value: bson.D{{Key: "a", Value: bson.D{{Key: "$gt", Value: 1}}}}}})
	if err != nil {
		panic(err)
	}
	return Collection{UUID: orders, NS: "shop.orders", Indexes: []bson.Raw{raw}, Done: done, Slices: n}
}

func TestAFullRead(t *testing.T) {
	b, ctx := open(t, storetest.Engine(t)), t.Context()
	tailing(t, b)
	view := Collection{NS: "shop.open", View: bson.Raw{5, 0, 0, 0, 0}}
	put := func(c ...Collection) error { return b.PutCollections(ctx, cluster, 1, c) }
	for range 2 {
		if err := put(collection(false, 0), view); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []Collection{{NS: "a.b"}, {UUID: orders}, {UUID: orders, NS: "a.b", View: view.View}} {
		if err := put(bad); !errors.Is(err, docstore.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	for _, seq := range []int64{0, 1, 3} {
		if stored, err := b.AddSeed(ctx, cluster, 1, orders, seed(0, seq, fmt.Sprint("s", seq))); !stored || err != nil {
			t.Errorf("slice %d: %v %v", seq, stored, err)
		}
	}
	if stored, err := b.AddSeed(ctx, cluster, 1, orders, seed(0, 1, "s1")); stored || err != nil {
		t.Errorf("again: %v %v", stored, err)
	}
	if _, err := b.AddSeed(ctx, cluster, 1, orders, seed(0, 1, "x")); !errors.Is(err, ErrSeed) {
		t.Errorf("another one: %v", err)
	}
	if n, note, err := b.Stored(ctx, cluster, 1, orders, 0); n != 2 || string(note) != "s1" || err != nil {
		t.Errorf("%d slices without a hole, %q, %v", n, note, err)
	}
	for _, n := range []int64{2, 3, 4} {
		if err := put(collection(true, n)); !errors.Is(err, ErrSeed) {
			t.Errorf("done with %d slices of 0, 1 and 3: %v", n, err)
		}
	}
	if err := b.MarkScanned(ctx, cluster, 1, at(50), 2); !errors.Is(err, ErrSeed) {
		t.Errorf("the end before it: %v", err)
	}
	next := collection(false, 0)
	next.Attempt = 1
	if err := put(next); err != nil {
		t.Fatal(err)
	}
	if err := put(collection(false, 0)); err != nil { // overtaken
		t.Fatal(err)
	}
	if _, err := b.AddSeed(ctx, cluster, 1, orders, seed(1, 0, "again")); err != nil {
		t.Fatal(err)
	}
	next.Done, next.Slices = true, 1
	if err := put(next); err != nil {
		t.Errorf("the second attempt is done: %v", err)
	}
	next.Done = false
	if err := put(next); err != nil { // overtaken too
		t.Fatal(err)
	}
	var got []Collection
	for c, err := range b.CollectionsOf(ctx, cluster, 1) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, c)
	}
	if len(got) != 2 || !got[0].Done || got[0].Attempt != 1 || got[1].NS != "shop.open" || len(got[0].Indexes) != 1 || got[0].Indexes[0].Lookup("partialFilterExpression", "a", "$gt").Int32() != 1 {
		t.Errorf("%+v", got)
	}
	if err := b.MarkScanned(ctx, cluster, 1, at(50), 3); !errors.Is(err, ErrSeed) {
		t.Errorf("the end with another number: %v", err)
	}
	for range 2 {
		if err := b.MarkScanned(ctx, cluster, 1, at(50), 2); err != nil {
			t.Errorf("the end: %v", err)
		}
	}
	if err := b.MarkScanned(ctx, cluster, 1, at(51), 2); !errors.Is(err, store.ErrConflict) {
		t.Errorf("another end: %v", err)
	}
	if err := put(collection(false, 0)); err != nil {
		t.Errorf("a repetition after the end: %v", err)
	}
	var keys []string
	for {
		some, err := b.DropSeeds(ctx, cluster, 1, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(some) == 0 {
			break
		}
		keys = append(keys, some...)
	}
	slices.Sort(keys)
	if d := cmp.Diff([]string{"seed/again", "seed/s0", "seed/s1", "seed/s3"}, keys); d != "" {
		t.Error(d)
	}
	if err := b.EndEpoch(ctx, cluster, 1, "x", t0); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AddSeed(ctx, cluster, 1, orders, seed(2, 0, "late")); !errors.Is(err, ErrEnded) {
		t.Errorf("a slice after the end: %v", err)
	}
	for more := true; more; {
		var err error
		if more, err = b.DropCollections(ctx, cluster, 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.DeleteEpoch(ctx, cluster, 1); err != nil {
		t.Error(err)
	}
}

func TestPagesOfCollections(t *testing.T) {
	b, ctx := open(t, storetest.Engine(t)), t.Context()
	tailing(t, b)
	var list []Collection
	for i := range 25 {
		list = append(list, Collection{UUID: oplog.UUID{byte(i + 1)}, NS: fmt.Sprintf("a.c%d", i)}, Collection{NS: fmt.Sprintf("a.v%d", i), View: bson.Raw{5, 0, 0, 0, 0}})
	}
	if err := b.PutCollections(ctx, cluster, 1, list); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{1, 7, 50, 0} {
		seen, after := map[string]bool{}, ""
		for {
			page, next, err := b.CollectionsPage(ctx, cluster, 1, after, limit)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range page {
				if seen[c.NS] {
					t.Fatalf("%s comes twice", c.NS)
				}
				seen[c.NS] = true
			}
			if after = next; next == "" {
				break
			}
		}
		if len(seen) != 50 {
			t.Errorf("pages of %d: %d of 50", limit, len(seen))
		}
	}
}

// TestCollectionsOnEveryFault: putting a list again after any fault ends with the whole list.
func TestCollectionsOnEveryFault(t *testing.T) {
	fresh := prepared(t, tailing)
	run := func(t *testing.T, e docstore.Engine) error {
		b := New(attach(t, e))
		if err := b.PutCollections(t.Context(), cluster, 1, []Collection{collection(false, 0), {UUID: oplog.UUID{9}, NS: "a.b", Lost: "dropped"}}); err != nil {
			return err
		}
		if _, err := b.AddSeed(t.Context(), cluster, 1, orders, seed(0, 0, "x")); err != nil {
			return err
		}
		if err := b.PutCollections(t.Context(), cluster, 1, []Collection{collection(true, 1)}); err != nil {
			return err
		}
		return b.MarkScanned(t.Context(), cluster, 1, at(9), 2)
	}
	storetest.EachStep(t, fresh, run, func(t *testing.T, e docstore.Engine, failed error) {
		if failed != nil {
			if err := run(t, e); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := New(attach(t, e)).Epoch(t.Context(), cluster, 1); err != nil || got.ScanEnd != at(9) || got.Collections != 2 {
			t.Errorf("%+v %v", got, err)
		}
	})
}

func snap(id string, n int) Snapshot {
	return Snapshot{ID: "5f0000000000000000000e" + id, GroupID: group, Job: cluster, Epoch: 1, Created: t0.Add(time.Duration(n) * time.Minute), Applied: at(n), ReplayFrom: at(n), Complete: true}
}

func TestAnOvertakenDaemonWritesNothing(t *testing.T) {
	b, ctx := open(t, storetest.Engine(t)), t.Context()
	tailing(t, b)
	if err := b.AddSnapshot(ctx, 3, snap("01", 10)); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"the job":          b.UpdateJobAs(ctx, cluster, 2, func(j *Job) error { j.Daemon = "old"; return nil }),
		"a snapshot":       b.AddSnapshot(ctx, 2, snap("02", 20)),
		"the same, again":  b.AddSnapshot(ctx, 2, snap("01", 30)),
		"without a token":  ignore(b.UpdateJobAs(ctx, cluster, 0, func(*Job) error { return nil }), docstore.ErrInvalid),
		"nobody's restore": ignore(b.UpdateRestoreAs(ctx, "5f0000000000000000000f11", 1, func(*Restore) error { return nil }), store.ErrNotFound),
	} {
		if !errors.Is(err, ErrFenced) {
			t.Errorf("%s: %v", what, err)
		}
	}
	all, err := b.Snapshots(ctx, cluster)
	if err != nil || len(all) != 1 || all[0].Applied != at(10) {
		t.Errorf("%+v %v", all, err)
	}
	begun := snap("01", 10)
	begun.Complete = false
	if err := b.AddSnapshot(ctx, 3, begun); !errors.Is(err, ErrState) {
		t.Errorf("a complete one became incomplete: %v", err)
	}
	if err := b.DeleteSnapshot(ctx, cluster, begun.ID); !errors.Is(err, ErrState) {
		t.Errorf("deleted without warning: %v", err)
	}
	if err := b.Condemn(ctx, cluster, begun.ID, t0); err != nil {
		t.Fatal(err)
	}
	if err := b.AddSnapshot(ctx, 3, snap("01", 10)); err != nil {
		t.Fatal(err)
	}
	if s, err := b.Snapshot(ctx, cluster, begun.ID); err != nil || s.Condemned.IsZero() {
		t.Errorf("a late write undid the deletion: %v", err)
	}
	for range 2 {
		if err := b.DeleteSnapshot(ctx, cluster, begun.ID); err != nil {
			t.Error(err)
		}
	}
	if err := b.UpdateJob(ctx, cluster, func(j *Job) error { j.Token, j.ID, j.GroupID = 99, "x", "y"; return nil }); err != nil {
		t.Fatal(err)
	}
	if j, err := b.Job(ctx, cluster); err != nil || j.Token != 3 || j.ID != cluster || j.GroupID != group {
		t.Errorf("%+v %v", j, err)
	}
}

// ignore turns the error that is wanted into ErrFenced, for a table of refusals.
func ignore(err, want error) error {
	if errors.Is(err, want) {
		return ErrFenced
	}
	return err
}

func TestWhatCanBeRestored(t *testing.T) {
	b, ctx := open(t, storetest.Engine(t)), t.Context()
	tailing(t, b)
	var h chain.Head
	for i := range 5 {
		var err error
		if h, _, err = b.AddSlice(ctx, slice(t, h, 1, 1+10*i, 10+10*i), t0); err != nil {
			t.Fatal(err)
		}
	}
	if ranges, _, err := b.Ranges(ctx, cluster); err != nil || len(ranges) != 0 {
		t.Errorf("without a snapshot: %+v %v", ranges, err)
	}
	for _, s := range []Snapshot{snap("01", 5), snap("02", 30)} {
		if err := b.AddSnapshot(ctx, 1, s); err != nil {
			t.Fatal(err)
		}
	}
	show := func() string {
		t.Helper()
		ranges, holes, err := b.Ranges(ctx, cluster)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, r := range ranges {
			out = append(out, fmt.Sprintf("%d-%d (%d) %s", r.From.I, r.To.I, len(r.Snapshots), r.Why))
		}
		return strings.Join(out, ", ") + fmt.Sprintf("; %d holes", len(holes))
	}
	if got := show(); got != "5-50 (2) ; 0 holes" {
		t.Error(got)
	}
	for range 2 {
		if err := b.AddBreak(ctx, cluster, 1, Break{At: at(20).TS, Why: "FCV"}); err != nil {
			t.Fatal(err)
		}
	}
	if got := show(); got != "5-20 (1) FCV, 30-50 (1) ; 1 holes" {
		t.Error(got)
	}
	if _, err := b.ExpireSlices(ctx, cluster, 1, at(30), 10); err != nil {
		t.Fatal(err)
	}
	if got := show(); got != "5-5 (1) , 30-50 (1) ; 1 holes" {
		t.Error(got)
	}
	if err := b.EndEpoch(ctx, cluster, 1, "gap", t0); err != nil {
		t.Fatal(err)
	}
	if err := b.Condemn(ctx, cluster, snap("01", 5).ID, t0); err != nil {
		t.Fatal(err)
	}
	if got := show(); got != "30-50 (1) gap; 0 holes" {
		t.Error(got)
	}
}

func restore(id string, created time.Time) Restore {
	return Restore{
		ID: "5f0000000000000000000f" + id, BatchID: "5f0000000000000000000f00", GroupID: group, Job: cluster, Created: created, Status: model.RestoreInProgress,
		Method: model.DeliverHTTP, Rename: map[string]string{"a.b": "c.d"}, Delivery: Delivery{Hours: 1, MaxDownloads: 1},
	}
}

func TestRestoresAreWorkedOnByOne(t *testing.T) {
	e := storetest.Engine(t)
	b, ctx := open(t, e), t.Context()
	if err := b.AddRestore(ctx, Restore{ID: "x", Method: "SCP"}); !errors.Is(err, docstore.ErrInvalid) {
		t.Errorf("%v", err)
	}
	for i := range 5 {
		if err := b.AddRestore(ctx, restore(fmt.Sprintf("1%d", i), t0.Add(time.Duration(i)*time.Minute))); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	owners := map[string]string{}
	var wg sync.WaitGroup
	for d := range 4 {
		wg.Go(func() {
			daemon := fmt.Sprint("d", d)
			for {
				r, ok, err := New(attach(t, e)).ClaimRestore(ctx, daemon, t0, time.Minute, nil)
				if err != nil {
					t.Error(err)
				}
				if !ok || err != nil {
					return
				}
				mu.Lock()
				if owners[r.ID] != "" {
					t.Errorf("%s was claimed twice", r.ID)
				}
				owners[r.ID] = daemon
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(owners) != 5 {
		t.Errorf("%d of 5 were claimed", len(owners))
	}
	later := t0.Add(2 * time.Minute)
	r, ok, err := b.ClaimRestore(ctx, "other", later, time.Minute, func(r *Restore) bool { return strings.HasSuffix(r.ID, "13") })
	if !ok || err != nil || r.Token != 2 || r.Rename["a.b"] != "c.d" {
		t.Fatalf("of a daemon that is silent: %v %v %+v", ok, err, r)
	}
	if err := b.UpdateRestoreAs(ctx, r.ID, 1, func(*Restore) error { return nil }); !errors.Is(err, ErrFenced) {
		t.Errorf("the silent one writes: %v", err)
	}
	if err := b.UpdateRestoreAs(ctx, r.ID, 2, func(r *Restore) error { r.Step, r.ID, r.Token = "writing", "x", 9; return nil }); err != nil {
		t.Error(err)
	}
	if err := b.KillRestore(ctx, r.ID, "a person", later); err != nil {
		t.Error(err)
	}
	if err := b.UpdateRestoreAs(ctx, r.ID, 2, func(r *Restore) error { r.Status = model.RestoreFinished; return nil }); !errors.Is(err, ErrState) {
		t.Errorf("finished after it was cancelled: %v", err)
	}
	if err := b.UpdateRestore(ctx, r.ID, func(r *Restore) error { r.Status = model.RestoreInProgress; return nil }); !errors.Is(err, ErrState) {
		t.Errorf("brought back to life: %v", err)
	}
	if open, err := b.OpenRestores(ctx); err != nil || len(open) != 4 {
		t.Errorf("%d are open, %v", len(open), err)
	}
	var ids []string
	q := RestoreQuery{Group: group, Limit: 2}
	for {
		page, next, err := b.Register.Restores(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			ids = append(ids, r.ID[22:])
		}
		if q.After = next; next == "" {
			break
		}
	}
	if d := cmp.Diff([]string{"14", "13", "12", "11", "10"}, ids); d != "" {
		t.Errorf("newest first: %s", d)
	}
	if over, err := b.CleanableRestores(ctx, later, 10); err != nil || len(over) != 1 || over[0].ID != r.ID {
		t.Errorf("%+v %v", over, err)
	}
	for range 2 {
		if err := b.SetCleaned(ctx, r.ID, later); err != nil {
			t.Error(err)
		}
	}
	if over, err := b.CleanableRestores(ctx, later, 10); err != nil || len(over) != 0 {
		t.Errorf("%+v %v", over, err)
	}
}

func TestTheLifeOfALink(t *testing.T) {
	b, ctx := open(t, storetest.Engine(t)), t.Context()
	r := restore("11", t0)
	r.Status = model.RestoreFinished
	r.Objects = []Object{{Key: "k", Name: "f", Bytes: 10, SHA256: "ff"}}
	b.OfferDownload(&r, t0)
	if err := b.AddRestore(ctx, r); err != nil {
		t.Fatal(err)
	}
	token, err := b.DownloadToken(&r, t0)
	if err != nil || len(token.Reveal()) < 40 || strings.Contains(fmt.Sprint(r), token.Reveal()) {
		t.Fatalf("%q %v", token.Reveal(), err)
	}
	status := func(now time.Time) model.DeliveryStatus {
		t.Helper()
		r, err := b.Restore(ctx, r.ID)
		if err != nil {
			t.Fatal(err)
		}
		return r.Delivery.StatusAt(r.Objects, now)
	}
	if s := status(t0); s != model.DeliveryReady {
		t.Error(s)
	}
	if s := status(t0.Add(time.Hour)); s != model.DeliveryExpired {
		t.Error(s)
	}
	for _, c := range []struct {
		id, token, file string
		resume          bool
		now             time.Time
		want            error
	}{
		{r.ID, token.Reveal(), "f", false, t0, nil},
		{r.ID, token.Reveal(), "f", true, t0, nil}, // a first request of the end alone counts
		{r.ID, "", "f", false, t0, ErrLink},
		{r.ID, token.Reveal() + "x", "f", false, t0, ErrLink},
		{r.ID, token.Reveal(), "g", false, t0, ErrLink},
		{"5f0000000000000000000f99", token.Reveal(), "f", false, t0, ErrLink},
		{r.ID, token.Reveal(), "f", false, t0.Add(time.Hour), ErrLinkEnded},
		{r.ID, token.Reveal(), "f", true, t0.Add(time.Hour), ErrLinkEnded},
	} {
		if _, _, err := b.Download(ctx, c.id, c.token, c.file, c.resume, c.now); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	late := t0.Add(59 * time.Minute)
	if err := b.CountDownload(ctx, r.ID, 0, false, late); err != nil {
		t.Fatal(err)
	}
	if err := b.CountDownload(ctx, r.ID, 0, false, late); !errors.Is(err, ErrLinkEnded) {
		t.Errorf("a second use: %v", err)
	}
	if err := b.CountDownload(ctx, r.ID, 0, true, t0.Add(6*time.Hour)); err != nil {
		t.Errorf("resumed after the link's end: %v", err)
	}
	if s := status(t0.Add(2 * time.Hour)); s != model.DeliveryTransferring {
		t.Error(s)
	}
	now, _ := b.Restore(ctx, r.ID)
	if now.Cleanable(t0.Add(2*time.Hour)) || !now.Cleanable(t0.Add(8*time.Hour)) {
		t.Error("it is cleaned while it is fetched, or never")
	}
	if err := b.CountDownload(ctx, r.ID, 0, true, t0.Add(8*time.Hour)); !errors.Is(err, ErrLinkEnded) {
		t.Errorf("resumed too late: %v", err)
	}
	if err := b.EndDownload(ctx, r.ID, late); err != nil {
		t.Error(err)
	}
	if s := status(late); s != model.DeliveryFinished {
		t.Error(s)
	}
	if now, _ = b.Restore(ctx, r.ID); true {
		if _, err := b.DownloadToken(&now, late); !errors.Is(err, ErrLinkEnded) {
			t.Errorf("the token of a used link: %v", err)
		}
	}
}

// TestCountingOnEveryFault: whatever breaks, a link that is good for one use is never used twice.
func TestCountingOnEveryFault(t *testing.T) {
	const id = "5f0000000000000000000f11"
	fresh := prepared(t, func(t testing.TB, b *Backup) {
		r := restore("11", t0)
		r.Status, r.Objects = model.RestoreFinished, []Object{{Key: "k", Name: "f", Bytes: 10}}
		b.OfferDownload(&r, t0)
		if err := b.AddRestore(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	})
	run := func(t *testing.T, e docstore.Engine) error {
		return New(attach(t, e)).CountDownload(t.Context(), id, 0, false, t0)
	}
	storetest.EachStep(t, fresh, run, func(t *testing.T, e docstore.Engine, failed error) {
		used := 0
		if failed == nil {
			used++
		}
		for range 2 {
			if err := run(t, e); err == nil {
				used++
			}
		}
		if r, err := New(attach(t, e)).Restore(context.Background(), id); err != nil || used > 1 || r.Delivery.Downloads != 1 {
			t.Errorf("used %d times, %d are counted, %v", used, r.Delivery.Downloads, err)
		}
	})
}

func TestDaemonsAndStores(t *testing.T) {
	b, ctx := open(t, storetest.Engine(t)), t.Context()
	d := Daemon{ID: "m:/heads/", Machine: "m", HeadRoot: "/heads/", Beat: t0, Free: 10}
	got, err := b.Beat(ctx, d)
	if err != nil || !got.Assignment || !got.BackupJobs || !got.Restores || !got.Garbage || !got.Configured {
		t.Errorf("%+v %v", got, err)
	}
	if err := b.UpdateDaemon(ctx, d.ID, func(d *Daemon) error { d.Assignment = false; return nil }); err != nil {
		t.Fatal(err)
	}
	d.Free = 5
	if got, err = b.Beat(ctx, d); err != nil || got.Assignment || !got.BackupJobs || got.Free != 5 {
		t.Errorf("what an administrator set: %+v %v", got, err)
	}
	s := model.BlockStore{
		ID: "main", Type: model.BlockStoreS3, Bucket: "b", Endpoint: "https://s3", AccessKey: "AK", SecretKey: "geheim", URI: "mongodb://u:geheim@h", Labels: []string{"x"}, LoadFactor: 2,
		Encrypt: true, AssignmentEnabled: true, Path: "/p", Prefix: "p/", Region: "r", PathStyle: true, Auth: "KEYS", CAFile: "c", Database: "d", MaxConnections: 3, MaxBytesPerSecond: 4,
	}
	if err := b.SaveStore(ctx, s); err != nil {
		t.Fatal(err)
	}
	doc, err := b.s.Doc(ctx, "blockstores", "main")
	if err != nil || strings.Contains(string(doc.Body), "geheim") {
		t.Errorf("a secret is not sealed: %v", err)
	}
	have, err := b.Store(ctx, "main")
	all, allErr := b.Stores(ctx)
	if d := cmp.Diff(s, have); d != "" || err != nil || allErr != nil || len(all) != 1 {
		t.Errorf("%s %v %v", d, err, allErr)
	}
	tailing(t, b) // its daemon is "d", its store "main"
	if err := b.DeleteStore(ctx, "main"); !errors.Is(err, ErrState) {
		t.Errorf("a store in use: %v", err)
	}
	if err := b.UpdateJobAs(ctx, cluster, 1, func(j *Job) error { j.StoreID, j.Daemon = "", d.ID; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteStore(ctx, "main"); !errors.Is(err, ErrState) {
		t.Errorf("a store with an epoch: %v", err)
	}
	if err := b.DeleteDaemon(ctx, d.ID); !errors.Is(err, ErrState) {
		t.Errorf("a daemon with a job: %v", err)
	}
	if err := b.SaveStore(ctx, model.BlockStore{ID: "second"}); err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteStore(ctx, "second"); err != nil {
		t.Error(err)
	}
	if _, err := b.Store(ctx, "second"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// TestFormsAreStable: what is stored by one release is read by the next.
func TestFormsAreStable(t *testing.T) {
	b, ctx := open(t, storetest.Engine(t)), t.Context()
	tailing(t, b)
	s := slice(t, chain.Head{}, 1, 1, 3)
	if _, _, err := b.AddSlice(ctx, s, t0); err != nil {
		t.Fatal(err)
	}
	doc, err := b.s.Doc(ctx, "backupepochs", string(cluster)+"/00000001")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bson.Type{
		"start.ts": bson.TypeTimestamp, "start.term": bson.TypeInt64, "startEntry": bson.TypeBinary, "head.sum": bson.TypeBinary, "head.last.ts": bson.TypeTimestamp,
		"last.slice.content": bson.TypeBinary, "last.slice.first": bson.TypeTimestamp, "last.key": bson.TypeString, "began": bson.TypeDateTime,
	} {
		if v, err := doc.Body.LookupErr(strings.Split(path, ".")...); err != nil || v.Type != want {
			t.Errorf("%s is a %s, %v", path, v.Type, err)
		}
	}
	e, err := b.Epoch(ctx, cluster, 1)
	if err != nil || e.Last == nil || e.Last.Slice != s.Slice || e.Head.Sum != s.Slice.Sum() || e.Start != at(1) {
		t.Errorf("%+v %v", e, err)
	}
	if err := b.AddRestore(ctx, restore("11", t0)); err != nil {
		t.Fatal(err)
	}
	if err := b.AddSnapshot(ctx, 1, snap("01", 2)); err != nil {
		t.Fatal(err)
	}
	for name, check := range Checks() {
		for doc, err := range b.s.Docs(ctx, docstore.Query{Collection: name}) {
			if err != nil {
				t.Fatal(err)
			}
			if err := check(&store.Checking{Box: b.s.Box(), Refer: func(string, string) {}}, doc); err != nil {
				t.Errorf("%s/%s: %v", name, doc.ID, err)
			}
		}
	}
	var p snapshot.Policy
	if c, err := b.Config(ctx, cluster); err != nil || c.Schedule == p {
		t.Errorf("%+v %v", c, err)
	}
}
