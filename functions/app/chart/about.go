package chart

import (
	"cmp"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/shared/catalog"
)

// About is what a chart's numbers belong to: the process, or one of its databases, disks or mounted volumes. Its text is
// the parameter of addresses that chooses which.
type About string

// What charts are about. The catalogue counts disks and mounts as one scope; a server reports operations by device and
// space by mount point, so a page lets people choose each.
const (
	AboutProcess  About = ""
	AboutDatabase About = "db"
	AboutDisk     About = "disk"
	AboutMount    About = "mount"
)

// Abouts lists them all.
func Abouts() []About { return []About{AboutProcess, AboutDatabase, AboutDisk, AboutMount} }

// AboutOf says what a chart is about.
func AboutOf(c *catalog.Chart) About {
	switch {
	case c.Scope == catalog.Database:
		return AboutDatabase
	case c.Scope == catalog.Disk && strings.Contains(c.ID, "disk-space"):
		return AboutMount
	case c.Scope == catalog.Disk:
		return AboutDisk
	}
	return AboutProcess
}

func (a About) scope() catalog.Scope {
	switch a {
	case AboutDatabase:
		return catalog.Database
	case AboutDisk, AboutMount:
		return catalog.Disk
	case AboutProcess:
	}
	return catalog.Process
}

// Label is the word beside the choice.
func (a About) Label() string {
	switch a {
	case AboutDatabase:
		return "Database"
	case AboutDisk:
		return "Disk"
	case AboutMount:
		return "Volume"
	case AboutProcess:
	}
	return ""
}

// Choose sorts out which of a scope's names are meant, and which of them is shown: the one asked for if it is there, else
// the first. Mounts are told from disks by their slash, and by the catalogue's name for the volume of the data folder,
// which is known where nothing else is and so comes last. A host that has only disks or only mounts has them for both.
func (a About) Choose(all []string, asked string) (names []string, shown string) {
	names = all
	if a == AboutDatabase { // people look for their own; the server's come last
		names = slices.Clone(all)
		slices.SortStableFunc(names, func(x, y string) int { return cmp.Compare(servers(x), servers(y)) })
	}
	if a == AboutDisk || a == AboutMount {
		some := make([]string, 0, len(all))
		for _, n := range all {
			if mount := strings.HasPrefix(n, "/") || n == catalog.DataVolume; mount == (a == AboutMount) {
				some = append(some, n)
			}
		}
		slices.SortStableFunc(some, func(x, y string) int {
			switch {
			case x == catalog.DataVolume && y != x:
				return 1
			case y == catalog.DataVolume && x != y:
				return -1
			}
			return 0
		})
		if len(some) > 0 {
			names = some
		}
	}
	switch {
	case slices.Contains(names, asked):
		return names, asked
	case len(names) > 0:
		return names, names[0]
	}
	return nil, ""
}

// servers is 1 for the databases every server has for itself.
func servers(db string) int {
	switch db {
	case "admin", "config", "local":
		return 1
	}
	return 0
}
