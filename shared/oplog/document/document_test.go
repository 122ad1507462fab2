package document

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

func parse(t testing.TB, s string) bson.Raw {
	t.Helper()
	var d bson.D
	if err := bson.UnmarshalExtJSON([]byte(s), false, &d); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return marshal(t, d)
}

func marshal(t testing.TB, d bson.D) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func update(t testing.TB, before, o string) (string, Oddity, error) {
	t.Helper()
	return apply(t, before, o, false)
}

func apply(t testing.TB, before, o string, upsert bool) (string, Oddity, error) {
	t.Helper()
	op := &oplog.Op{Kind: oplog.Update, NS: "a.b", O: parse(t, o), Upsert: upsert, ID: bsoncore.Value{Type: bsoncore.TypeInt32, Data: []byte{1, 0, 0, 0}}}
	var raw bson.Raw
	if before != "" {
		raw = parse(t, before)
	}
	after, odd, err := Apply(raw, op)
	if after == nil || err != nil {
		return "", odd, err
	}
	var d bson.D
	if err := bson.Unmarshal(after, &d); err != nil {
		t.Fatalf("the outcome is no document: %v", err)
	}
	if !bytes.Equal(marshal(t, d), after) {
		t.Fatalf("the outcome is not what its fields encode to: %s", after)
	}
	s, err := bson.MarshalExtJSON(d, false, false)
	if err != nil {
		t.Fatal(err)
	}
	return string(s), odd, nil
}

