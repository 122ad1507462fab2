// Package restoreplan says what a restore will do before it does anything. A preview prints the very value that is executed:
// which snapshot is the base, which oplog is replayed over it, what is delivered, how many bytes and how long, what is
// overwritten. What cannot be is refused here, with every reason at once, while no data has been touched.
package restoreplan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/snapshot"
)

// What an error of Make is; compare with errors.Is.
var (
	// ErrImpossible is in the chain of every one: the request cannot be carried out, whoever tries it.
	ErrImpossible = errors.New("this restore is not possible")
	// ErrTarget is in the chain, beside ErrImpossible, where the target is among the reasons.
	ErrTarget = errors.New("this target cannot be restored into")
)

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
	Users      bool              // Push: users and roles of the backup that the target does not have are added
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
	NS         string `bson:"ns" json:"ns"`
	Bytes      int64  `bson:"bytes" json:"bytes"`                               // of the documents, uncompressed
	TimeSeries bool   `bson:"timeSeries,omitempty" json:"timeSeries,omitempty"` // in plans: the size is that of its buckets
}

// Stretch is stored oplog between two positions.
type Stretch struct {
	Slices  int64 `bson:"slices" json:"slices"`
	Entries int64 `bson:"entries" json:"entries"`
	Bytes   int64 `bson:"bytes" json:"bytes"` // uncompressed
}

// Rates are the speeds that durations are guessed by: of the last restores, or of the benchmarks before the first.
type Rates struct {
	Fetch   int64 // bytes a second, blocks into files
	Replay  int64 // entries a second
	Deliver int64 // bytes a second, archive written or documents pushed
	Index   int64 // bytes of documents a second, whose indexes are built
}

// DefaultRates serve until a restore has been seen.
var DefaultRates = Rates{Fetch: 150 << 20, Replay: 20_000, Deliver: 60 << 20, Index: 80 << 20}

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
	Into       *Into             `bson:"into,omitempty" json:"into,omitempty"`             // of a push
	Overwrites []string          `bson:"overwrites,omitempty" json:"overwrites,omitempty"` // collections of these names that the target had at its last snapshot
	MayHold    []string          `bson:"mayHold,omitempty" json:"mayHold,omitempty"`       // databases of the target that may have more of that kind: its agent looks
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
	Do      string `bson:"do" json:"do"` // one of those below
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
	DoParts   = "parts" // of a push, as the next three: the daemon stores what is pushed
	DoStage   = "stage" // the agent beside the target writes it into collections of other names there
	DoIndexes = "indexes"
	DoSwap    = "swap"
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
	faults, unfit := p.choose(r, base), p.fit(r, base, to)
	if len(unfit) > 0 {
		return Plan{}, &impossible{text: strings.Join(append(faults, unfit...), "; "), target: true}
	}
	if len(faults) > 0 {
		return Plan{}, &impossible{text: strings.Join(faults, "; ")}
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

// impossible is a refusal with all its reasons.
type impossible struct {
	text   string
	target bool
}

// Error is for people.
func (e *impossible) Error() string { return ErrImpossible.Error() + ": " + e.text }

// Is reports which of the errors of Make it is.
func (e *impossible) Is(target error) bool {
	return target == ErrImpossible || e.target && target == ErrTarget
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
	switch {
	case r.Push:
		p.Format = BSON
	case r.Users || r.Drop:
		faults = append(faults, "dropping collections and adding users are for restores into a running deployment")
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
		ns, series := logical(c.NS)
		name := Renamed(r.Rename, ns)
		if other, ok := taken[name]; ok {
			faults = append(faults, fmt.Sprintf("%s and %s would both become %s", other, ns, name))
		}
		taken[name] = ns
		p.Contents = append(p.Contents, Namespace{NS: name, Bytes: c.Bytes, TimeSeries: series})
	}
	slices.SortFunc(p.Contents, func(a, b Namespace) int { return strings.Compare(a.NS, b.NS) })
	if len(r.Namespaces) > 0 {
		if len(p.Contents) == 0 && len(base.Collections) > 0 {
			p.warn("The snapshot has no collection of the names that were chosen: only views, and what was made since, can come of it.")
		}
		if base.Applied.Before(p.Target) {
			p.warn("Transactions that wrote to other namespaces too are restored in part: only what they wrote to these.")
		}
	}
	return faults
}

func (p *Plan) warn(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}

// logical is the name by which people know a collection: that of the time-series collection for its buckets.
func logical(ns string) (name string, series bool) {
	db, coll, _ := strings.Cut(ns, ".")
	if inner, ok := strings.CutPrefix(coll, "system.buckets."); ok {
		return db + "." + inner, true
	}
	return ns, false
}

// lay puts the steps in order and adds up.
func (p *Plan) lay(base Base, rates Rates) {
	// step's rate is of units a second where there are such, else of bytes.
	step := func(do, text string, bytes, units, rate int64) {
		s := Step{Do: do, Text: text, Bytes: bytes, Seconds: cmp.Or(units, bytes) / max(1, rate)}
		if do == DoReplay {
			s.Entries = units
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
	documents := int64(0)
	for _, c := range p.Contents {
		documents += c.Bytes
	}
	switch {
	case p.Push:
		step(DoParts, fmt.Sprintf("Write %s into the block store, in parts", counted(len(p.Contents), "collection")), documents, 0, rates.Deliver)
		step(DoStage, fmt.Sprintf("The backup agent beside %s fetches the parts and writes them into collections of other names there", p.Into.Name), documents, 0, rates.Deliver)
		step(DoIndexes, "It builds their indexes", 0, documents, rates.Index)
		swap := "It puts them in place, each at one moment"
		if p.Users {
			swap += ", and adds users and roles"
		}
		step(DoSwap, swap, 0, int64(len(p.Contents)), swapRate)
	case p.Format == BSON:
		step(DoExport, fmt.Sprintf("Write an archive of %s as BSON", counted(len(p.Contents), "collection")), documents, 0, rates.Deliver)
	default:
		step(DoArchive, "Write an archive of the data files", base.FileBytes, 0, rates.Deliver)
	}
}

// swapRate is how many collections are put in place a second: each waits for the majority.
const swapRate = 10

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
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
