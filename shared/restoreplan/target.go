package restoreplan

import (
	"fmt"
	"slices"
	"strings"
)

// Target is what is known of the deployment that a push writes into. What is not known is no reason to refuse: its agent
// looks again before it writes anything.
type Target struct {
	Name       string // for people
	Cluster    string // its id
	ReplicaSet bool   // it is a replica set of its own: nothing else can be pushed into
	SameSet    bool   // it is the deployment that the backup is of
	Version    string // the oldest among its members
	FCV        string // "" where monitoring is not allowed to ask
	Watched    bool   // monitoring saw its members a moment ago: Primary says something
	Primary    bool   // it has one
	Agent      bool   // a backup agent of its group called a moment ago
	Busy       string // id of a restore that is being written into it; "" for none

	Listed     bool     // its databases are known
	Databases  []string // that it has, without those of the system
	Namespaces []string // collections that it had at its last snapshot, where it is backed up too

	Free   int64  // bytes left on the fullest disk of its members that hold data; 0: not known
	FreeOn string // that member
}

// Into is the target in a plan.
type Into struct {
	Name    string `bson:"name" json:"name"`
	Cluster string `bson:"cluster" json:"clusterId"`
	Version string `bson:"version,omitempty" json:"mongodVersion,omitempty"`
	FCV     string `bson:"fcv,omitempty" json:"featureCompatibilityVersion,omitempty"`
}

// Destroys reports whether something of the target is replaced, or may be for all that is known.
func (p *Plan) Destroys() bool {
	return p.Push && p.Drop && len(p.Overwrites)+len(p.MayHold) > 0
}

// Unfit gives the reasons against a target that have nothing to do with what is restored.
func (to *Target) Unfit() (faults []string) {
	if !to.ReplicaSet {
		return []string{fmt.Sprintf("%s is no replica set of its own, and only into one can be restored: fetch the archive as BSON and load it with mongorestore through a mongos", to.Name)}
	}
	if to.Watched && !to.Primary {
		faults = append(faults, fmt.Sprintf("%s has no primary that could be written to", to.Name))
	}
	if !to.Agent {
		faults = append(faults, fmt.Sprintf("no backup agent of the group of %s is calling: start one beside it (heartwood backup-agent)", to.Name))
	}
	if to.Busy != "" {
		faults = append(faults, fmt.Sprintf("restore %s is being written into %s: wait for its end, or cancel it", to.Busy, to.Name))
	}
	return faults
}

// RefuseTarget is the error of a target that cannot be, whatever is restored.
func RefuseTarget(why string) error { return &impossible{text: why, target: true} }

// Older reports whether a version, as "7.0" or "7.0.14", is before another one.
func Older(a, b string) bool { return compareVersions(a, b) < 0 }

// Impossible is the error of a request whose moment was refused, with the reasons against the target added; to may be nil.
func Impossible(err error, to *Target) error {
	if err == nil || to == nil || len(to.Unfit()) == 0 {
		return err
	}
	return &impossible{text: strings.TrimPrefix(err.Error(), ErrImpossible.Error()+": ") + "; " + strings.Join(to.Unfit(), "; "), target: true}
}

// fit checks the target, and says what happens to it.
func (p *Plan) fit(r Request, base Base, to *Target) (faults []string) {
	if !r.Push {
		return nil
	}
	if to == nil {
		return []string{"a target deployment is needed"}
	}
	p.Into = &Into{Name: to.Name, Cluster: to.Cluster, Version: to.Version, FCV: to.FCV}
	if faults = to.Unfit(); !to.ReplicaSet {
		return faults
	}
	if r.Users && len(r.Namespaces) > 0 {
		faults = append(faults, "users and roles are of everything: leave the choice of namespaces out, or the users")
	}
	faults = append(faults, p.versions(base, to)...)
	faults = append(faults, p.room(base, to)...)
	p.overwritten(to)
	p.tell(base, to)
	return faults
}

// versions checks that the target understands what it is given: its feature compatibility version is the backup's or that of the
// next major release. Indexes and options of collections are as the backup's server wrote them, and servers of later
// releases refuse some of those.
func (p *Plan) versions(base Base, to *Target) (faults []string) {
	if base.FCV == "" || !to.Watched && to.FCV == "" && to.Version == "" {
		return nil
	}
	const choose = "choose another target, or fetch the archive as BSON and load it with mongorestore"
	is, oldest := "feature compatibility version "+to.FCV, to.FCV
	if to.FCV == "" {
		if to.Version == "" {
			p.warn("The version of %s is not known to monitoring: its backup agent looks at it before it writes anything.", to.Name)
			return nil
		}
		is, oldest = "mongod "+to.Version, to.Version
	}
	newer := family(oldest) - family(base.FCV)
	if to.FCV == "" {
		newer-- // it may be that of the release before
	}
	switch {
	case to.FCV != "" && compareVersions(to.FCV, base.FCV) < 0, family(oldest) < family(base.FCV):
		faults = append(faults, fmt.Sprintf("%s has %s, the backup's feature compatibility version is %s: raise it, or %s", to.Name, is, base.FCV, choose))
	case newer > 1:
		faults = append(faults, fmt.Sprintf("%s has %s, more than one release beyond the backup's feature compatibility version %s: %s", to.Name, is, base.FCV, choose))
	case to.FCV == "":
		p.warn("The feature compatibility version of %s is not known to monitoring: its backup agent looks at it before it writes anything.", to.Name)
	}
	return faults
}

