package work

import (
	"fmt"
	"iter"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
)

// ownNames lets no two collections of a full read have one name. A read that was interrupted lists again, so that it may hold a
// collection and the one that took its name afterwards. Both lose the name, as the entries of the fuzzy window give each its own.
// Buckets of time series cannot be renamed: there only the one that was made last is kept. The others are gone by then.
func ownNames(read []schema.Collection, window func() iter.Seq2[bson.Raw, error]) ([]schema.Collection, error) {
	holders := map[string]int{}
	for _, c := range read {
		holders[c.NS]++
	}
	buckets := map[string]oplog.UUID{} // the last holder of a name
	for _, c := range read {
		if holders[c.NS] > 1 && isBuckets(c.NS) {
			buckets[c.NS] = c.UUID
		}
	}
	if len(buckets) > 0 {
		for raw, err := range window() {
			if err != nil {
				return nil, fmt.Errorf("read the fuzzy window: %w", err)
			}
			e, err := oplog.Decode(raw)
			if err != nil {
				return nil, fmt.Errorf("read the fuzzy window: %w", err)
			}
			if e.Kind != oplog.Command || e.Command.Name != oplog.Create {
				continue
			}
			for _, c := range read { // only what was read: it may have been dropped and made once more later
				if _, among := buckets[c.NS]; among && c.UUID == e.UI {
					buckets[c.NS] = c.UUID
				}
			}
		}
	}
	var out []schema.Collection
	for _, c := range read {
		if holders[c.NS] > 1 {
			if last, is := buckets[c.NS]; !is {
				c.NS = schema.AsideName(c.NS, c.UUID)
			} else if last != c.UUID {
				continue
			}
		}
		out = append(out, c)
	}
	return out, nil
}

func isBuckets(ns string) bool {
	_, coll := oplog.Split(ns)
	return strings.HasPrefix(coll, "system.buckets.")
}
