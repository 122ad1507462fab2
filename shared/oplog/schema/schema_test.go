package schema

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
)

func raw(t testing.TB, s string) bson.Raw {
	t.Helper()
	for i := range 9 {
		s = strings.ReplaceAll(s, fmt.Sprintf(":U%d", i), fmt.Sprintf(`:{"$binary":{"base64":"%cAAAAAAAAAAAAAAAAAAAAA==","subType":"04"}}`, 'A'+i))
	}
	var d bson.D
	if err := bson.UnmarshalExtJSON([]byte(s), false, &d); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	b, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func command(t testing.TB, id int, o string) *oplog.Op {
	t.Helper()
	ui := ""
	if id >= 0 {
		ui = fmt.Sprintf(`"ui":U%d,`, id)
	}
	e, err := oplog.Decode(raw(t, `{"ts":{"$timestamp":{"t":1,"i":1}},"v":2,"op":"c","ns":"a.$cmd",`+ui+`"o":`+o+`}`))
	if err != nil {
		t.Fatal(err)
	}
	return &e.Op
}

func names(c *Catalogue) string {
	var s []string
	for _, x := range c.Collections() {
		s = append(s, fmt.Sprintf("%s=%d", x.NS, x.UUID[0]>>2))
	}
	return strings.Join(s, " ")
}

// TestCollectionsFollowTheirUUID gives a catalogue that was read while names changed the entries of that time.
func TestCollectionsFollowTheirUUID(t *testing.T) {
	type line struct {
		id        int
		o         string
		steps     string
		odd       Oddity
		afterward string
	}
	for _, c := range []struct {
		name  string
		have  string // "ns=id ..."
		lines []line
	}{
		{"create, rename, drop", "", []line{
			{1, `{"create":"x"}`, "create", 0, "a.x=1"},
			{1, `{"create":"x"}`, "", 0, "a.x=1"},
			{1, `{"renameCollection":"a.x","to":"a.y"}`, "rename", 0, "a.y=1"},
			{1, `{"drop":"y"}`, "drop", 0, ""},
			{-1, `{"dropDatabase":1}`, "", 0, ""},
		}},
		{"the target makes room, by UUID", "a.x=1 a.y=2", []line{
			{1, `{"renameCollection":"a.x","to":"a.y","dropTarget":U2}`, "drop rename", 0, "a.y=1"},
		}},
		{"or by its name", "a.x=1 a.y=2", []line{
			{1, `{"renameCollection":"a.x","to":"a.y","dropTarget":true}`, "drop rename", 0, "a.y=1"},
		}},
		{"the copy knows a collection under its later name", "a.z=1", []line{
			{1, `{"create":"x"}`, "rename", 0, "a.x=1"},
			{1, `{"renameCollection":"a.x","to":"a.z"}`, "rename", 0, "a.z=1"},
		}},
		{"two collections swap names while they are read", "a.x=2 a.y=1", []line{ // at first x=1, y=2
			{1, `{"renameCollection":"a.x","to":"a.t"}`, "rename", 0, "a.t=1 a.x=2"},
			{2, `{"renameCollection":"a.y","to":"a.x"}`, "", 0, "a.t=1 a.x=2"},
			{1, `{"renameCollection":"a.t","to":"a.y"}`, "rename", 0, "a.x=2 a.y=1"},
		}},
		{"a later collection has the name already", "a.x=2", []line{
			{1, `{"create":"x"}`, "rename create", NameTaken, "a.heartwood.aside.08000000-0000-0000-0000-000000000000=2 a.x=1"},
			{1, `{"drop":"x"}`, "drop", 0, "a.heartwood.aside.08000000-0000-0000-0000-000000000000=2"},
			{2, `{"create":"x"}`, "rename", 0, "a.x=2"},
		}},
		{"what is not there any more", "", []line{
			{1, `{"drop":"x"}`, "", NoCollection, ""},
			{1, `{"collMod":"x","validationLevel":"off"}`, "", NoCollection, ""},
			{1, `{"createIndexes":"x","key":{"a":1},"name":"a_1"}`, "", NoCollection, ""},
			{1, `{"renameCollection":"a.x","to":"a.y"}`, "", NoCollection, ""},
		}},
		{"a rename of what is gone still drops its target", "a.y=2", []line{
			{1, `{"renameCollection":"a.x","to":"a.y","dropTarget":U2}`, "drop", NoCollection, ""},
		}},
		{"a dropped database with a collection of later times", "a.x=2", []line{{-1, `{"dropDatabase":1}`, "", Leftover, "a.x=2"}}},
		{"emptied", "a.x=1", []line{{1, `{"emptycapped":"x"}`, "empty", 0, "a.x=1"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var have []Collection
			for _, f := range strings.Fields(c.have) {
				ns, id, _ := strings.Cut(f, "=")
				have = append(have, Collection{NS: ns, UUID: oplog.UUID{(id[0] - '0') << 2}})
			}
			cat, err := New(have...)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range c.lines {
				steps, odd, err := cat.Apply(command(t, l.id, l.o))
				var done []string
				for _, s := range steps {
					done = append(done, s.Do.String())
				}
				if err != nil || odd != l.odd || strings.Join(done, " ") != l.steps || names(cat) != l.afterward {
					t.Errorf("%s: %v, %s (%s), %s\nwant %s (%s), %s", l.o, err, done, odd, names(cat), l.steps, l.odd, l.afterward)
				}
			}
			if strings.Contains(names(cat), "aside") != (len(cat.Aside()) > 0) {
				t.Error("Aside does not tell")
			}
		})
	}
}

func TestOptionsAndIndexes(t *testing.T) {
	cat, err := New()
	if err != nil {
		t.Fatal(err)
	}
	show := func() string {
		x, _ := cat.Lookup(command(t, 1, `{"drop":"c"}`).UI, "")
		s := x.Options.String()
		for _, i := range x.Indexes {
			s += " " + i.String()
		}
		s = regexp.MustCompile(`\{"\$numberInt":"(\d+)"\}`).ReplaceAllString(s, "$1")
		return strings.NewReplacer(`"`, "", ": ", ":").Replace(s)
	}
	for _, l := range []struct {
		o, want string
		odd     Oddity
	}{
		{`{"create":"c","collation":{"locale":"en"},"idIndex":{"v":2,"key":{"_id":1},"name":"_id_"}}`, `{collation:{locale:en}}`, 0},
		{`{"createIndexes":"c","v":2,"key":{"a":1},"name":"a_1"}`, `{collation:{locale:en}} {v:2,key:{a:1},name:a_1}`, 0},
		{
			`{"commitIndexBuild":"c","indexes":[{"key":{"b":1},"name":"b_1","collation":{"locale":"fr"}},{"key":{"a":1},"name":"a_1","expireAfterSeconds":5}]}`,
			`{collation:{locale:en}} {key:{a:1},name:a_1,expireAfterSeconds:5} {key:{b:1},name:b_1,collation:{locale:fr}}`, 0,
		},
		{`{"collMod":"c","index":{"name":"a_1","expireAfterSeconds":9}}`, `{collation:{locale:en}} {key:{a:1},name:a_1,expireAfterSeconds:9} {key:{b:1},name:b_1,collation:{locale:fr}}`, 0},
		{`{"collMod":"c","index":{"keyPattern":{"b":1},"hidden":true}}`, `{collation:{locale:en}} {key:{a:1},name:a_1,expireAfterSeconds:9} {key:{b:1},name:b_1,collation:{locale:fr},hidden:true}`, 0},
		{`{"dropIndexes":"c","index":"b_1"}`, `{collation:{locale:en}} {key:{a:1},name:a_1,expireAfterSeconds:9}`, 0},
		{`{"dropIndexes":"c","index":"b_1"}`, `{collation:{locale:en}} {key:{a:1},name:a_1,expireAfterSeconds:9}`, NoIndex},
		{`{"collMod":"c","index":{"name":"a_1","prepareUnique":true}}`, `{collation:{locale:en}} {key:{a:1},name:a_1,expireAfterSeconds:9,prepareUnique:true}`, 0},
		{`{"collMod":"c","index":{"name":"a_1","unique":true}}`, `{collation:{locale:en}} {key:{a:1},name:a_1,expireAfterSeconds:9,unique:true}`, 0},
		{`{"collMod":"c","index":{"name":"a_1","forceNonUnique":true}}`, `{collation:{locale:en}} {key:{a:1},name:a_1,expireAfterSeconds:9}`, 0},
		{`{"collMod":"c","index":{"name":"zz","hidden":true}}`, `{collation:{locale:en}} {key:{a:1},name:a_1,expireAfterSeconds:9}`, NoIndex},
		{`{"collMod":"c","validator":{"n":1},"validationLevel":"off"}`, `{collation:{locale:en},validator:{n:1},validationLevel:off} {key:{a:1},name:a_1,expireAfterSeconds:9}`, 0},
		{`{"collMod":"c","validator":{}}`, `{collation:{locale:en},validationLevel:off} {key:{a:1},name:a_1,expireAfterSeconds:9}`, 0},
		{`{"dropIndexes":"c","index":"*"}`, `{collation:{locale:en},validationLevel:off}`, 0},
	} {
		_, odd, err := cat.Apply(command(t, 1, l.o))
		if got := show(); err != nil || odd != l.odd || got != l.want {
			t.Errorf("%s: %v (%s)\n%s\nwant\n%s", l.o, err, odd, got, l.want)
		}
	}
	for _, bad := range []string{`{"collMod":"c","sideways":1}`, `{"collMod":"c","index":1}`} {
		if _, _, err := cat.Apply(command(t, 1, bad)); err == nil {
			t.Errorf("%s passed", bad)
		}
	}
	if _, _, err := cat.Apply(command(t, -1, `{"create":"q"}`)); err == nil {
		t.Error("a create without ui passed")
	}
}

func TestIndexesWithoutACollationAreBuiltSimple(t *testing.T) {
	c := Collection{Options: raw(t, `{"collation":{"locale":"en"}}`), Indexes: []bson.Raw{raw(t, `{"name":"a_1"}`), raw(t, `{"name":"b_1","collation":{"locale":"fr"}}`)}}
	specs := c.BuildSpecs()
	if l := specs[0].Lookup("collation", "locale").StringValue(); l != "simple" {
		t.Errorf("the first is built with %s", l)
	}
	if l := specs[1].Lookup("collation", "locale").StringValue(); l != "fr" {
		t.Errorf("the second is built with %s", l)
	}
	if _, err := c.Indexes[0].LookupErr("collation"); err == nil {
		t.Error("the catalogue's own specification was changed")
	}
}

func TestViewsBecomeCommands(t *testing.T) {
	cat, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []struct {
		op   string
		want Do
		odd  Oddity
		left int
	}{
		{`"op":"i","o":{"_id":"a.v","viewOn":"c","pipeline":[]}`, CreateView, 0, 1},
		{`"op":"u","o2":{"_id":"a.v"},"o":{"$v":1,"$set":{"viewOn":"d"}}`, ModifyView, 0, 1},
		{`"op":"u","o2":{"_id":"a.w"},"o":{"$v":1,"$set":{"viewOn":"d"}}`, 0, OddView, 1},
		{`"op":"i","o":{"_id":"a.v","viewOn":"d","pipeline":[]}`, 0, OddView, 1},
		{`"op":"d","o":{"_id":"a.v"}`, DropView, 0, 0},
		{`"op":"d","o":{"_id":"a.v"}`, 0, OddView, 0},
	} {
		e, err := oplog.Decode(raw(t, `{"ts":{"$timestamp":{"t":1,"i":1}},"v":2,"ns":"a.system.views",`+l.op+`}`))
		if err != nil {
			t.Fatal(err)
		}
		steps, odd, err := cat.ApplyView(&e.Op)
		var do Do
		if len(steps) > 0 {
			do = steps[0].Do
		}
		if err != nil || do != l.want || odd != l.odd || len(cat.ViewsOf("a")) != l.left {
			t.Errorf("%s: %s (%s), %v, %d left", l.op, do, odd, err, len(cat.ViewsOf("a")))
		}
	}
}

func TestViewsGoWithTheCollectionThatHoldsThem(t *testing.T) {
	c, err := New(Collection{UUID: oplog.UUID{1 << 2}, NS: "a.system.views"}, Collection{UUID: oplog.UUID{2 << 2}, NS: "b.system.views"})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a.v", "a.w", "b.v"} {
		if err := c.AddView(raw(t, `{"_id":"`+id+`","viewOn":"x","pipeline":[]}`)); err != nil {
			t.Fatal(err)
		}
	}
	drop := command(t, 0, `{"drop":"system.views"}`)
	drop.UI = oplog.UUID{1 << 2}
	steps, odd, err := c.Apply(drop)
	if err != nil || odd != 0 {
		t.Fatal(odd, err)
	}
	var did []string
	for _, s := range steps {
		did = append(did, s.Do.String())
	}
	if got := strings.Join(did, ", "); got != "drop view, drop view, drop" {
		t.Errorf("steps are %s", got)
	}
	if left := c.Views(); len(left) != 1 || left[0].Lookup("_id").StringValue() != "b.v" {
		t.Errorf("left are %s", left)
	}
}