func TestUpdates(t *testing.T) {
	for _, c := range []struct {
		name, before, o, after string
		odd                    Oddity
	}{
		// the worked examples
		{"diff: remove, change, add", `{"_id":1,"a":1,"b":2}`, `{"$v":2,"diff":{"d":{"b":false},"u":{"a":5},"i":{"c":7}}}`, `{"_id":1,"a":5,"c":7}`, 0},
		{"diff: inside documents and arrays, shrinking", `{"x":{"p":1,"q":[1,2,3]}}`, `{"$v":2,"diff":{"sx":{"u":{"p":2},"sq":{"a":true,"l":2,"u0":9}}}}`, `{"x":{"p":2,"q":[9,2]}}`, 0},
		{"diff: inside an element, and growing with a gap", `{"q":[{"k":1}]}`, `{"$v":2,"diff":{"sq":{"a":true,"s0":{"u":{"k":2}},"u2":5}}}`, `{"q":[{"k":2},null,5]}`, 0},
		// names that look like sections
		{
			"diff: fields named like sections", `{"d":1,"u":2,"i":3,"s1":4,"a":5,"l":6,"s":{"s":7},"":8}`, `{"$v":2,"diff":{"d":{"d":false},"u":{"u":20,"s1":40,"a":50,"":80},"i":{"b":1},"ss":{"u":{"s":70}}}}`,
			`{"u":20,"i":3,"s1":40,"a":50,"l":6,"s":{"s":70},"":80,"b":1}`, 0,
		},
		{"diff: names with dots and dollars are names", `{"a.b":1,"$x":{"y.z":1}}`, `{"$v":2,"diff":{"u":{"a.b":2},"s$x":{"i":{"$set":1}}}}`, `{"a.b":2,"$x":{"y.z":1,"$set":1}}`, 0},
		{"diff: an array becomes longer by its length", `{"q":[1]}`, `{"$v":2,"diff":{"sq":{"a":true,"l":3}}}`, `{"q":[1,null,null]}`, Short},
		{
			"diff: a bucket's binary is rewritten from an offset on", `{"b":{"$binary":{"base64":"AQIDBA==","subType":"07"}}}`, `{"$v":2,"diff":{"b":{"b":{"o":2,"d":{"$binary":{"base64":"CQkJ","subType":"00"}}}}}}`,
			`{"b":{"$binary":{"base64":"AQIJCQk=","subType":"07"}}}`, 0,
		},
		// applied again
		{"diff: absent field removed", `{"a":1}`, `{"$v":2,"diff":{"d":{"b":false}}}`, `{"a":1}`, NoField},
		{"diff: field to add is there: it moves to the end", `{"a":1,"b":2}`, `{"$v":2,"diff":{"i":{"a":3}}}`, `{"b":2,"a":3}`, FieldThere},
		{"diff: field to change is absent: it comes at the end, before added ones", `{"a":1}`, `{"$v":2,"diff":{"u":{"z":1},"i":{"y":2}}}`, `{"a":1,"z":1,"y":2}`, NoField},
		{"diff: a part of another type becomes null", `{"a":1,"b":[1]}`, `{"$v":2,"diff":{"sa":{"u":{"x":1}},"sb":{"i":{"x":1}}}}`, `{"a":null,"b":null}`, OtherType},
		{"diff: a part that is absent is left so", `{"a":1}`, `{"$v":2,"diff":{"sb":{"u":{"x":1}}}}`, `{"a":1}`, NoField},
		{"diff: element to change within is past the end", `{"q":[1]}`, `{"$v":2,"diff":{"sq":{"a":true,"s1":{"u":{"x":1}}}}}`, `{"q":[1,null]}`, Short},
		{
			"diff: binary shorter than the offset stays", `{"b":{"$binary":{"base64":"AQ==","subType":"07"}}}`, `{"$v":2,"diff":{"b":{"b":{"o":2,"d":{"$binary":{"base64":"CQ==","subType":"00"}}}}}}`,
			`{"b":{"$binary":{"base64":"AQ==","subType":"07"}}}`, Short,
		},
		// modifiers
		{"$set keeps the place, new fields come in order", `{"_id":1,"b":1,"a":2}`, `{"$v":1,"$set":{"b":3,"z":1,"c":2}}`, `{"_id":1,"b":3,"a":2,"z":1,"c":2}`, 0},
		{"$set makes parents, also under names like positions", `{"_id":1}`, `{"$v":1,"$set":{"a.0.b":1,"c":2,"a.1":3}}`, `{"_id":1,"a":{"0":{"b":1},"1":3},"c":2}`, 0},
		{"$set past the end pads with null", `{"a":[1]}`, `{"$v":1,"$set":{"a.3":4}}`, `{"a":[1,null,null,4]}`, 0},
		{"$set within an element past the end", `{"a":[]}`, `{"$v":1,"$set":{"a.1.x":4}}`, `{"a":[null,{"x":4}]}`, 0},
		{"$unset of an element leaves null", `{"a":[1,2]}`, `{"$v":1,"$unset":{"a.0":true}}`, `{"a":[null,2]}`, 0},
		{"$unset and $set together", `{"a":1,"b":{"c":1,"d":2}}`, `{"$v":1,"$set":{"e":1},"$unset":{"a":true,"b.c":true}}`, `{"b":{"d":2},"e":1}`, 0},
		{"$unset of what is absent makes nothing", `{"a":1}`, `{"$v":1,"$unset":{"b.c":true}}`, `{"a":1}`, NoField},
		{"$set below a number is left undone", `{"a":1}`, `{"$v":1,"$set":{"a.b":1}}`, `{"a":1}`, OtherType},
		{"$set of a name in an array is left undone", `{"a":[1]}`, `{"$v":1,"$set":{"a.b":1}}`, `{"a":[1]}`, OtherType},
		{"a position with a leading zero is a name", `{"a":{"01":1}}`, `{"$v":1,"$set":{"a.01":2}}`, `{"a":{"01":2}}`, 0},
		// replacements
		{"replacement", `{"_id":1,"a":1}`, `{"_id":1,"b":2}`, `{"_id":1,"b":2}`, 0},
		{"replacement without _id gets it first", `{"_id":1,"a":1}`, `{"b":2}`, `{"_id":1,"b":2}`, 0},
		{"replacement with its _id elsewhere gets it first", `{"_id":1,"a":1}`, `{"b":2,"_id":1}`, `{"_id":1,"b":2}`, 0},
		{"replacement with fields called diff, $set and even $v", `{"_id":1}`, `{"_id":1,"$v":2,"diff":{"d":{"a":false}},"$set":{"x":1}}`, `{"_id":1,"$v":2,"diff":{"d":{"a":false}},"$set":{"x":1}}`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, odd, err := update(t, c.before, c.o)
			if err != nil || got != c.after || odd != c.odd {
				t.Errorf("got %s (%s) %v\nwant %s (%s)", got, odd, err, c.after, c.odd)
			}
		})
	}
}

