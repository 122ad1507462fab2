package alerting

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting/entry"
)

// slotDoc says which alert is the live one of a configuration and target. Its id is made of both, so that there is one.
//
// It is written before the alert: an alert that lacks is inserted under the slot's id by whoever finds it lacking. It goes
// after the alert has ended: a slot of an ended alert is free. So an interruption anywhere leaves nothing that the next
// start, or the next reading of all live alerts, does not mend.
type slotDoc struct {
	AlertID  model.ID  `bson:"alertId"`
	Order    string    `bson:"order"` // of the alert's document
	GroupKey string    `bson:"groupKey"`
	At       time.Time `bson:"at"` // when somebody last meant to insert the alert, by the database's clock
}

// slotGrace is how long a slot may lack its alert before it is taken for left over.
const slotGrace = 10 * time.Minute

// startTries is how often StartAlert begins anew because others took or freed the slot meanwhile.
const startTries = 16

func slotID(a *model.Alert) string { return string(a.ConfigID) + "/" + a.Target.Key }

// StartAlert begins a live alert, unless one of the same configuration and target lives already. It returns the one that
// lives, whoever began it: of any number of callers at once all get the same. An alert without an id gets a random one.
func (al *Alerting) StartAlert(ctx context.Context, a model.Alert) (Live, error) {
	if a.ID == "" {
		a.ID = model.NewID()
	}
	if err := checkAlert(&a); err != nil {
		return Live{}, err
	}
	if !a.Status.Live() {
		return Live{}, fmt.Errorf("alert %s: %s is no state to begin in", a.ID, a.Status)
	}
	for range startTries {
		live, done, err := al.start(ctx, a)
		if done || err != nil {
			return live, err
		}
	}
	return Live{}, fmt.Errorf("slot %s: lost %d races in a row: %w", slotID(&a), startTries, store.ErrConflict)
}

// start is one attempt; not done without an error means that the slot changed hands.
func (al *Alerting) start(ctx context.Context, a model.Alert) (live Live, done bool, err error) {
	id := slotID(&a)
	now, err := al.s.Now(ctx)
	if err != nil {
		return live, false, err
	}
	slot := slotDoc{AlertID: a.ID, Order: entry.Order(a.Created, string(a.ID)), GroupKey: entry.Scope(a.GroupID), At: now}
	err = store.Insert(ctx, al.s, collSlots, id, slot)
	if errors.Is(err, store.ErrExists) {
		doc, err := al.s.Doc(ctx, collSlots, id)
		if errors.Is(err, store.ErrNotFound) {
			return live, false, nil
		}
		if err != nil {
			return live, false, err
		}
		if slot, err = store.Decode[slotDoc](doc); err != nil {
			return live, false, err
		}
		live, err = al.alertOf(ctx, &slot)
		switch {
		case err == nil && live.Status.Live():
			return live, true, nil
		case err == nil: // it ended, and whoever ended it did not get to the slot
			return live, false, entry.Delete(ctx, al.s, collSlots, id, doc.Rev)
		case !errors.Is(err, store.ErrNotFound):
			return live, false, err
		}
		// The slot says now that its alert is about to come, so that nobody takes it for left over.
		slot.At = now
		op := docstore.Op{Kind: docstore.Replace, Collection: collSlots, ID: id, Rev: doc.Rev}
		if op.Body, err = store.Encode(slot); err != nil {
			return live, false, err
		}
		if err := entry.Replace(ctx, al.s, op); errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
			return live, false, nil
		} else if err != nil {
			return live, false, err
		}
	} else if err != nil {
		return live, false, err
	}
	a.ID = slot.AlertID
	d := newAlertDoc(a, slot.Order)
	if d.GroupKey != slot.GroupKey {
		return live, false, fmt.Errorf("slot %s: it belongs to another group", id)
	}
	if err := store.Insert(ctx, al.s, collAlerts, d.docID(), d); err != nil && !errors.Is(err, store.ErrExists) {
		return live, false, err
	}
	live, err = al.alertOf(ctx, &slot)
	if err != nil {
		return live, false, err
	}
	return live, live.Status.Live(), nil // somebody may have ended it already
}

// alertOf reads the alert of a slot.
func (al *Alerting) alertOf(ctx context.Context, slot *slotDoc) (Live, error) {
	doc, err := al.s.Doc(ctx, collAlerts, slot.GroupKey+"/"+slot.Order)
	if err != nil {
		return Live{}, err
	}
	d, err := store.Decode[alertDoc](doc)
	return Live{Alert: d.Alert, Rev: doc.Rev}, err
}

