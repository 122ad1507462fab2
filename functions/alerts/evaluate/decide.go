package evaluate

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/outbox"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

// keepers is how many alerts of one group are written at once: the embedded engine syncs what comes together once.
const keepers = 8

// subject is what at most one live alert is about.
type subject struct {
	config model.ID
	target string
}

// step is one alert to be taken further: by a verdict, or to its end when its configuration is gone.
type step struct {
	c       *model.AlertConfig // nil: gone
	t       rule.Type
	live    *alerting.Live // nil: none lives
	verdict rule.Verdict
	why     string // why it is cancelled, where no verdict is asked
}

// evaluate judges a group or the site and keeps what follows.
func (u *unit) evaluate(ctx context.Context) error {
	if err := u.facts(ctx); err != nil {
		return err
	}
	if err := u.prepare(ctx); err != nil {
		return err
	}
	live := map[subject]*alerting.Live{}
	byConfig := map[model.ID][]*alerting.Live{}
	for i := range u.live {
		l := &u.live[i]
		live[subject{l.ConfigID, l.Target.Key}] = l
		byConfig[l.ConfigID] = append(byConfig[l.ConfigID], l)
	}
	var judged, metrics, informs []*model.AlertConfig
	types := map[model.ID]rule.Type{}
	for _, c := range u.configs {
		t, ok := rule.TypeOf(c.EventType)
		if !ok || !c.Enabled || !t.Raised || u.group.ID == "" && !t.Inform && t.Category != rule.Site {
			continue // its alerts are cancelled below
		}
		types[c.ID] = t
		switch {
		case t.Inform:
			informs = append(informs, c)
			continue
		case t.Metric:
			metrics = append(metrics, c)
		}
		judged = append(judged, c)
	}
	u.judging(judged, informs)
	if len(metrics) > 0 {
		if err := u.measure(ctx, metrics); err != nil {
			return err
		}
	}
	k := u.keeper(ctx)
	for _, c := range judged {
		t := types[c.ID]
		j := rule.Judge(c, u.snap)
		for i := range j.Bad {
			k.do(step{c: c, t: t, live: live[subject{c.ID, j.Bad[i].Target.Key}], verdict: j.Bad[i]})
		}
		bad := make(map[string]bool, len(j.Bad))
		for i := range j.Bad {
			bad[j.Bad[i].Target.Key] = true
		}
		for _, l := range byConfig[c.ID] {
			if !bad[l.Target.Key] {
				k.do(step{c: c, t: t, live: l, verdict: j.Of(l.Target.Key)})
			}
		}
		delete(byConfig, c.ID)
	}
	for id, left := range byConfig { // not judged: their configurations are gone, disabled, or about other groups now
		c := u.config(id)
		why := "the configuration was deleted"
		switch {
		case c != nil && !c.Enabled:
			why = "the configuration was disabled"
		case c != nil:
			why = "the configuration does not apply here any more"
		}
		for _, l := range left {
			t, _ := rule.TypeOf(l.EventType)
			k.do(step{c: c, t: t, live: l, why: why})
		}
	}
	err := k.wait()
	for _, c := range informs {
		if ctx.Err() != nil {
			break
		}
		err = errors.Join(err, u.inform(ctx, c, types[c.ID]))
	}
	return err
}

// config finds a configuration that alerts of this unit may belong to.
func (u *unit) config(id model.ID) *model.AlertConfig {
	for _, list := range [][]*model.AlertConfig{u.configs, u.global} {
		if i := slices.IndexFunc(list, func(c *model.AlertConfig) bool { return c.ID == id }); i >= 0 {
			return list[i]
		}
	}
	return nil
}

// prepare reads what deciding needs besides the facts.
func (u *unit) prepare(ctx context.Context) error {
	ended, err := u.o.Alerting.Ended(ctx, u.group.ID, u.now.Add(-rule.Rest))
	if err != nil {
		return fmt.Errorf("read alerts that ended: %w", err)
	}
	u.ended = make(map[subject]*model.Alert, len(ended))
	for i := range ended { // oldest end first: the newest stays
		if !ended[i].Resolved.After(u.now) {
			u.ended[subject{ended[i].ConfigID, ended[i].Target.Key}] = &ended[i]
		}
	}
	u.mute = rule.Muted(u.windows[u.group.ID], u.silences[u.group.ID], u.snap.Hosts)
	u.people = notify.People{Users: u.users, GroupID: u.group.ID, OrgID: u.group.OrgID, Admin: u.o.Admin}
	u.third = sync.OnceValues(func() ([]model.Notification, error) {
		if u.group.ID == "" {
			return nil, nil
		}
		return u.o.Alerting.Integrations(ctx, u.group.ID)
	})
	return nil
}

func (u *unit) judging(lists ...[]*model.AlertConfig) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, list := range lists {
		for _, c := range list {
			u.judged[c.ID] = true
		}
	}
}

