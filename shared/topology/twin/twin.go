// Package twin tells whether two monitored addresses are one process (metrics.md 5.5), and makes one host of them: which one stays,
// and by which of its names it is dialled. It is pure.
package twin

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

// maxAliases bounds the names kept of a host: a process behind ever changing addresses must not grow its document.
const maxAliases = 32

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
	if key := Key(a); key == "" || key != Key(b) {
		return false
	}
	if x, y := a.Host.ClusterID, b.Host.ClusterID; x != "" && y != "" && x != y {
		return false // two deployments from one template, started at once
	}
	return a.Status.Started.Sub(b.Status.Started).Abs() <= startTolerance
}

// Key is equal for two sightings of one process wherever Same goes by its start; empty when a sighting says too little for that.
func Key(s Sighting) string {
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
	keep.Aliases = AddAliases(keep.Aliases, keep.Address(), append(hide.Aliases, addr, hide.Address())...)
	hide.Hidden, hide.DuplicateOf = true, keep.ID
	return keep, hide
}

// AddAliases adds more names of a process to those known; the one it is dialled by is none of them.
func AddAliases(aliases []string, own string, more ...string) []string {
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