// freeSlot frees the slot of an alert that has ended.
func (al *Alerting) freeSlot(ctx context.Context, a *model.Alert) error {
	if a.Inform {
		return nil // it never had one
	}
	id := slotID(a)
	doc, err := al.s.Doc(ctx, collSlots, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	slot, err := store.Decode[slotDoc](doc)
	if err != nil || slot.AlertID != a.ID {
		return err
	}
	return entry.Delete(ctx, al.s, collSlots, id, doc.Rev)
}

// LiveAlerts lists the live alerts of a group, or of the site, and mends slots that an interruption left behind.
func (al *Alerting) LiveAlerts(ctx context.Context, group model.ID) ([]Live, error) {
	return al.live(ctx, liveRange(group, false), docstore.Query{Collection: collSlots, Index: "group", Prefix: []any{entry.Scope(group)}, Limit: entry.ScanPage})
}

// AllLive lists the live alerts of all groups and the site, and mends slots that an interruption left behind. It is one scan
// of the live alerts and one of the slots.
func (al *Alerting) AllLive(ctx context.Context) ([]Live, error) {
	return al.live(ctx, liveRange("", true), docstore.Query{Collection: collSlots, Limit: entry.ScanPage})
}

type heldSlot struct {
	slotDoc
	id  string
	rev int64
}

func (al *Alerting) live(ctx context.Context, alerts, slots docstore.Query) ([]Live, error) {
	// Slots are read first: an alert that begins meanwhile is then seen without its slot, which costs a look, rather than
	// a slot without its alert, which might be taken for one whose alert has ended.
	held := map[string]heldSlot{}
	for doc, err := range al.s.Docs(ctx, slots) {
		if err != nil {
			return nil, err
		}
		d, err := store.Decode[slotDoc](doc)
		if err != nil {
			return nil, err
		}
		held[doc.ID] = heldSlot{d, doc.ID, doc.Rev}
	}
	out := []Live{}
	for doc, err := range al.s.Docs(ctx, alerts) {
		if err != nil {
			return nil, err
		}
		d, err := store.Decode[alertDoc](doc)
		if err != nil {
			return nil, err
		}
		if !d.Status.Live() {
			continue
		}
		id := slotID(&d.Alert)
		slot, ok := held[id]
		if ok && slot.AlertID == d.ID {
			delete(held, id)
		} else if kept, err := al.reslot(ctx, doc, &d); err != nil {
			return nil, err
		} else if !kept {
			continue
		}
		out = append(out, Live{Alert: d.Alert, Rev: doc.Rev})
	}
	return out, al.mend(ctx, held)
}

// reslot gives a live alert that holds no slot its slot back. Where another alert holds it, the one without is ended: two
// alerts of one thing must not both go on. It reports whether the alert stays.
func (al *Alerting) reslot(ctx context.Context, doc docstore.Doc, d *alertDoc) (bool, error) {
	id := slotID(&d.Alert)
	now, err := al.s.Now(ctx)
	if err != nil {
		return false, err
	}
	// The alert may have ended since it was read; only a live one is given a slot.
	again, err := al.s.Doc(ctx, collAlerts, doc.ID)
	if errors.Is(err, store.ErrNotFound) || err == nil && again.Rev != doc.Rev {
		return false, nil // it changed in this moment: the next reading sees it
	}
	if err != nil {
		return false, err
	}
	err = store.Insert(ctx, al.s, collSlots, id, slotDoc{AlertID: d.ID, Order: d.Order, GroupKey: d.GroupKey, At: now})
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, store.ErrExists) {
		return false, err
	}
	slot, err := store.Get[slotDoc](ctx, al.s, collSlots, id)
	if err != nil || slot.AlertID == d.ID {
		return err == nil, ignoreMissing(err)
	}
	holder, err := al.alertOf(ctx, &slot)
	if err != nil || !holder.Status.Live() {
		return false, ignoreMissing(err) // about to begin, or ended: mended when that is settled
	}
	a := d.Alert
	a.Status, a.Resolved, a.Updated = model.AlertCancelled, now, now
	a.History = append(a.History, model.AlertStep{At: now, Kind: model.StepCancelled, Text: "Alert " + string(holder.ID) + " is about the same and goes on."})
	err = al.SaveAlert(ctx, a, doc.Rev)
	if errors.Is(err, store.ErrConflict) {
		err = nil
	}
	al.s.Log().WarnContext(ctx, "two live alerts of one slot: the one without it was cancelled", "alert", string(d.ID))
	return false, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// mend frees slots whose alert was not among the live ones: because it ended, or never came.
func (al *Alerting) mend(ctx context.Context, held map[string]heldSlot) error {
	if len(held) == 0 {
		return nil
	}
	now, err := al.s.Now(ctx)
	if err != nil {
		return err
	}
	for _, slot := range held {
		live, err := al.alertOf(ctx, &slot.slotDoc)
		switch {
		case err == nil && live.Status.Live(): // it began while we read
			continue
		case errors.Is(err, store.ErrNotFound) && now.Sub(slot.At) < slotGrace: // about to begin
			continue
		case err != nil && !errors.Is(err, store.ErrNotFound):
			return err
		}
		if err := entry.Delete(ctx, al.s, collSlots, slot.id, slot.rev); err != nil {
			return err
		}
	}
	return nil
}

// checkSlot says whether a slot is sound. Its alert may be about to come.
func checkSlot(_ *store.Checking, doc docstore.Doc, v *slotDoc) error {
	if config, key, ok := strings.Cut(doc.ID, "/"); !ok || config == "" || key == "" {
		return errors.New("its id is not configuration/target")
	}
	if !strings.HasSuffix(v.Order, "-"+string(v.AlertID)) || v.GroupKey == "" {
		return errors.New("it does not say which alert holds it")
	}
	return nil
}
