package backup

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// workloads are the cases of the reference that a replica set has, as things that are written. Elections (8), the borders of
// slices (10) and what dies between data and metadata (24) are faults, which befall all of them.
func workloads(s *scene) []workload {
	all := []workload{
		caseTransactions(), caseUniqueValues(), caseViews(), caseIndexes(), caseUpdates(), caseLargeDocuments(), caseRenames(),
		caseInternal(), caseUsers(), caseExcluded(), caseCapped(), caseValidators(), caseManyCollections(), caseOptions(),
	}
	if w, can := caseTimeSeries(s); can {
		all = append(all, w)
	}
	return all
}

// excluded are the namespaces that the backup leaves out.
func excluded() []string { return []string{"case20_out", "case20.hidden"} }

// kept reports whether a restore is to hold a namespace as the source does.
func kept(ns string) bool {
	for _, x := range excluded() {
		if ns == x || strings.HasPrefix(ns, x+".") {
			return false
		}
	}
	db, coll, _ := strings.Cut(ns, ".")
	return db != "admin" || coll == "system.users" || coll == "system.roles" || !strings.HasPrefix(coll, "system.")
}

// Case 1: a transaction that is open when the backup begins, and others of all sizes. Those of case 10 fall on borders of slices by
// themselves.
func caseTransactions() workload {
	var open struct {
		sync.Mutex
		session *mongo.Session
	}
	return workload{
		name: "1, 10: transactions", every: 30 * time.Millisecond,
		before: func(ctx context.Context, s *scene) error {
			for _, c := range []string{"a", "b"} {
				if err := s.db("case01").CreateCollection(ctx, c); err != nil {
					return err
				}
			}
			session, err := s.client.StartSession()
			if err == nil {
				err = session.StartTransaction()
			}
			if err != nil {
				return err
			}
			within := mongo.NewSessionContext(ctx, session)
			for i := range 3 {
				if _, err := s.db("case01").Collection("a").InsertOne(within, doc("_id", fmt.Sprintf("open%d", i), "b", noise(6<<20))); err != nil {
					return err
				}
			}
			open.session = session
			return nil
		},
		round: func(ctx context.Context, s *scene, n int, r *rand.Rand) error {
			open.Lock()
			if session := open.session; session != nil {
				open.session = nil
				err := session.CommitTransaction(ctx)
				session.EndSession(ctx)
				if err != nil {
					open.Unlock()
					return fmt.Errorf("the transaction that was open before the backup: %w", err)
				}
			}
			open.Unlock()
			size := 1 + r.IntN(20)
			if n == 7 {
				size = 3000
			}
			gone := r.IntN(4) == 0
			err := s.transaction(ctx, func(ctx context.Context) error {
				var docs []any
				for i := range size {
					docs = append(docs, doc("_id", int64(n)<<16+int64(i), "n", n))
				}
				if _, err := s.db("case01").Collection("b").InsertMany(ctx, docs); err != nil {
					return err
				}
				if _, err := s.db("case01").Collection("a").UpdateOne(ctx, doc("_id", "sum"), doc("$inc", doc("docs", size)), options.UpdateOne().SetUpsert(true)); err != nil {
					return err
				}
				if _, err := s.db("case01").Collection("b").DeleteOne(ctx, doc("n", n-1)); err != nil {
					return err
				}
				if gone {
					return errAbort
				}
				return nil
			})
			if errors.Is(err, errAbort) {
				return nil
			}
			return err
		},
	}
}

var errAbort = errors.New("this transaction is to be aborted")

// Case 3: unique values change hands.
func caseUniqueValues() workload {
	const size = 60
	return workload{
		name: "3: unique values", every: 20 * time.Millisecond,
		before: func(ctx context.Context, s *scene) error {
			c := s.db("case03").Collection("c")
			if _, err := c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: doc("u", 1), Options: options.Index().SetUnique(true)}); err != nil {
				return err
			}
			var docs []any
			for i := range size {
				docs = append(docs, doc("_id", i, "u", i))
			}
			_, err := c.InsertMany(ctx, docs)
			return err
		},
		round: func(ctx context.Context, s *scene, n int, r *rand.Rand) error {
			c := s.db("case03").Collection("c")
			cur, err := c.Aggregate(ctx, bson.A{doc("$sort", doc("_id", 1)), doc("$skip", r.IntN(size-2)), doc("$limit", 2)})
			if err != nil {
				return err
			}
			var two []struct {
				ID int `bson:"_id"`
				U  int
			}
			if err := cur.All(ctx, &two); err != nil || len(two) < 2 {
				return err
			}
			set := func(id, u int) error {
				_, err := c.UpdateOne(ctx, doc("_id", id), doc("$set", doc("u", u)))
				return err
			}
			if n%3 == 0 { // the same value in another document
				if _, err := c.DeleteOne(ctx, doc("_id", two[0].ID)); err != nil {
					return err
				}
				_, err := c.InsertOne(ctx, doc("_id", 1000+n, "u", two[0].U, "again", true))
				return err
			}
			if err := set(two[0].ID, -1-n); err != nil {
				return err
			}
			if err := set(two[1].ID, two[0].U); err != nil {
				return err
			}
			return set(two[0].ID, two[1].U)
		},
	}
}

