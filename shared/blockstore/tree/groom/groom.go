package groom

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/image"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/pack"
)

const (
	// writeLimit is how long a Write may take before its announcement is taken for that of a dead writer, whatever its token.
	writeLimit = 7 * 24 * time.Hour
	// minRewrite is how many dead bytes make a rewrite worth its while.
	minRewrite = 64 << 10
)

// Groom frees what no snapshot of keep needs, in two phases. What is found unneeded is condemned first: noted with the date.
// A later run deletes what was condemned a grace ago and is still unneeded. Packs of which less than MinLive is alive are
// rewritten without what is dead; the old object is condemned.
//
// Snapshots that are not in keep are unneeded too: the caller decides what is kept, and only what it says stays. But when one of
// keep cannot be read whole, nothing is done. A running Write of the job is not disturbed: its announcement protects what
// it wrote and what it builds on, unless its token is smaller than the one given, which makes it fail with image.ErrFenced. Running
// it twice at a time is safe, and a run that is killed leaves nothing that the next one does not take up.
func Groom(ctx context.Context, s blockstore.Store, job string, keep []string, o Options) (*Report, error) {
	if err := o.complete(job, keep); err != nil {
		return nil, fmt.Errorf("groom job %s: %w", job, err)
	}
	coder, err := pack.NewCoder(1, 2) // what is rewritten stays for long
	if err != nil {
		return nil, err
	}
	defer coder.Close()
	g := &groomer{s: s, job: job, o: o, coder: coder, r: &Report{}, needed: map[string]bool{}}
	if err := g.run(ctx, keep); err != nil {
		return nil, fmt.Errorf("groom job %s: %w", job, err)
	}
	return g.r, nil
}

func (o *Options) complete(job string, keep []string) error {
	if !image.Segment(job) {
		return fmt.Errorf("%w: job %q", blockstore.ErrInvalid, job)
	}
	if o.MinLive == 0 {
		o.MinLive = 0.5
	}
	if o.Grace == 0 {
		o.Grace = 24 * time.Hour
	}
	switch {
	case o.MinLive < 0 || o.MinLive > 1:
		return fmt.Errorf("%w: a live share of %v is not within 0 to 1", blockstore.ErrInvalid, o.MinLive)
	case o.Now.IsZero():
		return fmt.Errorf("%w: no time is given", blockstore.ErrInvalid)
	case len(keep) == 0 && !o.Terminate:
		return fmt.Errorf("%w: no snapshot is to be kept; a job that ends is groomed with Terminate", blockstore.ErrInvalid)
	}
	return nil
}

type groomer struct {
	s     blockstore.Store
	job   string
	o     Options
	coder *pack.Coder
	r     *Report

	live      *living
	kept      map[string]bool
	announced map[string]image.Intent // by attempt: of writers that may live
	needed    map[string]bool         // keys that are in use again
	condemned map[string]sentence
	lists     []string   // objects the sentences came from
	due       []sentence // condemned long enough ago and still unneeded
	fresh     bool       // the sentences differ from what is stored
}

// sentence is an object that was found unneeded, and since when.
type sentence struct {
	Key   string    `bson:"key"`
	Size  int64     `bson:"size"`
	Since time.Time `bson:"since"`
}

func (g *groomer) run(ctx context.Context, keep []string) error {
	if err := g.announcements(ctx); err != nil {
		return err
	}
	roots := slices.Clone(keep)
	for _, in := range g.announced {
		// What a running Write builds on. When it is gone already, the Write fails by itself.
		if in.Prev == "" || slices.Contains(roots, in.Prev) {
			continue
		}
		_, err := g.s.Stat(ctx, image.ManifestKey(g.job, in.Prev))
		switch {
		case errors.Is(err, blockstore.ErrNotFound):
		case err != nil:
			return err
		default:
			roots = append(roots, in.Prev)
		}
	}
	g.kept = make(map[string]bool, len(roots))
	for _, id := range roots {
		g.kept[id] = true
	}
	var err error
	if g.live, err = markAll(ctx, g.s, g.job, roots, g.coder); err != nil {
		return err
	}
	if g.condemned, g.lists, err = loadCondemned(ctx, g.s, g.job); err != nil {
		return err
	}
	if err := g.judge(ctx, int64(len(roots))); err != nil {
		return err
	}
	for _, c := range g.condemned {
		g.r.Usage.Condemned++
		g.r.Usage.CondemnedBytes += c.Size
	}
	if g.o.DryRun {
		for _, d := range g.due {
			g.deleted(d)
		}
		return nil
	}
	if err := g.execute(ctx); err != nil {
		return err
	}
	return g.save(ctx)
}

