package derive

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/topology"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// takeOver copies what pings decide about a host. What people decide (deleted, alerts, credentials) is left alone: it may
// have been changed while the ping was on its way.
func takeOver(to, from *model.Host) {
	to.IP, to.Self, to.Type, to.Version, to.ReplicaSet, to.ShardName = from.IP, from.Self, from.Type, from.Version, from.ReplicaSet, from.ShardName
	to.ClusterID, to.ProcessID, to.MemberID = from.ClusterID, from.ProcessID, from.MemberID
	to.HiddenSecondary, to.DelaySecs, to.Priority, to.Votes = from.HiddenSecondary, from.DelaySecs, from.Priority, from.Votes
	to.Journaling, to.StartupWarnings, to.LowUlimit = from.Journaling, from.StartupWarnings, from.LowUlimit
	to.MemSizeMB, to.NumCores, to.OS = from.MemSizeMB, from.NumCores, from.OS
	to.StorageEngine, to.DBPath, to.FCV, to.AuthEnabled = from.StorageEngine, from.DBPath, from.FCV, from.AuthEnabled
	to.CertExpires, to.CertSubject, to.TLSMode, to.BindIP = from.CertExpires, from.CertSubject, from.TLSMode, from.BindIP
	to.LastDataBytes, to.LastIndexBytes = from.LastDataBytes, from.LastIndexBytes
	if from.LastRestart.After(to.LastRestart) {
		to.LastRestart = from.LastRestart
	}
	to.Deactivated = to.Deactivated && from.Deactivated
	for _, a := range from.Aliases {
		if a != to.Address() && !slices.Contains(to.Aliases, a) {
			to.Aliases = append(to.Aliases, a)
		}
	}
}

// sameHost compares what takeOver copies.
func sameHost(a, b *model.Host) bool {
	return a.IP == b.IP && a.Self == b.Self && a.Type == b.Type && a.Version == b.Version && a.ReplicaSet == b.ReplicaSet && a.ShardName == b.ShardName &&
		a.ClusterID == b.ClusterID && a.ProcessID == b.ProcessID && a.MemberID == b.MemberID &&
		a.HiddenSecondary == b.HiddenSecondary && a.DelaySecs == b.DelaySecs && a.Priority == b.Priority && a.Votes == b.Votes &&
		a.Journaling == b.Journaling && slices.Equal(a.StartupWarnings, b.StartupWarnings) && a.LowUlimit == b.LowUlimit &&
		a.MemSizeMB == b.MemSizeMB && a.NumCores == b.NumCores && a.OS == b.OS &&
		a.StorageEngine == b.StorageEngine && a.DBPath == b.DBPath && a.FCV == b.FCV && a.AuthEnabled == b.AuthEnabled &&
		a.CertExpires.Equal(b.CertExpires) && a.CertSubject == b.CertSubject && a.TLSMode == b.TLSMode && a.BindIP == b.BindIP &&
		a.LastDataBytes == b.LastDataBytes && a.LastIndexBytes == b.LastIndexBytes && a.LastRestart.Equal(b.LastRestart) &&
		a.Deactivated == b.Deactivated && slices.Equal(a.Aliases, b.Aliases)
}

// discover notes the addresses that no host of the group has, be it a deleted one: what a person removed stays away.
func (w *work) discover(h *hostState, o *topology.Observation, p *wire.Ping) error {
	c := w.clusters[h.host.ClusterID]
	for _, a := range o.Discovered {
		addr := a.String()
		if c != nil && slices.ContainsFunc(c.c.Members, func(m model.Member) bool { return m.HostID != "" && m.Host == addr }) {
			continue
		}
		key := string(w.group.ID) + "/" + addr
		// A mongos is looked up each time: it may have been deactivated since.
		if _, seen := w.found[addr]; seen || !a.Mongos && w.d.known.has(key) {
			continue
		}
		if loopback(a.Hostname) && !dialledLocally(p, &h.host) {
			continue // means the machine of the process, which the agent would take for its own
		}
		known, err := w.d.o.Inventory.FindHost(w.ctx, w.group.ID, addr)
		switch {
		case err == nil:
			w.d.known.add(key)
			if a.Mongos && known.Deactivated {
				if err := w.reactivate(&known); err != nil {
					return err
				}
			}
		case errors.Is(err, docstore.ErrNotFound):
			w.found[addr] = discovery{address: a, from: h}
		default:
			return err
		}
	}
	return nil
}