// Case 11: time series come and go, the same name in two databases.
func caseTimeSeries(s *scene) (workload, bool) {
	if !s.atLeast(5, 0) {
		s.t.Logf("case 11, time series: version %s has none", s.source.Version())
		return workload{}, false
	}
	create := func(ctx context.Context, s *scene, db, name string) error {
		return s.run(ctx, db, doc("create", name, "timeseries", doc("timeField", "t", "metaField", "m", "granularity", "minutes")))
	}
	err := create(s.t.Context(), s, "case11a", "first")
	if err != nil {
		if s.source.Real() {
			s.t.Fatal(err)
		}
		s.t.Logf("case 11, time series, is left out: the stand-in has none: %v", err)
		return workload{}, false
	}
	return workload{
		name: "11: time series", every: 100 * time.Millisecond,
		round: func(ctx context.Context, s *scene, n int, r *rand.Rand) error {
			db := []string{"case11a", "case11b"}[n/7%2]
			switch n % 7 {
			case 0:
				return create(ctx, s, db, "metrics")
			case 6:
				if n%4 == 0 {
					return s.db(db).Collection("metrics").Drop(ctx)
				}
				return nil
			}
			began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			var docs []any
			for i := range 20 {
				docs = append(docs, doc("t", began.Add(time.Duration(n*20+i)*time.Second), "m", doc("host", r.IntN(3)), "v", r.Float64(), "k", n))
			}
			for _, name := range []string{"metrics", "first"} {
				if name == "first" && db != "case11a" {
					continue
				}
				if _, err := s.db(db).Collection(name).InsertMany(ctx, docs); err != nil {
					return err
				}
			}
			return nil
		},
	}, true
}

// Case 12: views, in a database that has had none.
func caseViews() workload {
	return workload{
		name: "12: views", every: 100 * time.Millisecond,
		round: func(ctx context.Context, s *scene, n int, _ *rand.Rand) error {
			db, view := s.db("case12"), fmt.Sprintf("v%d", n/5)
			switch n % 5 {
			case 0:
				if _, err := db.Collection("c").InsertOne(ctx, doc("_id", n, "x", n)); err != nil {
					return err
				}
				return db.CreateView(ctx, view, "c", bson.A{doc("$match", doc("x", doc("$gt", n)))})
			case 1:
				return db.CreateView(ctx, view+"on", view, bson.A{doc("$project", doc("x", 1))})
			case 2:
				return s.run(ctx, "case12", doc("collMod", view, "viewOn", "c", "pipeline", bson.A{doc("$match", doc("x", doc("$lt", n)))}))
			case 3:
				return s.run(ctx, "case12", doc("create", view+"fr", "viewOn", "c", "pipeline", bson.A{}, "collation", doc("locale", "fr")))
			default:
				if n < 15 {
					return nil
				}
				return db.Collection(fmt.Sprintf("v%d", n/5-2)).Drop(ctx)
			}
		},
	}
}

