// Package restoreplan says what a restore will do before it does anything. A preview prints the very value that is executed:
// which snapshot is the base, which oplog is replayed over it, what is delivered, how many bytes and how long, what is
// overwritten. What cannot be is refused here, with every reason at once, while no data has been touched.
package restoreplan

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/snapshot"
)

// ErrImpossible is in the chain of every error of Make: the request cannot be carried out, whoever tries it.
var ErrImpossible = errors.New("this restore is not possible")

// Format is what is delivered.
type Format string

// The formats.
const (
	Files Format = "FILES" // the data files of a mongod: start one on them
	BSON  Format = "BSON"  // one BSON file and one metadata file a collection, as mongorestore reads them
)

// Request is what a person asks for. Exactly one of Snapshot, Point and Second says which moment.
type Request struct {
	Snapshot   string
	Point      bson.Timestamp // an exact position of the oplog, inclusive
	Second     time.Time      // everything with a timestamp up to the end of this second
	Format     Format
	Compress   bool
	Push       bool              // into a running deployment, else an archive to fetch
	Namespaces []string          // "db" or "db.coll"; none: everything
	Rename     map[string]string // of a database or a collection
	Drop       bool              // Push: collections in the way are dropped once everything is at hand
	Users      bool              // Push: users and roles of the backup are merged into the target's; else the target's stay as they are
}

// Source is what is known of the backup.
type Source struct {
	SetName   string
	Ranges    []snapshot.Range
	Holes     []snapshot.Hole
	Snapshots []Base
	Rates     Rates
}

// Base is a snapshot as a base of restores.
type Base struct {
	snapshot.Snapshot
	Version     string // of the mongod its files are of
	FCV         string
	FileBytes   int64
	Collections []Namespace // what it holds, without internal ones
	Filter      *filter.Filter
}

// Namespace is a collection with its size, as a snapshot has it.
type Namespace struct {
	NS    string `bson:"ns" json:"ns"`
	Bytes int64  `bson:"bytes" json:"bytes"`
}

// Stretch is stored oplog between two positions.
type Stretch struct {
	Slices  int64 `bson:"slices" json:"slices"`
	Entries int64 `bson:"entries" json:"entries"`
	Bytes   int64 `bson:"bytes" json:"bytes"` // uncompressed
}

// Target is the deployment a push writes into.
type Target struct {
	Version    string
	FCV        string
	Namespaces []string // that exist there
	Free       int64    // bytes on its disk; 0: not known
	Primary    bool     // it has one
	SameSet    bool     // it is the deployment the backup is of
}

// Rates are the speeds that durations are guessed by: of the last restores, or of the benchmarks before the first.
type Rates struct {
	Fetch   int64 // bytes a second, blocks into files
	Replay  int64 // entries a second
	Deliver int64 // bytes a second, archive written or documents pushed
}

// DefaultRates serve until a restore has been seen.
var DefaultRates = Rates{Fetch: 150 << 20, Replay: 20_000, Deliver: 60 << 20}

