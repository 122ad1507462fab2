package apply_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/daemon/backupd/seed"
	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
)

// column is a column of a compressed bucket: literals, as a server may write them, and the end.
func column(values ...string) string {
	var b []byte
	for _, v := range values {
		b = append(b, 0x02, 0, byte(len(v)+1), 0, 0, 0)
		b = append(append(b, v...), 0)
	}
	return binary(append(b, 0))
}

func binary(b []byte) string {
	v, err := bson.MarshalExtJSON(bson.D{{Key: "v", Value: bson.Binary{Subtype: 7, Data: b}}}, true, false)
	if err != nil {
		panic(err)
	}
	return string(v[5 : len(v)-1])
}

// TestTimeSeries are the parts of case 11, on a head.
func TestTimeSeries(t *testing.T) {
	k := newCases(t)
	// The entries of a series' beginning and end, as servers write them.
	const options = `"validator":{"$jsonSchema":{"bsonType":"object"}},"clusteredIndex":true,"timeseries":{"timeField":"t","metaField":"m","granularity":"seconds","bucketMaxSpanSeconds":3600}`
	made := func(w *world, ui, name string) {
		w.log(`"op":"c","ns":"DB.$cmd","ui":"` + ui + `","o":{"create":"system.buckets.` + name + `",` + options + `}`)
	}
	view := func(name string, span int) string {
		return fmt.Sprintf(`{"_id":"DB.%s","viewOn":"system.buckets.%s","pipeline":[{"$_internalUnpackBucket":{"timeField":"t","metaField":"m","bucketMaxSpanSeconds":%d}}]}`, name, name, span)
	}
	bucket := func(n int, rest string) string {
		return fmt.Sprintf(`{"_id":{"$oid":"6553f10000000000000000%02d"},%s}`, n, rest)
	}
	listed := func(w *world, name string) string {
		reply, err := k.h.Client().Database(w.db).RunCommand(w.t.Context(), bson.D{{Key: "listCollections", Value: 1}, {Key: "filter", Value: bson.D{{Key: "name", Value: name}}}}).Raw()
		if err != nil {
			w.t.Fatal(err)
		}
		v, err := reply.LookupErr("cursor", "firstBatch", "0")
		if err != nil {
			return ""
		}
		return v.Document().Lookup("type").StringValue() + " " + v.Document().Lookup("options").String()
	}

	t.Run("11: made, written and dropped after the window, the view first or the buckets first", func(t *testing.T) {
		for _, viewFirst := range []bool{true, false} {
			w := k.next(t)
			made(w, "U1", "s")
			w.log(`"op":"c","ns":"DB.$cmd","ui":"U2","o":{"create":"system.views","idIndex":{"v":2,"key":{"_id":1},"name":"_id_"}}
				"op":"i","ns":"DB.system.views","ui":"U2","o":` + view("s", 3600) + `
				"op":"c","ns":"DB.$cmd","ui":"U1","o":{"createIndexes":"system.buckets.s","v":2,"key":{"meta":1,"control.min.t":1,"control.max.t":1},"name":"m_1_t_1"}
				"op":"i","ns":"DB.system.buckets.s","ui":"U1","o":` + bucket(1, `"control":{"version":1,"min":{"t":{"$date":"2023-11-14T22:13:00Z"},"v":1},"max":{"t":{"$date":"2023-11-14T22:13:20Z"},"v":1}},"meta":"x","data":{"t":{"0":{"$date":"2023-11-14T22:13:20Z"}},"v":{"0":1}}`) + `
				"op":"u","ns":"DB.system.buckets.s","ui":"U1","o2":` + strings.Replace(bucket(1, ""), ",}", "}", 1) + `,"o":{"$v":2,"diff":{"scontrol":{"smax":{"u":{"t":{"$date":"2023-11-14T22:14:20Z"},"v":2}}},"sdata":{"i":{"w":{"1":"new"}},"st":{"i":{"1":{"$date":"2023-11-14T22:14:20Z"}}},"sv":{"i":{"1":2}}}}}`)
			a := w.open(apply.Options{})
			k.run(w, a)
			w.has("system.buckets.s", bucket(1, `"control":{"version":1,"min":{"t":{"$date":"2023-11-14T22:13:00Z"},"v":1},"max":{"t":{"$date":"2023-11-14T22:14:20Z"},"v":2}},"meta":"x","data":{"t":{"0":{"$date":"2023-11-14T22:13:20Z"},"1":{"$date":"2023-11-14T22:14:20Z"}},"v":{"0":1,"1":2},"w":{"1":"new"}}`))
			if got := listed(w, "s"); !strings.HasPrefix(got, "timeseries ") || !strings.Contains(got, `"timeField": "t"`) {
				t.Errorf("the series is %s", got)
			}
			// Another granularity: the view, then the buckets.
			w.log(`"op":"u","ns":"DB.system.views","ui":"U2","o2":{"_id":"DB.s"},"o":` + view("s", 86400) + `
				"op":"c","ns":"DB.$cmd","ui":"U1","o":{"collMod":"system.buckets.s","timeseries":{"granularity":"minutes"}},"o2":{}
				"op":"c","ns":"DB.$cmd","ui":"U1","o":{"collMod":"system.buckets.s","expireAfterSeconds":{"$numberLong":"3600"}}`)
			k.run(w, a)
			for _, name := range []string{"s", "system.buckets.s"} {
				got := listed(w, name)
				for _, want := range []string{`"timeField": "t"`, `"metaField": "m"`, `"granularity": "minutes"`, `"bucketMaxSpanSeconds": {"$numberInt":"86400"}`, `"expireAfterSeconds"`} {
					if !strings.Contains(got, want) {
						t.Errorf("%s is %s, without %s", name, got, want)
					}
				}
			}
			colls, _ := a.Catalogue()
			i := slices.IndexFunc(colls, func(c schema.Collection) bool { return c.NS == w.db+".system.buckets.s" })
			if i < 0 || !strings.Contains(colls[i].Options.String(), `"timeField": "t","metaField": "m","granularity": "minutes","bucketMaxSpanSeconds": {"$numberInt":"86400"}`) {
				t.Errorf("the catalogue has %v", colls)
			}
			w.has("system.views", view("s", 86400))
			drops := []string{`"op":"d","ns":"DB.system.views","ui":"U2","o":{"_id":"DB.s"}`, `"op":"c","ns":"DB.$cmd","ui":"U1","o":{"drop":"system.buckets.s"},"o2":{"numRecords":1}`}
			if !viewFirst {
				slices.Reverse(drops)
			}
			w.log(strings.Join(drops, "\n"))
			k.run(w, a)
			if left := listed(w, "s") + listed(w, "system.buckets.s"); left != "" {
				t.Errorf("left is %s", left)
			}
		}
	})

	t.Run("11: the same name in two databases", func(t *testing.T) {
		one, two := k.next(t), k.next(t)
		both := &world{t: t, h: k.h, db: one.db}
		for _, w := range []*world{one, two} {
			w.at = both.at
			made(w, "U1", "s")
			w.log(`"op":"c","ns":"DB.$cmd","ui":"U2","o":{"create":"system.views"}
				"op":"i","ns":"DB.system.views","ui":"U2","o":` + view("s", 3600) + `
				"op":"i","ns":"DB.system.buckets.s","ui":"U1","o":` + bucket(1, `"of":"DB","control":{},"data":{}`))
			both.entries, both.at = append(both.entries, w.entries...), w.at
		}
		a := both.open(apply.Options{})
		k.run(both, a)
		one.at = both.at
		one.log(`"op":"d","ns":"DB.system.views","ui":"U2","o":{"_id":"DB.s"}
			"op":"c","ns":"DB.$cmd","ui":"U1","o":{"drop":"system.buckets.s"}`)
		both.entries = one.entries[4:]
		k.run(both, a)
		if left := listed(one, "s") + listed(one, "system.buckets.s"); left != "" {
			t.Errorf("left is %s", left)
		}
		two.has("system.buckets.s", bucket(1, `"of":"DB","control":{},"data":{}`))
		if got := listed(two, "s"); !strings.HasPrefix(got, "timeseries") {
			t.Errorf("the other database's series is %s", got)
		}
	})

	t.Run("11: compressed buckets change by their bytes", func(t *testing.T) {
		w := k.next(t)
		made(w, "U1", "s")
		times, late := column("a", "b"), column("a", "b", "c")
		at := len("\x02\x00\x02\x00\x00\x00a\x00") * 2 // the end of the first two literals
		third := []byte("\x02\x00\x02\x00\x00\x00c\x00\x00")
		w.log(`"op":"i","ns":"DB.system.buckets.s","ui":"U1","o":` + bucket(1, `"control":{"version":2,"count":2},"data":{"t":`+times+`,"v":`+times+`}`) + `
			"op":"u","ns":"DB.system.buckets.s","ui":"U1","o2":` + strings.Replace(bucket(1, ""), ",}", "}", 1) +
			fmt.Sprintf(`,"o":{"$v":2,"diff":{"scontrol":{"u":{"count":3}},"sdata":{"i":{"w":%s},"b":{"t":{"o":%d,"d":%s},"v":{"o":%d,"d":%s}}}}}`, times, at, binary(third), at, binary(third)))
		k.run(w, w.open(apply.Options{}))
		w.has("system.buckets.s", bucket(1, `"control":{"version":2,"count":3},"data":{"t":`+late+`,"v":`+late+`,"w":`+times+`}`))
		// One that begins past the end is corruption after the window.
		w.entries = nil
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U3","o":{"create":"c"}
			"op":"i","ns":"DB.c","ui":"U3","o":{"_id":1,"t":` + times + `}
			"op":"u","ns":"DB.c","ui":"U3","o2":{"_id":1},"o":{"$v":2,"diff":{"b":{"t":{"o":999,"d":` + times + `}}}}`)
		if err := through(t.Context(), w.open(apply.Options{}), w.entries); err == nil {
			t.Error("a change past the end of a column is taken")
		}
	})

	t.Run("11: made, written and dropped inside the window, where the copy has a later one of that name", func(t *testing.T) {
		w := k.next(t)
		made(w, "U1", "s")
		w.log(`"op":"i","ns":"DB.system.views","ui":"U3","o":` + view("s", 3600) + `
			"op":"i","ns":"DB.system.buckets.s","ui":"U1","o":` + bucket(1, `"of":"first"`) + `
			"op":"u","ns":"DB.system.buckets.s","ui":"U1","o2":` + strings.Replace(bucket(1, ""), ",}", "}", 1) + `,"o":{"$v":2,"diff":{"u":{"of":"changed"}}}
			"op":"d","ns":"DB.system.views","ui":"U3","o":{"_id":"DB.s"}
			"op":"c","ns":"DB.$cmd","ui":"U1","o":{"drop":"system.buckets.s"}`)
		made(w, "U2", "s")
		w.log(`"op":"i","ns":"DB.system.views","ui":"U3","o":` + view("s", 3600) + `
			"op":"i","ns":"DB.system.buckets.s","ui":"U2","o":` + bucket(2, `"of":"second"`) + `
			@30 "op":"n","ns":"","o":{"msg":"end"}`)
		buckets := k.coll(w, 2, "system.buckets.s", "{"+options+"}")
		buckets.IDIndex = nil
		a := k.copied(w, apply.Options{}, 20, []schema.Collection{k.coll(w, 3, "system.views", ""), buckets}, map[string]string{"system.buckets.s": ""}, view("s", 3600))
		k.run(w, a)
		w.has("system.buckets.s", bucket(2, `"of":"second"`))
		if got := listed(w, "s"); !strings.HasPrefix(got, "timeseries") {
			t.Errorf("the series is %s", got)
		}
		if missing := a.Missing(); len(missing) != 0 {
			t.Errorf("missing are %v", missing)
		}
	})

	t.Run("12: a name is a collection's before it is a view's, and the other way round, inside the window", func(t *testing.T) {
		w := k.next(t)
		w.log(`"op":"c","ns":"DB.$cmd","ui":"U1","o":{"create":"n"}
			"op":"i","ns":"DB.n","ui":"U1","o":{"_id":1}
			"op":"c","ns":"DB.$cmd","ui":"U1","o":{"drop":"n"}
			"op":"i","ns":"DB.system.views","ui":"U3","o":{"_id":"DB.n","viewOn":"c","pipeline":[]}
			"op":"i","ns":"DB.system.views","ui":"U3","o":{"_id":"DB.m","viewOn":"c","pipeline":[]}
			"op":"d","ns":"DB.system.views","ui":"U3","o":{"_id":"DB.m"}
			"op":"c","ns":"DB.$cmd","ui":"U4","o":{"create":"m"}
			"op":"i","ns":"DB.m","ui":"U4","o":{"_id":4}
			@30 "op":"n","ns":"","o":{"msg":"end"}`)
		// The copy has what they are at the end.
		a := k.copied(w, apply.Options{}, 20, []schema.Collection{k.coll(w, 2, "c", ""), k.coll(w, 3, "system.views", ""), k.coll(w, 4, "m", "")},
			map[string]string{"c": `{"_id":7}`, "m": `{"_id":4}`}, `{"_id":"DB.n","viewOn":"c","pipeline":[]}`)
		k.run(w, a)
		w.has("n", `{"_id":7}`)
		w.has("m", `{"_id":4}`)
	})
}

// source is a server of a version whose oplog is applied: the simulator's engine, so that any workload can be had of any version.
type source struct {
	t *testing.T
	e *engine.Engine
}

func newSource(t *testing.T, v engine.Version) *source {
	t.Helper()
	n := uint32(0)
	e, err := engine.Open(engine.Options{
		Version: v, DiffUpdates: true, HostPort: "127.0.0.1:27017",
		NextOpTime: func() engine.OpTime { n++; return engine.OpTime{TS: bson.Timestamp{T: 5000 + n, I: 1}, Term: 1} },
	})
	if err != nil {
		t.Fatal(err)
	}
	e.CreateOplog(256 << 20)
	t.Cleanup(func() { _ = e.Close(false) })
	return &source{t: t, e: e}
}

// run gives the reply; a refusal is the caller's to see.
func (s *source) run(db string, cmd bson.D) bson.Raw {
	s.t.Helper()
	b, err := bson.Marshal(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.e.Run(s.t.Context(), &engine.Session{ID: 1, Internal: true}, db, b)
}

func (s *source) entries() (out []bson.Raw) {
	all, ok := s.e.OplogAfter(engine.OpTime{}, 1<<20)
	if !ok {
		s.t.Fatal("the source's oplog is too small")
	}
	for _, x := range all {
		out = append(out, x.Marshal())
	}
	return out
}

func (s *source) now() oplog.OpTime {
	at := s.e.LastOpTime()
	return oplog.OpTime{TS: at.TS, Term: at.Term}
}

func batch(reply bson.Raw) (out []bson.Raw) {
	a, ok := reply.Lookup("cursor", "firstBatch").ArrayOK()
	if !ok {
		return nil
	}
	vs, _ := a.Values()
	for _, v := range vs {
		out = append(out, v.Document())
	}
	return out
}

// stateOf is everything that databases hold, a line each.
func stateOf(run func(db string, cmd bson.D) bson.Raw, dbs ...string) (out []string) {
	for _, db := range dbs {
		for _, c := range batch(run(db, bson.D{{Key: "listCollections", Value: 1}})) {
			name, kind := c.Lookup("name").StringValue(), c.Lookup("type").StringValue()
			line := fmt.Sprintf("%s.%s %s", db, name, kind)
			if name != "system.views" {
				line += " " + c.Lookup("options").String()
				if kind == "collection" {
					line += " " + c.Lookup("info", "uuid").String()
				}
			}
			out = append(out, line)
			if kind == "collection" && name != "system.views" {
				for _, x := range batch(run(db, bson.D{{Key: "listIndexes", Value: name}})) {
					out = append(out, fmt.Sprintf("%s.%s index %s", db, name, x))
				}
			}
			for _, d := range batch(run(db, bson.D{{Key: "find", Value: name}, {Key: "sort", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "batchSize", Value: 100_000}, {Key: "singleBatch", Value: true}})) {
				out = append(out, fmt.Sprintf("%s.%s document %s", db, name, d))
			}
		}
	}
	slices.Sort(out)
	return out
}

// workload does something at random about few names: series, views and collections come and go under each.
func (s *source) workload(r *rand.Rand, dbs []string, n int) {
	granularities := []string{"seconds", "minutes", "hours"}
	for range n {
		db := dbs[r.IntN(len(dbs))]
		name := fmt.Sprintf("n%d", r.IntN(3))
		switch x := r.IntN(100); {
		case x < 6:
			series := bson.D{{Key: "timeField", Value: "t"}, {Key: "granularity", Value: granularities[r.IntN(2)]}}
			if r.IntN(3) > 0 {
				series = append(series, bson.E{Key: "metaField", Value: "m"})
			}
			s.run(db, bson.D{{Key: "create", Value: name}, {Key: "timeseries", Value: series}})
		case x < 8:
			s.run(db, bson.D{{Key: "create", Value: name}})
		case x < 10:
			s.run(db, bson.D{{Key: "create", Value: name}, {Key: "viewOn", Value: "n0"}, {Key: "pipeline", Value: bson.A{bson.D{{Key: "$match", Value: bson.D{{Key: "v", Value: r.IntN(3)}}}}}}})
		case x < 14:
			s.run(db, bson.D{{Key: "drop", Value: name}})
		case x < 17:
			s.run(db, bson.D{{Key: "collMod", Value: name}, {Key: "timeseries", Value: bson.D{{Key: "granularity", Value: granularities[1+r.IntN(2)]}}}})
		case x < 19:
			s.run(db, bson.D{{Key: "collMod", Value: name}, {Key: "expireAfterSeconds", Value: 3600 * (1 + r.IntN(5))}})
		case x < 21:
			s.run(db, bson.D{{Key: "createIndexes", Value: name}, {Key: "indexes", Value: bson.A{bson.D{{Key: "key", Value: bson.D{{Key: "v", Value: 1}}}, {Key: "name", Value: "v"}}}}})
		case x < 23:
			s.run("admin", bson.D{{Key: "renameCollection", Value: db + "." + name}, {Key: "to", Value: fmt.Sprintf("%s.n%d", db, r.IntN(3))}, {Key: "dropTarget", Value: r.IntN(2) == 0}})
		case x < 25:
			s.run(db, bson.D{{Key: "dropIndexes", Value: name}, {Key: "index", Value: "v"}})
		default:
			doc := bson.D{{Key: "t", Value: bson.DateTime(1_700_000_000_000 + r.Int64N(7_200_000))}, {Key: "m", Value: r.IntN(2)}, {Key: "v", Value: r.IntN(3)}}
			if r.IntN(5) == 0 {
				doc = append(doc, bson.E{Key: "rare", Value: bson.A{r.IntN(9), "x"}})
			}
			s.run(db, bson.D{{Key: "insert", Value: name}, {Key: "documents", Value: bson.A{doc}}})
		}
	}
}

// read is a full read under load: work is done between its steps.
func (s *source) read(dbs []string, work func()) (o seed.Options, b apply.Beginning) {
	b.Start = s.now()
	work()
	docs := map[oplog.UUID][]bson.Raw{}
	for _, db := range dbs {
		for _, c := range batch(s.run(db, bson.D{{Key: "listCollections", Value: 1}})) {
			if c.Lookup("type").StringValue() != "collection" {
				continue
			}
			_, id := c.Lookup("info", "uuid").Binary()
			x := schema.Collection{UUID: oplog.UUID(id), NS: db + "." + c.Lookup("name").StringValue()}
			if opt := c.Lookup("options").Document(); len(opt) > 5 {
				x.Options = opt
			}
			work()
			uuid := bson.Binary{Subtype: 4, Data: id}
			indexes := s.run(db, bson.D{{Key: "listIndexes", Value: uuid}})
			found := s.run(db, bson.D{{Key: "find", Value: uuid}, {Key: "batchSize", Value: 100_000}, {Key: "singleBatch", Value: true}})
			if indexes.Lookup("ok").AsFloat64() != 1 || found.Lookup("ok").AsFloat64() != 1 {
				continue // it was dropped meanwhile
			}
			for _, i := range batch(indexes) {
				switch name := i.Lookup("name").StringValue(); {
				case name != "_id_":
					x.Indexes = append(x.Indexes, i)
				case x.Options == nil || x.Options.Lookup("clusteredIndex").Type == 0:
					x.IDIndex = i
				}
			}
			if x.Views() {
				b.Views = append(b.Views, batch(found)...)
			}
			docs[x.UUID] = batch(found)
			o.Collections = append(o.Collections, seed.Collection{Collection: x})
			b.Collections = append(b.Collections, x)
		}
	}
	b.ScanEnd = s.now()
	o.Slices = func(_ context.Context, id oplog.UUID, first int64) iter.Seq2[[]byte, error] {
		return func(yield func([]byte, error) bool) {
			for _, part := range pack(docs[id], 7)[first:] {
				if !yield(part, nil) {
					return
				}
			}
		}
	}
	return o, b
}

// TestTimeSeriesEndAsTheirSourceHasThem replays workloads of series, views and collections under the same names, in two databases, from
// nothing and over a full read that went on meanwhile. Servers from 8.0 on compress buckets: their updates change columns in part.
func TestTimeSeriesEndAsTheirSourceHasThem(t *testing.T) {
	k := newCases(t)
	parts := 0
	for _, version := range []engine.Version{{Major: 5}, {Major: 7}, {Major: 8}} {
		for _, fuzzy := range []bool{false, true} {
			for number := range 4 {
				t.Run(fmt.Sprintf("11: %d.%d, fuzzy %t, %d", version.Major, version.Minor, fuzzy, number), func(t *testing.T) {
					r := rand.New(rand.NewPCG(uint64(version.Major), uint64(number))) //nolint:gosec // the same every time
					s := newSource(t, version)
					dbs := []string{k.next(t).db, k.next(t).db}
					dir := filepath.Join(t.TempDir(), "job")
					begin := apply.Beginning{}
					s.workload(r, dbs, 150)
					if fuzzy {
						var o seed.Options
						o, begin = s.read(dbs, func() { s.workload(r, dbs, 25) })
						o.Client, o.Dir = k.h.Client(), dir
						if err := seed.Run(t.Context(), o); err != nil {
							t.Fatal(err)
						}
					}
					s.workload(r, dbs, 100)
					entries := s.entries()
					parts += strings.Count(fmt.Sprint(entries), `"b": {`)
					if err := apply.Begin(dir, begin); err != nil {
						t.Fatal(err)
					}
					a, err := apply.Open(t.Context(), apply.Options{Client: k.h.Client(), Dir: dir, MaxOps: 20})
					if err != nil {
						t.Fatal(err)
					}
					defer a.Close() //nolint:errcheck // ends
					if err := through(t.Context(), a, entries); err != nil {
						t.Fatal(err)
					}
					head := func(db string, cmd bson.D) bson.Raw {
						reply, err := k.h.Client().Database(db).RunCommand(t.Context(), cmd).Raw()
						if err != nil {
							t.Fatal(cmd, err)
						}
						return reply
					}
					if diff := cmp.Diff(stateOf(s.run, dbs...), stateOf(head, dbs...)); diff != "" {
						t.Errorf("source (-), head (+):\n%s", diff)
					}
				})
			}
		}
	}
	if parts == 0 {
		t.Error("no column was changed in part")
	}
}