// Case 13: indexes of all kinds are built, changed and dropped, on a collection with documents.
func caseIndexes() workload {
	const db = "case13"
	fill := func(ctx context.Context, s *scene, coll string) error {
		var docs []any
		for i := range 150 {
			docs = append(docs, doc("_id", i, "a", i%7, "b", fmt.Sprint(i%5), "u", i, "t", time.Date(2100, 1, 1, 0, 0, i, 0, time.UTC), "p", bson.A{float64(i), float64(i % 80)}))
		}
		_, err := s.db(db).Collection(coll).InsertMany(ctx, docs)
		return err
	}
	return workload{
		name: "13: indexes", every: 50 * time.Millisecond,
		before: func(ctx context.Context, s *scene) error { return fill(ctx, s, "c0") },
		round: func(ctx context.Context, s *scene, n int, _ *rand.Rand) error {
			const steps = 20
			coll := fmt.Sprintf("c%d", n/steps%4)
			create := func(what string, specs ...any) error {
				return s.unless("an index "+what, s.run(ctx, db, doc("createIndexes", coll, "indexes", bson.A(specs))))
			}
			modify := func(what string, index bson.D) error {
				return s.unless("collMod of an index: "+what, s.run(ctx, db, doc("collMod", coll, "index", index)))
			}
			switch n % steps {
			case 0:
				if n/steps < 4 && coll != "c0" {
					return fill(ctx, s, coll)
				}
				if n/steps >= 4 {
					if err := s.db(db).Collection(coll).Drop(ctx); err != nil {
						return err
					}
					return fill(ctx, s, coll)
				}
				return nil
			case 1:
				return create("several at once", doc("key", doc("a", 1), "name", "a_1"), doc("key", doc("b", -1), "name", "b_-1"), doc("key", doc("a", 1, "b", 1), "name", "ab"))
			case 2:
				return create("that is partial", doc("key", doc("a", 1), "name", "partial", "partialFilterExpression", doc("a", doc("$gt", 5)), "collation", doc("locale", "de")))
			case 3:
				return create("that is partial with an empty filter", doc("key", doc("b", 1), "name", "partialempty", "partialFilterExpression", doc()))
			case 4:
				if !s.atLeast(4, 4) {
					return nil
				}
				return create("that is hidden", doc("key", doc("a", 1, "u", 1), "name", "hidden", "hidden", true))
			case 5:
				if !s.atLeast(4, 4) {
					return nil
				}
				return modify("hidden", doc("name", "hidden", "hidden", n/steps%2 == 0))
			case 6:
				return create("with a time to live", doc("key", doc("t", 1), "name", "ttl", "expireAfterSeconds", 100_000))
			case 7:
				return modify("time to live", doc("name", "ttl", "expireAfterSeconds", 200_000+n))
			case 8:
				if !s.atLeast(5, 1) {
					return nil
				}
				if err := create("to be made one with a time to live", doc("key", doc("t", -1), "name", "tottl")); err != nil {
					return err
				}
				return modify("to one with a time to live", doc("name", "tottl", "expireAfterSeconds", 300_000))
			case 9:
				return create("that is unique", doc("key", doc("u", 1), "name", "u", "unique", true))
			case 10:
				if !s.atLeast(6, 0) {
					return nil
				}
				if err := create("to be made unique", doc("key", doc("u", -1), "name", "tounique")); err != nil {
					return err
				}
				return modify("prepareUnique", doc("name", "tounique", "prepareUnique", true))
			case 11:
				if !s.atLeast(6, 0) {
					return nil
				}
				err := modify("unique", doc("name", "tounique", "unique", true))
				var refused mongo.ServerError
				if errors.As(err, &refused) && refused.HasErrorCode(72) {
					return nil // the round that prepares it was interrupted
				}
				return err
			case 12: // one of two with the same key
				return create("of the same key as another", doc("key", doc("a", 1), "name", "a_1_fr", "collation", doc("locale", "fr")))
			case 13:
				return s.run(ctx, db, doc("dropIndexes", coll, "index", "a_1"))
			case 14:
				return create("of all fields", doc("key", doc("$**", 1), "name", "all"))
			case 15:
				return create("of hashes", doc("key", doc("u", "hashed"), "name", "hash"))
			case 16:
				return create("that is sparse", doc("key", doc("nowhere", 1), "name", "sparse", "sparse", true))
			case 17:
				return create("of places", doc("key", doc("p", "2d"), "name", "place", "min", -500.0, "max", 500.0))
			case 18:
				return create("of text", doc("key", doc("b", "text"), "name", "words", "default_language", "none"))
			default: // on an empty collection
				name := fmt.Sprintf("empty%d", n%3)
				if err := s.run(ctx, db, doc("createIndexes", name, "indexes", bson.A{doc("key", doc("x", 1), "name", fmt.Sprintf("x%d", n))})); err != nil {
					return err
				}
				_, err := s.db(db).Collection(name).InsertOne(ctx, doc("x", n))
				return err
			}
		},
	}
}

