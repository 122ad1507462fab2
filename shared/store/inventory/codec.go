package inventory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Pages list ten thousand hosts at once, and decoding by reflection takes most of that time. This file decodes the two
// documents that are read by the thousand by hand, and falls back to reflection for a whole document as soon as it
// meets a field or a type it does not know: a field added to the model is slower until it is added here, never lost.

// hostDecoder decodes hosts and statuses. It shares equal strings among them: versions, types and set names are few.
type hostDecoder struct{ seen map[string]string }

func newHostDecoder() *hostDecoder { return &hostDecoder{seen: map[string]string{}} }

// maxSeen keeps strings that turn out not to be few from filling the map.
const maxSeen = 4_096

// shared returns the value as a string, the same one for equal values.
func (d *hostDecoder) shared(v bsonValue) string {
	raw := v.str()
	if s, ok := d.seen[string(raw)]; ok {
		return s
	}
	s := string(raw)
	if len(d.seen) < maxSeen {
		d.seen[s] = s
	}
	return s
}

func (d *hostDecoder) host(body bson.Raw, h *model.Host) error {
	if d.hostFields(body, h) {
		return nil
	}
	var doc hostDoc
	if err := bson.Unmarshal(body, &doc); err != nil {
		return err
	}
	*h = doc.Host
	return nil
}

func (d *hostDecoder) hostFields(body bson.Raw, h *model.Host) bool {
	return walk(body, func(key []byte, v bsonValue) bool {
		switch string(key) {
		case "id":
			h.ID = model.HostID(v.str())
		case "groupId":
			h.GroupID = model.ID(d.shared(v))
		case "hostname":
			h.Hostname = string(v.str())
		case "port":
			h.Port = int(v.int())
		case "aliases":
			h.Aliases = v.strings()
		case "ip":
			h.IP = string(v.str())
		case "self":
			h.Self = string(v.str())
		case "created":
			h.Created = v.time()
		case "type":
			h.Type = model.ProcessType(d.shared(v))
		case "version":
			h.Version = d.shared(v)
		case "replicaSet":
			h.ReplicaSet = d.shared(v)
		case "shardName":
			h.ShardName = d.shared(v)
		case "clusterId":
			h.ClusterID = model.ID(d.shared(v))
		case "processId":
			h.ProcessID = string(v.str())
		case "memberId":
			h.MemberID = int(v.int())
		case "hiddenSecondary":
			h.HiddenSecondary = v.bool()
		case "delaySecs":
			h.DelaySecs = v.int()
		case "priority":
			h.Priority = v.float()
		case "votes":
			h.Votes = int(v.int())
		case "journaling":
			h.Journaling = v.bool()
		case "startupWarnings":
			h.StartupWarnings = v.strings()
		case "lowUlimit":
			h.LowUlimit = v.bool()
		case "memSizeMB":
			h.MemSizeMB = v.int()
		case "numCores":
			h.NumCores = int(v.int())
		case "os":
			h.OS = d.shared(v)
		case "storageEngine":
			h.StorageEngine = d.shared(v)
		case "dbPath":
			h.DBPath = d.shared(v)
		case "fcv":
			h.FCV = d.shared(v)
		case "authEnabled":
			h.AuthEnabled = v.bool()
		case "lastDataBytes":
			h.LastDataBytes = v.float()
		case "lastIndexBytes":
			h.LastIndexBytes = v.float()
		case "lastRestart":
			h.LastRestart = v.time()
		case "hidden":
			h.Hidden = v.bool()
		case "deactivated":
			h.Deactivated = v.bool()
		case "deleted":
			h.Deleted = v.bool()
		case "duplicateOf":
			h.DuplicateOf = model.HostID(v.str())
		case "enabled":
			h.Enabled = v.bool()
		case "alertsEnabled":
			h.AlertsEnabled = v.bool()
		case "logsEnabled":
			h.LogsEnabled = v.bool()
		case "profilerEnabled":
			h.ProfilerEnabled = v.bool()
		case "seed":
			h.Seed = v.bool()
		case "hasCredentials":
			h.HasCredentials = v.bool()
		case "authMechanism":
			h.AuthMechanism = d.shared(v)
		case "tls":
			h.TLS = v.bool()
		case "discoveredFrom":
			h.DiscoveredFrom = model.HostID(v.str())
		case "certExpires":
			h.CertExpires = v.time()
		case "certSubject":
			h.CertSubject = string(v.str())
		case "tlsMode":
			h.TLSMode = d.shared(v)
		case "bindIp":
			h.BindIP = d.shared(v)
		case "exposedSince":
			h.ExposedSince = v.time()
		case "exposedChecked":
			h.ExposedChecked = v.time()
		case "exposedNote":
			h.ExposedNote = d.shared(v)
		case "sealed":
			return v.kind == bson.TypeBinary // opened by HostCredentials alone
		default:
			return false
		}
		return v.ok()
	})
}

func (d *hostDecoder) status(body bson.Raw, st *model.HostStatus) error {
	if d.statusFields(body, st) {
		return nil
	}
	*st = model.HostStatus{}
	return bson.Unmarshal(body, st)
}

