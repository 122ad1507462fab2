package member

import (
	"fmt"
	"strings"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

// VersionNS holds the feature compatibility version.
const VersionNS = "admin.system.version"

// FCV is the feature compatibility version of a server that was never of another.
func (v Version) FCV() string {
	if v == (Version{}) {
		return "4.4"
	}
	if v.Major == 4 && v.Minor > 4 {
		return "4.4"
	}
	return fmt.Sprintf("%d.%d", v.Major, v.Minor)
}

// Change runs f while nothing else reads or writes, wakes those who wait for changes and hands them to the journal.
func (e *Engine) Change(f func() error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := f()
	e.wake()
	e.Seal()
	return err
}

// FCV is the feature compatibility version that the data say, empty when they say none.
func (e *Engine) FCV() string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.fcv()
}

func (e *Engine) fcv() string {
	c := e.st.Get(VersionNS)
	if c == nil {
		return ""
	}
	_, doc, _ := c.FindID(bsonval.String("featureCompatibilityVersion"))
	return bsonval.StringField(doc, "version")
}

// Diffs says that updates are logged as $v: 2 diffs: from 5.0 on, unless the feature compatibility version is still an older
// one. mu is held.
func (e *Engine) Diffs() bool { return e.o.DiffUpdates && !strings.HasPrefix(e.fcv(), "4.") }