// Case 14: documents whose field names look like an update's, changed in all the ways there are.
func caseUpdates() workload {
	names := []string{"a", "b", "d", "u", "i", "l", "s1", "sa", "u0", "v", "diff", "o"}
	hard := []string{"$diff", "$set", "$v", "a.b", "u.0", "", "$a.1"} // nested ones only
	var value func(r *rand.Rand, depth int, nested bool) any
	object := func(r *rand.Rand, depth int, nested bool) bson.D {
		d := bson.D{}
		seen := map[string]bool{}
		for range r.IntN(6) {
			pool := names
			if nested && r.IntN(3) == 0 {
				pool = hard
			}
			name := pool[r.IntN(len(pool))]
			if !seen[name] {
				seen[name] = true
				d = append(d, bson.E{Key: name, Value: value(r, depth-1, nested)})
			}
		}
		return d
	}
	value = func(r *rand.Rand, depth int, nested bool) any {
		switch n := r.IntN(9); {
		case n == 0:
			return int32(r.IntN(3))
		case n == 1:
			return int64(r.IntN(3))
		case n == 2:
			return float64(r.IntN(3))
		case n == 3:
			return []any{"", "text", true, nil, bson.NewDateTimeFromTime(time.Unix(1, 0)), bson.Timestamp{T: 1, I: 2}, bson.Regex{Pattern: "a"}}[r.IntN(7)]
		case depth <= 0:
			return "x"
		case n < 6:
			a := bson.A{}
			for range r.IntN(7) {
				a = append(a, value(r, depth-1, nested))
			}
			return a
		default:
			return object(r, depth, nested)
		}
	}
	return workload{
		name: "14: updates", every: 5 * time.Millisecond,
		round: func(ctx context.Context, s *scene, n int, r *rand.Rand) error {
			c := s.db("case14").Collection("c")
			id, nested := doc("_id", r.IntN(40)), s.atLeast(5, 0)
			upsert := options.UpdateOne().SetUpsert(true)
			name := names[r.IntN(len(names))]
			var err error
			switch r.IntN(9) {
			case 0, 1:
				_, err = c.ReplaceOne(ctx, id, append(object(r, 3, false), doc("z", object(r, 3, nested), "y", value(r, 2, nested))...), options.Replace().SetUpsert(true))
			case 2:
				_, err = c.UpdateOne(ctx, id, doc("$set", doc("q", bson.A{1, bson.A{2, doc("l", 3)}, 4, 5, 6, 7, 8}, name, value(r, 2, nested))), upsert)
			case 3:
				_, err = c.UpdateOne(ctx, doc("_id", id[0].Value, "q", doc("$type", "array")), doc("$set", doc(fmt.Sprintf("q.%d", r.IntN(12)), value(r, 1, nested))))
			case 4:
				_, err = c.UpdateOne(ctx, doc("_id", id[0].Value, "q", doc("$type", "array")), doc("$push", doc("q", doc("$each", bson.A{n}, "$slice", -1-r.IntN(8)))))
			case 5:
				_, err = c.UpdateOne(ctx, id, doc("$unset", doc(name, "")))
			case 6:
				_, err = c.UpdateOne(ctx, id, bson.A{doc("$set", doc("w", doc(name, "$z"), "big", strings.Repeat("x", r.IntN(500)))), doc("$unset", names[r.IntN(len(names))])}, upsert)
			case 7:
				_, err = c.UpdateOne(ctx, id, doc("$inc", doc("count", int64(1)), "$rename", doc("count2", "count3")), upsert)
			default:
				_, err = c.DeleteOne(ctx, id)
			}
			var refused mongo.ServerError
			if errors.As(err, &refused) && (refused.HasErrorCode(52) || refused.HasErrorCode(56) || refused.HasErrorCode(57)) {
				return nil // some versions refuse such a name in some operators
			}
			return s.unless("an update", err)
		},
	}
}

