package dump

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"
)

func doc(t testing.TB, v any) bson.Raw {
	t.Helper()
	if d, ok := v.(bson.D); ok && d == nil {
		v = bson.D{}
	}
	b, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func part(t testing.TB, write func(w *Writer) error) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out)
	if err == nil {
		err = errors.Join(write(w), w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read gives what a part holds: documents by entry, 0 for the catalogue.
func read(b []byte, keep func(int64) bool) (map[int64][]bson.Raw, error) {
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	out := map[int64][]bson.Raw{}
	for {
		run, err := r.Next(keep)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		err = run.Each(func(d bson.Raw) error {
			out[run.Number] = append(out[run.Number], bytes.Clone(d))
			return nil
		})
		if err != nil {
			return out, err
		}
	}
}

func TestAPartGivesBackWhatWentIn(t *testing.T) {
	large := doc(t, bson.D{{Key: "_id", Value: 1}, {Key: "x", Value: strings.Repeat("x", RunBytes-100)}})
	want := map[int64][]bson.Raw{}
	b := part(t, func(w *Writer) error {
		for i := range 3000 {
			number := int64(1 + i/1000)
			d := doc(t, bson.D{{Key: "_id", Value: i}})
			if i == 1500 {
				d = large
			}
			want[number] = append(want[number], d)
			if err := w.Doc(number, d); err != nil {
				return err
			}
		}
		return nil
	})
	got, err := read(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n, docs := range want {
		if !slices.EqualFunc(docs, got[n], func(a, b bson.Raw) bool { return bytes.Equal(a, b) }) {
			t.Errorf("entry %d came back otherwise", n)
		}
	}
	got, err = read(b, func(n int64) bool { return n == 3 })
	if err != nil || len(got) != 1 || len(got[3]) != 1000 {
		t.Errorf("a choice: %d entries, %v", len(got), err)
	}
}

func TestTheCatalogue(t *testing.T) {
	want := []Entry{
		{Number: 1, NS: "shop.orders", Type: Collection, Options: doc(t, bson.D{{Key: "capped", Value: true}}), Indexes: []bson.Raw{doc(t, bson.D{{Key: "name", Value: "a_1"}})}, Docs: 2, Bytes: 50, First: 1, Last: 3},
		{Number: 2, NS: "shop.v", Type: View, Options: doc(t, bson.D{{Key: "viewOn", Value: "orders"}})},
	}
	b := part(t, func(w *Writer) error { return errors.Join(w.Entry(&want[0]), w.Entry(&want[1])) })
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	run, err := r.Next(nil)
	if err != nil || run.Number != 0 {
		t.Fatal(run.Number, err)
	}
	got, err := run.Entries(4)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := run.Entries(3); !errors.Is(err, ErrBad) {
		t.Errorf("documents behind the last part: %v", err)
	}
	for i := range want {
		if size := int64(len(doc(t, want[i]))); want[i].MarshalSize() < size {
			t.Errorf("an entry of %d bytes is estimated at %d", size, want[i].MarshalSize())
		}
	}
}

func TestEntriesThatContradictThemselves(t *testing.T) {
	good := Entry{Number: 1, NS: "a.b", Type: Collection, Docs: 1, Bytes: 5, First: 1, Last: 1}
	if err := good.Check(2); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(e *Entry){
		"number":          func(e *Entry) { e.Number = MaxEntries + 1 },
		"no collection":   func(e *Entry) { e.NS = "a" },
		"no database":     func(e *Entry) { e.NS = ".b" },
		"long name":       func(e *Entry) { e.NS = "a." + strings.Repeat("b", 600) },
		"type":            func(e *Entry) { e.Type = "table" },
		"negative":        func(e *Entry) { e.Docs = -1 },
		"too few bytes":   func(e *Entry) { e.Bytes = 4 },
		"bytes of none":   func(e *Entry) { e.Docs = 0 },
		"documented view": func(e *Entry) { e.Type = View },
		"first part":      func(e *Entry) { e.First = 0 },
		"last part":       func(e *Entry) { e.Last = 2 },
		"backwards":       func(e *Entry) { e.First = 2 },
		"bad options":     func(e *Entry) { e.Options = bson.Raw{1, 2, 3} },
	} {
		e := good
		if change(&e); e.Check(2) == nil {
			t.Errorf("%s: %+v is taken", name, e)
		}
	}
}

// pack makes a part of files as they are.
func pack(t testing.TB, files ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, h := range files {
		content := []byte(h.PAXRecords["content"])
		h.PAXRecords, h.Size, h.Mode = nil, int64(len(content)), 0o600
		if err := w.WriteHeader(&h); err == nil {
			_, err = w.Write(content)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestBadPartsAreRefused(t *testing.T) {
	good := string(doc(t, bson.D{{Key: "_id", Value: 1}}))
	file := func(name, content string) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, PAXRecords: map[string]string{"content": content}}
	}
	whole := part(t, func(w *Writer) error { return w.Doc(1, bson.Raw(good)) })
	for name, b := range map[string][]byte{
		"no zstd":            []byte("a plain text"),
		"no tar":             zip(t, "a plain text of a plain text"),
		"cut short":          whole[:len(whole)-8],
		"another file":       pack(t, file("data/1/2", good)),
		"a path":             pack(t, file("../data/1", good)),
		"number 0":           pack(t, file("data/0", good)),
		"number 01":          pack(t, file("data/01", good)),
		"a large number":     pack(t, file("data/200001", good)),
		"a folder":           pack(t, tar.Header{Typeflag: tar.TypeDir, Name: "data/1"}),
		"an empty run":       pack(t, file("data/1", "")),
		"half a document":    pack(t, file("data/1", good+good[:8])),
		"a document too big": pack(t, file("data/1", "\xff\xff\xff\x7f"+good)),
		"a bad entry":        pack(t, file("catalogue.bson", good)),
	} {
		t.Run(name, func(t *testing.T) {
			r, err := NewReader(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for {
				run, rerr := r.Next(nil)
				if err = rerr; err != nil {
					break
				}
				if run.Number == 0 {
					if _, err = run.Entries(1); err != nil {
						break
					}
				}
			}
			if !errors.Is(err, ErrBad) {
				t.Errorf("error %v", err)
			}
		})
	}
	w, err := NewWriter(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if w.Doc(0, bson.Raw(good)) == nil || w.Doc(1, bson.Raw(good[:4])) == nil || w.Doc(1, bson.Raw(good+"x")) == nil {
		t.Error("what is no document is written")
	}
}

func zip(t testing.TB, text string) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll([]byte(text), nil)
}

func TestNumbersOfParts(t *testing.T) {
	for _, total := range []int64{0, 1 << 30, 1 << 40, 40 << 40} {
		if n := total / PartBytes(total); n > MaxParts/2 {
			t.Errorf("%d bytes make %d parts", total, n)
		}
	}
	if PartBytes(0) != 64<<20 || PartName(7) != "part-000007.tar.zst" {
		t.Error(PartBytes(0), PartName(7))
	}
}

func TestDirect(t *testing.T) {
	for ns, want := range map[string]bool{"a.b": false, "a.system.js": true, "a.systematic": false, "a.enxcol_.b.esc": true, Users: true} {
		if e := (Entry{NS: ns, Type: Collection}); e.Direct() != want {
			t.Errorf("%s: %v", ns, e.Direct())
		}
	}
	e := Entry{NS: "a.b", Type: Collection, Options: doc(t, bson.D{{Key: "encryptedFields", Value: bson.D{}}})}
	if !e.Direct() || !(&Entry{NS: "a.b", Type: TimeSeries}).Direct() {
		t.Error("encrypted collections and time series are written in place")
	}
}

func json(t testing.TB, b bson.Raw) string {
	t.Helper()
	if b == nil {
		return ""
	}
	text, err := bson.MarshalExtJSON(b, false, false)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestIndexSpec(t *testing.T) {
	german := bson.D{{Key: "collation", Value: bson.D{{Key: "locale", Value: "de"}}}}
	for name, c := range map[string]struct {
		options, spec bson.D
		want          string
	}{
		"as it is":             {nil, bson.D{{Key: "v", Value: 2}, {Key: "name", Value: "a_1"}, {Key: "unique", Value: true}}, `{"v":2,"name":"a_1","unique":true}`},
		"old fields":           {nil, bson.D{{Key: "ns", Value: "a.b"}, {Key: "name", Value: "a_1"}, {Key: "background", Value: true}}, `{"name":"a_1"}`},
		"the simple collation": {german, bson.D{{Key: "name", Value: "a_1"}}, `{"name":"a_1","collation":{"locale":"simple"}}`},
		"its own collation":    {german, bson.D{{Key: "name", Value: "a_1"}, {Key: "collation", Value: bson.D{{Key: "locale", Value: "fr"}}}}, `{"name":"a_1","collation":{"locale":"fr"}}`},
		"a simple default":     {bson.D{{Key: "collation", Value: bson.D{{Key: "locale", Value: "simple"}}}}, bson.D{{Key: "name", Value: "a_1"}}, `{"name":"a_1"}`},
		"that of _id":          {nil, bson.D{{Key: "name", Value: "_id_"}}, ""},
		"a clustered key":      {nil, bson.D{{Key: "name", Value: "k"}, {Key: "clustered", Value: true}}, ""},
	} {
		got, ok, err := IndexSpec(doc(t, c.options), doc(t, c.spec))
		if err != nil || json(t, got) != c.want || ok != (c.want != "") {
			t.Errorf("%s: %s %v %v, want %s", name, json(t, got), ok, err, c.want)
		}
	}
}

func TestSeries(t *testing.T) {
	buckets := doc(t, bson.D{
		{Key: "validator", Value: bson.D{}},
		{Key: "clusteredIndex", Value: true},
		{Key: "expireAfterSeconds", Value: int64(60)},
		{Key: "timeseries", Value: bson.D{{Key: "timeField", Value: "t"}, {Key: "metaField", Value: "m"}}},
	})
	options, err := SeriesOptions(buckets)
	if want := `{"expireAfterSeconds":60,"timeseries":{"timeField":"t","metaField":"m"}}`; err != nil || json(t, options) != want {
		t.Errorf("%s %v", json(t, options), err)
	}
	for name, c := range map[string]struct {
		key  bson.D
		more bson.D
		want string
	}{
		"meta and time":   {bson.D{{Key: "meta", Value: 1}, {Key: "control.min.t", Value: 1}, {Key: "control.max.t", Value: 1}}, nil, `{"key":{"m":1,"t":1},"name":"x"}`},
		"time backwards":  {bson.D{{Key: "control.max.t", Value: -1}, {Key: "control.min.t", Value: -1}}, nil, `{"key":{"t":-1},"name":"x"}`},
		"within meta":     {bson.D{{Key: "meta.a.b", Value: -1}}, nil, `{"key":{"m.a.b":-1},"name":"x"}`},
		"a measurement":   {bson.D{{Key: "control.min.v", Value: 1}, {Key: "control.max.v", Value: 1}}, bson.D{{Key: "sparse", Value: true}}, `{"key":{"v":1},"name":"x","sparse":true}`},
		"a place":         {bson.D{{Key: "data.p", Value: "2dsphere_bucket"}}, nil, `{"key":{"p":"2dsphere"},"name":"x"}`},
		"as it was given": {bson.D{{Key: "control.min.v", Value: 1}}, bson.D{{Key: "originalSpec", Value: bson.D{{Key: "key", Value: bson.D{{Key: "v", Value: 1}}}}}}, `{"key":{"v":1}}`},
		"half":            {bson.D{{Key: "control.min.v", Value: 1}}, nil, ""},
		"another":         {bson.D{{Key: "control.min.v", Value: 1}, {Key: "control.max.w", Value: 1}}, nil, ""},
		"metadata":        {bson.D{{Key: "metadata", Value: 1}, {Key: "x", Value: 1}}, nil, ""},
	} {
		got, ok, err := SeriesIndex(buckets, doc(t, append(bson.D{{Key: "key", Value: c.key}, {Key: "name", Value: "x"}}, c.more...)))
		if err != nil || ok != (c.want != "") || json(t, got) != c.want {
			t.Errorf("%s: %s %v %v, want %s", name, json(t, got), ok, err, c.want)
		}
	}
}

// Names as mongodump 100.9 writes them.
func TestFileName(t *testing.T) {
	long := strings.Repeat("ä", 100)
	for coll, want := range map[string]string{
		"orders": "orders", "a/b": "a%2Fb", "system.buckets.x": "system.buckets.x", "50%": "50%25",
		long: strings.Repeat("%C3%A4", 100)[:208] + "%24",
	} {
		if got := FileName(coll); !strings.HasPrefix(got, want) || len(got) > 238 || len(want) < 200 && got != want {
			t.Errorf("%s: %s", coll, got)
		}
	}
	m, err := Metadata{Name: "x", Type: View}.JSON()
	if want := `{"options":{},"indexes":[],"uuid":"","collectionName":"x","type":"view"}`; err != nil || string(m) != want {
		t.Errorf("%s %v", m, err)
	}
}

func FuzzReader(f *testing.F) {
	good, err := bson.Marshal(bson.D{{Key: "_id", Value: 1}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(part(f, func(w *Writer) error { return w.Doc(1, good) }))
	f.Add(part(f, func(w *Writer) error { return w.Entry(&Entry{Number: 1, NS: "a.b", Type: Collection}) }))
	f.Add(pack(f, tar.Header{Typeflag: tar.TypeReg, Name: "data/2", PAXRecords: map[string]string{"content": string(good)}}))
	f.Add(zip(f, string(good)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		defer r.Close()
		for range 100 {
			run, err := r.Next(nil)
			if err != nil {
				return
			}
			if run.Number == 0 {
				_, _ = run.Entries(10)
			}
			if len(run.Docs) > MaxRun {
				t.Errorf("a run of %d bytes", len(run.Docs))
			}
		}
	})
}
