package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/heartwood-db/heartwood/functions/ingestion/reply"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/backup/history"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// epoch begins a new full read. The agent has taken its position before it read anything.
func (in *Intake) epoch(w http.ResponseWriter, r *http.Request) error {
	group, m, err := reply.Accept[wire.BeginEpoch](in.o.Caller, in.o.MaxPost, w, r)
	if err != nil {
		return err
	}
	ctx, now := r.Context(), in.o.Now().UTC()
	c, j, err := in.running(ctx, group.ID, m.Job)
	if err != nil {
		return err
	}
	if _, err := in.o.Blobs.Open(ctx, j.StoreID); err != nil { // nothing is begun that could not be kept
		return err
	}
	e, err := in.o.Area.BeginEpoch(ctx, backup.Epoch{
		Job: j.ID, Number: m.Number, Why: reply.CutTo(m.Why, reply.MaxText), AgentID: m.AgentID, StoreID: j.StoreID, Start: m.Start, StartEntry: m.StartEntry,
		ReplicaSetID: reply.Cut(m.ReplicaSetID), SetName: reply.Cut(m.SetName), Version: reply.Cut(m.ServerVer), FCV: reply.Cut(m.FCV),
	}, now)
	if err != nil {
		return reply.Refusal(err)
	}
	in.o.Log.InfoContext(ctx, "epoch begun", obs.KeyRS, e.SetName, obs.KeyCluster, j.ID, obs.KeyAgent, m.AgentID, obs.KeyCount, e.Number, obs.KeyReason, e.Why)
	err = in.o.Events.AddEvents(ctx, model.Event{
		ID: model.DeriveID("epoch", string(j.ID), strconv.FormatInt(e.Number, 10)), GroupID: c.GroupID, Type: model.EventSyncStarted, At: e.Began,
		ClusterID: j.ID, AgentID: m.AgentID, Text: fmt.Sprintf("A full read of %s began (number %d): %s.", e.SetName, e.Number, e.Why),
	})
	if err != nil {
		return err
	}
	return reply.Ack(w, in.o.Now(), !e.Began.Equal(now))
}

// end ends an epoch whose history cannot be continued.
func (in *Intake) end(w http.ResponseWriter, r *http.Request) error {
	group, m, err := reply.Accept[wire.EndEpoch](in.o.Caller, in.o.MaxPost, w, r)
	if err != nil {
		return err
	}
	ctx, now := r.Context(), in.o.Now().UTC()
	_, j, err := in.job(ctx, group.ID, m.Job)
	if err != nil {
		return err
	}
	why := reply.CutTo(m.Why, reply.MaxText)
	if err := in.o.Area.EndEpoch(ctx, j.ID, m.Epoch, why, now); errors.Is(err, store.ErrNotFound) {
		return reply.Refuse(wire.CodeEpoch, "epoch %d does not exist", m.Epoch)
	} else if err != nil {
		return err
	}
	e, err := in.o.Area.Epoch(ctx, j.ID, m.Epoch)
	if err != nil {
		return reply.Refusal(err)
	}
	err = in.o.Events.AddEvents(ctx, model.Event{
		ID: model.DeriveID("epoch ended", string(j.ID), strconv.FormatInt(e.Number, 10)), GroupID: j.GroupID, Type: model.EventSyncRequired, At: e.Ended,
		ClusterID: j.ID, AgentID: j.Tail.AgentID, Text: fmt.Sprintf("The history of %s (number %d) ended and a full read is needed: %s.", e.SetName, e.Number, e.EndedWhy),
	})
	if err != nil {
		return err
	}
	in.o.Log.WarnContext(ctx, "epoch ended", obs.KeyRS, e.SetName, obs.KeyCluster, j.ID, obs.KeyCount, e.Number, obs.KeyReason, e.EndedWhy, obs.KeyCode, reply.Cut(m.Verdict))
	return reply.Ack(w, in.o.Now(), !e.Ended.Equal(now))
}

// collections keeps the catalogue of a full read and what is done of it.
func (in *Intake) collections(w http.ResponseWriter, r *http.Request) error {
	group, m, err := reply.Accept[wire.PutCollections](in.o.Caller, in.o.MaxPost, w, r)
	if err != nil {
		return err
	}
	j, e, err := in.current(r.Context(), group.ID, m.Job, m.Epoch)
	if err != nil {
		return err
	}
	list := make([]backup.Collection, len(m.Collections))
	for i := range m.Collections {
		c := &m.Collections[i]
		list[i] = backup.Collection{
			UUID: c.UUID, NS: c.NS, Options: c.Options, IDIndex: c.IDIndex, Indexes: c.Indexes, View: c.View, Attempt: c.Attempt, Done: c.Done,
			Slices: c.Slices, Docs: c.Docs, Bytes: c.Bytes, Lost: reply.CutTo(c.Lost, reply.MaxText),
		}
	}
	if err := in.o.Area.PutCollections(r.Context(), j.ID, e.Number, list); err != nil {
		return reply.Refusal(err)
	}
	return reply.Ack(w, in.o.Now(), false)
}

