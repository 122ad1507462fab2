package store

import (
	"fmt"
	"slices"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

// Report is what Check found wrong with a collection.
type Report struct {
	Invalid int64               // documents that are not well-formed
	Index   map[string][]string // by index
}

// Valid says that nothing is wrong.
func (r *Report) Valid() bool { return r.Invalid == 0 && len(r.Index) == 0 }

// Errors lists what is wrong.
func (r *Report) Errors() []string {
	var out []string
	if r.Invalid > 0 {
		out = append(out, fmt.Sprintf("Detected %d invalid documents.", r.Invalid))
	}
	for _, es := range r.Index {
		out = append(out, es...)
	}
	slices.Sort(out)
	return out
}

// Check reads a collection's documents and looks each key up in every index; an index must hold nothing else.
func Check(c *Collection) Report {
	r := Report{Index: map[string][]string{}}
	for _, doc := range c.Records.Ascend(0) {
		if bsonval.Validate(doc) != nil {
			r.Invalid++
		}
	}
	for _, x := range c.Indexes {
		if x.Special {
			continue
		}
		missing, want := 0, 0
		for rid, doc := range c.Records.Ascend(0) {
			es, err := x.keys(doc)
			if err != nil {
				missing++
				continue
			}
			for _, e := range es {
				want++
				if _, ok := x.Entries.Get(withRID(e.key, rid)); !ok {
					missing++
				}
			}
		}
		if missing > 0 {
			r.Index[x.Name] = append(r.Index[x.Name], fmt.Sprintf("Detected %d missing index entries in index %s.", missing, x.Name))
		}
		if extra := x.Entries.Len() - want + missing; extra > 0 {
			r.Index[x.Name] = append(r.Index[x.Name], fmt.Sprintf("Detected %d extra index entries in index %s.", extra, x.Name))
		}
	}
	return r
}