// Plan is a restore, step by step.
type Plan struct {
	Snapshot   string            `bson:"snapshot" json:"snapshotId"`
	SnapshotAt time.Time         `bson:"snapshotAt" json:"snapshotAt"`
	Epoch      int64             `bson:"epoch" json:"epoch"`
	Target     bson.Timestamp    `bson:"target" json:"target"` // inclusive; the snapshot's own position where nothing is replayed
	Replay     bool              `bson:"replay" json:"replay"`
	ReplayFrom bson.Timestamp    `bson:"replayFrom" json:"replayFrom"` // oplog is read from here: of the oldest transaction open then
	Oplog      Stretch           `bson:"oplog" json:"oplog"`
	Format     Format            `bson:"format" json:"format"`
	Compress   bool              `bson:"compress" json:"compress"`
	Push       bool              `bson:"push" json:"push"`
	Version    string            `bson:"version" json:"mongodVersion"`
	FCV        string            `bson:"fcv" json:"featureCompatibilityVersion"`
	Contents   []Namespace       `bson:"contents,omitempty" json:"contents,omitempty"` // with their names there; of the base, before the replay
	Rename     map[string]string `bson:"rename,omitempty" json:"rename,omitempty"`
	Selected   []string          `bson:"selected,omitempty" json:"selected,omitempty"`
	Overwrites []string          `bson:"overwrites,omitempty" json:"overwrites,omitempty"`
	Drop       bool              `bson:"drop,omitempty" json:"drop,omitempty"`
	Users      bool              `bson:"users,omitempty" json:"users,omitempty"`
	Steps      []Step            `bson:"steps" json:"steps"`
	Bytes      int64             `bson:"bytes" json:"bytes"`          // that the daemon fetches and the target receives, together
	Scratch    int64             `bson:"scratch" json:"scratchBytes"` // of disk that the daemon needs meanwhile
	Seconds    int64             `bson:"seconds" json:"seconds"`      // about how long
	Warnings   []string          `bson:"warnings,omitempty" json:"warnings,omitempty"`
}

// Step is one part of the work.
type Step struct {
	Do      string `bson:"do" json:"do"` // Fetch, Replay, Export, Archive, Push
	Text    string `bson:"text" json:"text"`
	Bytes   int64  `bson:"bytes" json:"bytes"`
	Entries int64  `bson:"entries,omitempty" json:"entries,omitempty"`
	Seconds int64  `bson:"seconds" json:"seconds"`
}

// The steps.
const (
	DoFetch   = "fetch"
	DoReplay  = "replay"
	DoExport  = "export"
	DoArchive = "archive"
	DoPush    = "push"
)

// Moment finds the base and the position that a request is about. Its error says why a moment cannot be restored.
func Moment(r Request, s Source) (Base, bson.Timestamp, error) {
	given := 0
	for _, is := range []bool{r.Snapshot != "", !r.Point.IsZero(), !r.Second.IsZero()} {
		if is {
			given++
		}
	}
	if given != 1 {
		return Base{}, bson.Timestamp{}, fmt.Errorf("%w: say either a snapshot, a second or a position of the oplog", ErrImpossible)
	}
	if r.Snapshot != "" {
		i := slices.IndexFunc(s.Snapshots, func(b Base) bool { return b.ID == r.Snapshot })
		switch {
		case i < 0:
			return Base{}, bson.Timestamp{}, fmt.Errorf("%w: there is no snapshot %s", ErrImpossible, r.Snapshot)
		case !s.Snapshots[i].Complete:
			return Base{}, bson.Timestamp{}, fmt.Errorf("%w: snapshot %s is not complete", ErrImpossible, r.Snapshot)
		}
		return s.Snapshots[i], s.Snapshots[i].Applied, nil
	}
	var (
		base   snapshot.Snapshot
		target = r.Point
		err    error
	)
	if r.Second.IsZero() {
		_, base, err = snapshot.Point(s.Ranges, s.Holes, r.Point)
	} else {
		_, base, target, err = snapshot.Second(s.Ranges, s.Holes, r.Second)
	}
	if err != nil {
		return Base{}, bson.Timestamp{}, fmt.Errorf("%w: %w", ErrImpossible, err)
	}
	i := slices.IndexFunc(s.Snapshots, func(b Base) bool { return b.ID == base.ID })
	if i < 0 {
		return Base{}, bson.Timestamp{}, fmt.Errorf("%w: snapshot %s, its base, is gone", ErrImpossible, base.ID)
	}
	return s.Snapshots[i], target, nil
}

