//go:build wasip1

// Package inside is the wiring of a function that runs as a guest: it builds the site, the channels and everything else a function
// is assembled from out of what the host offers.
package inside

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"
	_ "time/tzdata" // a guest has no files

	"github.com/heartwood-db/heartwood/local/sandbox/talk"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/hostblock"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/httpx/guesthttp"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/rule/release"
	"github.com/heartwood-db/heartwood/shared/seal"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/series"
)

// Memory of an instance: garbage is collected rarely, because a request leaves little that lives on, until there is this much.
const (
	lazyGC   = 400
	softHeap = 100 << 20
)

// Guest is what a function is assembled from.
type Guest struct {
	talk.Config
	Site *areas.Site
	Log  *slog.Logger
}

// Serve says how the function of this guest is built. Call it in an init.
func Serve(build func(g *Guest) (http.Handler, error)) {
	guesthttp.Serve(func(_ context.Context, config []byte) (http.Handler, error) {
		g, err := open(config)
		if err != nil {
			return nil, err
		}
		return build(g)
	})
}

func open(config []byte) (*Guest, error) {
	debug.SetGCPercent(lazyGC)
	debug.SetMemoryLimit(softHeap)
	c, err := talk.Decode[talk.Config](config)
	if err != nil {
		return nil, err
	}
	if why := talk.Mismatch(c.Build, obs.Build()); why != "" {
		return nil, errors.New(why)
	}
	level, err := obs.ParseLevel(c.Server.LogLevel)
	if err != nil {
		return nil, err
	}
	g := &Guest{Config: c, Log: guesthttp.Logger(level)}
	box, err := seal.New(c.Key)
	if err != nil {
		return nil, err
	}
	st, err := areas.Attach(store.Options{Engine: guesthttp.Engine(), Box: box, Log: g.Log, Version: c.Build.Version})
	if err != nil {
		return nil, err
	}
	s := &c.Server
	g.Site, err = areas.NewSite(st, series.Retention{Minute: s.RetainMinutes, FiveMinutes: s.RetainFives, Hour: s.RetainHours})
	return g, err
}

// Sender sends through the channels that the host has.
func (g *Guest) Sender() *notify.Sender {
	channels := make(map[string]notify.Notifier, len(g.Channels))
	for _, name := range g.Channels {
		channels[name] = channel{}
	}
	return notify.NewSender(channels)
}

// channel is any channel of the host.
type channel struct{}

// Notify has the host send.
func (channel) Notify(_ context.Context, to notify.Target, m notify.Message) (notify.Result, error) {
	sent, err := Ask[talk.Sent](talk.CapSend, talk.Letter{To: to, Message: m})
	if err != nil {
		return notify.Result{}, err
	}
	return sent.Result()
}

// Passwords are hashed by the host.
func (*Guest) Passwords() auth.Passwords { return passwords{} }

type passwords struct{}

// Hash implements auth.Passwords.
func (passwords) Hash(password string) (string, error) {
	out, err := Ask[talk.Hashed](talk.CapHash, talk.Password{Password: password})
	return out.Hash, err
}

// Check implements auth.Passwords.
func (passwords) Check(hash, password string) (ok, rehash bool) {
	out, err := Ask[talk.Checked](talk.CapCheck, talk.Password{Hash: hash, Password: password})
	return err == nil && out.OK, err == nil && out.Rehash
}

// Blobs opens the host's block stores; nil when it has none for this guest.
func (g *Guest) Blobs() func(ctx context.Context, id string) (blockstore.Store, error) {
	if !g.Blocks {
		return nil
	}
	ask := func(_ context.Context, request []byte) ([]byte, error) {
		return guesthttp.Call(talk.CapBlocks, request)
	}
	return func(ctx context.Context, id string) (blockstore.Store, error) {
		s, err := hostblock.Open(ctx, ask, id)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}

// Table is the table of releases that replaces the embedded one; nil when none does.
func (g *Guest) Table() (*release.Table, error) {
	if len(g.Releases) == 0 {
		return nil, nil
	}
	return release.Load(g.Releases)
}

// Upgrading asks whether servers of several versions run.
func (*Guest) Upgrading() bool {
	out, err := guesthttp.Call(talk.CapUpgrading, nil)
	return err == nil && len(out) == 1 && out[0] == 1
}

// CertificateEnd tells when the site's certificate ends; nil when it shows none.
func (g *Guest) CertificateEnd() func() time.Time {
	if g.CertEnd.IsZero() {
		return nil
	}
	return func() time.Time { return g.CertEnd }
}

// Checks are the dependencies of the health answers.
func (g *Guest) Checks() map[string]func(context.Context) error {
	engine := g.Site.Store.Engine()
	app := func(ctx context.Context) error {
		_, err := engine.Now(ctx)
		return err
	}
	backup := app
	if g.BackupDB {
		backup = func(context.Context) error {
			if _, err := guesthttp.Call(talk.CapBackupDB, nil); err != nil {
				return errors.Join(docstore.ErrUnavailable, err)
			}
			return nil
		}
	}
	return map[string]func(context.Context) error{"mms_db": app, "backup_db": backup}
}

// Duties tells the host the function's periodic duties, which are started by a post below path.
func Duties(path string, passes []store.Pass) error {
	var d talk.Duties
	for _, p := range passes {
		d.List = append(d.List, talk.Duty{Name: p.Name, Every: p.Every, Path: path + p.Name})
	}
	b, err := talk.Encode(d)
	if err == nil {
		_, err = guesthttp.Call(talk.CapDuties, b)
	}
	return err
}

// Ask has the host do something.
func Ask[Answer any](capability string, question any) (Answer, error) {
	var none Answer
	b, err := talk.Encode(question)
	if err != nil {
		return none, err
	}
	out, err := guesthttp.Call(capability, b)
	if err != nil {
		return none, err
	}
	return talk.Decode[Answer](out)
}