func TestAbsentAndUpsert(t *testing.T) {
	if got, odd, err := update(t, "", `{"$v":1,"$set":{"a":1}}`); got != "" || odd != Absent || err != nil {
		t.Errorf("an update of nothing gave %s, %s, %v", got, odd, err)
	}
	if got, odd, err := apply(t, "", `{"$v":1,"$set":{"a":1}}`, true); got != `{"_id":1,"a":1}` || odd != 0 || err != nil {
		t.Errorf("an upsert gave %s, %s, %v", got, odd, err)
	}
	if got, _, err := apply(t, "", `{"a":1}`, true); got != `{"_id":1,"a":1}` || err != nil {
		t.Errorf("an upsert of a replacement gave %s, %v", got, err)
	}
	doc := parse(t, `{"_id":1}`)
	if after, odd, err := Apply(doc, &oplog.Op{Kind: oplog.Insert, O: doc}); !bytes.Equal(after, doc) || odd != Existed || err != nil {
		t.Errorf("an insert over a document: %s, %s, %v", after, odd, err)
	}
	if after, _, err := Apply(doc, &oplog.Op{Kind: oplog.Delete, O: doc}); after != nil || err != nil {
		t.Errorf("a delete left %s, %v", after, err)
	}
	if _, _, err := Apply(doc, &oplog.Op{Kind: oplog.Command}); err == nil {
		t.Error("a command changed a document")
	}
}

func TestWhatIsNotKnownIsRefused(t *testing.T) {
	for o, want := range map[string]error{
		`{"$v":3,"diff":{}}`:                                       oplog.ErrUnknown,
		`{"$v":"2","diff":{}}`:                                     oplog.ErrUnknown,
		`{"$v":2}`:                                                 oplog.ErrCorrupt,
		`{"$v":1,"$inc":{"a":1}}`:                                  oplog.ErrUnknown,
		`{"$v":1,"$set":1}`:                                        oplog.ErrCorrupt,
		`{"$v":1,"$set":{"a":1,"a.b":1}}`:                          oplog.ErrCorrupt,
		`{"$v":1,"$set":{"a.b":1},"$unset":{"a":true}}`:            oplog.ErrCorrupt,
		`{"$v":2,"diff":{"x":{"a":1}}}`:                            oplog.ErrUnknown,
		`{"$v":2,"diff":{"u":{"a":1},"i":{"a":1}}}`:                oplog.ErrCorrupt,
		`{"$v":2,"diff":{"u":1}}`:                                  oplog.ErrCorrupt,
		`{"$v":2,"diff":{"sq":1}}`:                                 oplog.ErrCorrupt,
		`{"$v":2,"diff":{"sq":{"a":true,"l":1,"u1":1}}}`:           oplog.ErrCorrupt,
		`{"$v":2,"diff":{"sq":{"a":true,"u1":1,"u0":1}}}`:          oplog.ErrCorrupt,
		`{"$v":2,"diff":{"sq":{"a":true,"u01":1}}}`:                oplog.ErrCorrupt,
		`{"$v":2,"diff":{"sq":{"a":true,"x1":1}}}`:                 oplog.ErrUnknown,
		`{"$v":2,"diff":{"sq":{"a":true,"u99999999":1}}}`:          oplog.ErrCorrupt,
		`{"$v":2,"diff":{"b":{"n":{"o":0}}}}`:                      oplog.ErrCorrupt,
		`{"$v":2,"diff":{"b":{"n":{"x":0}}}}`:                      oplog.ErrUnknown,
		`{"$v":1,"$set":{"q.9999999":1}}`:                          oplog.ErrCorrupt,
		`{"$v":1,"$set":{"` + strings.Repeat("a.", 300) + `b":1}}`: oplog.ErrCorrupt,
	} {
		if got, _, err := update(t, `{"_id":1,"q":[1,2],"n":1}`, o); !errors.Is(err, want) {
			t.Errorf("%.60s: got %s, %v; want %v", o, got, err, want)
		}
	}
}

