package backupagent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/daemon/backupagent/push"
	"github.com/heartwood-db/heartwood/daemon/backupagent/seed"
	"github.com/heartwood-db/heartwood/daemon/backupagent/source"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/document"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// wish is the identity of what was asked for.
func wish(list []wire.MissingDocs) string {
	h := sha256.New()
	for _, m := range list {
		h.Write(m.UUID[:])
		for _, id := range m.IDs {
			h.Write(id)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// missing answers the server's wish for documents. It is tried until it succeeds: the head waits for it.
func (j *job) missing(ctx context.Context, task *wire.BackupTask, set *source.Set) error {
	key := wish(task.Missing)
	j.mu.Lock()
	answered := j.answered[key]
	j.mu.Unlock()
	if answered {
		return nil
	}
	var backoff call.Backoff
	for {
		err := j.fetch(ctx, task, set)
		switch {
		case err == nil:
			j.mu.Lock()
			j.answered = map[string]bool{key: true} // older ones are not asked again
			j.mu.Unlock()
			return nil
		case errors.Is(asking(err), errAsk):
			return asking(err)
		}
		j.log.Warn("documents that the backup misses were not fetched", obs.KeyReason, err)
		if !call.Pause(ctx, backoff.Next(0)) {
			return context.Cause(ctx)
		}
	}
}

// fetchAtOnce is how many documents one find asks for.
const fetchAtOnce = 100

// fetch reads the documents as the majority has them. The operation time that is told is one at which all answers hold or
// that lies behind them: the oplog up to it must be applied over them.
func (j *job) fetch(ctx context.Context, task *wire.BackupTask, set *source.Set) error {
	m, _, err := set.Pick(ctx, task.SyncSource, "", nil)
	if err != nil {
		return err
	}
	after := task.Head.Last
	if after.IsZero() {
		after = task.Start
	}
	answer := push.Missing(j.id, task.Epoch, oplog.OpTime{Term: -1})
	size, asked := 0, 0
	for _, want := range task.Missing {
		found, absent := wire.FoundOf{UUID: want.UUID}, wire.MissingDocs{UUID: want.UUID, NS: want.NS}
		for ids := want.IDs; len(ids) > 0; {
			n := min(fetchAtOnce, len(ids))
			docs, at, err := byID(ctx, m, &want, ids[:n], after)
			if err != nil {
				return err
			}
			if answer.OperationTime.TS.Before(at) {
				answer.OperationTime.TS = at
			}
			for _, id := range ids[:n] {
				v, _ := oplog.Lookup(id, "_id")
				if doc, ok := docs[document.Key(v)]; ok {
					found.Docs, size = append(found.Docs, doc), size+len(doc)
				} else {
					absent.IDs = append(absent.IDs, id)
				}
			}
			asked += n
			ids = ids[n:]
			if size > 8<<20 { // the rest is asked for again
				break
			}
		}
		answer.Found, answer.Absent = append(answer.Found, found), append(answer.Absent, absent)
		if size > 8<<20 {
			break
		}
	}
	h, err := m.Hello(ctx) // its majority point lies behind every read made of it
	if err != nil {
		return err
	}
	if answer.OperationTime.TS.Before(h.Majority.TS) {
		answer.OperationTime = h.Majority
	}
	j.log.Info("documents that the backup misses were fetched", obs.KeyCount, asked, obs.KeyHost, m.Address)
	return j.a.client.Found(ctx, answer)
}

// byID reads documents of one collection, by their key.
func byID(ctx context.Context, m *source.Member, want *wire.MissingDocs, ids []bson.Raw, after oplog.OpTime) (map[string]bson.Raw, bson.Timestamp, error) {
	var at bson.Timestamp
	values := bson.A{}
	for _, id := range ids {
		v, err := id.LookupErr("_id")
		if err != nil {
			return nil, at, fmt.Errorf("a wish for a document of %s without its _id", want.NS)
		}
		values = append(values, v)
	}
	db, _ := oplog.Split(want.NS)
	c, err := m.ByUUID(ctx, db, want.UUID, after, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: values}}}})
	if source.Gone(err) || source.Denied(err) && seed.OfServer(want.NS) { // all are absent, or nobody's but a server's
		return nil, at, nil
	}
	if err != nil {
		return nil, at, err
	}
	defer c.Close(ctx)
	docs := map[string]bson.Raw{}
	for {
		b, err := c.Next(ctx, 0)
		if errors.Is(err, source.ErrEnd) {
			return docs, at, nil
		}
		if err != nil {
			return nil, at, err
		}
		if at.Before(b.Time) {
			at = b.Time
		}
		err = b.Each(func(doc bson.Raw) error {
			v, ok := oplog.Lookup(doc, "_id")
			if ok {
				docs[document.Key(v)] = doc
			}
			return nil
		})
		if err != nil {
			return nil, at, err
		}
	}
}

// keepOnly removes what earlier epochs left in a folder.
func keepOnly(dir, name string, log *slog.Logger) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // not there yet
	}
	for _, e := range entries {
		if e.Name() == name {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			log.Warn("the outbox of an earlier epoch was not removed", obs.KeyFile, filepath.Join(dir, e.Name()), obs.KeyErr, err)
		}
	}
}
