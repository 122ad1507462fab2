package catalog

import "github.com/heartwood-db/heartwood/shared/model"

// Tabs of the process view.
const (
	TabStatus   = "status"
	TabHardware = "hardware"
	TabDBStats  = "dbstats"
)

// Chart is one chart of the process view.
type Chart struct {
	ID          string // "opcounters"; part of URLs and of remembered selections
	Title       string
	Description string
	Unit        Unit
	Tab         string
	Scope       Scope
	Stacked     bool // CPU shares only
	Base1024    bool // the axis is scaled by 1024
	Percent     bool // the axis is fixed to 0-100
	Default     bool // of the set that a new user sees
	// Measurements are drawn as lines in this order; each has its name in the chart in Measurement.Series.
	Measurements []string
}

// Charts lists the charts of a process type in the order of the page. A member of a replica set gets the charts of both
// roles: its lines go on when the roles change.
func Charts(t model.ProcessType) []Chart {
	tab := catalogue()
	hosts := hostsOf(t)
	if hosts&(OnPrimary|OnSecondary) != 0 {
		hosts |= OnPrimary | OnSecondary
	}
	var out []Chart
	for _, c := range tab.charts {
		kept := c
		kept.Measurements = nil
		for _, name := range c.Measurements {
			if tab.byMeasure[name].Hosts&hosts != 0 {
				kept.Measurements = append(kept.Measurements, name)
			}
		}
		if len(kept.Measurements) == 0 {
			continue
		}
		if hosts == OnMongos {
			kept.Default = c.Default && mongosDefault[c.ID]
		}
		out = append(out, kept)
	}
	return out
}

// ChartByID finds a chart, with all its measurements.
func ChartByID(id string) (Chart, bool) {
	for _, c := range catalogue().charts {
		if c.ID == id {
			return c, true
		}
	}
	return Chart{}, false
}

// resolveCharts fills in what follows from the rows: the unit, and which chart shows a measurement.
func (t *tables) resolveCharts() {
	t.charts = chartRows()
	for i := range t.charts {
		c := &t.charts[i]
		for _, name := range c.Measurements {
			m := t.byMeasure[name]
			if m == nil {
				panic("catalog: chart " + c.ID + " shows " + name + ", which does not exist")
			}
			if c.Unit == "" {
				c.Unit = m.Unit
			}
			if m.Chart == "" {
				m.Chart = c.ID
			}
		}
		if c.Tab == "" {
			c.Tab = TabStatus
		}
		switch c.Unit {
		case Bytes, Kilobytes, Megabytes, BytesPerSecond, MBPerSecond, GBPerHour:
			c.Base1024 = true
		}
	}
}