// Make plans a restore from a base to a position, which Moment found; oplog is what is stored between them; to is nil
// where nothing is pushed. Every reason against it is in the error.
func Make(r Request, base Base, target bson.Timestamp, oplog Stretch, rates Rates, to *Target) (Plan, error) {
	if r.Format == "" {
		r.Format = Files
	}
	p := Plan{
		Snapshot: base.ID, SnapshotAt: base.At, Epoch: base.Epoch, Target: target, Format: r.Format, Compress: r.Compress, Push: r.Push,
		Version: base.Version, FCV: base.FCV, Selected: r.Namespaces, Rename: r.Rename, Drop: r.Drop, Users: r.Users,
		Replay: base.Applied.Before(target),
	}
	faults := p.choose(r, base)
	faults = append(faults, p.fit(r, base, to)...)
	if faults != nil {
		return Plan{}, fmt.Errorf("%w: %s", ErrImpossible, strings.Join(faults, "; "))
	}
	if p.Replay {
		p.Oplog, p.ReplayFrom = oplog, base.ReplayFrom
		if p.ReplayFrom.IsZero() {
			p.ReplayFrom = base.Applied
		}
	}
	p.lay(base, rates)
	return p, nil
}

// choose works out what is restored and under which names.
func (p *Plan) choose(r Request, base Base) (faults []string) {
	if r.Format != Files && r.Format != BSON {
		faults = append(faults, fmt.Sprintf("the format %q is none: want FILES or BSON", r.Format))
	}
	partial := len(r.Namespaces) > 0 || len(r.Rename) > 0
	if partial && r.Format == Files && !r.Push {
		faults = append(faults, "data files hold everything under its own name: choose BSON for some namespaces or other names")
	}
	if r.Push {
		p.Format = BSON
	}
	wanted, err := wants(r.Namespaces)
	if err != nil {
		return append(faults, err.Error())
	}
	for _, ns := range r.Namespaces {
		if base.Filter != nil && strings.Contains(ns, ".") && !base.Filter.Wants(ns) {
			faults = append(faults, fmt.Sprintf("%s was left out of the backup", ns))
		}
	}
	for from, name := range r.Rename {
		if strings.Contains(from, ".") != strings.Contains(name, ".") {
			faults = append(faults, fmt.Sprintf("rename %s to %s: both a database, or both a collection", from, name))
		}
		if _, err := filter.New(filter.Include, []string{name}); err != nil {
			faults = append(faults, fmt.Sprintf("rename %s to %s: no name for it", from, name))
		}
	}
	taken := map[string]string{}
	for _, c := range base.Collections {
		if !wanted.Wants(c.NS) || wanted != nil && (strings.HasPrefix(c.NS, "admin.") || strings.HasPrefix(c.NS, "config.")) {
			continue
		}
		name := Renamed(r.Rename, c.NS)
		if other, ok := taken[name]; ok {
			faults = append(faults, fmt.Sprintf("%s and %s would both become %s", other, c.NS, name))
		}
		taken[name] = c.NS
		p.Contents = append(p.Contents, Namespace{NS: name, Bytes: c.Bytes})
	}
	slices.SortFunc(p.Contents, func(a, b Namespace) int { return strings.Compare(a.NS, b.NS) })
	if len(r.Namespaces) > 0 && base.Applied.Before(p.Target) {
		p.Warnings = append(p.Warnings, "Transactions that wrote to other namespaces too are restored in part: only what they wrote to these.")
	}
	return faults
}

// fit checks the target.
func (p *Plan) fit(r Request, base Base, to *Target) (faults []string) {
	if !r.Push {
		return nil
	}
	if to == nil {
		return []string{"a target deployment is needed"}
	}
	if !to.Primary {
		faults = append(faults, "the target has no primary that could be written to")
	}
	if compareVersions(to.FCV, base.FCV) < 0 {
		faults = append(faults, fmt.Sprintf("the target's feature compatibility version is %s, the backup's is %s: raise it or choose another target", orUnknown(to.FCV), base.FCV))
	}
	var bytes int64
	for _, c := range p.Contents {
		bytes += c.Bytes
	}
	if to.Free > 0 && to.Free < bytes {
		faults = append(faults, fmt.Sprintf("the target has %d MB of disk left and %d MB are to be written", to.Free>>20, bytes>>20))
	}
	there := map[string]bool{}
	for _, ns := range to.Namespaces {
		there[ns] = true
	}
	for _, c := range p.Contents {
		if there[c.NS] {
			p.Overwrites = append(p.Overwrites, c.NS)
		}
	}
	if len(p.Overwrites) > 0 && !r.Drop {
		faults = append(faults, fmt.Sprintf("%d collections are there already (%s): allow them to be dropped, or restore under other names", len(p.Overwrites), some(p.Overwrites)))
	}
	if p.Replay {
		p.Warnings = append(p.Warnings, "Collections made between the snapshot and the point are not in the list of contents; those in the way are refused before anything is dropped.")
	}
	return faults
}

