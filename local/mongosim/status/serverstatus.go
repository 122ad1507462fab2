package status

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/load"
	"github.com/heartwood-db/heartwood/local/mongosim/status/template"
)

// Kit holds the templates of one server version, ready to be filled. It is immutable and shared by all members.
type Kit struct {
	Version  Version
	sections []section // serverStatus, in order
	oplog    bson.D    // wiredTiger part of collStats
	params   bson.D
	oplogWT  *template.Block[View]
	system   map[string]*template.Block[View]
	systemIn []string // order of system
}

// section is one top-level part of serverStatus: a block, or what build gives.
type section struct {
	name  string
	block *template.Block[View]
	value any                              // of a scalar
	when  func(*View) bool                 // nil: always there
	build func(*View) (value any, ok bool) // nil: block or value
	off   bool                             // only when asked for
	fixed bool                             // cannot be switched off
}

// NewKit prepares the templates for a version.
func NewKit(v Version) (*Kit, error) {
	k := &Kit{Version: v}
	d, err := template.Parse(serverStatusJSON)
	if err != nil {
		return nil, err
	}
	rates, err := readRates()
	if err != nil {
		return nil, err
	}
	if d, err = shape(d, v); err != nil {
		return nil, err
	}
	fields := serverStatusFields()
	moves := func(path string) bool { return fields[path] != nil || rates[path] != 0 }
	for _, e := range d {
		if sub, ok := e.Value.(bson.D); ok && e.Key == "wiredTiger" {
			template.Widen(sub, e.Key, moves)
		}
	}
	for _, e := range d {
		s := section{name: e.Key, build: builders[e.Key], when: whens[e.Key], fixed: fixed[e.Key]}
		if s.build == nil {
			if sub, ok := e.Value.(bson.D); ok {
				if s.block, err = template.Compile(e.Key, sub, fields, rates); err != nil {
					return nil, err
				}
			} else {
				s.value = e.Value
			}
		}
		k.sections = append(k.sections, s)
		if e.Key == "oplogTruncation" {
			k.sections = append(k.sections, section{name: "oplog", off: true, build: buildOplog})
		}
	}
	return k, k.prepareOthers()
}

// shape makes the recorded serverStatus that of the version.
func shape(d bson.D, v Version) (bson.D, error) {
	d, err := applySince(d, v)
	if err != nil {
		return nil, err
	}
	if !v.AtLeast(4, 4) {
		for _, p := range []string{"connections|exhaustIsMaster", "connections|awaitingTopologyChanges", "defaultRWConcern", "metrics|queryExecutor|collectionScans"} {
			d = template.Set(d, p, nil)
		}
	}
	if v.AtLeast(4, 4) && !v.AtLeast(4, 5) {
		d = template.Set(d, "asserts|tripwire", int32(0))
		d = template.Set(d, "connections|threaded", int32(0))
	}
	if v.AtLeast(5, 0) {
		d = template.Set(d, "repl|ismaster", nil)
	}
	if v.AtLeast(6, 0) {
		d = template.Set(d, "oplogTruncation|oplogMinRetentionHours", 0.0)
		d = template.Set(d, "tcmalloc|generic|current_allocated_bytes", int64(1))
		d = template.Set(d, "tcmalloc|generic|heap_size", int64(1))
		d = template.Set(d, "indexStats|count", int64(0))
		d = template.Set(d, "wiredTiger|snapshot-window-settings|min pinned timestamp", bson.Timestamp{})
	}
	if v.AtLeast(7, 0) {
		d = template.Set(d, "connections|rejected", int32(0))
		d = template.Set(d, "connections|queuedForEstablishment", int32(0))
		d = template.Set(d, "extra_info|threads", int64(0))
		d = template.Set(d, "queues|ingressSessionEstablishment|addedToQueue", int64(0))
		d = template.Set(d, "queues|ingressSessionEstablishment|queueLength", int64(0))
		for _, p := range []string{"multiTarget", "singleTarget", "queuedData"} {
			d = template.Set(d, "metrics|cursor|open|"+p, int64(0))
		}
		for _, e := range []string{"reads", "writes", "commands", "transactions"} {
			d = template.Set(d, "opLatencies|"+e+"|queryableEncryptionLatencyMicros", int64(0))
		}
	}
	if v.AtLeast(8, 0) {
		d = shape8(d)
	}
	return d, nil
}

