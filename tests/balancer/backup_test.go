package balancer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/local/site"
	"github.com/heartwood-db/heartwood/local/stores"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	wires "github.com/heartwood-db/heartwood/shared/wire"
	"github.com/heartwood-db/heartwood/tests/harness"
)

const archiveName = "rs0.tar.gz"

// offered puts an archive into the site's block store and offers it for some downloads. The path of its link is returned.
func offered(t *testing.T, s *site.Site, group string, archive []byte, downloads int) string {
	t.Helper()
	ctx, now := t.Context(), time.Now().UTC()
	set := stores.NewSet(s.Backup.Store, stores.Options{Box: s.Store.Box()})
	t.Cleanup(func() { _ = set.Close() })
	blobs, err := set.Get(ctx, "default")
	must(t, err)
	id := string(model.NewID())
	key := "restores/" + id + "/" + archiveName
	must(t, blockstore.Put(ctx, blobs, key, archive))
	must(t, s.Backup.AddRestore(ctx, backup.Restore{
		ID: id, BatchID: id, GroupID: model.ID(group), Job: model.NewID(), Created: now, Status: model.RestoreInProgress, Method: model.DeliverHTTP,
		Delivery: backup.Delivery{Hours: 2, MaxDownloads: downloads},
	}))
	r, found, err := s.Backup.ClaimRestore(ctx, "test", now, time.Minute, nil)
	must(t, err)
	if !found {
		t.Fatal("the restore cannot be claimed")
	}
	sum := sha256.Sum256(archive)
	must(t, s.Backup.UpdateRestoreAs(ctx, r.ID, r.Token, func(r *backup.Restore) error {
		r.Objects = []backup.Object{{Key: key, Name: archiveName, Bytes: int64(len(archive)), SHA256: hex.EncodeToString(sum[:])}}
		r.StoreID, r.Status, r.Finished = "default", model.RestoreFinished, now
		s.Backup.OfferDownload(r, now)
		return nil
	}))
	r, err = s.Backup.Restore(ctx, id)
	must(t, err)
	token, err := s.Backup.DownloadToken(&r, now)
	must(t, err)
	return wires.PathRestorePull + id + "/" + token.Reveal() + "/" + archiveName
}

// ask sends a request and reads the whole answer.
func ask(t *testing.T, r *http.Request) (*http.Response, []byte) {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp, body
}

// TestBackupsPassTheBalancers: the largest slice reaches a server whole, an archive comes whole and in parts from either port, and the
// secret in its link is in no log.
func TestBackupsPassTheBalancers(t *testing.T) {
	db := startSet(t, mongosim.Options{})
	all := newServers(t, []string{db.URI(), db.URI()}, "mms.remoteIp.header=X-Forwarded-For", "heartwood.trustedProxies=127.0.0.0/8")
	inside := look(t, all[0].data, db.URI())
	people := provision(t, all[0].base)
	noise := make([]byte, wires.MaxSliceBytes)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise) // never fails
	archive := noise[:9<<20]
	for name, start := range map[string]func() *front{
		"HAProxy": func() *front { return startHAProxy(t, "haproxy/haproxy.cfg", all) },
		"nginx":   func() *front { return startNginx(t, all) },
	} {
		t.Run(name, func(t *testing.T) {
			f := start()
			for _, port := range []int{f.base, f.base + agents} {
				link := offered(t, inside, people.Group, archive, 1)
				for _, part := range []struct {
					header string
					want   []byte
					status int
				}{{"", archive, http.StatusOK}, {"bytes=5000001-", archive[5000001:], http.StatusPartialContent}} {
					r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, local(port, link), http.NoBody)
					must(t, err)
					if part.header != "" {
						r.Header.Set("Range", part.header)
					}
					if resp, body := ask(t, r); resp.StatusCode != part.status || !bytes.Equal(body, part.want) {
						t.Errorf("port %d, range %q: %s, %d bytes of %d", port, part.header, resp.Status, len(body), len(part.want))
					}
				}
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, local(port, wires.PathBackupSeed), bytes.NewReader(noise))
				must(t, err)
				r.SetBasicAuth(people.Group, people.AgentKey)
				resp, body := ask(t, r)
				if p, err := wires.DecodeProblem(body); err != nil || p.Code == "" || resp.Header.Get("Content-Type") != wires.ContentType {
					t.Errorf("port %d: a slice was answered by somebody else: %s %.200s", port, resp.Status, body)
				}
				f.wantUnlogged(t, port, strings.Split(link, "/")[6])
			}
		})
	}
}

// wantUnlogged holds that a secret is not in the balancer's log, in which an ordinary request is.
func (f *front) wantUnlogged(t *testing.T, port int, secret string) {
	t.Helper()
	if len(secret) < 20 {
		t.Fatalf("%q is no token", secret)
	}
	probe := "/monitor/health?probe=" + string(model.NewID())
	if _, _, err := get(t.Context(), http.DefaultClient, local(port, probe)); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 20*time.Second, "a line in the log of "+f.name, func(context.Context) error {
		text, err := os.ReadFile(f.access)
		if err == nil && !bytes.Contains(text, []byte(probe)) {
			err = fmt.Errorf("%s is not in it", probe)
		}
		return err
	})
	text, err := os.ReadFile(f.access)
	must(t, err)
	if bytes.Contains(text, []byte(secret)) {
		t.Errorf("the log of %s has the secret of a link", f.name)
	}
}
