package status

import (
	"fmt"
	"math"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/load"
	"github.com/heartwood-db/heartwood/local/mongosim/status/template"
)

// prepareOthers makes ready what serverStatus does not need: parameters, collection statistics, the machine's metrics.
func (k *Kit) prepareOthers() error {
	var err error
	if k.params, err = template.Parse(parametersJSON); err != nil {
		return err
	}
	stats, err := template.Parse(collStatsJSON)
	if err != nil {
		return err
	}
	wt, _ := template.Get(stats, "wiredTiger")
	k.oplog, _ = wt.(bson.D)
	template.Widen(k.oplog, "wiredTiger", func(path string) bool { return oplogPaths[path] != nil })
	if k.oplogWT, err = template.Compile("wiredTiger", k.oplog, oplogPaths, nil); err != nil {
		return err
	}
	return k.prepareSystem()
}

// oplogPaths are the numbers of the oplog's collection statistics that move.
var oplogPaths = map[string]func(*View) float64{
	"wiredTiger|cursor|insert calls": counter(load.OplogEntries),
	// 9 bytes of key with each entry, as a server counts
	"wiredTiger|cursor|insert key and value bytes":  func(v *View) float64 { return v.Counts[load.OplogBytes] + 9*v.Counts[load.OplogEntries] },
	"wiredTiger|cache|bytes written from cache":     func(v *View) float64 { return v.Counts[load.OplogBytes] * 0.4 },
	"wiredTiger|cache|bytes currently in the cache": func(v *View) float64 { return math.Min(v.Counts[load.OplogBytes], 256<<20) },
	"wiredTiger|block-manager|file size in bytes":   func(v *View) float64 { return float64(v.oplogStored()) },
	"wiredTiger|transaction|update conflicts":       constant(0),
}

// oplogStored is the oplog's size on disk.
func (v *View) oplogStored() int64 {
	if v.Oplog == nil {
		return 0
	}
	return v.Oplog.Size*2/5/4096*4096 + 4096
}

// OplogStats is collStats of local.oplog.rs, sizes divided by scale.
func (k *Kit) OplogStats(v *View, scale int64) bson.Raw {
	return template.Wrap(nil, func(dst []byte) []byte { return template.AppendValue(k.appendOplogStats(dst, v, scale), "ok", 1.0) })
}

func (k *Kit) appendOplogStats(dst []byte, v *View, scale int64) []byte {
	o := v.Oplog
	avg := int64(0)
	if o.Count > 0 {
		avg = o.Size / o.Count
	}
	for _, e := range []bson.E{
		{Key: "ns", Value: "local.oplog.rs"},
		{Key: "size", Value: small(o.Size / scale)},
		{Key: "count", Value: small(o.Count)},
		{Key: "avgObjSize", Value: small(avg)},
		{Key: "storageSize", Value: small(v.oplogStored() / scale)},
		{Key: "capped", Value: true},
		{Key: "max", Value: int32(-1)},
		{Key: "maxSize", Value: small(o.MaxSize / scale)},
		{Key: "sleepCount", Value: int32(0)},
		{Key: "sleepMS", Value: int32(0)},
	} {
		dst = template.AppendValue(dst, e.Key, e.Value)
	}
	dst = append(dst, byte(bson.TypeEmbeddedDocument))
	dst = append(append(dst, "wiredTiger"...), 0)
	dst = k.oplogWT.Append(dst, v, v.Activity)
	for _, e := range []bson.E{
		{Key: "nindexes", Value: int32(0)},
		{Key: "indexDetails", Value: bson.D{}},
		{Key: "indexBuilds", Value: bson.A{}},
		{Key: "totalIndexSize", Value: int32(0)},
		{Key: "totalSize", Value: small(v.oplogStored() / scale)},
		{Key: "indexSizes", Value: bson.D{}},
		{Key: "scaleFactor", Value: int32(scale)},
	} {
		if e.Key == "totalSize" && !k.Version.AtLeast(4, 4) {
			continue
		}
		dst = template.AppendValue(dst, e.Key, e.Value)
	}
	return dst
}

// small is a size as collStats writes it: 32 bits when it fits.
func small(n int64) any {
	if n <= math.MaxInt32 {
		return int32(n)
	}
	return n
}

// The disk and the mounts of the simulated machine.
const (
	Device    = "nvme0n1"
	DataMount = "/data"
	LogMount  = "/var/log"
)

func machineCounter(c load.Counter) func(*View) float64 {
	return func(v *View) float64 { return v.Machine[c] }
}