// room checks the disk. What is replaced goes only when its successor is complete.
func (p *Plan) room(base Base, to *Target) (faults []string) {
	var chosen, all int64
	for _, c := range p.Contents {
		chosen += c.Bytes
	}
	for _, c := range base.Collections {
		all += c.Bytes
	}
	// On disk it is less, for it is compressed there, and more by its indexes, as in the files of the snapshot. The agent looks too, and
	// goes by the bytes of the documents.
	needed := chosen
	if all > 0 {
		needed = max(needed, int64(float64(base.FileBytes)*(float64(chosen)/float64(all))))
	}
	if to.Free > 0 && to.Free < needed {
		return []string{fmt.Sprintf("%s has %s of disk left and about %s are needed: what is there stays until what replaces it is complete", to.FreeOn, bytesOf(to.Free), bytesOf(needed))}
	}
	left := ""
	if to.Free > 0 {
		left = fmt.Sprintf("; %s is left on %s", bytesOf(to.Free), to.FreeOn)
	}
	p.warn("What is there stays until what replaces it is complete: meanwhile every member of %s needs room for both, about %s more%s. All of it passes through its oplog too.", to.Name, bytesOf(needed), left)
	return nil
}

// overwritten works out what of the target is in the way.
func (p *Plan) overwritten(to *Target) {
	there := map[string]bool{}
	for _, ns := range to.Namespaces {
		name, _ := logical(ns)
		there[name] = true
	}
	may := map[string]bool{}
	for _, c := range p.Contents {
		db, _, _ := strings.Cut(c.NS, ".")
		switch {
		case there[c.NS]:
			p.Overwrites = append(p.Overwrites, c.NS)
		case db == "admin" || db == "config": // their own rules
		case !to.Listed || slices.Contains(to.Databases, db):
			may[db] = true
		}
	}
	for db := range may {
		p.MayHold = append(p.MayHold, db)
	}
	slices.Sort(p.MayHold)
}

// tell says what people must know of a push before they start it.
func (p *Plan) tell(base Base, to *Target) {
	if len(p.Overwrites) > 0 && !p.Drop { // they may be gone since, and be what is to come back
		p.warn("%s had %s at its last snapshot: its backup agent looks, and refuses before it writes anything where one is still there. Allow them to be replaced, or restore under other names, to be sure.", to.Name, some(p.Overwrites))
	}
	if len(p.MayHold) > 0 {
		known := fmt.Sprintf("%s has the database%s %s already", to.Name, plural(len(p.MayHold)), some(p.MayHold))
		if !to.Listed {
			known = fmt.Sprintf("Which databases %s has is not known to monitoring", to.Name)
		}
		if p.Drop {
			p.warn("%s: collections of these names are replaced there.", known)
		} else {
			p.warn("%s: its backup agent looks at the collections, and refuses before it writes anything where one of these names is there.", known)
		}
	}
	if p.Drop {
		p.warn("What was written to replaced collections after the restored moment is lost. Collections that the backup does not have stay.")
	}
	if to.SameSet {
		p.warn("%s is the deployment that the backup is of.", to.Name)
	}
	var series []string
	for _, c := range p.Contents {
		if c.TimeSeries {
			series = append(series, c.NS)
		}
	}
	which := ""
	if len(series) > 0 {
		which = " (" + some(series) + ")"
	}
	p.warn("Collections change places one after the other, each at one moment. Time-series collections%s and views cannot: they are dropped and made anew at the end, and are incomplete meanwhile.", which)
	if p.Users {
		p.warn("Users and roles of the backup that %s does not have are added; those that it has stay as they are.", to.Name)
	}
	if !to.Watched {
		p.warn("Monitoring has not seen %s lately: its backup agent looks for its primary and its version before it writes anything.", to.Name)
	}
	if base.Applied.Before(p.Target) {
		p.warn("Collections made between the snapshot and the moment come too; they are not in the lists here.")
	}
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// bytesOf is an amount for people.
func bytesOf(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", (n+1023)>>10)
}

// family numbers the major releases, so that the next one is one more: 4.0, 4.2 and 4.4 are releases of their own, from 5.0 on the
// first number says it, with the rapid releases between.
func family(version string) int {
	v := parse(version)
	switch {
	case v[0] >= 5:
		return v[0]
	case v[0] == 4:
		return 2 + v[1]/2
	case v[0] == 3 && v[1] >= 6:
		return 1
	}
	return 0
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

func some(names []string) string {
	if len(names) <= 5 {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:5], ", ") + ", …"
}