// reactivate makes the agent visit a mongos again that its cluster counts among the living.
func (w *work) reactivate(h *model.Host) error {
	err := w.d.o.Inventory.UpdateHost(w.ctx, w.group.ID, h.ID, func(now *model.Host) error {
		now.Deactivated = false
		return nil
	})
	if errors.Is(err, docstore.ErrNotFound) {
		return nil
	}
	return err
}

func dialledLocally(p *wire.Ping, h *model.Host) bool {
	if host, _, err := model.SplitAddress(p.Address); err == nil {
		return loopback(host)
	}
	return loopback(h.Hostname)
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || host == "localhost" || strings.HasPrefix(host, "localhost.")
}

// createHosts adds what was discovered. A new host inherits how its discoverer is reached, because the same monitoring
// user must exist everywhere.
func (w *work) createHosts() error {
	var events []docstore.Op
	w.news = nil
	for addr, found := range w.found {
		if w.knows(addr) {
			continue
		}
		from := &found.from.host
		h := model.Host{
			ID: model.NewHostID(w.group.ID, found.address.Hostname, found.address.Port), GroupID: w.group.ID,
			Hostname: found.address.Hostname, Port: found.address.Port, Created: w.now, Type: model.TypeNoData, MemberID: -1,
			Enabled: true, AlertsEnabled: from.AlertsEnabled, LogsEnabled: from.LogsEnabled, ProfilerEnabled: from.ProfilerEnabled,
			TLS: from.TLS, AuthMechanism: from.AuthMechanism, DiscoveredFrom: from.ID,
		}
		if from.HasCredentials {
			credentials, err := w.d.o.Inventory.HostCredentials(w.ctx, w.group.ID, from.ID)
			if err != nil {
				return err
			}
			h.Credentials = credentials
		}
		err := w.d.o.Inventory.CreateHost(w.ctx, h)
		if err != nil && !errors.Is(err, docstore.ErrExists) {
			return fmt.Errorf("add discovered host %s: %w", addr, err)
		}
		w.d.known.add(string(w.group.ID) + "/" + addr)
		if err != nil {
			continue
		}
		w.d.o.Log.InfoContext(w.ctx, "host discovered", obs.KeyGroup, w.group.ID, obs.KeyHost, addr, obs.KeyFrom, from.Address())
		err = w.event(model.Event{
			Type: model.EventNewHost, At: w.now, HostName: addr, Text: addr + " was added: it was discovered from " + from.Address() + ".",
		}, &hostState{host: h})
		if err != nil {
			return err
		}
	}
	events, w.news = w.news, nil
	if len(events) == 0 {
		return nil
	}
	return w.d.o.Store.Write(w.ctx, events...)
}

// knows reports whether a host of this very post turned out to have the address.
func (w *work) knows(addr string) bool {
	for _, h := range w.hosts {
		if h != nil && (h.host.Address() == addr || slices.Contains(h.host.Aliases, addr)) {
			return true
		}
	}
	return false
}

// maxKnown bounds the addresses remembered; beyond it they are forgotten all at once and looked up again.
const maxKnown = 200_000

// knownAddresses remembers which addresses belong to hosts. An address never stops belonging to one: deleted hosts stay, too.
type knownAddresses struct {
	mu  sync.RWMutex
	all map[string]struct{}
}

func (k *knownAddresses) has(key string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	_, ok := k.all[key]
	return ok
}

func (k *knownAddresses) add(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.all == nil || len(k.all) >= maxKnown {
		k.all = map[string]struct{}{}
	}
	k.all[key] = struct{}{}
}
