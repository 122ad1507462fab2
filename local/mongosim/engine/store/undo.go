package store

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// undo tells OnChange how to take back a change of a collection's name, options or being.
func (s *State) undo(c *Collection, back func(t *State, x *Collection)) {
	if s.OnChange == nil || DBOf(c.NS) == "local" {
		return
	}
	u := c.UUID
	s.OnChange(func(t *State) {
		if x := t.ByUUID(u); x != nil {
			back(t, x)
		}
	})
}

// watched gives the record before a change, and whether there is one, when somebody wants to know.
func (s *State) watched(c *Collection, rid int64) (bson.Raw, bool) {
	if s.OnChange == nil || DBOf(c.NS) == "local" {
		return nil, false
	}
	return c.Records.Get(rid)
}

// undoRecord tells OnChange of a changed record; old is nil when there was none.
func (s *State) undoRecord(c *Collection, rid int64, old bson.Raw) {
	s.undo(c, func(_ *State, x *Collection) {
		if old == nil {
			x.remove(rid)
		} else {
			_ = x.put(rid, old) // it was there before: no index refuses it
		}
	})
}

// undoIndexes tells OnChange of the indexes there are, before they change. An index that is dropped keeps the entries of that moment.
func (s *State) undoIndexes(c *Collection) {
	if s.OnChange == nil || DBOf(c.NS) == "local" {
		return
	}
	type old struct {
		x    *Index
		spec bson.Raw
	}
	was := make([]old, len(c.Indexes))
	for i, x := range c.Indexes {
		was[i] = old{x, x.Spec}
	}
	s.undo(c, func(_ *State, d *Collection) {
		var out []*Index
		for _, o := range was {
			i := slices.IndexFunc(d.Indexes, func(x *Index) bool { return x.Name == o.x.Name })
			var y Index
			if i >= 0 {
				y = *d.Indexes[i]
			} else {
				y = *o.x
				if y.Entries != nil {
					y.Entries = y.Entries.Clone()
				}
			}
			y.Spec = o.spec
			out = append(out, &y)
		}
		d.Indexes = out
	})
}
