package restore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/backupagent/restore/target"
	"github.com/heartwood-db/heartwood/shared/dump"
	"github.com/heartwood-db/heartwood/shared/oplog"
)

// check refuses what cannot come to a good end, before anything is written.
func (w *work) check(ctx context.Context) error {
	if fcv := w.plan.FCV; target.Older(w.fcv, fcv) {
		return refuse(fmt.Sprintf("Raise it with setFeatureCompatibilityVersion, or restore into a deployment of %s or later.", fcv),
			"the feature compatibility version of %s is %s, the backup's is %s", w.t.Set, w.fcv, fcv)
	}
	if err := w.checkNames(ctx); err != nil {
		return err
	}
	return w.checkRoom(ctx)
}

// checkNames looks for what is in the way.
func (w *work) checkNames(ctx context.Context) error {
	databases, err := w.t.Databases(ctx)
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
		have, err := w.t.List(ctx, db, nil)
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
	raw, err := w.t.Do(ctx, target.Quick, "admin", bson.D{{Key: "dbStats", Value: 1}})
	if err != nil {
		return fmt.Errorf("ask for the room on the disk: %w", err)
	}
	answers := map[string]bson.Raw{"the primary": raw}
	for _, h := range w.t.Hosts {
		s, err := w.t.Server(h)
		if err != nil {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, target.HelloLimit)
		// A member that does not answer is none of this restore's business.
		if raw, err := s.Run(limited, "admin", bson.D{{Key: "dbStats", Value: 1}}); err == nil {
			answers[h.Hostname+":"+strconv.Itoa(int(h.Port))] = raw
		}
		cancel()
	}
	for who, raw := range answers {
		total, used := target.Whole(raw, "fsTotalSize"), target.Whole(raw, "fsUsedSize")
		if free := total - used; total > 0 && free < w.bytes {
			return refuse("Make room on that disk, or restore fewer namespaces.", "%s has %d MB of disk left, and %d MB are to be written beside what is there", who, free>>20, w.bytes>>20)
		}
	}
	return nil
}

// preImages is an option of collections that 6.0 knows under another name.
func preImages(options bson.Raw, version string) (bson.Raw, error) {
	v, ok := oplog.Lookup(options, "recordPreImages")
	if !ok || target.Older(version, "6.0") {
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