// pageBytes bounds what a page of collections holds: their options may be large.
const pageBytes = 4 << 20

// collectionsPage tells an agent that takes a full read over how far it is.
func (in *Intake) collectionsPage(w http.ResponseWriter, r *http.Request) error {
	group, err := in.o.Caller.Authenticate(r)
	if err != nil {
		return err
	}
	ctx, q := r.Context(), r.URL.Query()
	n, err := strconv.ParseInt(q.Get("epoch"), 10, 64)
	if err != nil || n <= 0 || len(q.Get("after")) > reply.MaxText {
		return reply.Refuse(wire.CodeMalformed, "collections: epoch must be the number of an epoch, after what the page before gave")
	}
	_, j, err := in.job(ctx, group.ID, q.Get("job"))
	if err != nil {
		return err
	}
	page := wire.CollectionsPage{Collections: []wire.CollectionInfo{}}
	after, size := q.Get("after"), 0
	for size < int(min(pageBytes, in.o.MaxPost/2)) {
		some, next, err := in.o.Area.CollectionsPage(ctx, j.ID, n, after, 50)
		if err != nil {
			return err
		}
		for i := range some {
			info, err := in.collectionInfo(ctx, j.ID, n, &some[i])
			if err != nil {
				return err
			}
			size += len(info.NS) + len(info.Options) + len(info.View) + len(info.Resume) + 200
			for _, spec := range info.Indexes {
				size += len(spec)
			}
			page.Collections = append(page.Collections, info)
		}
		if page.After = next; next == "" {
			break
		}
		after = next
	}
	return reply.Answer(w, page)
}

func (in *Intake) collectionInfo(ctx context.Context, job model.ID, n int64, c *backup.Collection) (wire.CollectionInfo, error) {
	info := wire.CollectionInfo{
		UUID: c.UUID, NS: c.NS, Options: c.Options, IDIndex: c.IDIndex, Indexes: c.Indexes, View: c.View, Attempt: c.Attempt, Done: c.Done,
		Slices: c.Slices, Docs: c.Docs, Bytes: c.Bytes, Lost: c.Lost,
	}
	if c.Complete() {
		return info, nil
	}
	var err error
	info.Stored, info.Resume, err = in.o.Area.Stored(ctx, job, n, c.UUID, c.Attempt)
	return info, err
}

// scanned ends the full read.
func (in *Intake) scanned(w http.ResponseWriter, r *http.Request) error {
	group, m, err := reply.Accept[wire.Scanned](in.o.Caller, in.o.MaxPost, w, r)
	if err != nil {
		return err
	}
	ctx := r.Context()
	j, e, err := in.current(ctx, group.ID, m.Job, m.Epoch)
	if err != nil {
		return err
	}
	if err := in.o.Area.MarkScanned(ctx, j.ID, e.Number, m.ScanEnd, m.Collections); err != nil {
		return reply.Refusal(err)
	}
	return reply.Ack(w, in.o.Now(), !e.ScanEnd.IsZero())
}

// missing keeps the documents that the copy lacked, as the source holds them. They go into an object: there may be many.
func (in *Intake) missing(w http.ResponseWriter, r *http.Request) error {
	group, err := in.o.Caller.Authenticate(r)
	if err != nil {
		return err
	}
	body, err := reply.Body(w, r, in.o.MaxPost)
	if err != nil {
		return err
	}
	m, err := wire.Decode[wire.FoundDocs](body)
	if err != nil {
		return err
	}
	ctx := r.Context()
	j, e, err := in.current(ctx, group.ID, m.Job, m.Epoch)
	if err != nil {
		return err
	}
	bs, err := in.o.Blobs.Open(ctx, e.StoreID)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	key := history.FoundKey(j.ID, e.Number, hex.EncodeToString(sum[:]))
	repeated := j.Found != nil && j.Found.Key == key
	if !repeated {
		if key, err = in.put(ctx, bs, key, bytes.Clone(body)); err != nil {
			return reply.Refusal(err)
		}
		err = in.o.Area.SetFound(ctx, j.ID, backup.Found{Key: key, Epoch: e.Number, OperationTime: m.OperationTime}, in.o.Now().UTC())
		if err != nil {
			return reply.Refusal(err)
		}
	}
	return reply.Ack(w, in.o.Now(), repeated)
}