// Case 15: documents as large as they may be, and a transaction larger than an entry.
func caseLargeDocuments() workload {
	const most = 16 << 20
	// The rest of the document is its length, its end, and two elements with their names.
	full := func(id int) bson.D { return doc("_id", int32(id), "b", noise(most-4-1-(1+4+4)-(1+2+4+1))) } //nolint:gosec // small
	return workload{
		name: "15: large documents", every: 400 * time.Millisecond,
		before: func(ctx context.Context, s *scene) error {
			for i := range 3 {
				if _, err := s.db("case15").Collection("c").InsertOne(ctx, full(i)); err != nil {
					return err
				}
			}
			return nil
		},
		round: func(ctx context.Context, s *scene, n int, r *rand.Rand) error {
			c := s.db("case15").Collection("c")
			switch n {
			case 1, 40:
				_, err := c.ReplaceOne(ctx, doc("_id", int32(r.IntN(3))), full(0)[1:])
				return err
			case 3, 60:
				return s.transaction(ctx, func(ctx context.Context) error {
					for i := range 4 {
						if _, err := c.ReplaceOne(ctx, doc("_id", int32(10+i)), doc("b", noise(5<<20)), options.Replace().SetUpsert(true)); err != nil { //nolint:gosec // small
							return err
						}
					}
					return nil
				})
			default:
				_, err := c.UpdateOne(ctx, doc("_id", int32(10+r.IntN(4))), doc("$set", doc("n", n))) //nolint:gosec // small
				return err
			}
		},
	}
}

// Case 16: names change hands.
func caseRenames() workload {
	return workload{
		name: "16: renames", every: 40 * time.Millisecond,
		round: func(ctx context.Context, s *scene, n int, _ *rand.Rand) error {
			const db = "case16"
			step := n / 7
			fill := func(coll string) error {
				var docs []any
				for i := range 30 {
					docs = append(docs, doc("_id", i, "made", step, "as", coll))
				}
				_, err := s.db(db).Collection(coll).InsertMany(ctx, docs)
				return err
			}
			rename := func(from, to string, drop bool) error {
				return s.run(ctx, "admin", doc("renameCollection", db+"."+from, "to", db+"."+to, "dropTarget", drop))
			}
			switch n % 7 {
			case 0:
				return fill(fmt.Sprintf("new%d", step))
			case 1:
				return rename(fmt.Sprintf("new%d", step), "stable", true)
			case 2:
				_, err := s.db(db).Collection("stable").UpdateMany(ctx, doc("_id", doc("$lt", 10)), doc("$set", doc("in", "stable", "n", n)))
				return err
			case 3:
				if err := s.db(db).Collection("reborn").Drop(ctx); err != nil {
					return err
				}
				return fill("reborn")
			case 4:
				return rename("reborn", fmt.Sprintf("kept%d", step%4), true)
			case 5: // a whole database
				if err := s.db("case16b").Drop(ctx); err != nil {
					return err
				}
				_, err := s.db("case16b").Collection("c").InsertOne(ctx, doc("_id", n))
				return err
			default:
				return s.unless("a rename across databases", s.run(ctx, "admin", doc("renameCollection", fmt.Sprintf("%s.kept%d", db, step%4), "to", "case16c.came", "dropTarget", true)))
			}
		},
	}
}

// Case 18: what servers keep for themselves.
func caseInternal() workload {
	return workload{
		name: "18: internal collections", every: 200 * time.Millisecond,
		round: func(ctx context.Context, s *scene, n int, _ *rand.Rand) error {
			if n%5 == 0 {
				err := s.client.Database("admin").RunCommand(ctx, doc("refreshLogicalSessionCacheNow", 1)).Err()
				if err = s.unless("refreshLogicalSessionCacheNow", err); err != nil {
					return err
				}
			}
			if !s.source.Real() { // a real server writes them itself
				for _, c := range []string{"system.sessions", "transactions", "changelog", "rangeDeletions", "system.indexBuilds", "image_collection"} {
					if _, err := s.db("config").Collection(c).InsertOne(ctx, doc("n", n)); err != nil {
						return s.unless("a write to config."+c, err)
					}
				}
			}
			return s.db("case18").Collection("c").FindOneAndUpdate(ctx, doc("_id", n%5), doc("$set", doc("n", n)),
				options.FindOneAndUpdate().SetUpsert(true).SetReturnDocument(options.After)).Err()
		},
	}
}

