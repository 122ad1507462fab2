package alerting

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/alerting/entry"
	"github.com/heartwood-db/heartwood/shared/store/alerting/outbox"
)

// underGroup are the collections whose ids begin with the group's and that go with the group. Events stay.
func underGroup() []string {
	return []string{collConfigs, collIntegrations, collWindows, collSilences, collAlerts}
}

// byGroup are the collections that are found by their index "group".
func byGroup() []string { return []string{collSlots, outbox.Collection} }

// ForgetGroup removes everything of a deleted group but its events, up to limit documents, and says whether more is left.
// Configurations go first, so that nothing new begins. It may be run again.
func (al *Alerting) ForgetGroup(ctx context.Context, group model.ID, limit int) (more bool, err error) {
	if group == "" {
		return false, errors.New("forget a group: it needs an id") // without one it would be the site
	}
	if _, err := entry.ID(group, "x"); err != nil {
		return false, nil //nolint:nilerr // such a group has nothing
	}
	left := limit
	for _, collection := range underGroup() {
		n, err := al.s.DeleteUnder(ctx, collection, string(group)+"/", left)
		if left -= n; err != nil || left <= 0 {
			return true, err
		}
	}
	for _, collection := range byGroup() {
		for {
			n, err := entry.DeleteFound(ctx, al.s, docstore.Query{Collection: collection, Index: "group", Prefix: []any{string(group)}}, left)
			if left -= n; err != nil || left <= 0 {
				return true, err
			}
			if n == 0 {
				break
			}
		}
	}
	return false, nil
}

// Groups lists up to limit groups of which the area holds anything but events, in the order of their ids, from the one that
// follows last on ("" begins). Fewer than limit is the end. It skips from group to group: its cost follows their number.
func (al *Alerting) Groups(ctx context.Context, last model.ID, limit int) ([]model.ID, error) {
	groups := make([]model.ID, 0, limit)
	for len(groups) < limit {
		next := ""
		for _, q := range heads(string(last)) {
			q.Limit = 1
			page, err := al.s.Engine().Scan(ctx, q)
			if err != nil {
				return nil, fmt.Errorf("list groups: %w", err)
			}
			if len(page.Docs) == 0 {
				continue
			}
			head, err := groupOf(page.Docs[0], q.Index != "")
			if err != nil {
				return nil, err
			}
			if next == "" || head < next {
				next = head
			}
		}
		if next == "" {
			break
		}
		last = model.ID(next)
		if next != entry.Site {
			groups = append(groups, last)
		}
	}
	return groups, nil
}

// heads are the queries whose first documents are of the groups that follow last.
func heads(last string) []docstore.Query {
	var qs []docstore.Query
	for _, collection := range underGroup() {
		q := docstore.Query{Collection: collection, IDsOnly: true}
		if last != "" {
			_, q.From = store.Under(last + "/")
		}
		qs = append(qs, q)
	}
	for _, collection := range byGroup() {
		q := docstore.Query{Collection: collection, Index: "group"}
		if last != "" {
			q.Low = last + "\x01" // the first key that follows; no group's id goes on with it
		}
		qs = append(qs, q)
	}
	return qs
}

func groupOf(doc docstore.Doc, indexed bool) (string, error) {
	if !indexed {
		group, _, _ := strings.Cut(doc.ID, "/")
		return group, nil
	}
	d, err := store.Decode[struct {
		GroupKey string `bson:"groupKey"`
	}](doc)
	return d.GroupKey, err
}
