package channels

import (
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/notify"
)

// New makes the channels that the settings allow.
func New(c *config.Server) (*notify.Sender, error) {
	open := notify.ClientOptions{AllowPrivate: true, Allow: config.Prefixes(c.AlertsAllow)}
	made, err := notifiers(c, open)
	if err != nil {
		return nil, err
	}
	return notify.NewSender(made), nil
}