// keeper takes steps to their end, several at once, and gathers what went wrong.
type keeper struct {
	u     *unit
	ctx   context.Context
	stop  context.CancelFunc
	steps chan step
	wg    sync.WaitGroup

	mu       sync.Mutex
	errs     []error
	failures int
}

func (u *unit) keeper(ctx context.Context) *keeper {
	k := &keeper{u: u, steps: make(chan step)}
	k.ctx, k.stop = context.WithCancel(ctx)
	for range keepers {
		k.wg.Go(func() {
			for s := range k.steps {
				if k.ctx.Err() == nil {
					k.failed(u.advance(k.ctx, s))
				}
			}
		})
	}
	return k
}

func (k *keeper) do(s step) { k.steps <- s }

// failed notes an error. Without the store there is no point in going on.
func (k *keeper) failed(err error) {
	if err == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failures++; len(k.errs) < 3 {
		k.errs = append(k.errs, err)
	}
	if errors.Is(err, docstore.ErrUnavailable) {
		k.stop()
	}
}

func (k *keeper) wait() error {
	close(k.steps)
	k.wg.Wait()
	k.stop()
	if k.failures > len(k.errs) {
		k.errs = append(k.errs, fmt.Errorf("and %d more alerts", k.failures-len(k.errs)))
	}
	return errors.Join(k.errs...)
}

// advance takes one alert a step further.
func (u *unit) advance(ctx context.Context, s step) error {
	if s.why != "" {
		next, due := rule.Cancel(&s.live.Alert, s.c, s.why, u.now)
		return u.keep(ctx, s, next, due)
	}
	mute := u.mute(s.c, s.t, s.verdict.Target, u.now)
	if s.live == nil {
		next, due := rule.Advance(u.ended[subject{s.c.ID, s.verdict.Target.Key}], s.c, s.verdict, mute, u.now)
		if next == nil {
			return nil
		}
		live, err := u.o.Alerting.StartAlert(ctx, begin(next, len(due) > 0))
		if err != nil {
			return fmt.Errorf("begin an alert: %w", err)
		}
		u.note("", live.Status)
		s.live = &live
	}
	next, due := rule.Advance(&s.live.Alert, s.c, s.verdict, mute, u.now)
	if next == nil {
		return nil
	}
	return u.keep(ctx, s, next, due)
}

// begin is how a new alert is first written: before anybody was told, if somebody is to be.
func begin(next *model.Alert, told bool) model.Alert {
	a := *next
	a.ID = model.NewID()
	if !told {
		return a
	}
	a.Status, a.Opened, a.LastNotified, a.Notified = model.AlertTracking, time.Time{}, time.Time{}, nil
	a.History = slices.DeleteFunc(slices.Clone(a.History), func(h model.AlertStep) bool { return h.Kind != model.StepTracked })
	return a
}

// keep writes what follows from a step: the deliveries, the event, and last the alert, which remembers them.
func (u *unit) keep(ctx context.Context, s step, next *model.Alert, due []rule.Due) error {
	before := s.live.Alert
	if u.back == 0 && reflect.DeepEqual(before, *next) { // after the clock went back the alert was changed already
		return nil
	}
	if err := u.notify(ctx, next, due); err != nil {
		return err
	}
	if err := u.feed(ctx, before.Status, next, s.t); err != nil {
		return err
	}
	err := u.o.Alerting.SaveAlert(ctx, *next, s.live.Rev)
	if errors.Is(err, docstore.ErrConflict) || errors.Is(err, docstore.ErrNotFound) {
		return nil // somebody changed it in this moment: the next pass goes on from there, with the same deliveries
	}
	if err != nil {
		return fmt.Errorf("save an alert: %w", err)
	}
	u.note(before.Status, next.Status)
	return nil
}

// notify puts notifications that are due into the outbox.
func (u *unit) notify(ctx context.Context, a *model.Alert, due []rule.Due) error {
	if len(due) == 0 {
		return nil
	}
	src := outbox.Source{People: u.people, Former: u.former[a.ConfigID]}
	var err error
	if src.Integrations, err = u.third(); err != nil {
		return fmt.Errorf("read integrations: %w", err)
	}
	ds, missing := outbox.Deliveries(a, due, src, u.now)
	if err := u.o.Alerting.AddDeliveries(ctx, ds...); err != nil {
		return fmt.Errorf("add deliveries: %w", err)
	}
	if len(missing) > 0 {
		a.History = append(a.History, model.AlertStep{At: u.now, Kind: model.StepNotified, Text: "Not told: " + strings.Join(missing, " ")})
		u.o.Log.InfoContext(ctx, "somebody could not be told of an alert", obs.KeyGroup, a.GroupID, obs.KeyReason, strings.Join(missing, " "))
	}
	return nil
}
