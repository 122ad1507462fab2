package restore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/dump"
	"github.com/heartwood-db/heartwood/shared/oplog"
)

// info is what is under a name in the target.
type info struct {
	Type string // collection, view or timeseries
	UUID []byte // of a collection
	Raw  bson.Raw
}

func infoOf(doc bson.Raw) info {
	x := info{Type: text(doc, "type"), Raw: doc}
	if x.Type == "" {
		x.Type = dump.Collection
	}
	_, x.UUID, _ = lookup(doc, "info", "uuid").BinaryOK()
	return x
}

// list lists what a database holds, or of it what a filter finds.
func (t *target) list(ctx context.Context, db string, filter bson.D) (map[string]info, error) {
	cmd := bson.D{{Key: "listCollections", Value: 1}}
	if filter != nil {
		cmd = append(cmd, bson.E{Key: "filter", Value: filter})
	}
	docs, err := t.query(ctx, db, cmd)
	if err != nil {
		return nil, fmt.Errorf("list the collections of %s: %w", db, err)
	}
	out := make(map[string]info, len(docs))
	for _, doc := range docs {
		out[text(doc, "name")] = infoOf(doc)
	}
	return out, nil
}

// at is what is under a name, ok false for nothing.
func (t *target) at(ctx context.Context, db, coll string) (info, bool, error) {
	all, err := t.list(ctx, db, bson.D{{Key: "name", Value: coll}})
	x, ok := all[coll]
	return x, ok, err
}

// databases lists the databases.
func (t *target) databases(ctx context.Context) ([]string, error) {
	raw, err := t.do(ctx, quick, "admin", bson.D{{Key: "listDatabases", Value: 1}, {Key: "nameOnly", Value: true}})
	if err != nil {
		return nil, fmt.Errorf("list the databases: %w", err)
	}
	docs, err := documents(raw, "databases")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, doc := range docs {
		out = append(out, text(doc, "name"))
	}
	return out, nil
}

// version asks the primary for its release and its feature compatibility version.
func (t *target) version(ctx context.Context) (version, fcv string, err error) {
	raw, err := t.do(ctx, quick, "admin", bson.D{{Key: "buildInfo", Value: 1}})
	if err != nil {
		return "", "", err
	}
	version = text(raw, "version")
	if raw, err = t.do(ctx, quick, "admin", bson.D{{Key: "getParameter", Value: 1}, {Key: "featureCompatibilityVersion", Value: 1}}); err != nil {
		return version, "", err
	}
	if fcv = text(raw, "featureCompatibilityVersion", "version"); fcv == "" {
		fcv = text(raw, "featureCompatibilityVersion")
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

func older(a, b string) bool {
	x, y := series(a), series(b)
	return slices.Compare(x[:], y[:]) < 0
}

// check refuses what cannot come to a good end, before anything is written.
func (w *work) check(ctx context.Context) error {
	if fcv := w.plan.FCV; older(w.fcv, fcv) {
		return refuse(fmt.Sprintf("Raise it with setFeatureCompatibilityVersion, or restore into a deployment of %s or later.", fcv),
			"the feature compatibility version of %s is %s, the backup's is %s", w.t.set, w.fcv, fcv)
	}
	if err := w.checkNames(ctx); err != nil {
		return err
	}
	return w.checkRoom(ctx)
}

// checkNames looks for what is in the way.
func (w *work) checkNames(ctx context.Context) error {
	databases, err := w.t.databases(ctx)
	if err != nil {
		return err
	}
	var there []string
	wanted := w.byDatabase()
	for db, entries := range wanted {
		for _, other := range databases {
			if other != db && strings.EqualFold(other, db) {
				return refuse("Restore under another name: servers do not keep databases apart that differ only in case.", "the database %s would stand beside %s", db, other)
			}
		}
		if !slices.Contains(databases, db) {
			continue
		}
		have, err := w.t.list(ctx, db, nil)
		if err != nil {
			return err
		}
		for name := range have {
			if strings.HasPrefix(name, w.staging) {
				return refuse(fmt.Sprintf("Drop %s.%s and the others whose names begin like it, then start the restore again.", db, name),
					"%s.%s is there, which is how this restore would call what it stages", db, name)
			}
		}
		for _, e := range entries {
			_, coll := oplog.Split(e.NS)
			if _, ok := have[coll]; ok && !e.IsUsers() {
				there = append(there, e.NS)
			}
		}
	}
	if len(there) == 0 || w.push.Drop {
		return nil
	}
	slices.Sort(there)
	return refuse("Allow collections in the way to be dropped, or restore under other names.", "%d collections are there already: %s", len(there), some(there))
}

func (w *work) byDatabase() map[string][]*dump.Entry {
	out := map[string][]*dump.Entry{}
	for i := range w.entries {
		db, _ := oplog.Split(w.entries[i].NS)
		out[db] = append(out[db], &w.entries[i])
	}
	return out
}

func some(names []string) string {
	const few = 10
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:few], ", ") + fmt.Sprintf(" and %d more", len(names)-few)
}

// checkRoom compares the room on the disks of the members that answer with what is to be written. What it takes on disk is
// less, for it is compressed there; what indexes take is not known.
func (w *work) checkRoom(ctx context.Context) error {
	raw, err := w.t.do(ctx, quick, "admin", bson.D{{Key: "dbStats", Value: 1}})
	if err != nil {
		return fmt.Errorf("ask for the room on the disk: %w", err)
	}
	answers := map[string]bson.Raw{"the primary": raw}
	for _, h := range w.t.hosts {
		s, err := w.t.server(h)
		if err != nil {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, helloLimit)
		// A member that does not answer is none of this restore's business.
		if raw, err := s.Run(limited, "admin", bson.D{{Key: "dbStats", Value: 1}}); err == nil {
			answers[h.Hostname+":"+strconv.Itoa(int(h.Port))] = raw
		}
		cancel()
	}
	for who, raw := range answers {
		total, used := whole(raw, "fsTotalSize"), whole(raw, "fsUsedSize")
		if free := total - used; total > 0 && free < w.bytes {
			return refuse("Make room on that disk, or restore fewer namespaces.", "%s has %d MB of disk left, and %d MB are to be written beside what is there", who, free>>20, w.bytes>>20)
		}
	}
	return nil
}

// preImages is an option of collections that 6.0 knows under another name.
func preImages(options bson.Raw, version string) (bson.Raw, error) {
	v, ok := oplog.Lookup(options, "recordPreImages")
	if !ok || older(version, "6.0") {
		return options, nil
	}
	out, err := dump.Without(options, "recordPreImages")
	if on, _ := v.BooleanOK(); err != nil || !on {
		return out, err
	}
	var d bson.D
	if err := bson.Unmarshal(out, &d); err != nil {
		return nil, err
	}
	d = append(d, bson.E{Key: "changeStreamPreAndPostImages", Value: bson.D{{Key: "enabled", Value: true}}})
	return bson.Marshal(d)
}

type duration = time.Duration
