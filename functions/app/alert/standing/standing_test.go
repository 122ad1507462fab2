package standing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

type live []alerting.Live

func (l live) LiveAlerts(_ context.Context, group model.ID) ([]alerting.Live, error) {
	if group != "g1" {
		return nil, errors.New("another group")
	}
	return l, nil
}

func open(id string, min int, change ...func(*model.Alert)) alerting.Live {
	a := model.Alert{
		ID: model.ID(id), GroupID: "g1", EventType: model.EventHostDown, Status: model.AlertOpen, Since: now.Add(time.Duration(min) * time.Minute),
		Rule: model.AlertConfig{EventType: model.EventHostDown}, Target: model.Target{HostID: "h1", HostName: "db1:27017", ClusterID: "c1"},
	}
	for _, f := range change {
		f(&a)
	}
	return alerting.Live{Alert: a}
}

func visit() *view.Visit {
	return &view.Visit{Now: now, Zone: time.UTC, Group: &model.Group{ID: "g1"}}
}

func ids(l List) string {
	var out []string
	for _, r := range l.Rows {
		out = append(out, r.Href[strings.LastIndex(r.Href, "/")+1:])
	}
	return strings.Join(out, " ")
}

func TestOpenAlertsOfAHostAndOfACluster(t *testing.T) {
	taken := func(a *model.Alert) { a.AckUntil, a.AckBy = now.Add(time.Hour), "ann" }
	l := live{
		open("old", -60), open("taken", -1, taken), open("new", -5), open("tracking", -2, func(a *model.Alert) { a.Status = model.AlertTracking }),
		open("sister", -7, func(a *model.Alert) { a.Target.HostID = "h2" }), open("elsewhere", -8, func(a *model.Alert) { a.Target.HostID, a.Target.ClusterID = "h3", "c2" }),
	}
	host, err := OfHost(t.Context(), l, visit(), "h1")
	if err != nil {
		t.Fatal(err)
	}
	if got := ids(host); got != "new old taken" || host.More != 0 {
		t.Errorf("of the host: %q and %d more: those nobody has come first, then the newest", got, host.More)
	}
	if host.Rows[2].Taken != "ann" || host.Rows[0].Taken != "" || host.Rows[0].About != "db1:27017" || host.Rows[0].Text != "Host is down" {
		t.Errorf("rows %+v", host.Rows)
	}
	if host.All != "/g/g1/alerts?state=open&host=h1" {
		t.Errorf("all of them are at %q", host.All)
	}
	cluster, err := OfCluster(t.Context(), l, visit(), "c1")
	if err != nil || ids(cluster) != "new sister old taken" {
		t.Errorf("of the cluster: %q, %v", ids(cluster), err)
	}
}

func TestALongListOfOpenAlertsIsCut(t *testing.T) {
	var l live
	for i := range 12 {
		l = append(l, open(fmt.Sprint("a", i), -i))
	}
	got, err := Read(t.Context(), l, visit(), "", func(*model.Alert) bool { return true })
	if err != nil || len(got.Rows) != maxOpen || got.More != 12-maxOpen {
		t.Errorf("%d rows and %d more, %v", len(got.Rows), got.More, err)
	}
}

func TestAFailingStoreIsAnErrorAndNotAnEmptyList(t *testing.T) {
	v := visit()
	v.Group.ID = "g2"
	if _, err := OfHost(t.Context(), live{}, v, "h1"); err == nil {
		t.Error("no error")
	}
}

func TestWhoMayMakeASettingIsSentToTheForm(t *testing.T) {
	v := visit()
	if m := NewMaker(v, "host", "db1:27017"); m.To != "" || !strings.Contains(m.Why, "cannot") {
		t.Errorf("without the right: %+v", m)
	}
	v.User = &model.User{}
	v.Allowed = func(r view.Right, group, _ model.ID) bool { return r == view.EditAlerts && group == "g1" }
	if m := NewMaker(v, "set", "rs 0&x=1"); m.To != "/g/g1/alert-settings/new?set=rs+0%26x%3D1" || m.Why != "" {
		t.Errorf("with the right: %+v", m)
	}
}
