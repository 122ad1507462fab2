package backup

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/tests/harness"
)

// TestOverrun lets the source's oplog overrun the backup while no agent runs (case 4 of the reference). That is never passed over: what
// was stored before stays restorable, a second that nothing is stored of is refused, and a new full read begins by itself.
func TestOverrun(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes")
	}
	t.Parallel()
	seed, r := chance(t)
	w := newWorld(t, worldOptions{embedded: true, oplogMB: 64})
	m := &model{}
	end := m.begin(t, w.client, seed)
	w.tailing()
	first := time.Now()
	m.more(t, 30)
	w.restorable(first.Add(2 * time.Second))
	w.agent.kill()
	m.more(t, 10)
	lost := time.Now()
	var oldest struct{ TS bson.Timestamp }
	for over := time.Now().Add(3 * time.Minute); int64(oldest.TS.T) <= lost.Unix()+1; {
		if time.Now().After(over) {
			t.Fatalf("the oplog is not overrun: it begins at %d, the agent was killed at %d", oldest.TS.T, lost.Unix())
		}
		if _, err := w.client.Database("ballast").Collection("c").ReplaceOne(t.Context(), doc("_id", 1), doc("b", noise(8<<20)), options.Replace().SetUpsert(true)); err != nil {
			t.Fatal(err)
		}
		if err := w.client.Database("local").Collection("oplog.rs").FindOne(t.Context(), bson.D{}, options.FindOne().SetSort(doc("$natural", 1))).Decode(&oldest); err != nil {
			t.Fatal(err)
		}
	}
	m.more(t, 10)
	back := time.Now()
	w.agent.start()
	m.more(t, 10)
	var b shown
	harness.Eventually(t, 6*time.Minute, "a snapshot of the new history", func(ctx context.Context) error {
		if err := w.heartwood(ctx, &b, "backup", "show", "rs0", "--json"); err != nil {
			return err
		}
		if len(b.Restorable.Ranges) < 2 {
			return fmt.Errorf("%+v", b)
		}
		return nil
	})
	ranges := b.Restorable.Ranges
	if len(ranges) != 2 || !ranges[0].End.Date.Before(back) || ranges[1].Start.Date.Before(lost) {
		t.Fatalf("no agent ran from %s to %s, but the ranges are %+v", lost, back, ranges)
	}
	again := ranges[1].Start.Date
	m.more(t, 30)
	last := time.Now()
	w.restorable(last)
	end()
	err := w.heartwood(t.Context(), nil, "restore", "start", "rs0", "--at", lost.Add(time.Second).UTC().Format(time.RFC3339))
	if err == nil {
		t.Error("a second that nothing is stored of is not refused")
	}
	t.Log(err)
	w.verify(m, w.releases, r, first, first.Add(time.Second), 1)
	w.verify(m, w.releases, r, again, last, 1)
}