// Case 19: people come and go, and a database has nearly the name of theirs.
func caseUsers() workload {
	return workload{
		name: "19: users and roles", every: 150 * time.Millisecond,
		round: func(ctx context.Context, s *scene, n int, _ *rand.Rand) error {
			if _, err := s.db("admin2").Collection("system").InsertOne(ctx, doc("_id", n)); err != nil {
				return err
			}
			user, role := fmt.Sprintf("user%d", n/6%5), fmt.Sprintf("role%d", n/6%5)
			switch n % 6 {
			case 0:
				return s.run(ctx, "case19", doc("createUser", user, "pwd", "first", "roles", bson.A{"read"}))
			case 1:
				privilege := doc("resource", doc("db", "case19", "collection", ""), "actions", bson.A{"find"})
				return s.unless("createRole", s.run(ctx, "case19", doc("createRole", role, "privileges", bson.A{privilege}, "roles", bson.A{})))
			case 2:
				return s.run(ctx, "case19", doc("updateUser", user, "pwd", "second"))
			case 3:
				return s.run(ctx, "case19", doc("grantRolesToUser", user, "roles", bson.A{doc("role", "readWrite", "db", "admin2")}))
			case 4:
				if n/6%3 == 0 {
					return s.unless("dropRole", s.run(ctx, "case19", doc("dropRole", role)))
				}
			case 5:
				if n/6%2 == 0 {
					return s.run(ctx, "case19", doc("dropUser", user))
				}
			}
			return nil
		},
	}
}

// Case 20: namespaces that are left out, beside and within what is held.
func caseExcluded() workload {
	return workload{
		name: "20: excluded namespaces", every: 60 * time.Millisecond,
		before: func(ctx context.Context, s *scene) error {
			for _, c := range []string{"keep", "hidden"} {
				if _, err := s.db("case20").Collection(c).InsertOne(ctx, doc("_id", -1)); err != nil {
					return err
				}
			}
			_, err := s.db("case20_out").Collection("c").InsertOne(ctx, doc("_id", -1))
			return err
		},
		round: func(ctx context.Context, s *scene, n int, _ *rand.Rand) error {
			switch n % 6 {
			case 0, 1:
				return s.transaction(ctx, func(ctx context.Context) error {
					for _, c := range []*mongo.Collection{s.db("case20").Collection("keep"), s.db("case20").Collection("hidden"), s.db("case20_out").Collection("c")} {
						if _, err := c.UpdateOne(ctx, doc("_id", n%20), doc("$set", doc("n", n)), options.UpdateOne().SetUpsert(true)); err != nil {
							return err
						}
					}
					return nil
				})
			case 2:
				if err := s.run(ctx, "case20_out", doc("createIndexes", "c", "indexes", bson.A{doc("key", doc(fmt.Sprintf("x%d", n%7), 1), "name", fmt.Sprintf("x%d", n%7))})); err != nil {
					return err
				}
				return s.run(ctx, "case20", doc("createIndexes", "hidden", "indexes", bson.A{doc("key", doc("n", 1), "name", "n_1")}))
			case 3: // out of what is held
				if _, err := s.db("case20").Collection("leaves").InsertOne(ctx, doc("n", n)); err != nil {
					return err
				}
				return s.run(ctx, "admin", doc("renameCollection", "case20.leaves", "to", "case20.hidden", "dropTarget", true))
			case 4:
				return s.db("case20_out").Collection("gone").Drop(ctx)
			default:
				_, err := s.db("case20_outer").Collection("c").InsertOne(ctx, doc("_id", n)) // begins with an excluded name
				return err
			}
		},
	}
}

