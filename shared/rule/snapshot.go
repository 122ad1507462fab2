package rule

import (
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/release"
)

// Snapshot is what is known of one group at one time, or of the site (Group.ID is empty). Hosts and Clusters must not change
// once it was judged by; the rest may. Judging it from several goroutines is fine.
type Snapshot struct {
	Now      time.Time
	Resumed  time.Time // when evaluation began again after an interruption: silence counts from here at the earliest
	Group    model.Group
	Hosts    []model.Host
	Statuses map[model.HostID]model.HostStatus
	Clusters []model.Cluster
	Agents   []model.Agent
	Users    []model.User
	// Elections counts the PRIMARY_ELECTED events of the last hour by cluster.
	Elections map[model.ID]int
	// Points are the newest samples of a host's measurement by its catalogue name (never a MAX_ name), oldest first, in the
	// catalogue's unit; nil: nothing arrived. LastPoint is when it arrived at all; zero: not in the last hour. Both may be nil
	// where no configuration is about a metric. Of disks and databases the name is "MEASUREMENT/part"; Parts lists those that
	// arrived. Where Parts is nil, the plain name is asked for.
	Points    func(host model.HostID, metric string) []model.Sample
	LastPoint func(host model.HostID, metric string) time.Time
	Parts     func(host model.HostID, metric string) []string

	// Backups are those of the group; in the site's snapshot those of all groups.
	Backups []BackupFact

	// Of the site.
	Daemons    []DaemonFact
	Passes     []PassFact
	Deliveries DeliveryFact
	ServerCert time.Time // end of the certificate this site serves with; zero: it serves without
	// ServerVersion is this server's version, which agents are compared with. Release knows the newest MongoDB versions.
	ServerVersion string
	Release       *release.Table

	once sync.Once
	ix   index
}

// PassFact is how a periodic duty of the site does.
type PassFact struct {
	Name     string
	Error    string // of its last run; "" when it went well
	Failures int    // runs that failed in a row
	LateBy   time.Duration
	Since    time.Time // since when it fails or is late; zero: not known
}

// DeliveryFact is how the outbox does.
type DeliveryFact struct {
	Pending        int
	Failing        int // waiting for another attempt
	FailedLastHour int // given up
	OldestPending  time.Time
	LastError      string
}

// index finds hosts and clusters of a snapshot.
type index struct {
	hosts     map[model.HostID]int
	clusters  map[model.ID]int
	inCluster map[model.ID][]int // hosts by the cluster that is nearest to them

	addressOnce sync.Once
	addresses   []string // of the hosts
}

func (s *Snapshot) index() *index {
	s.once.Do(func() {
		s.ix.hosts = make(map[model.HostID]int, len(s.Hosts))
		s.ix.clusters = make(map[model.ID]int, len(s.Clusters))
		s.ix.inCluster = make(map[model.ID][]int, len(s.Clusters))
		for i := range s.Hosts {
			h := &s.Hosts[i]
			s.ix.hosts[h.ID] = i
			if h.ClusterID != "" {
				s.ix.inCluster[h.ClusterID] = append(s.ix.inCluster[h.ClusterID], i)
			}
		}
		for i := range s.Clusters {
			s.ix.clusters[s.Clusters[i].ID] = i
		}
	})
	return &s.ix
}

func (s *Snapshot) address(i int) string {
	ix := s.index()
	ix.addressOnce.Do(func() {
		ix.addresses = make([]string, len(s.Hosts))
		for i := range s.Hosts {
			ix.addresses[i] = s.Hosts[i].Address()
		}
	})
	return ix.addresses[i]
}

func (s *Snapshot) host(id model.HostID) *model.Host {
	if i, ok := s.index().hosts[id]; ok {
		return &s.Hosts[i]
	}
	return nil
}

func (s *Snapshot) cluster(id model.ID) *model.Cluster {
	if i, ok := s.index().clusters[id]; ok {
		return &s.Clusters[i]
	}
	return nil
}

// ping is the distance of the group's pings.
func (s *Snapshot) ping() time.Duration {
	if n := s.Group.Settings.PingSeconds; n > 0 {
		return time.Duration(n) * time.Second
	}
	return time.Minute
}

// patience is how long news may stay away, and how far back samples count.
func (s *Snapshot) patience() time.Duration { return max(3*s.ping(), 3*time.Minute) }

// since is from when silence counts.
func (s *Snapshot) since(news time.Time) time.Time {
	if s.Resumed.After(news) {
		return s.Resumed
	}
	return news
}

// monitored reports whether anything is to be heard of a host.
func monitored(h *model.Host) bool { return h.Visible() && h.Enabled }