// systemPaths are the machine's numbers.
func systemPaths() map[string]func(*View) float64 {
	f := map[string]func(*View) float64{
		"cpu|user_ms": machineCounter(load.CPUUserMS), "cpu|nice_ms": machineCounter(load.CPUNiceMS),
		"cpu|system_ms": machineCounter(load.CPUSystemMS), "cpu|iowait_ms": machineCounter(load.CPUIOWaitMS),
		"cpu|softirq_ms": machineCounter(load.CPUSoftIRQMS), "cpu|steal_ms": machineCounter(load.CPUStealMS),
		"cpu|idle_ms": func(v *View) float64 {
			c := &v.Machine
			busy := c[load.CPUUserMS] + c[load.CPUNiceMS] + c[load.CPUSystemMS] + c[load.CPUIOWaitMS] + c[load.CPUSoftIRQMS] + c[load.CPUStealMS]
			return math.Max(0, float64(v.Now.Sub(v.Booted).Milliseconds())*load.Cores-busy)
		},
		"cpu|ctxt": machineCounter(load.ContextSwitches), "cpu|btime": func(v *View) float64 { return float64(v.Booted.Unix()) },
		"cpu|processes":                      func(v *View) float64 { return 2000 + v.Now.Sub(v.Booted).Seconds()/9 },
		"cpu|procs_running":                  gauge(func(g *load.Gauges) int64 { return g.ProcsRunning }),
		"cpu|num_cpus":                       constant(load.Cores),
		"cpu|num_logical_cores":              constant(load.Cores),
		"cpu|num_cores_available_to_process": constant(load.Cores),
		"memory|MemTotal_kb":                 constant(load.MemTotalKB),
		"memory|MemFree_kb":                  gauge(func(g *load.Gauges) int64 { return g.MemFreeKB }),
		"memory|MemAvailable_kb":             gauge(func(g *load.Gauges) int64 { return g.MemFreeKB + g.CachedKB*9/10 + g.BuffersKB }),
		"memory|Buffers_kb":                  gauge(func(g *load.Gauges) int64 { return g.BuffersKB }),
		"memory|Cached_kb":                   gauge(func(g *load.Gauges) int64 { return g.CachedKB }),
		"memory|Active_kb":                   gauge(func(g *load.Gauges) int64 { return g.ResidentMB<<10 + g.CachedKB/2 }),
		"memory|Inactive_kb":                 gauge(func(g *load.Gauges) int64 { return g.CachedKB / 2 }),
		"memory|Dirty_kb":                    gauge(func(g *load.Gauges) int64 { return g.DirtyKB }),
		"memory|SwapTotal_kb":                constant(2 << 20),
		"memory|SwapFree_kb":                 constant(2 << 20),
		"netstat|IpExt:InOctets":             machineCounter(load.NetInOctets),
		"netstat|IpExt:OutOctets":            machineCounter(load.NetOutOctets),
		"netstat|Ip:InReceives":              func(v *View) float64 { return v.Machine[load.NetInOctets] / 700 },
		"netstat|Ip:OutRequests":             func(v *View) float64 { return v.Machine[load.NetOutOctets] / 900 },
		"netstat|Tcp:InSegs":                 func(v *View) float64 { return v.Machine[load.NetInOctets] / 700 },
		"netstat|Tcp:OutSegs":                func(v *View) float64 { return v.Machine[load.NetOutOctets] / 900 },
		"netstat|Tcp:CurrEstab":              gauge(func(g *load.Gauges) int64 { return g.Connections }),
		"netstat|Tcp:RetransSegs":            func(v *View) float64 { return v.Machine[load.NetOutOctets] / 4e7 },
		"vmstat|pgfault":                     machineCounter(load.MinorFaults),
		"vmstat|pgmajfault":                  machineCounter(load.MajorFaults),
	}
	for name, c := range map[string]load.Counter{
		"reads": load.DiskReads, "read_sectors": load.DiskReadSectors, "read_time_ms": load.DiskReadMS, "writes": load.DiskWrites,
		"write_sectors": load.DiskWriteSectors, "write_time_ms": load.DiskWriteMS, "io_time_ms": load.DiskIOMS, "io_queued_ms": load.DiskQueuedMS,
	} {
		f["disks|"+Device+"|"+name] = machineCounter(c)
	}
	f["disks|"+Device+"|io_in_progress"] = gauge(func(g *load.Gauges) int64 { return g.DiskInProgress })
	f["disks|"+Device+"|reads_merged"] = func(v *View) float64 { return v.Machine[load.DiskReads] / 9 }
	f["disks|"+Device+"|writes_merged"] = func(v *View) float64 { return v.Machine[load.DiskWrites] / 2 }
	for mount, s := range map[string]struct {
		size float64
		free func(*load.Gauges) int64
	}{
		DataMount: {load.DiskBytes, func(g *load.Gauges) int64 { return g.DiskFree }},
		LogMount:  {load.LogBytes, func(g *load.Gauges) int64 { return g.LogFree }},
	} {
		p := "mounts|" + mount + "|"
		f[p+"capacity"], f[p+"available"], f[p+"free"] = constant(s.size), gauge(s.free), gauge(s.free)
	}
	return f
}

