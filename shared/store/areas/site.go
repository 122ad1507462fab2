package areas

import (
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/access"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/facts"
	"github.com/heartwood-db/heartwood/shared/store/inventory"
	"github.com/heartwood-db/heartwood/shared/store/series"
)

// Site is an opened store with all its areas: what a function is assembled on.
type Site struct {
	Store     *store.Store
	Inventory *inventory.Inventory
	Access    *access.Access
	Alerting  *alerting.Alerting
	Backup    *backup.Backup
	Series    *series.Series
	Facts     *facts.Facts
}

// NewSite gives an opened store its areas.
func NewSite(st *store.Store, retention series.Retention) (*Site, error) {
	numbers, err := series.New(series.Options{Engine: st.Engine(), Log: st.Log(), Retention: retention})
	if err != nil {
		return nil, err
	}
	return &Site{
		Store: st, Inventory: inventory.New(st), Access: access.New(st), Alerting: alerting.New(st), Backup: backup.New(st), Series: numbers, Facts: facts.New(st),
	}, nil
}
