package deliver

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
)

// batch is what waits for one destination, oldest first.
type batch struct {
	destination string
	deliveries  []model.Delivery
}

// batches groups deliveries by destination, in the order in which their first ones came.
func batches(due []model.Delivery) []batch {
	var all []batch
	place := map[string]int{}
	for i := range due {
		key := destination(&due[i])
		at, ok := place[key]
		if !ok {
			at = len(all)
			place[key] = at
			all = append(all, batch{destination: key})
		}
		all[at].deliveries = append(all[at].deliveries, due[i])
	}
	for i := range all {
		slices.SortStableFunc(all[i].deliveries, func(a, b model.Delivery) int {
			return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.AlertID, b.AlertID), cmp.Compare(rank(a.Kind), rank(b.Kind)), cmp.Compare(a.ID, b.ID))
		})
	}
	return all
}

// rank orders what was decided of one alert at one time: its end comes last.
func rank(k model.DeliveryKind) int {
	switch k {
	case model.DeliverClose, model.DeliverCancel:
		return 2
	case model.DeliverAcknowledge:
		return 1
	}
	return 0
}

// destination tells where deliveries go, as a digest: it holds secrets.
func destination(d *model.Delivery) string {
	to := notify.TargetOf(d.Notification, notify.Recipient{Channel: d.Channel, Address: d.Address})
	h := sha256.New()
	part := func(s string) { _, _ = fmt.Fprintf(h, "%d:%s", len(s), s) }
	part(to.Channel)
	part(to.Address)
	if to.Channel != notify.Email && to.Channel != notify.SMS { // of those the address is all
		for _, k := range slices.Sorted(maps.Keys(to.Fields)) {
			part(k)
			part(to.Fields[k])
		}
		for _, k := range slices.Sorted(maps.Keys(to.Secrets)) {
			part(k)
			part(to.Secrets[k].Reveal())
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// whole leaves out the end of a full page when it may have cut through the members of a digest: they must go together.
func whole(due []model.Delivery, limit int) []model.Delivery {
	if len(due) < limit || due[len(due)-1].Digest == "" {
		return due
	}
	last := due[len(due)-1].Digest
	kept := slices.DeleteFunc(slices.Clone(due), func(d model.Delivery) bool { return d.Digest == last })
	if len(kept) == 0 {
		return due
	}
	return kept
}

// parts splits a batch into messages. Deliveries that went out together before, with unknown success, stay together; of the
// others each is a message of its own, or many are one digest.
func parts(ds []model.Delivery) [][]model.Delivery {
	var out [][]model.Delivery
	var loose []model.Delivery
	place := map[string]int{}
	for _, d := range ds {
		if d.Digest == "" {
			loose = append(loose, d)
			continue
		}
		at, ok := place[d.Digest]
		if !ok {
			at = len(out)
			place[d.Digest] = at
			out = append(out, nil)
		}
		out[at] = append(out[at], d)
	}
	if len(loose) >= digestFrom {
		return slices.AppendSeq(out, slices.Chunk(loose, digestMost))
	}
	for i := range loose {
		out = append(out, loose[i:i+1])
	}
	return out
}

// digestKey is the idempotency key of a message of several deliveries. It says how many there are: if some are missing when
// it is tried again, it is another message and needs another key, or those might be taken for delivered.
func digestKey(ds []model.Delivery) string {
	if key := ds[0].Digest; strings.HasSuffix(key, "-"+strconv.Itoa(len(ds))) &&
		!slices.ContainsFunc(ds, func(d model.Delivery) bool { return d.Digest != key }) {
		return key
	}
	ids := make([]string, len(ds))
	for i := range ds {
		ids[i] = ds[i].ID
	}
	slices.Sort(ids)
	sum := sha256.Sum256([]byte(strings.Join(ids, "\n")))
	return "digest/" + hex.EncodeToString(sum[:12]) + "-" + strconv.Itoa(len(ds))
}
