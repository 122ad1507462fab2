package ingestion

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/faultblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
	"github.com/heartwood-db/heartwood/shared/wire"
)

const restoreID = "5f0000000000000000000f11"

// archive is larger than what is written at a time.
var archive = bytes.Repeat([]byte("0123456789abcdef"), 20_000)

// restored has a restore that is ready to be downloaded as often as max says.
func (v *vault) restored(method model.DeliveryMethod, maxDownloads int) (url string, o backup.Object) {
	v.t.Helper()
	ctx := v.t.Context()
	sum := sha256.Sum256(archive)
	o = backup.Object{Key: "restores/" + restoreID + "/rs0.tar.gz", Name: "rs0-1795233461-" + restoreID + ".tar.gz", Bytes: int64(len(archive)), SHA256: hex.EncodeToString(sum[:])}
	if err := blockstore.Put(ctx, v.blobs, o.Key, archive); err != nil {
		v.t.Fatal(err)
	}
	err := v.area.AddRestore(ctx, backup.Restore{
		ID: restoreID, BatchID: restoreID, GroupID: v.group.ID, Job: rs0, Created: t0, Status: model.RestoreInProgress, Method: method,
		TargetGroup: v.group.ID, TargetID: rs0, Delivery: backup.Delivery{Hours: 2, MaxDownloads: maxDownloads},
	})
	if err != nil {
		v.t.Fatal(err)
	}
	r, ok, err := v.area.ClaimRestore(ctx, "d", t0, time.Minute, nil)
	if !ok || err != nil {
		v.t.Fatal(ok, err)
	}
	err = v.area.UpdateRestoreAs(ctx, r.ID, r.Token, func(r *backup.Restore) error {
		r.Objects, r.StoreID = []backup.Object{o}, "main"
		if method == model.DeliverHTTP {
			r.Status, r.Finished = model.RestoreFinished, t0
			v.area.OfferDownload(r, t0)
		}
		return nil
	})
	if err != nil {
		v.t.Fatal(err)
	}
	if r, err = v.area.Restore(ctx, restoreID); err != nil {
		v.t.Fatal(err)
	}
	if method != model.DeliverHTTP {
		return "", o
	}
	token, err := v.area.DownloadToken(&r, t0)
	if err != nil {
		v.t.Fatal(err)
	}
	return wire.PathRestorePull + restoreID + "/" + token.Reveal() + "/" + o.Name, o
}

// fetch gets a link without any login.
func (v *vault) fetch(method, url string, header ...string) (int, []byte, http.Header) {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), method, v.http.URL+url, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return v.call(r)
}

