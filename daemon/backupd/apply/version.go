package apply

import (
	"context"
	"fmt"

	"github.com/heartwood-db/heartwood/daemon/backupd/bulk"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
)

// compatibility follows a change of the source's feature compatibility version. Its document says twice what happens: first where it
// goes, with a targetVersion, then that it is there. At the second the head's own is set by command, which a mongod can that is new
// enough; no point in time is restored across it, so the range of restorable points ends there. A copy that is being read may hold
// documents of either form: in the fuzzy window, and where the head's mongod refuses, the history goes on with a new full read.
func (a *Applier) compatibility(ctx context.Context, e *oplog.Entry) error {
	refuse := func(format string, args ...any) error {
		return before(e, fmt.Errorf("%w: the feature compatibility version changed "+format, append([]any{ErrNewSnapshot}, args...)...))
	}
	switch {
	case a.state.open:
		return refuse("while the source was read")
	case e.Kind == oplog.Delete:
		return refuse("in no way that servers change it: its document was deleted")
	}
	if err := a.flush(ctx); err != nil {
		return err
	}
	doc := a.state.change
	if doc == nil {
		var err error
		if doc, err = a.head.VersionDocument(ctx); err != nil {
			return before(e, err)
		}
	}
	doc, _, err := document.Apply(doc, &e.Op) // fields that are not there to be removed are of no account
	if err != nil {
		return before(e, err)
	}
	to, _ := doc.Lookup("version").StringValueOK()
	if to == "" {
		return refuse("to a document that names none: %s", doc)
	}
	if _, err := doc.LookupErr("targetVersion"); err == nil {
		a.state.change = doc
	} else if err := a.setFCV(ctx, to); err != nil {
		if bulk.Code(err) != 0 {
			return refuse("to %s, which the head's mongod refuses (%v); it ends with a full read into a head of the source's present version", to, err)
		}
		return before(e, err)
	} else {
		a.mu.Lock()
		a.stats.Ends = append(a.stats.Ends, Ends{At: e.At, Why: e.Ends()})
		a.mu.Unlock()
		a.o.Log.InfoContext(ctx, "the head's feature compatibility version is set", obs.KeyVersion, to)
	}
	a.seen = e.At.TS
	a.complete(e)
	a.mu.Lock()
	a.state.position = a.ahead
	a.mu.Unlock()
	return a.checkpoint()
}

// setFCV sets the head's version. The state says so first: a head that dies now is started with the new one.
func (a *Applier) setFCV(ctx context.Context, to string) error {
	keep := func(fcv string) error {
		a.mu.Lock()
		a.state.fcv = fcv
		a.mu.Unlock()
		return a.checkpoint()
	}
	was := a.state.fcv
	if err := keep(to); err != nil {
		return err
	}
	if err := a.head.SetVersion(ctx, to); err != nil {
		if kept := keep(was); kept != nil {
			return kept
		}
		return err
	}
	a.state.change = nil
	return nil
}
