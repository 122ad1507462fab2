package backup

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/functions/ingestion/reply"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/backup/history"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// trustedFor is for how long an object that no document names yet may still be named by one. The sweep takes only what is
// much older (sweepAge), so that nothing is named while it goes.
const trustedFor = time.Hour

// put stores an object under a key, or under one beside it: where another object has it, or one that was there for so long that
// the sweep may be about to take it. It gives the key that counts.
func (in *Intake) put(ctx context.Context, bs blockstore.Store, key string, content []byte) (string, error) {
	began := time.Now()
	err := create(ctx, bs, key, content)
	if errors.Is(err, blockstore.ErrExists) {
		fresh, statErr := in.fresh(ctx, bs, key, int64(len(content)))
		switch {
		case statErr != nil:
			return "", fmt.Errorf("look at object %s: %w", key, statErr)
		case fresh:
			err = blockstore.Put(ctx, bs, key, content) // compares
		}
		if errors.Is(err, blockstore.ErrExists) {
			key += "-" + string(model.NewID())
			err = create(ctx, bs, key, content)
		}
	}
	if err != nil {
		return "", fmt.Errorf("store object %s of %d bytes: %w", key, len(content), err)
	}
	in.m.stored(len(content), time.Since(began))
	return key, nil
}

// fresh reports whether an object of a size is there and was stored lately.
func (in *Intake) fresh(ctx context.Context, bs blockstore.Store, key string, size int64) (bool, error) {
	o, err := bs.Stat(ctx, key)
	if errors.Is(err, blockstore.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return o.Size == size && in.o.Now().Sub(o.Modified) < trustedFor, nil
}

func create(ctx context.Context, bs blockstore.Store, key string, content []byte) error {
	w, err := bs.Create(ctx, key)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(content); err != nil {
		return err
	}
	return w.Commit(ctx)
}

// slice reads a framed body.
func (in *Intake) slice(w http.ResponseWriter, r *http.Request) (group model.Group, header bson.Raw, content []byte, err error) {
	if group, err = in.o.Caller.Authenticate(r); err != nil {
		return group, nil, nil, err
	}
	body, err := reply.Body(w, r, in.o.MaxPost)
	if err != nil {
		return group, nil, nil, err
	}
	header, content, err = wire.Unframe(body)
	return group, header, content, err
}

// seed keeps a slice of a full read.
func (in *Intake) seed(w http.ResponseWriter, r *http.Request) error {
	group, raw, content, err := in.slice(w, r)
	if err != nil {
		return err
	}
	h, err := wire.DecodeSeedHeader(raw)
	if err != nil {
		return err
	}
	ctx := r.Context()
	j, e, err := in.current(ctx, group.ID, h.Job, h.Epoch)
	if err != nil {
		return err
	}
	switch have, err := in.o.Area.SeedAt(ctx, j.ID, e.Number, h.UUID, h.Attempt, h.Seq); {
	case err == nil && have.Digest == h.Digest && have.Docs == h.Count:
		return reply.Ack(w, in.o.Now(), true)
	case err == nil:
		return reply.Refuse(wire.CodeConflict, "slice %d of collection %s is stored with another content: read the collection again as attempt %d", h.Seq, h.UUID, h.Attempt+1)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	if !e.ScanEnd.IsZero() {
		return reply.Refuse(wire.CodeConflict, "the full read of epoch %d is complete: nothing is added to it", e.Number)
	}
	key, stored := seedKey(&h), h.Stored
	if h.Uploaded {
		err = in.uploaded(ctx, e.StoreID, key, h.Stored)
	} else {
		if err = opened(h.Bytes, content, h.Open); err == nil {
			key, err = in.keep(ctx, e.StoreID, key, content)
		}
		stored = int64(len(content))
	}
	if err != nil {
		return reply.Refusal(err)
	}
	added, err := in.o.Area.AddSeed(ctx, j.ID, e.Number, h.UUID, backup.SeedSlice{
		Attempt: h.Attempt, Seq: h.Seq, Key: key, Docs: h.Count, Bytes: h.Bytes, Stored: stored, Digest: h.Digest, Resume: h.Resume, At: in.o.Now().UTC(),
	})
	if err != nil {
		return reply.Refusal(err)
	}
	in.m.slices.WithLabelValues("seed", result(!added)).Inc()
	in.m.docBytes.WithLabelValues("seed").Add(float64(h.Bytes))
	return reply.Ack(w, in.o.Now(), !added)
}

func seedKey(h *wire.SeedHeader) string {
	return history.SeedKey(model.ID(h.Job), h.Epoch, h.UUID, h.Attempt, h.Seq, h.Digest.String())
}

func result(repeated bool) string {
	if repeated {
		return "repeated"
	}
	return "stored"
}

// opened checks a slice's content against its header.
func opened(size int64, content []byte, check func(docs []byte) error) error {
	docs, err := wire.Decompress(content, size)
	if err != nil {
		return err
	}
	return check(docs)
}

func (in *Intake) keep(ctx context.Context, storeID, key string, content []byte) (string, error) {
	bs, err := in.o.Blobs.Open(ctx, storeID)
	if err != nil {
		return key, err
	}
	return in.put(ctx, bs, key, content)
}

// oplog keeps a slice of the oplog.
func (in *Intake) oplog(w http.ResponseWriter, r *http.Request) error {
	group, raw, content, err := in.slice(w, r)
	if err != nil {
		return err
	}
	h, err := wire.DecodeOplogHeader(raw)
	if err != nil {
		return err
	}
	ctx, s := r.Context(), &h.Slice
	j, e, err := in.current(ctx, group.ID, s.Job, s.Epoch)
	if err != nil {
		return err
	}
	// Judged before anything is stored; what counts is judged again, with the head that is the newest then.
	switch _, again, err := e.Follow(s); {
	case err == nil && again:
		return in.oplogAck(w, e.Head, true)
	case errors.Is(err, chain.ErrOverlap):
		if _, ok, knownErr := in.o.Area.HasSlice(ctx, s); knownErr != nil {
			return knownErr
		} else if ok {
			return in.oplogAck(w, e.Head, true)
		}
		return in.misfit(ctx, &j, &e, err)
	case err != nil:
		return in.misfit(ctx, &j, &e, err)
	}
	key, stored := oplogKey(s), h.Stored
	if h.Uploaded {
		err = in.uploaded(ctx, e.StoreID, key, h.Stored)
	} else {
		err = opened(s.Bytes, content, func(docs []byte) error { return s.Open(docs, func(bson.Raw) error { return nil }) })
		if err == nil {
			key, err = in.keep(ctx, e.StoreID, key, content)
		}
		stored = int64(len(content))
	}
	if err != nil {
		return reply.Refusal(err)
	}
	head, repeated, err := in.o.Area.AddSlice(ctx, backup.OplogSlice{Slice: *s, Key: key, Stored: stored, At: in.o.Now().UTC()}, h.Wall)
	if err != nil {
		return in.misfit(ctx, &j, &e, err)
	}
	in.m.slices.WithLabelValues("oplog", result(repeated)).Inc()
	in.m.docBytes.WithLabelValues("oplog").Add(float64(s.Bytes))
	return in.oplogAck(w, head, repeated)
}

// misfit is a slice that does not follow what is stored. It ends nothing by itself: two agents may have crossed.
func (in *Intake) misfit(ctx context.Context, j *backup.Job, e *backup.Epoch, err error) error {
	refused := reply.Refusal(err)
	var bad *wire.Error
	if errors.As(refused, &bad) {
		in.m.slices.WithLabelValues("oplog", bad.Code).Inc()
		in.o.Log.WarnContext(ctx, "oplog slice refused", obs.KeyRS, e.SetName, obs.KeyCluster, j.ID, obs.KeyCode, bad.Code, obs.KeyReason, err)
	}
	return refused
}

func oplogKey(s *chain.Slice) string {
	return history.OplogKey(model.ID(s.Job), s.Epoch, s.First, s.Sum().String())
}

func (in *Intake) oplogAck(w http.ResponseWriter, h chain.Head, repeated bool) error {
	return reply.Answer(w, wire.OplogAck{Repeated: repeated, Head: wire.Head{Last: h.Last, Sum: h.Sum, Entry: h.Entry}})
}

// How long an agent may take for an upload past the server.
const uploadTTL = 15 * time.Minute

// presigns reports whether uploads to a block store can go past this server.
func (in *Intake) presigns(ctx context.Context, storeID string) bool {
	if !in.o.Presign {
		return false
	}
	bs, err := in.o.Blobs.Open(ctx, storeID)
	if err != nil {
		return false
	}
	_, ok := blockstore.SignerOf(bs)
	return ok
}

// upload permits an agent to put an object into the block store by itself. Where that cannot be, it sends the bytes here.
func (in *Intake) upload(w http.ResponseWriter, r *http.Request) error {
	group, m, err := reply.Accept[wire.UploadWish](in.o.Caller, in.o.MaxPost, w, r)
	if err != nil {
		return err
	}
	key, job, epoch := "", "", int64(0)
	switch m.Kind {
	case wire.UploadSeed:
		h, err := wire.DecodeSeedHeader(m.Header)
		if err != nil {
			return err
		}
		key, job, epoch = seedKey(&h), h.Job, h.Epoch
	default:
		h, err := wire.DecodeOplogHeader(m.Header)
		if err != nil {
			return err
		}
		key, job, epoch = oplogKey(&h.Slice), h.Slice.Job, h.Slice.Epoch
	}
	if m.Stored <= 0 || m.Stored > wire.MaxSliceBytes+wire.MaxSliceBytes/8 {
		return reply.Refuse(wire.CodeTooLarge, "an upload of %d bytes: slices have at most %d", m.Stored, wire.MaxSliceBytes)
	}
	ctx := r.Context()
	_, e, err := in.current(ctx, group.ID, job, epoch)
	if err != nil {
		return err
	}
	bs, err := in.o.Blobs.Open(ctx, e.StoreID)
	if err != nil {
		return err
	}
	signer, ok := blockstore.SignerOf(bs)
	if !ok || !in.o.Presign {
		return reply.Answer(w, wire.Upload{Direct: true})
	}
	switch o, err := bs.Stat(ctx, key); {
	case err == nil:
		if in.o.Now().Sub(o.Modified) < trustedFor && o.Size == m.Stored {
			return reply.Answer(w, wire.Upload{There: true})
		}
		return reply.Answer(w, wire.Upload{Direct: true}) // only the server can choose another key
	case !errors.Is(err, blockstore.ErrNotFound):
		return reply.Refusal(fmt.Errorf("look at object %s: %w", key, err))
	}
	signed, err := signer.SignPut(ctx, key, m.Stored, uploadTTL)
	if err != nil {
		return reply.Refusal(fmt.Errorf("permit an upload of %s: %w", key, err))
	}
	return reply.Answer(w, wire.Upload{Method: signed.Method, URL: signed.URL, Header: signed.Header})
}

// uploaded checks that an object that went past the server is there. Its content is checked by whoever reads it.
func (in *Intake) uploaded(ctx context.Context, storeID, key string, size int64) error {
	bs, err := in.o.Blobs.Open(ctx, storeID)
	if err != nil {
		return err
	}
	o, err := bs.Stat(ctx, key)
	switch {
	case errors.Is(err, blockstore.ErrNotFound):
		return reply.Refuse(wire.CodeDamaged, "the object is not in the block store: ask for the upload again")
	case err != nil:
		return fmt.Errorf("look at object %s: %w", key, err)
	case o.Size != size:
		return reply.Refuse(wire.CodeDamaged, "the object has %d bytes, its header says %d", o.Size, size)
	case in.o.Now().Sub(o.Modified) >= trustedFor:
		return reply.Refuse(wire.CodeDamaged, "the object was uploaded too long ago: send the slice here")
	}
	return nil
}