func (d *hostDecoder) statusFields(body bson.Raw, st *model.HostStatus) bool {
	return walk(body, func(key []byte, v bsonValue) bool {
		switch string(key) {
		case "hostId":
			st.HostID = model.HostID(v.str())
		case "groupId":
			st.GroupID = model.ID(d.shared(v))
		case "at":
			st.At = v.time()
		case "lastPing":
			st.LastPing = v.time()
		case "reach":
			st.Reach = model.Reach(d.shared(v))
		case "reachSince":
			st.ReachSince = v.time()
		case "error":
			st.Error = d.shared(v)
		case "errorCode":
			st.ErrorCode = int(v.int())
		case "state":
			st.State = model.MemberState(v.int())
		case "stateSince":
			st.StateSince = v.time()
		case "uptimeMs":
			st.UptimeMS = v.int()
		case "lagMs":
			n := v.int()
			st.LagMS = &n
		case "windowSecs":
			n := v.int()
			st.WindowSecs = &n
		case "conns":
			st.Conns = v.int()
		case "rttMicros":
			st.RTTMicros = v.int()
		case "skewMs":
			st.SkewMS = v.int()
		case "skews":
			st.Skews = v.ints()
		case "agentId":
			st.AgentID = d.shared(v)
		case "lastState":
			st.LastState = model.MemberState(v.int())
		case "pid":
			st.PID = v.int()
		case "started":
			st.Started = v.time()
		default:
			return false
		}
		return v.ok()
	})
}

// bsonValue is one value of a document. Its readers note in wrong when the value has another type than asked for.
type bsonValue struct {
	kind  bson.Type
	data  []byte
	wrong *bool
}

func (v bsonValue) ok() bool { return !*v.wrong }

func (v bsonValue) fail() { *v.wrong = true }

func (v bsonValue) str() []byte {
	if v.kind != bson.TypeString || len(v.data) < 5 {
		v.fail()
		return nil
	}
	return v.data[4 : len(v.data)-1]
}

func (v bsonValue) int() int64 {
	switch v.kind {
	case bson.TypeInt32:
		return int64(int32(binary.LittleEndian.Uint32(v.data))) //nolint:gosec // the bits are a signed number
	case bson.TypeInt64:
		return int64(binary.LittleEndian.Uint64(v.data)) //nolint:gosec // the bits are a signed number
	}
	v.fail()
	return 0
}

func (v bsonValue) float() float64 {
	if v.kind != bson.TypeDouble {
		v.fail()
		return 0
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(v.data))
}

func (v bsonValue) bool() bool {
	if v.kind != bson.TypeBoolean {
		v.fail()
		return false
	}
	return v.data[0] == 1
}

func (v bsonValue) time() time.Time {
	if v.kind != bson.TypeDateTime {
		v.fail()
		return time.Time{}
	}
	return time.UnixMilli(int64(binary.LittleEndian.Uint64(v.data))).UTC() //nolint:gosec // the bits are a signed number
}

func (v bsonValue) strings() []string {
	if v.kind != bson.TypeArray {
		v.fail()
		return nil
	}
	out := []string{}
	if !walk(v.data, func(_ []byte, item bsonValue) bool {
		out = append(out, string(item.str()))
		return item.ok()
	}) {
		v.fail()
	}
	return out
}

func (v bsonValue) ints() []int64 {
	if v.kind != bson.TypeArray {
		v.fail()
		return nil
	}
	out := make([]int64, 0, 10)
	if !walk(v.data, func(_ []byte, item bsonValue) bool {
		out = append(out, item.int())
		return item.ok()
	}) {
		v.fail()
	}
	return out
}

var errShort = errors.New("document ends early")

// walk calls visit for each element of a document and reports whether visit said true for all and the document was
// sound. It is for documents of our own making; anything odd makes it give up.
func walk(doc []byte, visit func(key []byte, v bsonValue) bool) bool {
	if len(doc) < 5 || int(binary.LittleEndian.Uint32(doc)) != len(doc) || doc[len(doc)-1] != 0 {
		return false
	}
	wrong := false
	for rest := doc[4 : len(doc)-1]; len(rest) > 0; {
		kind := bson.Type(rest[0])
		end := bytes.IndexByte(rest[1:], 0)
		if end < 0 {
			return false
		}
		key := rest[1 : 1+end]
		rest = rest[2+end:]
		size, err := sizeOf(kind, rest)
		if err != nil || size > len(rest) {
			return false
		}
		if !visit(key, bsonValue{kind: kind, data: rest[:size:size], wrong: &wrong}) {
			return false
		}
		rest = rest[size:]
	}
	return true
}

// sizeOf is the length in bytes of a value at the beginning of b, for the types that hosts and statuses have.
func sizeOf(kind bson.Type, b []byte) (int, error) {
	switch kind {
	case bson.TypeInt32:
		return 4, nil
	case bson.TypeInt64, bson.TypeDouble, bson.TypeDateTime:
		return 8, nil
	case bson.TypeBoolean:
		return 1, nil
	case bson.TypeNull:
		return 0, nil
	}
	if len(b) < 4 {
		return 0, errShort
	}
	n := int(int32(binary.LittleEndian.Uint32(b))) //nolint:gosec // the bits are a signed number
	if n < 0 {
		return 0, errShort
	}
	switch kind {
	case bson.TypeString:
		return 4 + n, nil
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		return max(n, 5), nil
	case bson.TypeBinary:
		return 5 + n, nil
	}
	return 0, errors.New("unexpected type")
}
