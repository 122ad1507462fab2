package topology

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rollup"
)

// maxAliases bounds the names kept of a host: a process behind ever changing addresses must not grow its document.
const maxAliases = 32

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

// Sighting is a host and what its last ping told.
type Sighting struct {
	Host   *model.Host
	Status *model.HostStatus // nil when there was none yet
}

// Same reports whether two hosts of one group are the same process, seen under two addresses (metrics.md 5.5). Equal identities
// settle it; where either has none, the same pid, start, own name, port and version do, or the same place in the same set. Two
// members of one set are never the same, whatever they have in common.
func Same(a, b Sighting) bool {
	x, y := a.Host, b.Host
	if x.ID == y.ID || x.GroupID != y.GroupID {
		return false
	}
	if x.ReplicaSet != "" && y.ReplicaSet != "" {
		if x.ReplicaSet != y.ReplicaSet {
			return false
		}
		oneSet := x.ClusterID == y.ClusterID || x.ClusterID == "" || y.ClusterID == ""
		if oneSet && x.MemberID >= 0 && y.MemberID >= 0 && x.MemberID != y.MemberID {
			return false
		}
	}
	if x.ProcessID != "" && y.ProcessID != "" {
		return x.ProcessID == y.ProcessID
	}
	return sameStart(a, b) ||
		x.ClusterID != "" && x.ClusterID == y.ClusterID && x.MemberID >= 0 && x.MemberID == y.MemberID && x.ReplicaSet != ""
}

// startTolerance is how far two estimates of one start may lie apart.
const startTolerance = 2 * time.Second

// sameStart: the evidence there is of processes without an identity of their own, before 4.4. Names and pids alone mean little: in
// containers both are often equal.
func sameStart(a, b Sighting) bool {
	if key := StartKey(a); key == "" || key != StartKey(b) {
		return false
	}
	if x, y := a.Host.ClusterID, b.Host.ClusterID; x != "" && y != "" && x != y {
		return false // two deployments from one template, started at once
	}
	return a.Status.Started.Sub(b.Status.Started).Abs() <= startTolerance
}

// StartKey is equal for two sightings of one process wherever Same goes by its start; empty when a sighting says too little for that.
func StartKey(s Sighting) string {
	if s.Status == nil || s.Status.PID == 0 || s.Status.Started.IsZero() || s.Host.Self == "" || s.Host.Version == "" {
		return ""
	}
	return s.Host.Self + "/" + strconv.FormatInt(s.Status.PID, 10) + "/" + s.Host.Version
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
	if v.ss != nil && v.ss.host != "" {
		add(v.ss.host) // without a port it means 27017
		if host, port, err := model.SplitAddress(v.ss.host); err == nil {
			o.Host.Self = model.Address(host, port)
		}
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
