package manage

import (
	"context"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

type instanceRow struct {
	model.Instance
	State view.State
}

type passRow struct {
	store.PassState
	State view.State
	Late  time.Duration
}

type adminPage struct {
	Embedded  string
	Instances []instanceRow
	Passes    []passRow
	Groups    int
}

// silentAfter is when an instance's missing heartbeat is worth a word; heartbeats come several times a minute.
const silentAfter = 90 * time.Second

// admin answers: does Heartwood itself work?
func (m *Manage) admin(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.ReadSite); err != nil {
		return view.Answer{}, err
	}
	d := adminPage{Embedded: m.opt.Embedded, Groups: len(v.Groups)}
	instances, err := m.opt.Site.Instances(ctx)
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the instances: %w", err)
	}
	for _, in := range instances {
		s := view.State{Level: view.OK, Word: "running"}
		if v.Now.Sub(in.Heartbeat) > silentAfter {
			s = view.State{Level: view.Unknown, Word: "silent", Why: "It was stopped without saying so, or cannot reach the database."}
		}
		d.Instances = append(d.Instances, instanceRow{in, s})
	}
	passes, err := m.opt.Site.PassStates(ctx)
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the periodic duties: %w", err)
	}
	for _, ps := range passes {
		d.Passes = append(d.Passes, passRow{PassState: ps, Late: ps.Lateness(v.Now), State: passState(&ps, v.Now)})
	}
	return view.Answer{Template: "admin.html", Title: "Admin", Nav: "admin", Data: &d}, nil
}

func passState(ps *store.PassState, now time.Time) view.State {
	late := ps.Lateness(now)
	switch {
	case ps.Failures > 0:
		return view.State{Level: view.Critical, Word: "failing", Why: ps.Error}
	case late > max(ps.Every, time.Minute):
		return view.State{Level: view.Warning, Word: "late", Why: "It should have run " + view.Duration(late) + " ago."}
	}
	return view.State{Level: view.OK, Word: "on time"}
}

// SiteState judges Heartwood itself, for the top bar of every page: as well as the worst of its periodic duties.
func (m *Manage) SiteState(ctx context.Context, now time.Time) (view.State, error) {
	passes, err := m.opt.Site.PassStates(ctx)
	if err != nil {
		return view.State{}, fmt.Errorf("read the periodic duties: %w", err)
	}
	out := view.State{Level: view.OK, Word: "Heartwood works"}
	for i := range passes {
		if s := passState(&passes[i], now); s.Level > out.Level {
			out = view.State{Level: s.Level, Word: "Heartwood " + s.Word, Why: "Duty " + passes[i].Name + ": " + s.Why}
		}
	}
	return out, nil
}