// plainDiff is the same grammar once more, over decoded values and without a thought for speed.
func plainDiff(doc, diff bson.D) bson.D {
	out := append(bson.D{}, doc...)
	index := func(name string) int {
		for i, e := range out {
			if e.Key == name {
				return i
			}
		}
		return -1
	}
	section := func(name string) bson.D {
		for _, e := range diff {
			if e.Key == name {
				return e.Value.(bson.D)
			}
		}
		return nil
	}
	for _, e := range section("d") {
		if i := index(e.Key); i >= 0 {
			out = append(out[:i:i], out[i+1:]...)
		}
	}
	for _, e := range diff {
		if name, ok := strings.CutPrefix(e.Key, "s"); ok {
			if i := index(name); i >= 0 {
				out[i].Value = plainInside(out[i].Value, e.Value.(bson.D))
			}
		}
	}
	for _, e := range section("i") {
		if i := index(e.Key); i >= 0 {
			out = append(out[:i:i], out[i+1:]...)
		}
	}
	for _, e := range section("u") {
		if i := index(e.Key); i >= 0 {
			out[i].Value = e.Value
		} else {
			out = append(out, e)
		}
	}
	return append(out, section("i")...)
}

func plainInside(v any, diff bson.D) any {
	array := len(diff) > 0 && diff[0].Key == "a"
	switch x := v.(type) {
	case bson.D:
		if !array {
			return plainDiff(x, diff)
		}
	case bson.A:
		if array {
			return plainArray(x, diff)
		}
	}
	return nil
}

func plainArray(a bson.A, diff bson.D) bson.A {
	out := append(bson.A{}, a...)
	for _, e := range diff {
		if e.Key == "l" {
			n := int(e.Value.(int32))
			out = out[:min(n, len(out))]
			for len(out) < n {
				out = append(out, nil)
			}
		}
	}
	for _, e := range diff[1:] {
		if e.Key == "l" {
			continue
		}
		i, _ := strconv.Atoi(e.Key[1:])
		for len(out) <= i {
			out = append(out, nil)
		}
		if e.Key[0] == 'u' {
			out[i] = e.Value
		} else {
			out[i] = plainInside(out[i], e.Value.(bson.D))
		}
	}
	return out
}

var names = []string{"a", "b", "d", "u", "i", "l", "s", "sa", "a.b", "$set", "", "ü"}

func randomValue(r *rand.Rand, depth int) any {
	n := 9
	if depth > 3 {
		n = 7
	}
	switch r.IntN(n) {
	case 0:
		return int32(r.IntN(100))
	case 1:
		return int64(r.IntN(100))
	case 2:
		return r.Float64()
	case 3:
		return strings.Repeat("x", r.IntN(5))
	case 4:
		return nil
	case 5:
		return bson.Binary{Subtype: byte(r.IntN(2) * 5), Data: make([]byte, r.IntN(9))}
	case 6:
		return r.IntN(2) == 0
	case 7:
		return randomDocument(r, depth+1)
	}
	a := bson.A{}
	for range r.IntN(5) {
		a = append(a, randomValue(r, depth+1))
	}
	return a
}

func randomDocument(r *rand.Rand, depth int) bson.D {
	d := bson.D{}
	for _, i := range r.Perm(len(names))[:r.IntN(len(names))] {
		d = append(d, bson.E{Key: names[i], Value: randomValue(r, depth)})
	}
	return d
}

// randomDiff makes a diff that mostly fits the value, now and then not.
func randomDiff(r *rand.Rand, doc bson.D, depth int) bson.D {
	sections := map[string]bson.D{}
	var inside bson.D
	for _, i := range r.Perm(len(names))[:r.IntN(6)] {
		name := names[i]
		var have any
		there := false
		for _, e := range doc {
			if e.Key == name {
				have, there = e.Value, true
			}
		}
		odd := r.IntN(10) == 0
		switch {
		case !there != odd:
			sections["i"] = append(sections["i"], bson.E{Key: name, Value: randomValue(r, depth)})
		case r.IntN(3) == 0:
			sections["d"] = append(sections["d"], bson.E{Key: name, Value: false})
		default:
			switch x := have.(type) {
			case bson.D:
				inside = append(inside, bson.E{Key: "s" + name, Value: randomDiff(r, x, depth+1)})
				continue
			case bson.A:
				inside = append(inside, bson.E{Key: "s" + name, Value: randomArrayDiff(r, x, depth+1)})
				continue
			}
			if odd && depth < 4 {
				inside = append(inside, bson.E{Key: "s" + name, Value: randomDiff(r, nil, depth+1)})
				continue
			}
			sections["u"] = append(sections["u"], bson.E{Key: name, Value: randomValue(r, depth)})
		}
	}
	diff := bson.D{}
	for _, s := range []string{"d", "u", "i"} {
		if sections[s] != nil {
			diff = append(diff, bson.E{Key: s, Value: sections[s]})
		}
	}
	return append(diff, inside...)
}

