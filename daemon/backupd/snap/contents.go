package snap

import (
	"context"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
)

// contentsLimit bounds asking a head for the sizes of its collections; those that were not asked then have size 0.
const contentsLimit = time.Minute

// Contents lists what a head holds, with the bytes of the documents: what previews of restores show. It is for people: a size that
// cannot be had is 0.
func Contents(ctx context.Context, c *mongo.Client, collections []schema.Collection) []restoreplan.Namespace {
	ctx, stop := context.WithTimeout(ctx, contentsLimit)
	defer stop()
	var all []restoreplan.Namespace
	for i := range collections {
		ns := collections[i].NS
		db, coll := oplog.Split(ns)
		if filter.Internal(ns) || db == "admin" || db == "config" || db == "local" || schema.IsViews(ns) {
			continue
		}
		var st struct {
			Size float64 `bson:"size"`
		}
		if ctx.Err() == nil {
			if err := c.Database(db).RunCommand(ctx, bson.D{{Key: "collStats", Value: coll}}).Decode(&st); err != nil {
				st.Size = 0
			}
		}
		all = append(all, restoreplan.Namespace{NS: ns, Bytes: int64(st.Size)})
	}
	slices.SortFunc(all, func(a, b restoreplan.Namespace) int { return strings.Compare(a.NS, b.NS) })
	return all
}
