package restore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/heartwood-db/heartwood/daemon/backupd/apply"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/dump"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/oplog/schema"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// What agents write into a target while they push: never part of what is restored.
const (
	journals = "heartwood_restore" // a database
	staging  = "hwrestore_"        // how collections begin
)

// source is a collection of the head and its entry in the catalogue of a push.
type source struct {
	ns    string // on the head; "" for a view
	entry dump.Entry
}

// contents lists what a push holds, in the order in which it is written: what agents stage, what they cannot, views.
func (w *work) contents(collections []schema.Collection, views []bson.Raw) ([]source, error) {
	only, err := w.only()
	if err != nil {
		return nil, err
	}
	var staged, direct, seen []source
	for i := range collections {
		c := &collections[i]
		if !w.pushed(only, c) {
			continue
		}
		e, err := w.entry(c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.NS, err)
		}
		if e.Direct() {
			direct = append(direct, source{c.NS, e})
		} else {
			staged = append(staged, source{c.NS, e})
		}
	}
	for _, v := range views {
		ns, m, err := view(v)
		if err != nil {
			return nil, err
		}
		if !wanted(only, ns) || m.Type != dump.View || strings.HasPrefix(ns, "admin.") {
			continue
		}
		seen = append(seen, source{"", dump.Entry{NS: w.renamed(ns), Type: dump.View, Options: m.Options}})
	}
	all := append(append(staged, direct...), seen...)
	if len(all) > dump.MaxEntries {
		return nil, refuse("Restore some databases at a time.", "there are %d collections, over the limit of %d of one push", len(all), dump.MaxEntries)
	}
	taken := map[string]bool{}
	for i := range all {
		e := &all[i].entry
		e.Number = int64(i + 1)
		if taken[e.NS] {
			return nil, refuse("Restore under other names.", "two collections would become %s", e.NS)
		}
		taken[e.NS] = true
	}
	return all, nil
}

// pushed reports whether a collection is part of a push. What of the database admin is no system collection comes with
// everything else, users and roles where that was asked for, and nothing more of it: the target keeps its own version and keys.
func (w *work) pushed(only *filter.Filter, c *schema.Collection) bool {
	db, coll := oplog.Split(c.NS)
	switch {
	case c.NS == dump.Users || c.NS == dump.Roles:
		return w.plan.Users
	case schema.IsViews(c.NS) || c.Temp || db == journals || strings.HasPrefix(coll, staging):
		return false
	case strings.HasPrefix(coll, "system.") && coll != "system.js" && !strings.HasPrefix(coll, dump.Buckets):
		return false
	}
	return wanted(only, c.NS)
}

func (w *work) entry(c *schema.Collection) (e dump.Entry, err error) {
	e = dump.Entry{NS: w.renamed(c.NS), Type: dump.Collection, IDIndex: c.IDIndex, UUID: hex.EncodeToString(c.UUID[:])}
	db, coll := oplog.Split(e.NS)
	if inner, ok := strings.CutPrefix(coll, dump.Buckets); ok {
		e.NS, e.Type, e.IDIndex = db+"."+inner, dump.TimeSeries, nil
		e.Options, e.Indexes, err = series(c)
		return e, err
	}
	if e.Options, err = dump.CreateOptions(c.Options); err != nil {
		return e, err
	}
	for _, x := range c.Indexes {
		spec, ok, err := dump.IndexSpec(c.Options, x)
		if err != nil {
			return e, err
		}
		if ok {
			e.Indexes = append(e.Indexes, spec)
		}
	}
	return e, nil
}

// push writes the parts of a push into the block store, straight from the head.
func (w *work) push(ctx context.Context, client *mongo.Client, a *apply.Applier) error {
	const step = "writes the parts"
	all, err := w.contents(a.Catalogue())
	if err != nil {
		return err
	}
	if err := w.sweepParts(ctx); err != nil {
		return err
	}
	var estimate int64
	for _, c := range w.plan.Contents {
		estimate += c.Bytes
	}
	if err := w.begin(ctx, w.delivers(), step, estimate); err != nil {
		return err
	}
	w.tries++
	p := &parts{w: w, ctx: ctx, limit: dump.PartBytes(estimate)}
	defer p.abort()
	catalogue := catalogueParts(all)
	var done int64
	for i := range all {
		s := &all[i]
		if i > 0 && s.entry.Direct() != all[i-1].entry.Direct() { // agents fetch those again
			if err := p.end(); err != nil {
				return err
			}
		}
		if s.ns == "" {
			continue
		}
		err := scan(ctx, client, s.ns, func(doc bson.Raw) error {
			at, err := p.doc(s.entry.Number, doc)
			if err != nil {
				return err
			}
			if s.entry.Docs == 0 {
				s.entry.First = int64(catalogue + at)
			}
			s.entry.Last = int64(catalogue + at)
			s.entry.Docs++
			s.entry.Bytes += int64(len(doc))
			done += int64(len(doc))
			w.progress(step, done, max(done, estimate))
			return nil
		})
		if err != nil {
			return fmt.Errorf("export %s: %w", s.ns, err)
		}
	}
	if err := p.end(); err != nil {
		return err
	}
	data := p.objects
	p.objects, p.first = nil, len(data)
	if err := p.catalogue(all); err != nil {
		return err
	}
	if len(p.objects) != catalogue {
		return fmt.Errorf("the catalogue has %d parts instead of %d", len(p.objects), catalogue)
	}
	w.objects = append(p.objects, data...)
	for i := range w.objects {
		w.objects[i].Name = dump.PartName(i + 1)
	}
	if len(w.objects) > dump.MaxParts {
		return refuse("Restore some databases at a time.", "the push has %d parts, over the limit of %d", len(w.objects), dump.MaxParts)
	}
	w.written = done
	return nil
}

