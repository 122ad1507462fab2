// Package blockstore holds the tests of block stores on servers of others, and of several processes that share one store.
package blockstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/blockstoretest"
	"github.com/heartwood-db/heartwood/shared/blockstore/cloudblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/retryblock"
	"github.com/heartwood-db/heartwood/shared/blockstore/sealblock"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/seal"
	"github.com/heartwood-db/heartwood/tests/harness"
)

func bucket(t testing.TB, s *harness.S3, prefix string) *cloudblock.Store {
	t.Helper()
	b, err := cloudblock.Open(t.Context(), cloudblock.S3{
		Bucket: s.Bucket, Prefix: prefix, Endpoint: s.Endpoint, Region: s.Region, PathStyle: true, AccessKey: s.AccessKey, SecretKey: model.Secret(s.SecretKey),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func prefixOf(t *testing.T) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r == '/' {
			return r
		}
		return '-'
	}, strings.ToLower(t.Name())) + "/"
}

// TestS3 runs the suite, each case under a prefix of its own.
func TestS3(t *testing.T) {
	server := harness.StartS3(t)
	blockstoretest.Run(t, func(t *testing.T) blockstore.Store { return bucket(t, server, prefixOf(t)) })
	t.Run("wrapped", func(t *testing.T) {
		box, err := seal.New(bytes.Repeat([]byte("k"), seal.KeySize))
		if err != nil {
			t.Fatal(err)
		}
		blockstoretest.Run(t, func(t *testing.T) blockstore.Store {
			return sealblock.New(retryblock.New(bucket(t, server, prefixOf(t)), retryblock.Default()), box)
		})
	})
}

