package catalog

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// monitoring finds recordings of other people, which are looked at where they lie and not copied.
func monitoring(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("HEARTWOOD_TEST_FIXTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "fixtures")
	}
	dir = filepath.Join(dir, "monitoring")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no recordings; set HEARTWOOD_TEST_FIXTURES to the folder that holds monitoring/")
	}
	return dir
}

// foreign reads a recording in any of the three JSON dialects they come in.
func foreign(t *testing.T, dir, name string) bson.Raw {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	if list, ok := v.([]any); ok {
		v = list[0]
	}
	return marshal(t, plain(v))
}

// plain turns decoded JSON of whichever dialect into what BSON would hold.
func plain(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case string:
		if at, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return at
		}
	case []any:
		out := bson.A{}
		for _, e := range v {
			out = append(out, plain(e))
		}
		return out
	case map[string]any:
		return plainMap(v)
	}
	return v
}

func plainMap(m map[string]any) any {
	number := func(v any) int64 {
		switch v := v.(type) {
		case json.Number:
			n, _ := v.Int64()
			return n
		case string:
			n, _ := strconv.ParseInt(v, 10, 64)
			return n
		}
		return 0
	}
	if len(m) == 2 && m["T"] != nil && m["I"] != nil {
		return bson.Timestamp{T: uint32(number(m["T"])), I: uint32(number(m["I"]))}
	}
	for key, v := range m {
		switch key {
		case "$numberLong", "$numberInt":
			return number(v)
		case "$numberDouble":
			f, _ := strconv.ParseFloat(v.(string), 64)
			return f
		case "$date":
			switch d := plain(v).(type) {
			case int64:
				return time.UnixMilli(d)
			case time.Time:
				return d
			}
		case "$timestamp":
			return bson.Timestamp{T: uint32(number(v.(map[string]any)["t"])), I: uint32(number(v.(map[string]any)["i"]))}
		case "$oid":
			id, _ := bson.ObjectIDFromHex(v.(string))
			return id
		}
	}
	out := bson.M{}
	for key, v := range m {
		out[key] = plain(v)
	}
	return out
}

// TestForeignRecordings extracts rows from replies of servers from 2.6 to 8.3, recorded by others.
func TestForeignRecordings(t *testing.T) {
	dir := monitoring(t)
	absent := math.NaN()
	cases := []struct {
		file, reply string
		want        want
	}{
		{"serverStatus-mongod-primary-6.0.9.json", "serverStatus", want{
			"network.in": 7944399, "network.out": 48566283, "network.requests": 32275, "tickets.read.available": 128, "tickets.read.total": 128, "mem.mapped": absent, "queue.read.normal": absent,
		}},
		{"serverStatus-mongos-5.0.31.json", "serverStatus", want{"cache.used": absent, "globalLock.queue.readers": absent, "opcountersRepl.insert": absent}},
		{"serverStatus-mongod-standalone-4.0.25.json", "serverStatus", want{"repl.state": absent}},
		{"serverStatus-hybrid-4.1.13.json", "serverStatus", want{}},
		{"serverStatus-mongod-mmapv1-2.6.7.json", "serverStatus", want{
			"backgroundFlushing.averageMs": 7.666666666666667, "indexCounters.accesses": 2094239, "indexCounters.misses": 0, "dur.windowMs": 3187, "mem.mapped": 23561,
			"mem.mappedWithJournal": 47122, "cursor.open": 0, "network.in": 162962349, "db.lockedWrite|local": 537, "db.lockedGlobalWrite|.": absent, "tickets.read.available": absent,
		}},
		{"getDiagnosticData-mongod-primary-4.2.8.json", "", want{
			"cpu.user": 15066220, "cpu.guest": 0, "cores": 8, "machine.boot": 1599735900, "memory.total": 32770184, "memory.free": 16856536, "memory.available": absent,
			"swap.total": 999420, "swap.in": 0, "disk.reads|sda": 208841, "disk.queuedMs|sda": 379684,
		}},
		{"getDiagnosticData-mongod-primary-3.6.20.json", "", want{"mount.free|/": absent}},
		{"getDiagnosticData-mongod-8.3-partial.json", "", want{"opLatencies.reads.micros": 16098564, "opLatencies.reads.ops": 18200, "opLatencies.writes.ops": 13}},
		{"replSetGetStatus-replica-secondary-4.2.json", "replSetGetStatus", want{"repl.state": 2, "repl.lagMs": 0}},
		{"replSetGetStatus-config-secondary-4.2.json", "replSetGetStatus", want{"repl.state": 2}},
		{"replSetGetStatus-mongod-primary-6.0.9.json", "replSetGetStatus", want{"repl.state": 1, "repl.lagMs": absent}},
		{"replSetGetStatus-arbiter-4.2.json", "replSetGetStatus", want{"repl.state": 7, "repl.lagMs": absent}},
		{"collStats-oplog.rs-mongod-primary-scaleMB-6.0.9.json", "oplogStats", want{"oplog.insertedBytes": 71974, "oplog.maxSize": 990}},
		{"collStatsAggregate-oplog.rs-7.0.json", "oplogStats", want{}},
	}
	for _, c := range cases {
		t.Run(c.file, func(t *testing.T) {
			reply := foreign(t, dir, c.file)
			replies := reply
			if data, err := reply.LookupErr("data"); err == nil {
				replies = data.Document()
			}
			if c.reply != "" {
				replies = marshal(t, bson.M{c.reply: reply})
			}
			row := extract(t, replies)
			c.want.check(t, row)
			if len(row.Cells) == 0 {
				t.Error("nothing was found")
			}
			if strings.HasPrefix(c.file, "serverStatus-mongo") {
				for _, name := range []string{"opcounters.insert", "connections.current", "network.requests", "asserts.user", "mem.resident"} {
					if _, ok := row.Get(name, ""); !ok {
						t.Errorf("%s is absent", name)
					}
				}
				if row.UptimeMS == 0 || row.PID == 0 {
					t.Errorf("identity: %+v", row)
				}
			}
		})
	}
}

// TestForeignSamples takes two samples ten times a second's distance apart through the catalogue's own paths.
func TestForeignSamples(t *testing.T) {
	dir := monitoring(t)
	var rows [2]Row
	for i, name := range []string{"serverStatus-sample1.bson", "serverStatus-sample2.bson"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		rows[i] = extract(t, marshal(t, bson.M{"serverStatus": bson.Raw(b)}))
	}
	for name, want := range map[string]int64{
		"opcounters.insert": 10, "opcounters.query": 5, "opcounters.update": 7, "opcounters.delete": 2, "opcounters.getmore": 3,
		"opcounters.command": 669, "network.in": 2000, "network.out": 3000,
	} {
		a, okA := rows[0].Get(name, "")
		b, okB := rows[1].Get(name, "")
		if !okA || !okB || b.Int64()-a.Int64() != want {
			t.Errorf("%s grew by %d, want %d", name, b.Int64()-a.Int64(), want)
		}
	}
}