func TestALinkIsGoodForOneDownload(t *testing.T) {
	v := newVault(t, storetest.Engine(t), memblock.New())
	url, o := v.restored(model.DeliverHTTP, 1)
	etag := `"` + o.SHA256 + `"`

	for range 2 { // asking for the size uses nothing
		status, body, h := v.fetch(http.MethodHead, url)
		if status != 200 || len(body) != 0 || h.Get("Content-Length") != fmt.Sprint(len(archive)) || h.Get("Etag") != etag || h.Get("Accept-Ranges") != "bytes" {
			t.Errorf("HEAD: %d %v", status, h)
		}
	}
	if status, _, _ := v.fetch(http.MethodGet, url, "Range", "bytes=9999999-"); status != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("a range behind the end: %d", status)
	}
	status, body, h := v.fetch(http.MethodGet, url)
	if status != 200 || !bytes.Equal(body, archive) || h.Get("Etag") != etag || !strings.Contains(h.Get("Content-Disposition"), o.Name) ||
		h.Get("Content-Type") != "application/gzip" || h.Get("Cache-Control") != "no-store, private" {
		t.Fatalf("GET: %d, %d bytes, %v", status, len(body), h)
	}
	if status, body, _ := v.fetch(http.MethodGet, url); status != http.StatusGone || !strings.Contains(string(body), "used 1 times of 1") {
		t.Errorf("again: %d %s", status, body)
	}
	if status, _, _ := v.fetch(http.MethodGet, url, "Range", "bytes=0-"); status != http.StatusGone {
		t.Errorf("again, from its first byte: %d", status)
	}
	// The use that was counted may be resumed.
	for _, c := range []struct {
		spec string
		want []byte
	}{{"bytes=100000-", archive[100000:]}, {"bytes=5-9", archive[5:10]}, {"bytes=-7", archive[len(archive)-7:]}} {
		status, body, h := v.fetch(http.MethodGet, url, "Range", c.spec, "If-Range", etag)
		if status != http.StatusPartialContent || !bytes.Equal(body, c.want) || h.Get("Content-Range") == "" {
			t.Errorf("%s: %d, %d bytes, %v", c.spec, status, len(body), h.Get("Content-Range"))
		}
	}
	for _, header := range [][]string{{"Range", "bytes=5-9", "If-Range", `"another"`}, {"Range", "bytes=1-2,4-5"}, {"Range", "bytes=x-"}, {"Range", "lines=1-2"}} {
		if status, _, _ := v.fetch(http.MethodGet, url, header...); status != http.StatusGone {
			t.Errorf("%v is the whole file, and not free: %d", header, status)
		}
	}
	r, err := v.area.Restore(t.Context(), restoreID)
	if err != nil || r.Delivery.Downloads != 1 || r.Delivery.Status != model.DeliveryFinished {
		t.Errorf("%+v %v", r.Delivery, err)
	}
	v.setNow(t0.Add(7 * time.Hour))
	if status, _, _ := v.fetch(http.MethodGet, url, "Range", "bytes=100000-"); status != http.StatusGone {
		t.Errorf("resumed too late: %d", status)
	}
}

func TestWrongLinksTellNothing(t *testing.T) {
	var log bytes.Buffer
	v := newVault(t, storetest.Engine(t), memblock.New(), func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	url, o := v.restored(model.DeliverHTTP, 1)
	parts := strings.Split(url, "/")
	token := parts[len(parts)-2]
	var first string
	for _, wrong := range []string{
		strings.Replace(url, token, token[1:]+"A", 1), strings.Replace(url, token, "x", 1), strings.Replace(url, token, strings.Repeat("x", 500), 1),
		strings.Replace(url, restoreID, "5f0000000000000000000f12", 1), strings.Replace(url, restoreID, "nonsense", 1), strings.Replace(url, o.Name, "other", 1),
	} {
		status, body, _ := v.fetch(http.MethodGet, wrong)
		if first == "" {
			first = string(body)
		}
		if status != http.StatusNotFound || string(body) != first {
			t.Errorf("%s: %d %s", wrong, status, body)
		}
	}
	v.setNow(t0.Add(3 * time.Hour))
	if status, body, _ := v.fetch(http.MethodGet, url); status != http.StatusGone || !strings.Contains(string(body), "expired at 2026-11-21T06:00:00Z") {
		t.Errorf("after its time: %d %s", status, body)
	}
	if strings.Contains(log.String(), token) || !strings.Contains(log.String(), "/***/") {
		t.Errorf("the token is in the log: %s", log.String())
	}
}

// TestDownloadsAtOnce: of many at once no more succeed than the link allows.
func TestDownloadsAtOnce(t *testing.T) {
	v := newVault(t, storetest.Engine(t), memblock.New())
	url, _ := v.restored(model.DeliverHTTP, 3)
	var good, gone atomic.Int64
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			resp, err := http.Get(v.http.URL + url) //nolint:noctx // ends with the server
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			switch body, err := io.ReadAll(resp.Body); {
			case resp.StatusCode == 200 && err == nil && bytes.Equal(body, archive):
				good.Add(1)
			case resp.StatusCode == http.StatusGone:
				gone.Add(1)
			default:
				t.Errorf("%d %v", resp.StatusCode, err)
			}
		})
	}
	wg.Wait()
	if good.Load() != 3 || gone.Load() != 9 {
		t.Errorf("%d succeeded, %d were refused", good.Load(), gone.Load())
	}
}

