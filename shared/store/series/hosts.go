package series

import (
	"context"
	"fmt"
	"strings"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
)

// packedCollections are those whose ids begin with "<host>/".
func packedCollections() []string { return []string{collChunks, collH1, collD1} }

// Hosts lists up to limit hosts of which compacted series are stored, in the order of their ids, from the one that follows last on
// ("" begins). Fewer than limit is the end. It skips from host to host: its cost follows the number of hosts, not of documents. Rows
// that are not compacted yet do not count; within the hour after theirs they do.
func (s *Series) Hosts(ctx context.Context, last model.HostID, limit int) ([]model.HostID, error) {
	from := ""
	if last != "" {
		from = after(string(last) + "/")
	}
	heads := map[string]string{} // by collection: its first id from there on; "" when there is none
	hosts := make([]model.HostID, 0, limit)
	for len(hosts) < limit {
		next := ""
		for _, collection := range packedCollections() {
			head, seen := heads[collection]
			if !seen || head != "" && head < from {
				page, err := s.engine.Scan(ctx, docstore.Query{Collection: collection, From: from, Limit: 1, IDsOnly: true})
				if err != nil {
					return nil, fmt.Errorf("series: list hosts: %w", err)
				}
				head = ""
				if len(page.Docs) > 0 {
					head = page.Docs[0].ID
				}
				heads[collection] = head
			}
			if head != "" && (next == "" || head < next) {
				next = head
			}
		}
		if next == "" {
			break
		}
		host, _, _ := strings.Cut(next, "/")
		hosts = append(hosts, model.HostID(host))
		from = after(host + "/")
	}
	return hosts, nil
}

// DeleteHost drops everything of a host but rows that are not compacted yet, at most limit documents a collection; it is
// to be called until it reports that nothing is left.
func (s *Series) DeleteHost(ctx context.Context, host model.HostID, limit int) (more bool, err error) {
	prefix := string(host) + "/"
	for _, collection := range packedCollections() {
		n, err := s.engine.DeleteRange(ctx, collection, prefix, after(prefix), limit)
		if err != nil {
			return true, fmt.Errorf("series: delete host %s: %w", host, err)
		}
		more = more || n >= limit
	}
	return more, nil
}
