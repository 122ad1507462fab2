package target

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/dump"
)

// Info is what is under a name in the target.
type Info struct {
	Type string // collection, view or timeseries
	UUID []byte // of a collection
	Raw  bson.Raw
}

func infoOf(doc bson.Raw) Info {
	x := Info{Type: Text(doc, "type"), Raw: doc}
	if x.Type == "" {
		x.Type = dump.Collection
	}
	_, x.UUID, _ = Lookup(doc, "info", "uuid").BinaryOK()
	return x
}

// List lists what a database holds, or of it what a filter finds.
func (t *Target) List(ctx context.Context, db string, filter bson.D) (map[string]Info, error) {
	cmd := bson.D{{Key: "listCollections", Value: 1}}
	if filter != nil {
		cmd = append(cmd, bson.E{Key: "filter", Value: filter})
	}
	docs, err := t.Query(ctx, db, cmd)
	if err != nil {
		return nil, fmt.Errorf("list the collections of %s: %w", db, err)
	}
	out := make(map[string]Info, len(docs))
	for _, doc := range docs {
		out[Text(doc, "name")] = infoOf(doc)
	}
	return out, nil
}

// At is what is under a name, ok false for nothing.
func (t *Target) At(ctx context.Context, db, coll string) (Info, bool, error) {
	all, err := t.List(ctx, db, bson.D{{Key: "name", Value: coll}})
	x, ok := all[coll]
	return x, ok, err
}

// Databases lists the databases.
func (t *Target) Databases(ctx context.Context) ([]string, error) {
	raw, err := t.Do(ctx, Quick, "admin", bson.D{{Key: "listDatabases", Value: 1}, {Key: "nameOnly", Value: true}})
	if err != nil {
		return nil, fmt.Errorf("list the databases: %w", err)
	}
	docs, err := documents(raw, "databases")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, doc := range docs {
		out = append(out, Text(doc, "name"))
	}
	return out, nil
}

// Version asks the primary for its release and its feature compatibility version.
func (t *Target) Version(ctx context.Context) (version, fcv string, err error) {
	raw, err := t.Do(ctx, Quick, "admin", bson.D{{Key: "buildInfo", Value: 1}})
	if err != nil {
		return "", "", err
	}
	version = Text(raw, "version")
	if raw, err = t.Do(ctx, Quick, "admin", bson.D{{Key: "getParameter", Value: 1}, {Key: "featureCompatibilityVersion", Value: 1}}); err != nil {
		return version, "", err
	}
	if fcv = Text(raw, "featureCompatibilityVersion", "version"); fcv == "" {
		fcv = Text(raw, "featureCompatibilityVersion")
	}
	return version, fcv, nil
}

// series is a version's first two numbers; what is none counts as 0.
func series(v string) (out [2]int) {
	for i, part := range strings.SplitN(v, ".", 3) {
		if i < 2 {
			out[i], _ = strconv.Atoi(part)
		}
	}
	return out
}

// Older reports whether a version comes before another, by their first two numbers.
func Older(a, b string) bool {
	x, y := series(a), series(b)
	return slices.Compare(x[:], y[:]) < 0
}

// Drop drops a collection or view; one that is not there is no error.
func (t *Target) Drop(ctx context.Context, db, coll string) error {
	_, err := t.Write(ctx, Slow, db, bson.D{{Key: "drop", Value: coll}})
	if err != nil && !Is(err, CodeNamespaceGone) {
		return fmt.Errorf("drop %s.%s: %w", db, coll, err)
	}
	return nil
}