// TestATryThatCannotSucceedIsNotCounted: while the block store is away the link stays as it is; a break in the middle is resumed.
func TestATryThatCannotSucceedIsNotCounted(t *testing.T) {
	blobs := faultblock.New(memblock.New())
	v := newVault(t, storetest.Engine(t), blobs)
	url, _ := v.restored(model.DeliverHTTP, 1)
	blobs.Off(nil)
	if status, body, h := v.fetch(http.MethodGet, url); status != http.StatusServiceUnavailable || h.Get("Retry-After") == "" || !strings.Contains(string(body), "not counted") {
		t.Errorf("%d %s", status, body)
	}
	blobs.On()
	blobs.Fail(faultblock.Fault{Call: faultblock.Read, Nth: 2, Torn: 1000})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, v.http.URL+url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || err == nil || len(got) >= len(archive) {
		t.Fatalf("%d, %d bytes, %v: nothing broke", resp.StatusCode, len(got), err)
	}
	status, rest, _ := v.fetch(http.MethodGet, url, "Range", fmt.Sprintf("bytes=%d-", len(got)), "If-Range", resp.Header.Get("Etag"))
	if len(got) > 0 && (status != http.StatusPartialContent || !bytes.Equal(append(got, rest...), archive)) {
		t.Errorf("resumed: %d, %d and %d bytes", status, len(got), len(rest))
	}
}

// signing is a store whose objects can be had from a URL of its own.
type signing struct{ blockstore.Store }

func (s signing) SignPut(_ context.Context, key string, size int64, _ time.Duration) (blockstore.Signed, error) {
	return blockstore.Signed{Method: http.MethodPut, URL: "https://store.example.net/" + key, Header: map[string]string{"Content-Length": fmt.Sprint(size)}}, nil
}

func (s signing) SignGet(_ context.Context, key string, _ time.Duration) (blockstore.Signed, error) {
	return blockstore.Signed{Method: http.MethodGet, URL: "https://store.example.net/" + key}, nil
}