// shape8 is what 8.0 moved: tickets and checkpoints left the wiredTiger section, buffers have two stages.
func shape8(d bson.D) bson.D {
	d = template.Set(d, "wiredTiger|concurrentTransactions", nil)
	for _, rw := range []string{"read", "write"} {
		p := "queues|execution|" + rw + "|"
		for _, f := range []string{"out", "available", "totalTickets"} {
			d = template.Set(d, p+f, int32(0))
		}
		for _, pr := range []string{"normalPriority", "lowPriority"} {
			for _, f := range []string{"addedToQueue", "removedFromQueue", "queueLength", "startedProcessing", "processing", "finishedProcessing", "totalTimeProcessingMicros", "canceled", "newAdmissions", "totalTimeQueuedMicros"} {
				d = template.Set(d, p+pr+"|"+f, int64(0))
			}
		}
	}
	for _, f := range []string{"currently running", "generation", "max time (msecs)", "min time (msecs)", "most recent time (msecs)", "total time (msecs)"} {
		d = template.Set(d, "wiredTiger|transaction|transaction checkpoint "+f, nil)
		d = template.Set(d, "wiredTiger|checkpoint|"+f, int64(1))
	}
	d = template.Set(d, "wiredTiger|checkpoint|number of checkpoints started by api", int64(0))
	d = template.Set(d, "wiredTiger|checkpoint|total succeed number of checkpoints", int64(0))
	d = template.Set(d, "metrics|repl|buffer", nil)
	for _, st := range []string{"apply", "write"} {
		for _, f := range []string{"count", "maxCount", "maxSizeBytes", "sizeBytes"} {
			d = template.Set(d, "metrics|repl|buffer|"+st+"|"+f, int64(0))
		}
	}
	lat := func(v string) any {
		return bson.D{{Key: "latency", Value: int64(0)}, {Key: "ops", Value: int64(0)}, {Key: "queryableEncryptionLatencyMicros", Value: int64(0)}}
	}
	var out bson.D
	for _, e := range d {
		out = append(out, e)
		if e.Key == "process" {
			out = append(out, bson.E{Key: "service", Value: bson.A{"shard"}})
		}
		if e.Key == "opLatencies" {
			w := bson.D{}
			for _, n := range []string{"reads", "writes", "commands", "transactions"} {
				w = append(w, bson.E{Key: n, Value: lat(n)})
			}
			out = append(out, bson.E{Key: "opWorkingTime", Value: w})
		}
	}
	return out
}

var fixed = map[string]bool{
	"host": true, "version": true, "process": true, "service": true, "pid": true, "uptime": true, "uptimeMillis": true,
	"uptimeEstimate": true, "localTime": true, "ok": true,
}

func inSet(v *View) bool { return v.Set != nil }

func hasOplog(v *View) bool { return v.Oplog != nil }

// whens are the sections that not every process has.
var whens = map[string]func(*View) bool{
	"repl": inSet, "defaultRWConcern": inSet, "oplogTruncation": hasOplog,
}

// builders are the sections whose size varies.
var builders = map[string]func(*View) (any, bool){
	"host":           func(v *View) (any, bool) { return v.Host(), true },
	"version":        func(v *View) (any, bool) { return v.Version.String(), true },
	"pid":            func(v *View) (any, bool) { return v.PID, true },
	"uptime":         func(v *View) (any, bool) { return float64(int64(v.uptime().Seconds())), true },
	"uptimeMillis":   func(v *View) (any, bool) { return v.uptime().Milliseconds(), true },
	"uptimeEstimate": func(v *View) (any, bool) { return int64(v.uptime().Seconds()), true },
	"localTime":      func(v *View) (any, bool) { return date(v.Now), true },
	"repl": func(v *View) (any, bool) {
		if v.Set == nil {
			return nil, false
		}
		d := replFields(v, !v.Version.AtLeast(5, 0))
		if v.Version.AtLeast(6, 0) {
			d = append(d, bson.E{Key: "primaryOnlyServices", Value: bson.D{}})
		}
		d = append(d, bson.E{Key: "rbid", Value: v.Set.RBID})
		if v.Version.AtLeast(6, 0) {
			d = append(d, bson.E{Key: "userWriteBlockMode", Value: int32(1)})
		}
		if v.Version.AtLeast(4, 4) {
			d = append(bson.D{{Key: "topologyVersion", Value: v.topologyVersion()}}, d...)
		}
		return d, true
	},
}

func buildOplog(v *View) (any, bool) {
	if v.Oplog == nil {
		return nil, false
	}
	return bson.D{{Key: "latestOptime", Value: v.Oplog.Last}, {Key: "earliestOptime", Value: v.Oplog.First}}, true
}

// ServerStatus answers the command req: each section can be switched off or on by its name.
func (k *Kit) ServerStatus(v *View, req bson.Raw) bson.Raw {
	switches := map[string]bool{}
	if elems, err := req.Elements(); err == nil {
		for _, e := range elems {
			if n, ok := truth(e.Value()); ok {
				switches[e.Key()] = n
			}
		}
	}
	delete(switches, "serverStatus")
	return template.Wrap(make([]byte, 0, 80<<10), func(dst []byte) []byte { return k.appendStatus(dst, v, switches) })
}

func (k *Kit) appendStatus(dst []byte, v *View, switches map[string]bool) []byte {
	for i := range k.sections {
		s := &k.sections[i]
		if on, said := switches[s.name]; said && !on && !s.fixed || s.off && !on {
			continue
		}
		if s.when != nil && !s.when(v) {
			continue
		}
		switch {
		case s.build != nil:
			if val, ok := s.build(v); ok {
				dst = template.AppendValue(dst, s.name, val)
			}
		case s.block != nil:
			dst = append(append(append(dst, byte(bson.TypeEmbeddedDocument)), s.name...), 0)
			dst = s.block.Append(dst, v, v.Activity)
		default:
			dst = template.AppendValue(dst, s.name, s.value)
		}
	}
	return dst
}

