package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
)

// CreateSession keeps a new session under its key, the digest of the cookie's token.
func (a *Access) CreateSession(ctx context.Context, se model.Session) error {
	if err := checkPart("session", se.Key); err != nil {
		return err
	}
	return store.Insert(ctx, a.s, collSessions, se.Key, se)
}

// Session returns a session, or store.ErrNotFound. Whether it has expired is for the caller to judge, who has the time.
func (a *Access) Session(ctx context.Context, key string) (model.Session, error) {
	if key == "" {
		return model.Session{}, fmt.Errorf("session: %w", store.ErrNotFound)
	}
	return store.Get[model.Session](ctx, a.s, collSessions, key)
}

// TouchSession notes that a session was used and until when it now lasts. A session that was deleted stays deleted:
// store.ErrNotFound.
func (a *Access) TouchSession(ctx context.Context, key string, seen, expires time.Time) error {
	return store.Update(ctx, a.s, collSessions, key, func(se *model.Session) error {
		se.Seen, se.Expires = seen, expires
		return nil
	})
}

// DeleteSession signs a browser out; that there was no such session is no error.
func (a *Access) DeleteSession(ctx context.Context, key string) error {
	return a.s.Delete(ctx, collSessions, key)
}

// SessionsOf lists a user's sessions.
func (a *Access) SessionsOf(ctx context.Context, user model.ID) ([]model.Session, error) {
	return store.All[model.Session](ctx, a.s, docstore.Query{Collection: collSessions, Index: "user", Prefix: []any{string(user)}})
}

// DeleteSessionsOf signs a user out everywhere but in the session keep, which may be "".
func (a *Access) DeleteSessionsOf(ctx context.Context, user model.ID, keep string) error {
	sessions, err := a.SessionsOf(ctx, user)
	if err != nil {
		return err
	}
	var ops []docstore.Op
	for _, se := range sessions {
		if se.Key != keep {
			ops = append(ops, docstore.Op{Kind: docstore.Delete, Collection: collSessions, ID: se.Key})
		}
	}
	return a.s.Write(ctx, ops...)
}

// ExpireSessions deletes up to limit sessions that expired before now, and says how many.
func (a *Access) ExpireSessions(ctx context.Context, now time.Time, limit int) (int, error) {
	page, err := a.s.Engine().Scan(ctx, docstore.Query{Collection: collSessions, Index: "expires", High: now, Limit: limit, IDsOnly: true})
	if err != nil {
		return 0, fmt.Errorf("find expired sessions: %w", err)
	}
	// A session that is used in this moment gets a new revision and stays.
	n := 0
	for _, doc := range page.Docs {
		err := a.s.Write(ctx, docstore.Op{Kind: docstore.Delete, Collection: collSessions, ID: doc.ID, Rev: doc.Rev})
		switch {
		case err == nil:
			n++
		case !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound):
			return n, err
		}
	}
	return n, nil
}
