package inventory

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// fill sets every field of a struct to a value of its own that is not zero.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.UnixMilli(1_700_000_000_000 + int64(*n)).UTC()))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("bson") != "-" {
				fill(t, v.Field(i), n)
			}
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64, reflect.Int32:
		v.SetInt(int64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n) + 0.5)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0), n)
		fill(t, v.Index(1), n)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	default:
		t.Fatalf("a field of type %s: teach this test and the codec about it", v.Type())
	}
}

func filledHost(t *testing.T) hostDoc {
	t.Helper()
	var d hostDoc
	n := 0
	fill(t, reflect.ValueOf(&d.Host).Elem(), &n)
	d.Sealed = []byte{1, 2, 3}
	return d
}

func filledStatus(t *testing.T) model.HostStatus {
	t.Helper()
	var st model.HostStatus
	n := 0
	fill(t, reflect.ValueOf(&st).Elem(), &n)
	return st
}

// The codec must know every field: otherwise it is still right, but lists of ten thousand hosts get slow.
func TestCodecKnowsEveryField(t *testing.T) {
	d := filledHost(t)
	body, err := store.Encode(d)
	if err != nil {
		t.Fatal(err)
	}
	var h model.Host
	if !newHostDecoder().hostFields(body, &h) {
		t.Error("hosts fall back to reflection: a field of model.Host is missing in codec.go")
	}
	if diff := cmp.Diff(d.Host, h); diff != "" {
		t.Errorf("host (-want +got):\n%s", diff)
	}

	st := filledStatus(t)
	if body, err = store.Encode(st); err != nil {
		t.Fatal(err)
	}
	var got model.HostStatus
	if !newHostDecoder().statusFields(body, &got) {
		t.Error("statuses fall back to reflection: a field of model.HostStatus is missing in codec.go")
	}
	if diff := cmp.Diff(st, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestZeroValuesSurvive(t *testing.T) {
	for _, h := range []model.Host{{}, {Hostname: "a", Port: 27017, MemberID: -1}} {
		body, err := store.Encode(hostDoc{Host: h})
		if err != nil {
			t.Fatal(err)
		}
		var got model.Host
		if err := newHostDecoder().host(body, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(h, got); diff != "" {
			t.Errorf("host (-want +got):\n%s", diff)
		}
	}
}

func TestUnknownFieldsAndTypesFallBack(t *testing.T) {
	for name, doc := range map[string]bson.D{
		"a field of a later version": {{Key: "hostname", Value: "a"}, {Key: "futureField", Value: bson.D{{Key: "x", Value: 1}}}},
		"a number of another type":   {{Key: "hostname", Value: "a"}, {Key: "delaySecs", Value: 3.0}},
		"a null":                     {{Key: "hostname", Value: "a"}, {Key: "aliases", Value: nil}},
	} {
		body, err := bson.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		var got model.Host
		if err := newHostDecoder().host(body, &got); err != nil || got.Hostname != "a" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func FuzzHostDecoder(f *testing.F) {
	body, err := bson.Marshal(hostDoc{Host: model.Host{Hostname: "a", Aliases: []string{"b:1"}, Created: time.UnixMilli(5).UTC()}, Sealed: []byte{1}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(body))
	f.Add([]byte{5, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var fast model.Host
		if !newHostDecoder().hostFields(b, &fast) {
			return
		}
		if bson.Raw(b).Validate() != nil {
			return // sound documents only: ours are
		}
		var slow hostDoc
		if err := bson.Unmarshal(b, &slow); err != nil {
			return
		}
		if diff := cmp.Diff(slow.Host, fast, cmp.Comparer(func(a, b float64) bool { return a == b || a != a && b != b }),
			cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
			t.Fatalf("reflection and codec differ:\n%s", diff)
		}
	})
}
