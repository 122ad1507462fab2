// Package heartbeat is the duty that tells another system that alerts are evaluated: it calls a URL after each healthy evaluation, and
// stays silent otherwise, so that the other system notices when nothing here can.
package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
)

// How the duty runs.
const (
	Name  = "alerts-heartbeat"
	Every = time.Minute

	recent  = 3 * time.Minute // an evaluation longer ago is not running
	stuck   = 2 * time.Minute // a delivery duty that is late by more does not deliver
	maxText = 300
)

// Watch is where the evaluation says how it does, and where the heartbeat says how it went.
type Watch interface {
	Watch(ctx context.Context) (model.AlertWatch, error)
	UpdateWatch(ctx context.Context, change func(*model.AlertWatch) error) error
}

// Duties tells how the periodic duties of the site do.
type Duties interface {
	PassStates(ctx context.Context) ([]store.PassState, error)
}

// Options are what New needs.
type Options struct {
	URL     model.Secret // heartwood.alerts.heartbeatUrl
	Watch   Watch
	Duties  Duties
	Deliver string                          // name of the duty that delivers
	Client  *http.Client                    // of notify.Client
	Call    func(ctx context.Context) error // calls the address, in place of URL and Client: see Caller
	Log     *slog.Logger                    // nil: none
}

// Beater is the duty.
type Beater struct{ o Options }

// New returns the duty.
func New(o Options) (*Beater, error) {
	if o.Call == nil {
		o.Call = Caller(o.URL, o.Client)
	}
	if o.Call == nil || o.Watch == nil || o.Duties == nil {
		return nil, errors.New("the heartbeat needs URL, Watch, Duties and Client") // the URL is never shown
	}
	if o.Log == nil {
		o.Log = obs.Discard()
	}
	return &Beater{o: o}, nil
}

// Caller calls the address; its errors do not tell it. Nil when there is none to call, or nobody to call it.
func Caller(address model.Secret, client *http.Client) func(ctx context.Context) error {
	u, err := url.Parse(address.Reveal())
	if err != nil || u.Host == "" || client == nil {
		return nil
	}
	secrets := []model.Secret{address}
	if len(u.Path) > 1 {
		secrets = append(secrets, model.Secret(u.Path), model.Secret(u.EscapedPath()))
	}
	if u.RawQuery != "" {
		secrets = append(secrets, model.Secret(u.RawQuery))
	}
	return func(ctx context.Context) error {
		_, err := notify.Do(ctx, client, notify.Request{Service: "the heartbeat's address", Method: http.MethodGet, URL: address.Reveal(), Secrets: secrets})
		return err
	}
}

// Duty is the duty for whoever ticks it.
func (b *Beater) Duty() store.Duty { return store.Duty{Name: Name, Every: Every, Run: b.Pass} }

// Pass calls the URL if the evaluation is healthy. A call that fails is the other system's: it is kept beside the watch and is no
// failure of the duty.
func (b *Beater) Pass(ctx context.Context, now time.Time) (store.PassReport, error) {
	var report store.PassReport
	w, err := b.o.Watch.Watch(ctx)
	if err != nil {
		return report, fmt.Errorf("read the watch: %w", err)
	}
	if report.Note, err = b.ill(ctx, &w, now); err != nil {
		return report, err
	}
	if report.Note == "" {
		err := b.o.Call(ctx)
		if ctx.Err() != nil {
			return report, context.Cause(ctx)
		}
		if err != nil {
			report.Note = err.Error()
		}
	} else {
		report.Note = "not sent: " + report.Note
	}
	if len(report.Note) > maxText {
		report.Note = strings.ToValidUTF8(report.Note[:maxText], "")
	}
	if report.Note == "" {
		report.Done = 1
	} else if report.Note != w.BeatError {
		b.o.Log.WarnContext(ctx, "heartbeat of the evaluation", obs.KeyReason, report.Note)
	}
	err = b.o.Watch.UpdateWatch(ctx, func(w *model.AlertWatch) error {
		w.BeatError = report.Note
		if report.Note == "" {
			w.Heartbeat = now
		}
		return nil
	})
	if err != nil {
		return report, fmt.Errorf("keep how the heartbeat went: %w", err)
	}
	return report, nil
}

// ill says what keeps the heartbeat from being sent, or "".
func (b *Beater) ill(ctx context.Context, w *model.AlertWatch, now time.Time) (string, error) {
	switch {
	case w.LastPass.IsZero():
		return "alerts have not been evaluated yet", nil
	case now.Sub(w.LastPass) > recent:
		return "alerts are not evaluated", nil
	case w.LastPass.Sub(now) > recent:
		return "the clock went back", nil
	}
	passes, err := b.o.Duties.PassStates(ctx)
	if err != nil {
		return "", fmt.Errorf("read the periodic duties: %w", err)
	}
	for i := range passes {
		if p := &passes[i]; p.Name == b.o.Deliver && p.Failures > 0 {
			return "notifications are not delivered: the duty fails", nil
		} else if p.Name == b.o.Deliver && p.Lateness(now) > stuck {
			return "notifications are not delivered: the duty is late", nil
		}
	}
	return "", nil
}