// cataloguePart is how many bytes of the catalogue go into one part.
const cataloguePart = 32 << 20

func catalogueParts(all []source) int {
	n, size := 1, int64(0)
	for i := range all {
		if size > cataloguePart {
			n, size = n+1, 0
		}
		size += all[i].entry.MarshalSize()
	}
	return n
}

// parts writes objects one after another.
type parts struct {
	w       *work
	ctx     context.Context //nolint:containedctx // of the one export that it serves
	limit   int64           // bytes of documents in a part
	first   int             // objects that were written before
	objects []backup.Object
	part    *part // that is being written
}

// part is one object that is being written.
type part struct {
	key string
	to  blockstore.Writer
	sum hash.Hash
	n   int64
	out *dump.Writer
}

// Write implements io.Writer.
func (p *part) Write(b []byte) (int, error) {
	n, err := p.to.Write(b)
	p.sum.Write(b[:n])
	p.n += int64(n)
	return n, err
}

// open begins a part where none is begun.
func (p *parts) open() (*part, error) {
	if p.part != nil {
		return p.part, nil
	}
	n := p.first + len(p.objects)
	if n >= dump.MaxParts/2 && n%500 == 0 { // there is more than was thought: what is left of the numbers must do
		p.limit *= 2
	}
	// Every attempt has names of its own: an object is never written twice.
	x := &part{sum: sha256.New(), key: fmt.Sprintf("restores/%s/%d-%d-%s", p.w.job.ID, p.w.job.Token, p.w.tries, dump.PartName(n+1))}
	var err error
	if x.to, err = p.w.blocks.Create(p.ctx, x.key); err != nil {
		return nil, err
	}
	if x.out, err = dump.NewWriter(x); err != nil {
		x.to.Abort()
		return nil, err
	}
	p.part = x
	return x, nil
}

// doc adds a document and says in which part it is, from 0.
func (p *parts) doc(number int64, doc bson.Raw) (int, error) {
	x, err := p.open()
	if err != nil {
		return 0, err
	}
	at := len(p.objects)
	if err := x.out.Doc(number, doc); err != nil {
		return 0, err
	}
	if x.out.Bytes() >= p.limit {
		return at, p.end()
	}
	return at, nil
}

// catalogue writes the parts of the catalogue: one at least.
func (p *parts) catalogue(all []source) error {
	x, err := p.open()
	if err != nil {
		return err
	}
	size := int64(0)
	for i := range all {
		if size > cataloguePart {
			if err := p.end(); err != nil {
				return err
			}
			if x, err = p.open(); err != nil {
				return err
			}
			size = 0
		}
		if err := x.out.Entry(&all[i].entry); err != nil {
			return err
		}
		size += all[i].entry.MarshalSize()
	}
	return p.end()
}

// end stores the part that is being written, if one is.
func (p *parts) end() error {
	x := p.part
	if x == nil {
		return nil
	}
	if err := x.out.Close(); err != nil {
		return err
	}
	if err := x.to.Commit(p.ctx); err != nil {
		return err
	}
	p.part = nil
	p.objects = append(p.objects, backup.Object{Key: x.key, Bytes: x.n, SHA256: hex.EncodeToString(x.sum.Sum(nil))})
	return nil
}

func (p *parts) abort() {
	if p.part != nil {
		p.part.to.Abort()
	}
}

// sweepParts removes what earlier attempts stored: no document names it.
func (w *work) sweepParts(ctx context.Context) error {
	prefix := "restores/" + w.job.ID + "/"
	for {
		page, err := w.blocks.List(ctx, prefix, "", 0)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, o := range page {
			if err := w.blocks.Delete(ctx, o.Key); err != nil {
				return err
			}
		}
	}
}

// offer hands a push whose parts are stored over to the backup agent beside its target. Nothing is restored yet.
func (w *work) offer(ctx context.Context) error {
	var bytes int64
	for i := range w.objects {
		bytes += w.objects[i].Bytes
	}
	now := w.o.Now().UTC()
	err := w.o.Backup.UpdateRestoreAs(ctx, w.job.ID, w.job.Token, func(x *backup.Restore) error {
		x.Objects, x.StoreID = w.objects, w.shot.StoreID
		x.OfferPush(now)
		return nil
	})
	if errors.Is(err, backup.ErrFenced) || errors.Is(err, backup.ErrState) {
		return errors.Join(err, w.sweepParts(context.WithoutCancel(ctx)))
	}
	if err != nil {
		return err
	}
	w.event(ctx, model.EventRestoreStored, fmt.Sprintf("%d parts of the restore of %s to %s are stored, %d MB of documents: the backup agent beside the target is to write them.",
		len(w.objects), w.name(), w.moment(), w.written>>20))
	return nil
}