func (k *Kit) prepareSystem() error {
	d, err := template.Parse(systemMetricsJSON)
	if err != nil {
		return err
	}
	disk := bson.D{}
	for _, f := range []string{"reads", "reads_merged", "read_sectors", "read_time_ms", "writes", "writes_merged", "write_sectors", "write_time_ms", "io_in_progress", "io_time_ms", "io_queued_ms"} {
		disk = append(disk, bson.E{Key: f, Value: int64(0)})
	}
	d = template.Set(d, "disks", bson.D{{Key: Device, Value: disk}})
	if k.Version.AtLeast(5, 0) {
		d = template.Set(d, "memory|MemAvailable_kb", int64(0))
	}
	if k.Version.AtLeast(6, 0) {
		for _, m := range []string{DataMount, LogMount} {
			for _, f := range []string{"capacity", "available", "free"} {
				d = template.Set(d, "mounts|"+m+"|"+f, int64(0))
			}
		}
	}
	if k.Version.AtLeast(7, 0) {
		d = template.Set(d, "cpu|num_cpus", nil)
		d = template.Set(d, "cpu|num_logical_cores", int32(0))
		d = template.Set(d, "cpu|num_cores_available_to_process", int32(0))
		for _, p := range []string{"cpu|some", "memory|some", "memory|full", "io|some", "io|full"} {
			d = template.Set(d, "pressure|"+p+"|totalMicros", int64(0))
		}
	}
	paths := systemPaths()
	k.system = map[string]*template.Block[View]{}
	for _, e := range d {
		sub, isDoc := e.Value.(bson.D)
		if !isDoc {
			continue
		}
		template.Widen(sub, e.Key, func(path string) bool {
			return paths[path] != nil && !strings.HasPrefix(path, "cpu|num_") && !strings.HasPrefix(path, "cpu|procs_")
		})
		if k.system[e.Key], err = template.Compile(e.Key, sub, paths, nil); err != nil {
			return fmt.Errorf("system metrics: %w", err)
		}
		k.systemIn = append(k.systemIn, e.Key)
	}
	return nil
}

// DiagnosticData answers getDiagnosticData: the sample of the current second.
func (k *Kit) DiagnosticData(v *View) bson.Raw {
	return template.Wrap(make([]byte, 0, 100<<10), func(dst []byte) []byte {
		dst = template.AppendDoc(dst, "data", func(dst []byte) []byte {
			start, end := bson.E{Key: "start", Value: date(v.Now)}, bson.E{Key: "end", Value: date(v.Now)}
			part := func(dst []byte, name string, fill func([]byte) []byte) []byte {
				return template.AppendDoc(dst, name, func(dst []byte) []byte {
					return template.AppendValue(fill(template.AppendValue(dst, start.Key, start.Value)), end.Key, end.Value)
				})
			}
			dst = template.AppendValue(dst, start.Key, start.Value)
			dst = part(dst, "serverStatus", func(dst []byte) []byte {
				return k.appendStatus(dst, v, map[string]bool{"defaultRWConcern": false})
			})
			if v.Set != nil {
				dst = part(dst, "replSetGetStatus", func(dst []byte) []byte { return appendElements(dst, ReplSetGetStatus(v)) })
			}
			if v.Oplog != nil {
				dst = part(dst, "local.oplog.rs.stats", func(dst []byte) []byte { return template.AppendValue(k.appendOplogStats(dst, v, 1), "ok", 1.0) })
			}
			dst = part(dst, "systemMetrics", func(dst []byte) []byte {
				for _, name := range k.systemIn {
					dst = append(append(append(dst, byte(bson.TypeEmbeddedDocument)), name...), 0)
					dst = k.system[name].Append(dst, v, v.Activity)
				}
				return dst
			})
			return template.AppendValue(dst, end.Key, end.Value)
		})
		return template.AppendValue(dst, "ok", 1.0)
	})
}

func appendElements(dst []byte, d bson.D) []byte {
	for _, e := range d {
		dst = template.AppendValue(dst, e.Key, e.Value)
	}
	return dst
}