// announcements reads who is writing, and takes the announcements of the dead away.
func (g *groomer) announcements(ctx context.Context) error {
	g.announced = map[string]image.Intent{}
	prefix := image.IntentKey(g.job, "")
	for o, err := range blockstore.All(ctx, g.s, prefix) {
		if err != nil {
			return err
		}
		b, err := blockstore.Get(ctx, g.s, o.Key, 64<<10)
		if errors.Is(err, blockstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		var in image.Intent
		dead := bson.Unmarshal(b, &in) != nil || in.Token < g.o.Token || g.o.Now.Sub(o.Modified) > writeLimit
		if !dead {
			g.announced[strings.TrimPrefix(o.Key, prefix)] = in
		} else if !g.o.DryRun {
			if err := g.s.Delete(ctx, o.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// judge goes through all objects of the job.
func (g *groomer) judge(ctx context.Context, snapshots int64) error {
	u := &g.r.Usage
	u.Snapshots, u.LiveBlocks = snapshots, g.live.count
	prefix := image.ManifestKey(g.job, "")
	for o, err := range blockstore.All(ctx, g.s, prefix) {
		if err != nil {
			return err
		}
		kept := g.kept[strings.TrimPrefix(o.Key, prefix)]
		u.add(o.Size, kept)
		if !kept {
			g.condemn(o.Key, o.Size)
		} else {
			g.spare(o.Key)
		}
	}
	for _, k := range []struct {
		kind pack.Kind
		m    marks
	}{{pack.Pages, g.live.pages}, {pack.Blocks, g.live.blocks}} {
		err := eachPack(ctx, g.s, g.job, k.kind, g.coder, func(p *packObjects) error {
			p.usage(u, k.m[p.name])
			return g.judgePack(ctx, k.kind, p, k.m[p.name])
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *groomer) judgePack(ctx context.Context, kind pack.Kind, p *packObjects, m *packMarks) error {
	if g.running(p.name) {
		for _, gen := range p.generations {
			g.spare(gen.Key)
		}
		return nil
	}
	current := p.current(m)
	for _, gen := range p.generations {
		if gen != current {
			g.condemn(gen.Key, gen.Size)
		}
	}
	if current == nil {
		return nil
	}
	g.spare(current.Key)
	live, total := share(current, m)
	if total == 0 || float64(live) >= g.o.MinLive*float64(total) || total-live < minRewrite && live > 0 && g.o.MinLive < 1 || !covers(current, m) {
		return nil
	}
	return g.rewrite(ctx, kind, p, current, m)
}

// running says whether the writer of a pack may be alive.
func (g *groomer) running(name string) bool {
	i := strings.LastIndexByte(name, '-')
	if i < 0 {
		return false
	}
	_, ok := g.announced[name[:i]]
	return ok
}

// condemn notes that an object is not needed. The first note counts, as long as no run found it needed.
func (g *groomer) condemn(key string, size int64) {
	c, ok := g.condemned[key]
	if !ok {
		c = sentence{Key: key, Size: size, Since: g.o.Now.UTC().Truncate(time.Millisecond)}
		g.condemned[key] = c
		g.r.Condemned = append(g.r.Condemned, key)
		g.fresh = true
	}
	if g.o.Now.Sub(c.Since) >= g.o.Grace {
		g.due = append(g.due, c)
	}
}

// spare takes an object off the list: it is needed, again.
func (g *groomer) spare(key string) {
	if _, ok := g.condemned[key]; ok {
		delete(g.condemned, key)
		g.fresh = true
	}
	g.needed[key] = true
}

// rewrite makes the next generation of a pack, without what is dead.
func (g *groomer) rewrite(ctx context.Context, kind pack.Kind, p *packObjects, from *pack.Generation, m *packMarks) error {
	g.r.Rewritten = append(g.r.Rewritten, from.Key)
	g.r.RewrittenFrom += from.Size
	if g.o.DryRun {
		live, total := share(from, m)
		g.r.RewrittenTo += from.Size - (total - live)
		return nil
	}
	key := kind.Key(g.job, p.name, p.generations[0].Number+1)
	size, err := pack.Rewrite(ctx, g.s, from, key, kind, g.coder, func(frame int, block uint16) bool { return m.frame(frame).has(block) })
	switch {
	case errors.Is(err, blockstore.ErrExists): // another groom was faster; the next run looks at what it made
		return nil
	case errors.Is(err, pack.ErrFormat): // damaged: it stays as it is, for what can still be read of it
		return nil
	case err != nil:
		return fmt.Errorf("rewrite %s: %w", from.Key, err)
	}
	g.r.RewrittenTo += size
	delete(g.needed, from.Key)
	g.condemn(from.Key, from.Size)
	return nil
}

// execute deletes what is due: manifests first, so that nothing is visible that is not whole, then map pages, then packs.
func (g *groomer) execute(ctx context.Context) error {
	rank := func(key string) int {
		switch {
		case strings.HasPrefix(key, "snapshots/"):
			return 0
		case strings.HasPrefix(key, "pages/"):
			return 1
		}
		return 2
	}
	slices.SortFunc(g.due, func(a, b sentence) int {
		if d := rank(a.Key) - rank(b.Key); d != 0 {
			return d
		}
		return strings.Compare(a.Key, b.Key)
	})
	looked := false
	for _, d := range g.due {
		if g.needed[d.Key] {
			continue
		}
		if rank(d.Key) > 0 && !looked {
			// The manifests are gone. A Write that began meanwhile has announced itself before it looked for its last snapshot: either
			// it did not find it, or it is seen here.
			if ok, err := g.alone(ctx); err != nil || !ok {
				return err
			}
			looked = true
		}
		if err := g.s.Delete(ctx, d.Key); err != nil {
			return fmt.Errorf("delete %s: %w", d.Key, err)
		}
		g.deleted(d)
		delete(g.condemned, d.Key)
		g.fresh = true
	}
	return nil
}

func (g *groomer) deleted(d sentence) {
	g.r.Deleted = append(g.r.Deleted, d.Key)
	g.r.Freed += d.Size
}

// alone says that no Write has begun that builds on something this run did not mark.
func (g *groomer) alone(ctx context.Context) (bool, error) {
	for o, err := range blockstore.All(ctx, g.s, image.IntentKey(g.job, "")) {
		if err != nil {
			return false, err
		}
		attempt := strings.TrimPrefix(o.Key, image.IntentKey(g.job, ""))
		if _, known := g.announced[attempt]; known {
			continue
		}
		b, err := blockstore.Get(ctx, g.s, o.Key, 64<<10)
		if errors.Is(err, blockstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		var in image.Intent
		if bson.Unmarshal(b, &in) != nil || in.Prev != "" && !g.kept[in.Prev] {
			return false, nil
		}
	}
	return true, nil
}

// condemnedKey is a list of sentences.
func condemnedKey(job, name string) string { return "condemned/" + job + "/" + name }

type sentences struct {
	Version int        `bson:"version"`
	List    []sentence `bson:"list"`
}

const (
	maxSentences    = 50_000 // in one object
	maxSentenceList = 15 << 20
)

// loadCondemned reads all lists. Of an object in several the earliest date counts: no run spared it since, or the lists would
// have been replaced.
func loadCondemned(ctx context.Context, s blockstore.Store, job string) (map[string]sentence, []string, error) {
	all := map[string]sentence{}
	var lists []string
	for o, err := range blockstore.All(ctx, s, condemnedKey(job, "")) {
		if err != nil {
			return nil, nil, err
		}
		b, err := blockstore.Get(ctx, s, o.Key, maxSentenceList)
		if errors.Is(err, blockstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		lists = append(lists, o.Key)
		list, err := decodeSentences(b, job)
		if err != nil {
			continue // what it held is condemned anew, from today
		}
		for _, c := range list {
			if have, ok := all[c.Key]; !ok || c.Since.Before(have.Since) {
				all[c.Key] = c
			}
		}
	}
	return all, lists, nil
}

// decodeSentences reads a list. Only keys that a groom of this job could have condemned are accepted.
func decodeSentences(b []byte, job string) ([]sentence, error) {
	var list sentences
	if err := bson.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("decode list: %w", err)
	}
	if list.Version != 1 {
		return nil, fmt.Errorf("%w: %d", image.ErrVersion, list.Version)
	}
	for _, c := range list.List {
		ours := strings.HasPrefix(c.Key, image.ManifestKey(job, "")) || strings.HasPrefix(c.Key, pack.Pages.Prefix(job)) || strings.HasPrefix(c.Key, pack.Blocks.Prefix(job))
		if !ours || blockstore.ValidKey(c.Key) != nil || c.Size < 0 {
			return nil, fmt.Errorf("%w: %.200q", blockstore.ErrInvalid, c.Key)
		}
	}
	return list.List, nil
}

// save writes the new lists, then deletes the old ones: a crash between the two leaves both, and the earlier date counts.
func (g *groomer) save(ctx context.Context) error {
	if !g.fresh && len(g.lists) <= 1+len(g.condemned)/maxSentences {
		return nil
	}
	all := make([]sentence, 0, len(g.condemned))
	for _, c := range g.condemned {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b sentence) int { return strings.Compare(a.Key, b.Key) })
	name := image.NewAttempt(g.o.Token)
	for i := 0; len(all) > 0; i++ {
		n := min(len(all), maxSentences)
		b, err := bson.Marshal(sentences{Version: 1, List: all[:n]})
		if err != nil {
			return fmt.Errorf("encode list: %w", err)
		}
		if err := blockstore.Put(ctx, g.s, condemnedKey(g.job, fmt.Sprintf("%s-%04d", name, i)), b); err != nil {
			return fmt.Errorf("note what is condemned: %w", err)
		}
		all = all[n:]
	}
	for _, key := range g.lists {
		if err := g.s.Delete(ctx, key); err != nil {
			return fmt.Errorf("delete %s: %w", key, err)
		}
	}
	return nil
}

func sortGenerations(g []*pack.Generation) {
	slices.SortFunc(g, func(a, b *pack.Generation) int { return b.Number - a.Number })
}
