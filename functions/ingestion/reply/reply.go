// Package reply is what the routes of backup agents have in common: how messages are read and answered, which refusal an error is, and
// how a block store is opened.
package reply

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Groups authenticates callers.
type Groups interface {
	// Authenticate gives the caller's group, or a refusal.
	Authenticate(r *http.Request) (model.Group, error)
}

// Blobs opens a block store by its id; nil where there is none.
type Blobs func(ctx context.Context, storeID string) (blockstore.Store, error)

// Limits of texts that agents send, in bytes. Longer ones are cut.
const (
	MaxName = 256
	MaxText = 1 << 10
)

// Cut is a text of at most MaxName bytes.
func Cut(s string) string { return CutTo(s, MaxName) }

// CutTo is a text of at most limit bytes.
func CutTo(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// Refuse is a refusal with a code that agents understand.
func Refuse(code, format string, args ...any) error {
	return &wire.Error{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// Refusal gives what the area and the block stores answer the code that agents understand. What is left is the server's trouble.
func Refusal(err error) error {
	var bad *wire.Error
	switch {
	case err == nil, errors.As(err, &bad):
		return err
	case errors.Is(err, chain.ErrGap):
		return Refuse(wire.CodeGap, "%v", err)
	case errors.Is(err, chain.ErrOverlap):
		return Refuse(wire.CodeOverlap, "%v", err)
	case errors.Is(err, chain.ErrSplice), errors.Is(err, chain.ErrOrder):
		return Refuse(wire.CodeSplice, "%v", err)
	case errors.Is(err, chain.ErrEpoch), errors.Is(err, backup.ErrEnded):
		return Refuse(wire.CodeEpoch, "%v", err)
	case errors.Is(err, chain.ErrDamaged):
		return Refuse(wire.CodeDamaged, "%v", err)
	case errors.Is(err, backup.ErrSeed), errors.Is(err, backup.ErrState), errors.Is(err, store.ErrConflict):
		return Refuse(wire.CodeConflict, "%v", err)
	case errors.Is(err, blockstore.ErrUnavailable), errors.Is(err, blockstore.ErrNoSpace), errors.Is(err, blockstore.ErrDenied),
		errors.Is(err, blockstore.ErrKey):
		return &troubled{code: wire.CodeStorage, reason: storageReason(err), err: err}
	}
	return err
}

func storageReason(err error) string {
	switch {
	case errors.Is(err, blockstore.ErrNoSpace):
		return "the block store is full: free space or raise its quota; the agent keeps what it has and comes again"
	case errors.Is(err, blockstore.ErrDenied):
		return "the block store refuses this server's credentials: see its configuration; the agent comes again"
	}
	return "the block store cannot be reached: come again"
}

// troubled is a refusal that is the server's own trouble: its cause is for the log.
type troubled struct {
	code, reason string
	err          error
}

func (t *troubled) Error() string { return t.reason + ": " + t.err.Error() }
func (t *troubled) Unwrap() error { return t.err }

// As lets the refusal be found as what agents are told.
func (t *troubled) As(target any) bool {
	if w, ok := target.(**wire.Error); ok {
		*w = &wire.Error{Code: t.code, Reason: t.reason}
		return true
	}
	return false
}

// Open opens the block store of a backup or restore.
func (b Blobs) Open(ctx context.Context, storeID string) (blockstore.Store, error) {
	if b == nil {
		return nil, Refuse(wire.CodeNotOffered, "this server keeps no backups: it has no block store; send backup agents to one that has (see the admin page Backup, Stores)")
	}
	if storeID == "" {
		return nil, Refuse(wire.CodeStorage, "no block store was assigned to this backup yet: come again")
	}
	bs, err := b(ctx, storeID)
	if err != nil {
		return nil, &troubled{code: wire.CodeStorage, reason: "the block store of this backup cannot be opened: come again", err: fmt.Errorf("open block store %s: %w", storeID, err)}
	}
	return bs, nil
}

// Accept reads a message of an agent, of at most limit bytes.
func Accept[T wire.BackupMessage](groups Groups, limit int64, w http.ResponseWriter, r *http.Request) (model.Group, T, error) {
	var none T
	group, err := groups.Authenticate(r)
	if err != nil {
		return group, none, err
	}
	body, err := Body(w, r, limit)
	if err != nil {
		return group, none, err
	}
	m, err := wire.Decode[T](body)
	return group, m, err
}

// Body reads a body of at most limit bytes.
func Body(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body, err := httpx.ReadBody(w, r, limit)
	if err != nil && httpx.Status(err) == http.StatusInternalServerError {
		return nil, Refuse(wire.CodeMalformed, "the body ended early") // the sender hung up; nobody reads the answer
	}
	return body, err
}

// Answer sends a message.
func Answer[T wire.BackupMessage](w http.ResponseWriter, m T) error {
	body, err := wire.Encode(m)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", wire.ContentType)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body)
	return nil
}

// Ack says that what came is durable; repeated: it was before.
func Ack(w http.ResponseWriter, now time.Time, repeated bool) error {
	return Answer(w, wire.BackupAck{Time: now.UTC(), Repeated: repeated})
}
