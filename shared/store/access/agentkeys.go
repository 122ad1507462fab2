package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// agentKeyDoc is an agent key as stored; DigestHex is its digest in the only form an index takes.
type agentKeyDoc struct {
	model.AgentKey `bson:",inline"`
	DigestHex      string `bson:"digestHex"`
}

// KeyDigest is what is kept of an agent key.
func KeyDigest(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

// Last4 is what lists show of an agent key.
func Last4(key string) string { return key[max(0, len(key)-4):] }

// AgentKeys lists the agent keys of a group by id.
func (a *Access) AgentKeys(ctx context.Context, group model.ID) ([]model.AgentKey, error) {
	keys := []model.AgentKey{}
	if err := checkPart("group", string(group)); err != nil {
		return keys, nil //nolint:nilerr // such a group has no keys
	}
	from, to := store.Under(string(group) + "/")
	for d, err := range store.ScanAll[agentKeyDoc](ctx, a.s, docstore.Query{Collection: collAgentKeys, From: from, To: to}) {
		if err != nil {
			return nil, err
		}
		keys = append(keys, d.AgentKey)
	}
	return keys, nil
}

// CreateAgentKey adds an agent key, whose Digest is KeyDigest of the key. store.ErrExists when the id is taken.
func (a *Access) CreateAgentKey(ctx context.Context, k model.AgentKey) error {
	if err := checkPart("group", string(k.GroupID)); err != nil {
		return err
	}
	if err := checkPart("agent key", string(k.ID)); err != nil {
		return err
	}
	if len(k.Digest) != sha256.Size {
		return fmt.Errorf("agent key %s: its digest has %d bytes, want %d", k.ID, len(k.Digest), sha256.Size)
	}
	return store.Insert(ctx, a.s, collAgentKeys, string(k.GroupID)+"/"+string(k.ID), agentKeyDoc{AgentKey: k, DigestHex: hex.EncodeToString(k.Digest)})
}

// DeleteAgentKey removes an agent key; that there was none is no error.
func (a *Access) DeleteAgentKey(ctx context.Context, group, id model.ID) error {
	return a.s.Delete(ctx, collAgentKeys, string(group)+"/"+string(id))
}

// CheckAgentKey says which of the group's keys the key is, if any. All keys are compared, each in constant time, and a
// group without keys is compared with a key that nobody has: the time taken tells neither groups nor keys.
func (a *Access) CheckAgentKey(ctx context.Context, group model.ID, key string) (model.AgentKey, bool, error) {
	keys, err := a.AgentKeys(ctx, group)
	if err != nil {
		return model.AgentKey{}, false, err
	}
	digest := KeyDigest(key)
	nobody := model.AgentKey{Digest: make([]byte, sha256.Size)}
	found := -1
	for i, k := range append(keys, nobody) {
		equal := subtle.ConstantTimeCompare(k.Digest, digest)
		found = subtle.ConstantTimeSelect(equal, i, found)
	}
	if found < 0 || found >= len(keys) {
		return model.AgentKey{}, false, nil
	}
	return keys[found], true, nil
}

// GroupByAgentKey finds the group an agent key belongs to, or answers store.ErrNotFound.
func (a *Access) GroupByAgentKey(ctx context.Context, key string) (model.ID, error) {
	q := docstore.Query{Collection: collAgentKeys, Index: "digest", Prefix: []any{hex.EncodeToString(KeyDigest(key))}}
	d, err := store.First[agentKeyDoc](ctx, a.s, q)
	return d.GroupID, err
}