// Case 21: capped collections that wrap all the time.
func caseCapped() workload {
	return workload{
		name: "21: capped collections", every: 20 * time.Millisecond,
		before: func(ctx context.Context, s *scene) error {
			for name, most := range map[string]int64{"few": 50, "bytes": 0} {
				o := options.CreateCollection().SetCapped(true).SetSizeInBytes(64 << 10)
				if most > 0 {
					o.SetMaxDocuments(most)
				}
				if err := s.db("case21").CreateCollection(ctx, name, o); err != nil {
					return err
				}
			}
			return nil
		},
		round: func(ctx context.Context, s *scene, n int, r *rand.Rand) error {
			if n%150 == 149 {
				coll := fmt.Sprintf("grown%d", n/150%3)
				if _, err := s.db("case21").Collection(coll).InsertMany(ctx, []any{doc("n", n), doc("n", n+1)}); err != nil {
					return err
				}
				return s.unless("convertToCapped", s.run(ctx, "case21", doc("convertToCapped", coll, "size", 4096)))
			}
			for _, name := range []string{"few", "bytes"} {
				c := s.db("case21").Collection(name)
				var docs []any
				for i := range 5 {
					docs = append(docs, doc("_id", n*10+i, "n", n, "s", strings.Repeat("s", 100)))
				}
				if _, err := c.InsertMany(ctx, docs); err != nil {
					return err
				}
				// It may be trimmed by the time that this is replayed.
				if _, err := c.UpdateOne(ctx, doc("_id", (n-r.IntN(9))*10), doc("$set", doc("n", -n))); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// Case 23: documents that a validator would refuse.
func caseValidators() workload {
	return workload{
		name: "23: validators", every: 100 * time.Millisecond,
		before: func(ctx context.Context, s *scene) error {
			_, err := s.db("case23").Collection("c").InsertMany(ctx, []any{doc("_id", -1, "x", "text"), doc("_id", -2)})
			return err
		},
		round: func(ctx context.Context, s *scene, n int, _ *rand.Rand) error {
			c := s.db("case23").Collection("c")
			switch n % 4 {
			case 0:
				return s.run(ctx, "case23", doc("collMod", "c", "validator", doc("x", doc("$gt", n)), "validationLevel", []string{"strict", "moderate"}[n/4%2], "validationAction", "error"))
			case 1:
				_, err := c.InsertOne(ctx, doc("_id", n, "x", -5), options.InsertOne().SetBypassDocumentValidation(true))
				return err
			case 2:
				_, err := c.UpdateOne(ctx, doc("_id", -1), doc("$set", doc("n", n)), options.UpdateOne().SetBypassDocumentValidation(true))
				return err
			default:
				_, err := c.InsertOne(ctx, doc("_id", n, "x", n+1000))
				return err
			}
		},
	}
}

// Case 25: a thousand collections, and names as long as they may be.
func caseManyCollections() workload {
	name := func(s *scene, i int) string {
		long := 120
		if s.atLeast(4, 4) {
			long = 255
		}
		n := fmt.Sprintf("c%04d_", i)
		if i%10 == 0 {
			n += strings.Repeat("n", long-len("case25.")-len(n))
		}
		return n
	}
	const collections = 1000
	return workload{
		name: "25: many collections", every: 30 * time.Millisecond,
		before: func(ctx context.Context, s *scene) error {
			for i := range collections {
				if _, err := s.db("case25").Collection(name(s, i)).InsertOne(ctx, doc("_id", i)); err != nil {
					return err
				}
			}
			return nil
		},
		round: func(ctx context.Context, s *scene, n int, r *rand.Rand) error {
			_, err := s.db("case25").Collection(name(s, r.IntN(collections))).InsertOne(ctx, doc("_id", -n-1))
			return err
		},
	}
}

// caseOptions makes collections of all kinds.
func caseOptions() workload {
	return workload{
		name: "2.12: options of collections", every: 100 * time.Millisecond,
		round: func(ctx context.Context, s *scene, n int, _ *rand.Rand) error {
			const db = "case212"
			coll := fmt.Sprintf("c%d", n/5%6)
			create := func(what string, o ...any) error {
				return s.unless("a collection "+what, s.run(ctx, db, append(doc("create", coll), doc(o...)...)))
			}
			switch {
			case n%5 == 4:
				if n > 60 {
					return s.db(db).Collection(coll).Drop(ctx)
				}
				return nil
			case n%5 > 0:
				docs := []any{doc("_id", fmt.Sprintf("Id%d", n), "n", int32(n)), doc("_id", float64(n)+0.5, "n", n)}
				_, err := s.db(db).Collection(coll).InsertMany(ctx, docs)
				return err
			}
			switch n / 5 % 6 {
			case 0:
				return create("with a collation", "collation", doc("locale", "en", "strength", 2))
			case 1:
				if !s.atLeast(5, 3) {
					return nil
				}
				return create("that is clustered", "clusteredIndex", doc("key", doc("_id", 1), "unique", true, "name", "cluster"))
			case 2:
				if !s.atLeast(6, 0) {
					return nil
				}
				return create("with images", "changeStreamPreAndPostImages", doc("enabled", true))
			case 3:
				return create("with a validator", "validator", doc("n", doc("$gte", 0)), "validationAction", "warn")
			case 4:
				return create("with an engine's option", "storageEngine", doc("wiredTiger", doc("configString", "block_compressor=none")))
			default:
				return create("with defaults of indexes", "indexOptionDefaults", doc("storageEngine", doc("wiredTiger", doc("configString", "block_compressor=none"))))
			}
		},
	}
}
