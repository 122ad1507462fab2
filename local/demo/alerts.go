package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/local/runner"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/shipped"
	"github.com/heartwood-db/heartwood/shared/store"
)

// lagAtMost is where the demo's alert about lag begins, in seconds: its secondaries fall behind now and then, by up to a minute
// and a half.
const lagAtMost = 10

// alerting turns on the part of the recommended alerts that a replica set like the demo's should have, without the delays that
// keep them from telling of what is over soon: here it is to be seen.
func alerting(ctx context.Context, srv *runner.Server, group model.ID, now time.Time) error {
	for _, c := range shipped.Recommended(group, now) {
		switch c.EventType {
		case model.EventPrimaryElected, model.EventTooManyElections, model.EventNoPrimary, model.EventHostRecovering:
		case model.EventOutsideMetric:
			switch m := c.Metric; m.Metric {
			case "OPLOG_SLAVE_LAG_MASTER_TIME":
				m.Value = lagAtMost
			case "OPLOG_MASTER_TIME", "CONNECTIONS_PERCENT":
			default:
				continue
			}
		default:
			continue
		}
		c.Enabled = true
		for i := range c.Notifications {
			c.Notifications[i].DelayMin = 0
		}
		if err := srv.Site().Alerting.CreateConfig(ctx, c); err != nil && !errors.Is(err, store.ErrExists) {
			return fmt.Errorf("turn on the demo's alerts: %w", err)
		}
	}
	return nil
}