// lay puts the steps in order and adds up.
func (p *Plan) lay(base Base, rates Rates) {
	step := func(do, text string, bytes, entries, rate int64) {
		s := Step{Do: do, Text: text, Bytes: bytes, Entries: entries}
		if amount := max(bytes, 0); do != DoReplay {
			s.Seconds = amount / max(1, rate)
		} else {
			s.Seconds = entries / max(1, rate)
		}
		p.Steps = append(p.Steps, s)
		p.Bytes += bytes
		p.Seconds += max(1, s.Seconds)
	}
	step(DoFetch, fmt.Sprintf("Fetch the files of the snapshot of %s", base.At.UTC().Format(time.RFC3339)), base.FileBytes, 0, rates.Fetch)
	p.Scratch = base.FileBytes
	if p.Replay {
		step(DoReplay, fmt.Sprintf("Replay %d oplog entries up to %s", p.Oplog.Entries, time.Unix(int64(p.Target.T), 0).UTC().Format(time.RFC3339)), p.Oplog.Bytes, p.Oplog.Entries, rates.Replay)
		p.Scratch += p.Oplog.Bytes
	}
	out := base.FileBytes
	if p.Format == BSON {
		out = 0
		for _, c := range p.Contents {
			out += c.Bytes
		}
	}
	switch {
	case p.Push:
		step(DoExport, fmt.Sprintf("Write %d collections as BSON", len(p.Contents)), out, 0, rates.Deliver)
		step(DoPush, "The backup agent beside the target fetches and inserts them", out, 0, rates.Deliver)
	case p.Format == BSON:
		step(DoExport, fmt.Sprintf("Write an archive of %d collections as BSON", len(p.Contents)), out, 0, rates.Deliver)
	default:
		step(DoArchive, "Write an archive of the data files", out, 0, rates.Deliver)
	}
}

// Renamed is the name a namespace gets: a rule for the collection goes before one for its database.
func Renamed(rules map[string]string, ns string) string {
	if name, ok := rules[ns]; ok {
		return name
	}
	if db, coll, ok := strings.Cut(ns, "."); ok {
		if name, ok := rules[db]; ok {
			return name + "." + coll
		}
	}
	return ns
}

// wants is the filter of a selection; admin's own collections are restored by nobody's choice but "everything".
func wants(namespaces []string) (*filter.Filter, error) {
	if len(namespaces) == 0 {
		return nil, nil //nolint:nilnil // the nil filter wants everything
	}
	return filter.New(filter.Include, namespaces)
}

func compareVersions(a, b string) int {
	x, y := parse(a), parse(b)
	return slices.Compare(x[:], y[:])
}

// parse reads "7.0" or "7.0.14"; what is no number counts as 0, so that an unknown version is the oldest.
func parse(v string) (out [3]int) {
	for i, part := range strings.SplitN(v, ".", 3) {
		for _, c := range part {
			if c < '0' || c > '9' {
				break
			}
			out[i] = min(out[i]*10+int(c-'0'), 1_000_000)
		}
	}
	return out
}

func orUnknown(s string) string {
	if s == "" {
		return "not known"
	}
	return s
}

func some(names []string) string {
	if len(names) <= 5 {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:5], ", ") + ", …"
}