func randomArrayDiff(r *rand.Rand, a bson.A, depth int) bson.D {
	diff := bson.D{{Key: "a", Value: true}}
	end := len(a) + 3
	if r.IntN(3) == 0 {
		end = r.IntN(len(a) + 2)
		diff = append(diff, bson.E{Key: "l", Value: int32(end)})
	}
	for i := range end {
		if r.IntN(3) != 0 {
			continue
		}
		if i < len(a) {
			switch x := a[i].(type) {
			case bson.D:
				diff = append(diff, bson.E{Key: fmt.Sprint("s", i), Value: randomDiff(r, x, depth+1)})
				continue
			case bson.A:
				diff = append(diff, bson.E{Key: fmt.Sprint("s", i), Value: randomArrayDiff(r, x, depth+1)})
				continue
			}
		}
		diff = append(diff, bson.E{Key: fmt.Sprint("u", i), Value: randomValue(r, depth)})
	}
	return diff
}

func TestDiffsAgreeWithAPlainSecondImplementation(t *testing.T) {
	changed := 0
	for seed := range uint64(20_000) {
		r := rand.New(rand.NewPCG(seed, 7))
		doc := randomDocument(r, 0)
		diff := randomDiff(r, doc, 0)
		before := marshal(t, doc)
		copied := bytes.Clone(before)
		got, _, err := applyDiff(before, marshal(t, diff))
		want := marshal(t, plainDiff(doc, diff))
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("seed %d: %v\nbefore %s\ndiff   %s\ngot    %s\nwant   %s", seed, err, before, marshal(t, diff), got, want)
		}
		if !bytes.Equal(before, copied) {
			t.Fatalf("seed %d: the document before was changed", seed)
		}
		if !bytes.Equal(got, before) {
			changed++
		}
	}
	if changed < 10_000 {
		t.Errorf("only %d documents changed", changed)
	}
}

// whole is a deep check without the driver's, which panics on some lengths.
func whole(doc []byte, depth int) bool {
	return depth < 500 && oplog.Elements(doc, func(_ []byte, v bsoncore.Value) error {
		if (v.Type == bsoncore.TypeEmbeddedDocument || v.Type == bsoncore.TypeArray) && !whole(v.Data, depth+1) {
			return oplog.ErrCorrupt
		}
		return nil
	}) == nil
}

func FuzzApply(f *testing.F) {
	for _, s := range [][2]string{
		{`{"_id":1,"a":[1,{"b":1}],"c":{"d":1}}`, `{"$v":2,"diff":{"sa":{"a":true,"s1":{"u":{"b":2}},"u4":1},"sc":{"d":{"d":false}}}}`},
		{`{"_id":1,"a":[1,{"b":1}]}`, `{"$v":1,"$set":{"a.1.b":2,"x.y":1},"$unset":{"a.0":true}}`},
		{`{"_id":1}`, `{"_id":1,"z":1}`},
		{`{"b":{"$binary":{"base64":"AQ==","subType":"07"}}}`, `{"$v":2,"diff":{"b":{"b":{"o":1,"d":{"$binary":{"base64":"CQ==","subType":"00"}}}}}}`},
	} {
		f.Add([]byte(parse(f, s[0])), []byte(parse(f, s[1])))
	}
	f.Fuzz(func(t *testing.T, before, o []byte) {
		if !whole(before, 0) || len(before) > 1<<16 || len(o) > 1<<12 {
			return
		}
		op := &oplog.Op{Kind: oplog.Update, NS: "a.b", O: o, ID: bsoncore.Value{Type: bsoncore.TypeInt32, Data: []byte{1, 0, 0, 0}}}
		after, _, err := Apply(before, op)
		if err != nil {
			return
		}
		if whole(o, 0) && !whole(after, 0) {
			t.Errorf("%s\nafter %s\nis no document", bson.Raw(before), bson.Raw(o))
		}
		_, _ = Exceptions(after)
	})
}
