package topology

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

// maxAliases bounds the names kept of a host: a process behind ever changing addresses must not grow its document.
const maxAliases = 32

// Process is the incarnation of a process, as far as a sample tells.
type Process struct {
	ID       string // topologyVersion.processId or the id of _isSelf; "" when unknown
	PID      int64
	Started  time.Time // estimated: its clock minus its uptime
	UptimeMS int64
}

// Restarted reports whether two samples of a host, gap apart, come from different incarnations (metrics.md 3.1). Equal
// identities settle it: a step of the server's clock moves the estimated start but makes no restart.
func Restarted(before, after Process, gap time.Duration) bool {
	if before.ID != "" && after.ID != "" {
		return before.ID != after.ID
	}
	switch {
	case before.PID != 0 && after.PID != 0 && before.PID != after.PID:
		return true
	case !before.Started.IsZero() && !after.Started.IsZero() &&
		after.Started.Sub(before.Started) > max(10*time.Second, gap/20):
		return true
	}
	return before.UptimeMS > 0 && after.UptimeMS > 0 && after.UptimeMS < before.UptimeMS
}

// identity compares the incarnation with the one before.
func (o *Observation) identity(in *Input, v *view) {
	now := Process{ID: v.hello.process}
	if now.ID == "" {
		now.ID = v.isSelf
	}
	if v.ss != nil {
		now.PID, now.UptimeMS = v.ss.pid, v.ss.uptimeMS
		if !v.ss.localTime.IsZero() && v.ss.uptimeMS > 0 {
			now.Started = v.ss.localTime.Add(-time.Duration(v.ss.uptimeMS) * time.Millisecond)
		}
	}
	before := Process{ID: in.Host.ProcessID, PID: in.Status.PID, Started: in.Status.Started, UptimeMS: in.Status.UptimeMS}
	o.NewProcess = now.ID != "" && now.ID != in.Host.ProcessID
	if now.ID != "" {
		o.Host.ProcessID = now.ID
	}
	if v.ss != nil {
		o.Status.PID, o.Status.UptimeMS, o.Status.Started = now.PID, now.UptimeMS, now.Started
	}
	if in.Status.LastPing.IsZero() || !Restarted(before, now, in.Ping.At.Sub(in.Status.LastPing)) {
		return
	}
	at := in.Ping.At
	if !now.Started.IsZero() {
		// The start is estimated by the host's clock: correct it to the agent's, and never beyond what was observed.
		at = now.Started.Add(-time.Duration(in.Ping.SkewMS) * time.Millisecond)
		if at.After(in.Ping.At) || at.Before(in.Status.LastPing.Add(-time.Minute)) {
			at = in.Ping.At
		}
	}
	at = at.Truncate(time.Millisecond)
	o.Restarted, o.Host.LastRestart = at, at
	o.event(model.EventHostRestarted, at, "The process was restarted.")
}

// Same reports whether two hosts of one group are the same process, seen under two addresses.
func Same(a, b *model.Host) bool {
	if a.ID == b.ID || a.GroupID != b.GroupID {
		return false
	}
	if a.ReplicaSet != "" && b.ReplicaSet != "" && a.ReplicaSet != b.ReplicaSet {
		return false
	}
	if a.ProcessID != "" && b.ProcessID != "" {
		return a.ProcessID == b.ProcessID
	}
	return a.ClusterID != "" && a.ClusterID == b.ClusterID && a.MemberID >= 0 && a.MemberID == b.MemberID && a.ReplicaSet != ""
}

// Merge makes one host of two that are the same: the older one (of equals, the one a person
// added) stays and takes the better name, the newer one is hidden and
// its address becomes an alias.
func Merge(a, b model.Host, s model.GroupSettings) (keep, hide model.Host) {
	keep, hide = a, b
	sooner := b.Created.Compare(a.Created)
	if sooner == 0 && a.Seed != b.Seed {
		sooner = 1
		if b.Seed {
			sooner = -1
		}
	}
	if sooner < 0 || sooner == 0 && b.ID < a.ID {
		keep, hide = b, a
	}
	addr := hide.Address()
	inConfig := func(h *model.Host) int { return rank(h.Hostname, h.MemberID >= 0 && !h.Seed, s.PreferredHostnames) }
	if inConfig(&hide) > inConfig(&keep) {
		addr = keep.Address()
		keep.Hostname, keep.Port = hide.Hostname, hide.Port
	}
	keep.Aliases = withAlias(keep.Aliases, keep.Address(), append(hide.Aliases, addr, hide.Address())...)
	hide.Hidden, hide.DuplicateOf = true, keep.ID
	return keep, hide
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
	if v.ss != nil {
		add(v.ss.host) // without a port it means 27017
	}
	if self := v.rs.self(); self != nil {
		add(self.name)
	}
	o.Host.Aliases = withAlias(o.Host.Aliases, o.Host.Address(), seen...)
}

func withAlias(aliases []string, own string, more ...string) []string {
	for _, a := range more {
		if a != own && !slices.Contains(aliases, a) && len(aliases) < maxAliases {
			aliases = append(aliases, a)
		}
	}
	return slices.DeleteFunc(aliases, func(a string) bool { return a == own })
}

// rank orders names by how good they are for dialling: a preferred one, one of the configuration, a full name, a plain one, an
// address; a name that only means something on one machine comes last whatever else speaks for it.
func rank(hostname string, configured bool, preferred string) int {
	ip, err := netip.ParseAddr(hostname)
	switch {
	case hostname == "localhost", strings.HasPrefix(hostname, "localhost."), err == nil && ip.IsLoopback():
		return 0
	case matchesPreferred(hostname, preferred):
		return 5
	case configured:
		return 4
	case err == nil:
		return 1
	case strings.Contains(hostname, "."):
		return 3
	}
	return 2
}

// matchesPreferred applies the group's preferred host names: a suffix, or a regular expression between slashes.
func matchesPreferred(hostname, preferred string) bool {
	switch {
	case preferred == "":
		return false
	case len(preferred) > 2 && preferred[0] == '/' && preferred[len(preferred)-1] == '/':
		re, err := regexp.Compile(preferred[1 : len(preferred)-1])
		return err == nil && re.MatchString(hostname)
	}
	return strings.HasSuffix(hostname, strings.ToLower(preferred))
}
