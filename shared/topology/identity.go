package topology

import (
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rollup"
	"github.com/heartwood-db/heartwood/shared/topology/twin"
)

// identity compares the incarnation with the one before.
func (o *Observation) identity(in *Input, v *view) {
	now := rollup.Identity{At: in.Ping.At, Process: v.hello.process}
	if now.Process == "" {
		now.Process = v.isSelf
	}
	if v.ss != nil {
		now.PID, now.UptimeMS, now.Local = v.ss.pid, v.ss.uptimeMS, v.ss.localTime
	}
	before := rollup.Identity{At: in.Status.LastPing, Process: in.Host.ProcessID, PID: in.Status.PID, UptimeMS: in.Status.UptimeMS}
	if !in.Status.Started.IsZero() {
		before.Local = in.Status.Started.Add(time.Duration(in.Status.UptimeMS) * time.Millisecond)
	}
	var started time.Time
	if !now.Local.IsZero() && now.UptimeMS > 0 {
		started = now.Local.Add(-time.Duration(now.UptimeMS) * time.Millisecond)
	}
	o.NewProcess = now.Process != "" && now.Process != in.Host.ProcessID
	if now.Process != "" {
		o.Host.ProcessID = now.Process
	}
	if v.ss != nil {
		o.Status.PID, o.Status.UptimeMS, o.Status.Started = now.PID, now.UptimeMS, started
	}
	if in.Status.LastPing.IsZero() {
		return
	}
	if restarted, _ := rollup.Restarted(before, now); !restarted {
		return
	}
	if now.Process == "" {
		o.Host.ProcessID = "" // that of the process before; told later, it must not look like one more restart
	}
	at := in.Ping.At
	if !started.IsZero() {
		// The start is estimated by the host's clock: correct it to the agent's, and never beyond what was observed.
		at = started.Add(-time.Duration(in.Ping.SkewMS) * time.Millisecond)
		if at.After(in.Ping.At) || at.Before(in.Status.LastPing.Add(-time.Minute)) {
			at = in.Ping.At
		}
	}
	at = at.Truncate(time.Millisecond)
	o.Restarted, o.Host.LastRestart = at, at
	o.event(model.EventHostRestarted, at, "was restarted")
}

// names adds every name the process goes by to its aliases.
func (o *Observation) names(in *Input, v *view) {
	var seen []string
	add := func(s string) {
		if s == "" {
			return
		}
		if host, port, err := model.SplitAddress(s); err == nil {
			seen = append(seen, model.Address(host, port))
		}
	}
	add(in.Ping.Address)
	add(v.hello.me)
	if v.ss != nil && v.ss.host != "" {
		add(v.ss.host) // without a port it means 27017
		if host, port, err := model.SplitAddress(v.ss.host); err == nil {
			o.Host.Self = model.Address(host, port)
		}
	}
	if self := v.rs.self(); self != nil {
		add(self.name)
	}
	o.Host.Aliases = twin.AddAliases(o.Host.Aliases, o.Host.Address(), seen...)
}