// do sends a signed request as an agent does, which knows nothing of S3.
func do(t *testing.T, signed blockstore.Signed, header map[string]string, body []byte) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), signed.Method, signed.URL, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []map[string]string{signed.Header, header} {
		for name, v := range h {
			req.Header.Set(name, v)
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

func TestS3SignedRequests(t *testing.T) {
	server := harness.StartS3(t)
	s := bucket(t, server, "site/")
	wrapped := retryblock.New(s, retryblock.Default())
	signer, ok := blockstore.SignerOf(wrapped)
	if !ok {
		t.Fatal("no signer")
	}
	ctx := t.Context()
	content := blockstoretest.Random(1, 100_000)
	put, err := signer.SignPut(ctx, "oplog/j/1/s1", int64(len(content)), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(put.URL, server.SecretKey) {
		t.Error("the secret is in the URL")
	}
	if status, answer := do(t, put, nil, content[:10]); status < 400 {
		t.Errorf("an upload of another size: %d %s", status, answer)
	}
	if status, answer := do(t, put, nil, content); status != http.StatusOK {
		t.Fatalf("upload: %d %s", status, answer)
	}
	if status, _ := do(t, put, nil, content); status != http.StatusPreconditionFailed {
		t.Errorf("a second upload of the key: %d", status)
	}
	got, err := blockstore.Get(ctx, wrapped, "oplog/j/1/s1", 1<<20)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("read back: %d bytes, %v", len(got), err)
	}
	get, err := signer.SignGet(ctx, "oplog/j/1/s1", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if status, answer := do(t, get, nil, nil); status != http.StatusOK || !bytes.Equal(answer, content) {
		t.Errorf("download: %d, %d bytes", status, len(answer))
	}
	if status, answer := do(t, get, map[string]string{"Range": "bytes=10-19"}, nil); status != http.StatusPartialContent || !bytes.Equal(answer, content[10:20]) {
		t.Errorf("download of a range: %d, %d bytes", status, len(answer))
	}
	other := get
	other.URL = strings.Replace(get.URL, "/s1?", "/s2?", 1)
	if status, _ := do(t, other, nil, nil); status != http.StatusForbidden {
		t.Errorf("another object with the same signature: %d", status)
	}
	if _, err := signer.SignPut(ctx, "a/../b", 1, time.Minute); !errors.Is(err, blockstore.ErrInvalid) {
		t.Errorf("a key that is none: %v", err)
	}
}

func TestS3SaysWhatToDo(t *testing.T) {
	server := harness.StartS3(t)
	open := func(change func(*cloudblock.S3)) blockstore.Store {
		o := cloudblock.S3{Bucket: server.Bucket, Endpoint: server.Endpoint, Region: server.Region, PathStyle: true, AccessKey: server.AccessKey, SecretKey: model.Secret(server.SecretKey)}
		change(&o)
		s, err := cloudblock.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, c := range map[string]struct {
		change func(*cloudblock.S3)
		want   error
		hint   string
	}{
		"a wrong secret": {func(o *cloudblock.S3) { o.SecretKey = "wrong" }, blockstore.ErrDenied, "access key"},
		"a wrong key":    {func(o *cloudblock.S3) { o.AccessKey = "nobody" }, blockstore.ErrDenied, "access key"},
		"no such bucket": {func(o *cloudblock.S3) { o.Bucket = "absent" }, blockstore.ErrDenied, "Create the bucket"},
		"nobody listens": {func(o *cloudblock.S3) { o.Endpoint = "http://127.0.0.1:1" }, blockstore.ErrUnavailable, ""},
	} {
		s := open(c.change)
		for op, call := range map[string]func() error{
			"write": func() error { return blockstoretest.Write(t.Context(), s, "k", []byte("x")) },
			"list": func() error {
				_, err := s.List(t.Context(), "", "", 0)
				return err
			},
			"read": func() error {
				_, err := blockstoretest.Read(t.Context(), s, "k", 0, -1)
				return err
			},
		} {
			err := call()
			if !errors.Is(err, c.want) || !strings.Contains(opererr.HintOf(err), c.hint) || strings.Contains(err.Error(), server.SecretKey) {
				t.Errorf("%s, %s: %v (hint %q)", name, op, err, opererr.HintOf(err))
			}
		}
	}
}

// TestS3Crash ends the server in the middle of an upload: the writer notices, nothing is visible, retrying succeeds when it is back,
// and what was left is cleaned.
func TestS3Crash(t *testing.T) {
	server := harness.StartS3(t)
	s := bucket(t, server, "")
	ctx := t.Context()
	if err := blockstoretest.Write(ctx, s, "first", []byte("x")); err != nil {
		t.Fatal(err)
	}
	upload := func(meanwhile func()) error {
		w, err := s.Create(ctx, "big")
		if err != nil {
			return err
		}
		defer w.Abort()
		for i := range 5 {
			if i == 4 {
				meanwhile()
			}
			if _, err := w.Write(blockstoretest.Random(uint64(i), 8<<20)); err != nil { //nolint:gosec // a small number
				return err
			}
		}
		return w.Commit(ctx)
	}
	if err := upload(server.Stop); !errors.Is(err, blockstore.ErrUnavailable) {
		t.Errorf("the server went away: %v", err)
	}
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		time.Sleep(time.Second)
		server.Start(t)
	}()
	retrying := retryblock.New(s, retryblock.Default())
	if _, err := retrying.Stat(ctx, "big"); !errors.Is(err, blockstore.ErrNotFound) {
		t.Errorf("after the crash: %v", err)
	}
	<-restarted
	if err := upload(func() {}); err != nil {
		t.Fatal(err)
	}
	if o, err := s.Stat(ctx, "big"); err != nil || o.Size != 40<<20 {
		t.Errorf("%+v, %v", o, err)
	}
	if done, err := s.Clean(ctx, time.Now().Add(-time.Hour)); err != nil || done.Leftovers != 0 {
		t.Errorf("what is young was cleaned: %+v, %v", done, err)
	}
	done, err := s.Clean(ctx, time.Now().Add(time.Minute))
	if err != nil || done.Leftovers != 1 {
		t.Errorf("cleaned %+v, %v", done, err)
	}
	if done, err := s.Clean(ctx, time.Now().Add(time.Minute)); err != nil || done.Leftovers != 0 {
		t.Errorf("cleaned again %+v, %v", done, err)
	}
}

// TestS3AbortLeavesNothing looks at the server's own folder.
func TestS3AbortLeavesNothing(t *testing.T) {
	server := harness.StartS3(t)
	s := bucket(t, server, "")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	w, err := s.Create(ctx, "big")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(blockstoretest.Random(1, 30<<20)); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if done, err := s.Clean(t.Context(), time.Now().Add(time.Minute)); err != nil || done.Leftovers != 0 {
		t.Logf("the upload was left for Clean: %+v, %v", done, err)
	}
	left := 0
	_ = filepath.WalkDir(server.Folder, func(_ string, d os.DirEntry, _ error) error {
		if d != nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil && info.Size() > 1<<20 {
				left++
			}
		}
		return nil
	})
	if left != 0 {
		t.Errorf("%d large files are left on the server", left)
	}
}
