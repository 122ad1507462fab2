package backup

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/tests/harness"
)

// TestObjectStoreAwayAndSlow keeps everything in a bucket that answers slowly, then not at all for a while, and is killed under what
// is written to it. The backup says so and goes on by itself; no second is missing.
func TestObjectStoreAwayAndSlow(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes")
	}
	t.Parallel()
	s3 := harness.StartS3(t)
	between := openGate(t, s3.Endpoint)
	seed, r := chance(t)
	w := newWorld(t, worldOptions{embedded: true, set: []string{
		"heartwood.blockstore.type=S3", "heartwood.blockstore.s3BucketName=" + s3.Bucket, "heartwood.blockstore.s3BucketEndpoint=" + between.url,
		"heartwood.blockstore.s3Region=" + s3.Region, "heartwood.blockstore.pathStyleAccessEnabled=true",
		"heartwood.blockstore.awsAccessKey=" + s3.AccessKey, "heartwood.blockstore.awsSecretKey=" + s3.SecretKey,
	}})
	between.delay(200 * time.Millisecond)
	m := &model{}
	end := m.begin(t, w.client, seed)
	w.tailing()
	first := time.Now()
	for range 2 {
		m.more(t, 20)
		s3.Stop()
		harness.Eventually(t, 4*time.Minute, "that the backup tells that its store is away", func(ctx context.Context) error {
			var b shown
			if err := w.heartwood(ctx, &b, "backup", "show", "rs0", "--json"); err != nil {
				return err
			}
			p := b.State.Problem
			if p.Text == "" || p.Remedy == "" {
				return fmt.Errorf("%+v", b)
			}
			t.Logf("%s: %s; %s", p.Code, p.Text, p.Remedy)
			return nil
		})
		m.more(t, 20)
		s3.Start(t)
		w.restorable(time.Now())
	}
	last := time.Now()
	w.restorable(last)
	end()
	w.verify(m, w.releases, r, first, last, 2)
}
