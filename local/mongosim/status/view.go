// Package status builds the replies by which a simulated member describes itself: hello, serverStatus, replSetGetStatus,
// getDiagnosticData, hostInfo and their kin, in the shape of a real server of a given version. It is pure: everything a
// reply says comes from the View handed in. The shapes are held to recordings of real servers by this package's tests.
package status

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/load"
	"github.com/heartwood-db/heartwood/shared/model"
)

// Version is a server version.
type Version struct {
	Major, Minor, Patch int
}

// ParseVersion reads "7.0.14" or "7.0".
func ParseVersion(s string) (Version, error) {
	var v Version
	parts := strings.Split(s, ".")
	if len(parts) < 2 || len(parts) > 3 {
		return v, fmt.Errorf("version %q: want the form 7.0.14", s)
	}
	for i, dst := range []*int{&v.Major, &v.Minor, &v.Patch}[:len(parts)] {
		n, err := strconv.Atoi(parts[i])
		if err != nil || n < 0 {
			return v, fmt.Errorf("version %q: want the form 7.0.14", s)
		}
		*dst = n
	}
	return v, nil
}

// String is the version in the form 7.0.14.
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// AtLeast reports whether v is major.minor or later.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// HasHello reports whether the version knows the command hello by that name: it came with 4.4.2, and with 4.2.10 beside it.
func (v Version) HasHello() bool {
	switch {
	case v.Major == 4 && v.Minor == 4:
		return v.Patch >= 2
	case v.Major == 4 && v.Minor == 2:
		return v.Patch >= 10
	}
	return v.AtLeast(4, 4)
}

// WireVersion is the maxWireVersion of the version.
func (v Version) WireVersion() int32 {
	switch {
	case v.AtLeast(8, 0):
		return 25
	case v.AtLeast(7, 0):
		return 21
	case v.AtLeast(6, 0):
		return 17
	case v.AtLeast(5, 0):
		return 13
	case v.AtLeast(4, 5):
		return 10
	case v.AtLeast(4, 4):
		return 9
	default:
		return 8
	}
}

// OpTime is a place in the oplog.
type OpTime struct {
	TS   bson.Timestamp
	Term int64
}

// NoOpTime is what members without an oplog report.
func NoOpTime() OpTime { return OpTime{Term: -1} }

func (o OpTime) doc() bson.D { return bson.D{{Key: "ts", Value: o.TS}, {Key: "t", Value: o.Term}} }

func (o OpTime) date() bson.DateTime { return bson.DateTime(int64(o.TS.T) * 1000) }

// Less orders optimes: by term, then by time.
func (o OpTime) Less(p OpTime) bool {
	if o.Term != p.Term {
		return o.Term < p.Term
	}
	return o.TS.Before(p.TS)
}

// Member is one member of a set as another (or itself) sees it.
type Member struct {
	ID       int32
	Host     string
	Arbiter  bool
	Hidden   bool
	Priority float64
	Votes    int32
	Delay    time.Duration
	Tags     bson.D

	State         model.MemberState
	Up            bool
	Since         time.Time // up since, as the viewer knows it
	Applied       OpTime
	AppliedWall   time.Time
	SyncSource    int // index of a member, -1 none
	Elected       bson.Timestamp
	LastHeartbeat time.Time
}

// Election describes the latest election to the member that won or voted.
type Election struct {
	Reason    string
	At        time.Time
	Term      int64
	Winner    int // index of a member
	Prior     int // index of the primary before, -1 none
	LastSeen  OpTime
	Committed OpTime
}

// Set is a replica set at a moment, seen by one member.
type Set struct {
	Name          string
	ID            bson.ObjectID
	ConfigVersion int32
	ConfigTerm    int64
	Term          int64
	Members       []Member
	Self          int
	Primary       int // index of a member, -1 none
	Committed     OpTime
	CommittedWall time.Time
	RBID          int32
	Election      *Election
	ElectionMS    int64 // election timeout
	LastVote      *Election
}

// Oplog is a member's oplog.
type Oplog struct {
	First, Last bson.Timestamp
	Count, Size int64
	MaxSize     int64
}

// View is everything a reply of one process says.
type View struct {
	FCV          string // the feature compatibility version that the data say; empty: that of Version
	Now, Started time.Time
	Version      Version
	Hostname     string // of the machine, without port
	Port         int
	PID          int64
	ProcessID    bson.ObjectID
	Topology     int64 // topologyVersion.counter
	Role         load.Role
	Counts       load.Counts
	Machine      load.Counts // counters of the machine, from its boot
	Booted       time.Time
	Gauges       load.Gauges
	Activity     float64 // seconds of mean load since the start
	Set          *Set    // nil: standalone
	Oplog        *Oplog  // nil: none
	DBPath       string
	Auth, TLS    bool
}

// Host is the machine's name with the port, which a server leaves off when it is the default.
func (v *View) Host() string {
	if v.Port == 27017 {
		return v.Hostname
	}
	return v.Hostname + ":" + strconv.Itoa(v.Port)
}

func (v *View) self() *Member {
	if v.Set == nil {
		return nil
	}
	return &v.Set.Members[v.Set.Self]
}

func (v *View) uptime() time.Duration { return max(0, v.Now.Sub(v.Started)) }

func (v *View) topologyVersion() bson.D {
	return bson.D{{Key: "processId", Value: v.ProcessID}, {Key: "counter", Value: v.Topology}}
}

// date is a time in the form replies hold; the zero time is the epoch's, as servers write it.
func date(t time.Time) bson.DateTime {
	if t.IsZero() {
		return 0
	}
	return bson.NewDateTimeFromTime(t)
}

func ok(d bson.D) bson.D { return append(d, bson.E{Key: "ok", Value: 1.0}) }