// truth is the value as commands read switches; only numbers and booleans are any.
func truth(v bson.RawValue) (on, ok bool) {
	if b, ok := v.BooleanOK(); ok {
		return b, true
	}
	if f, ok := v.AsFloat64OK(); ok {
		return f != 0, true
	}
	return false, false
}

func counter(c load.Counter) func(*View) float64 {
	return func(v *View) float64 { return v.Counts[c] }
}

func gauge(g func(*load.Gauges) int64) func(*View) float64 {
	return func(v *View) float64 { return float64(g(&v.Gauges)) }
}

func constant(x float64) func(*View) float64 { return func(*View) float64 { return x } }

// serverStatusFields is where the load's numbers show in serverStatus, in all versions: names a version lacks are not found.
func serverStatusFields() map[string]func(*View) float64 {
	f := map[string]func(*View) float64{}
	for path, c := range counterPaths {
		f[path] = counter(c)
	}
	for path, g := range gaugePaths {
		f[path] = gauge(g)
	}
	f["defaultRWConcern|localUpdateWallClockTime"] = func(v *View) float64 { return float64(v.Now.UnixMilli() / 30000 * 30000) }
	f["globalLock|totalTime"] = func(v *View) float64 { return float64(v.uptime().Microseconds()) }
	f["transactions|totalCommitted"] = func(v *View) float64 {
		return v.Counts[load.TxnsStarted] - v.Counts[load.TxnsAborted] - float64(v.Gauges.TxnsOpen)
	}
	f["transactions|totalCommitted"] = atLeast0(f["transactions|totalCommitted"])
	f["metrics|repl|apply|batches|totalMillis"] = func(v *View) float64 { return v.Counts[load.ReplApplyBatches] * 3 }
	f["metrics|ttl|passes"] = func(v *View) float64 { return float64(v.uptime().Milliseconds() / 60000) }
	f["wiredTiger|cache|maximum bytes configured"] = constant(load.CacheMaxBytes)
	f["wiredTiger|transaction|transaction checkpoints"] = func(v *View) float64 { return float64(v.uptime().Milliseconds() / 60000) }
	f["wiredTiger|checkpoint|total succeed number of checkpoints"] = f["wiredTiger|transaction|transaction checkpoints"]
	f["wiredTiger|checkpoint|number of checkpoints started by api"] = f["wiredTiger|transaction|transaction checkpoints"]
	f["wiredTiger|transaction|transaction checkpoint total time (msecs)"] = func(v *View) float64 { return float64(v.uptime().Milliseconds() / 60000 * 400) }
	f["wiredTiger|checkpoint|total time (msecs)"] = f["wiredTiger|transaction|transaction checkpoint total time (msecs)"]
	for _, p := range []string{"wiredTiger|concurrentTransactions|", "queues|execution|"} {
		f[p+"read|out"] = gauge(func(g *load.Gauges) int64 { return g.TicketsReadOut })
		f[p+"write|out"] = gauge(func(g *load.Gauges) int64 { return g.TicketsWriteOut })
		f[p+"read|available"] = gauge(func(g *load.Gauges) int64 { return load.Tickets - g.TicketsReadOut })
		f[p+"write|available"] = gauge(func(g *load.Gauges) int64 { return load.Tickets - g.TicketsWriteOut })
		f[p+"read|totalTickets"] = constant(load.Tickets)
		f[p+"write|totalTickets"] = constant(load.Tickets)
	}
	for _, p := range []string{"addedToQueue", "removedFromQueue", "startedProcessing", "finishedProcessing", "newAdmissions"} {
		f["queues|execution|read|normalPriority|"+p] = counter(load.ReadOps)
		f["queues|execution|write|normalPriority|"+p] = counter(load.WriteOps)
	}
	f["queues|execution|read|normalPriority|queueLength"] = gauge(func(g *load.Gauges) int64 { return g.QueuedReaders })
	f["queues|execution|write|normalPriority|queueLength"] = gauge(func(g *load.Gauges) int64 { return g.QueuedWriters })
	for _, p := range []string{"metrics|repl|buffer|maxSizeBytes", "metrics|repl|buffer|apply|maxSizeBytes", "metrics|repl|buffer|write|maxSizeBytes"} {
		f[p] = constant(256 << 20)
	}
	for path, g := range f { // opWorkingTime is opLatencies without the time spent queueing
		if rest, ok := strings.CutPrefix(path, "opLatencies|"); ok {
			f["opWorkingTime|"+rest] = g
		}
	}
	return f
}

func atLeast0(f func(*View) float64) func(*View) float64 {
	return func(v *View) float64 { return max(0, f(v)) }
}