// TestBytesThatPassTheServerBy: where a store can sign, agents upload to it and people download from it.
func TestBytesThatPassTheServerBy(t *testing.T) {
	mem := memblock.New()
	v := newVault(t, storetest.Engine(t), signing{mem}, func(o *Options) { o.Presign = true })
	v.bind()
	if code := v.begin(1); code != "" {
		t.Fatal(code)
	}
	if v.conf().Jobs[0].Direct {
		t.Error("the agent is told to send everything here")
	}
	body, s := oplogSlice(t, wire.Head{}, 1, 1, 5)
	header, content, err := wire.Unframe(body)
	if err != nil {
		t.Fatal(err)
	}
	wish := func() wire.Upload {
		t.Helper()
		m, err := wire.Encode(wire.UploadWish{Kind: wire.UploadOplog, Header: header, Stored: int64(len(content))})
		if err != nil {
			t.Fatal(err)
		}
		answer, code := v.post(wire.PathBackupUpload, m)
		up, err := wire.Decode[wire.Upload](answer)
		if code != "" || err != nil {
			t.Fatal(code, err)
		}
		return up
	}
	up := wish()
	key := strings.TrimPrefix(up.URL, "https://store.example.net/")
	if up.Direct || up.There || up.Method != http.MethodPut || key == up.URL || up.Header["Content-Length"] == "" {
		t.Fatalf("%+v", up)
	}
	uploaded, err := (&wire.OplogHeader{Slice: *s, Uploaded: true, Stored: int64(len(content))}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, code := v.post(wire.PathBackupOplog, wire.Frame(uploaded, nil)); code != wire.CodeDamaged {
		t.Errorf("told before it is there: %q", code)
	}
	if err := blockstore.Put(t.Context(), mem, key, content); err != nil {
		t.Fatal(err)
	}
	if up := wish(); !up.There {
		t.Errorf("it is there: %+v", up)
	}
	short, err := (&wire.OplogHeader{Slice: *s, Uploaded: true, Stored: int64(len(content)) + 1}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, code := v.post(wire.PathBackupOplog, wire.Frame(short, nil)); code != wire.CodeDamaged {
		t.Errorf("another size: %q", code)
	}
	if _, code := v.post(wire.PathBackupOplog, wire.Frame(uploaded, nil)); code != "" {
		t.Errorf("the header: %q", code)
	}
	v.setNow(time.Now().Add(2 * time.Hour))
	if body, _ := oplogSlice(t, wire.Head{}, 1, 1, 5); true {
		if _, code := v.post(wire.PathBackupOplog, body); code != "" {
			t.Errorf("a repetition much later: %q", code)
		}
	}
	v.setNow(t0)
	url, _ := v.restored(model.DeliverHTTP, 1)
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, want := range []int{http.StatusTemporaryRedirect, http.StatusGone} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, v.http.URL+url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want || want == http.StatusTemporaryRedirect && !strings.HasPrefix(resp.Header.Get("Location"), "https://store.example.net/restores/") {
			t.Errorf("%d %v", resp.StatusCode, resp.Header)
		}
	}
}

// TestAPushIsFetchedAndReported: the agent of the target's group gets the objects, from any byte on, and tells the end once.
func TestAPushIsFetchedAndReported(t *testing.T) {
	v := newVault(t, storetest.Engine(t), memblock.New())
	_, o := v.restored(model.DeliverPush, 1)
	c := v.conf()
	if len(c.Pushes) != 1 || c.Pushes[0].Restore != restoreID || c.Pushes[0].SetName != "rs0" || len(c.Pushes[0].Hosts) != 2 || c.Pushes[0].Hosts[0].Password != "" {
		t.Fatalf("%+v", c.Pushes)
	}
	path := wire.PathBackupRestores + restoreID
	get := func(path string, header ...string) (int, []byte) {
		t.Helper()
		r := v.request(http.MethodGet, path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		status, body, _ := v.call(r)
		return status, body
	}
	status, body := get(path)
	p, err := wire.Decode[wire.Push](body)
	if status != 200 || err != nil || len(p.Objects) != 1 || p.Objects[0].SHA256 != o.SHA256 || p.Cancel {
		t.Errorf("%d %v %+v", status, err, p)
	}
	if status, body := get(path + "/objects/0"); status != 200 || !bytes.Equal(body, archive) {
		t.Errorf("%d, %d bytes", status, len(body))
	}
	if status, body := get(path+"/objects/0", "Range", "bytes=300000-"); status != 206 || !bytes.Equal(body, archive[300000:]) {
		t.Errorf("%d, %d bytes", status, len(body))
	}
	if status, _ := get(path + "/objects/1"); status != 400 {
		t.Errorf("an object that is not: %d", status)
	}
	if status, _, _ := v.fetch(http.MethodGet, path+"/objects/0"); status != http.StatusUnauthorized {
		t.Errorf("without a key: %d", status)
	}
	for _, m := range []wire.PushProgress{{Step: "writing", Done: 5, Total: 10}, {Finished: true}, {Finished: true, Cleaned: true}, {Finished: true}} {
		if code := send(v, path+"/progress", m); code != "" {
			t.Errorf("%+v: %q", m, code)
		}
	}
	if code := send(v, path+"/progress", wire.PushProgress{Error: "late"}); code != wire.CodeStopped {
		t.Errorf("an error after the end: %q", code)
	}
	r, err := v.area.Restore(t.Context(), restoreID)
	if err != nil || r.Status != model.RestoreFinished || r.Error != "" {
		t.Errorf("%+v %v", r, err)
	}
	if status, _ := get(path + "/objects/0"); status != http.StatusConflict {
		t.Errorf("after the end: %d", status)
	}
	if c := v.conf(); len(c.Pushes) != 0 {
		t.Errorf("it is still to be done: %+v", c.Pushes)
	}
}
