package notifytest

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
)

// At is the time of the examples.
var At = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

// Message is an example of an alert's message, for golden files: too many connections on db1.example.com:27017.
func Message(kind model.DeliveryKind) notify.Message {
	a := &model.Alert{
		ID: "5f0000000000000000000d02", GroupID: "5f0000000000000000000001", ConfigID: "5f0000000000000000000d01",
		EventType: model.EventOutsideMetric, Status: model.AlertOpen,
		Target: model.Target{
			Key: "host/0123456789abcdef0123456789abcdef", HostID: "0123456789abcdef0123456789abcdef", HostName: "db1.example.com:27017",
			ReplicaSet: "rs0", ClusterID: "5f0000000000000000000c01", ClusterName: "shop",
		},
		Rule: model.AlertConfig{
			ID: "5f0000000000000000000d01", GroupID: "5f0000000000000000000001", EventType: model.EventOutsideMetric, Enabled: true,
			Metric: &model.MetricThreshold{Metric: "CONNECTIONS", Threshold: model.Threshold{Operator: model.GreaterThan, Value: 500, Units: "RAW"}},
			Note:   "Look at the pool sizes of the shop's servers first.",
		},
		Since: At.Add(-5 * time.Minute), Created: At.Add(-4 * time.Minute), Opened: At, Updated: At, LastNotified: At,
		Text:  "db1.example.com:27017 has had 812 connections on average for the last 3 minutes, more than 500.",
		Value: &model.Reading{Number: 812, Units: "RAW"}, Worst: &model.Reading{Number: 930.5, Units: "RAW"},
	}
	m := notify.Message{
		Key: "5f0000000000000000000d02/" + string(kind) + "-1/5f0000000000000000000e01", Kind: kind, Alert: a,
		Group:  model.Group{ID: "5f0000000000000000000001", OrgID: "5f0000000000000000000002", Name: "Shop"},
		URL:    "https://heartwood.example.com/g/5f0000000000000000000001/alerts/5f0000000000000000000d02",
		AckURL: "https://heartwood.example.com/g/5f0000000000000000000001/alerts/5f0000000000000000000d02/acknowledge",
		Site:   "heartwood.example.com", At: At, NextAt: At.Add(15 * time.Minute),
	}
	switch kind {
	case model.DeliverAcknowledge:
		a.AckUntil, a.AckBy, a.AckComment = At.Add(2*time.Hour), "ann@example.com", "on it"
		m.NextAt = time.Time{}
	case model.DeliverClose:
		a.Status, a.Resolved = model.AlertClosed, At
		m.NextAt = time.Time{}
	case model.DeliverCancel:
		a.Status, a.Resolved = model.AlertCancelled, At
		m.NextAt = time.Time{}
	case model.DeliverInform:
		a.EventType, a.Status, a.Inform, a.Resolved = model.EventPrimaryElected, model.AlertClosed, true, At
		a.Rule = model.AlertConfig{ID: a.ConfigID, GroupID: a.GroupID, EventType: a.EventType, Enabled: true}
		a.Text, a.Value, a.Worst = "db1.example.com:27017 was elected primary of rs0.", nil, nil
		a.Since, a.Created = At, At
		m.NextAt = time.Time{}
	case model.DeliverTest:
		a.Status, a.Inform, a.Resolved = model.AlertClosed, true, At
		m.TestLabel, m.NextAt = "Test of a notification", time.Time{}
	}
	return m
}

// Digest is an example of a message about n alerts: hosts that are down, every third of them back.
func Digest(n int) notify.Message {
	all := make([]notify.Message, n)
	for i := range all {
		kind := model.DeliverOpen
		if i%3 == 2 {
			kind = model.DeliverClose
		}
		one := Message(kind)
		a := one.Alert
		a.ID = model.DeriveID("digest", fmt.Sprint(i))
		a.EventType, a.Rule.EventType = model.EventHostDown, model.EventHostDown
		a.Rule.Metric, a.Value, a.Worst, a.Rule.Note = nil, nil, nil, ""
		a.Target = model.Target{Key: "host/" + fmt.Sprint(i), HostName: fmt.Sprintf("db%d.example.com:27017", i), ReplicaSet: "rs0"}
		a.Text = "The monitoring agent cannot reach " + a.Target.HostName + ": connection refused."
		one.Key = string(a.ID) + "/" + string(kind) + "-1/5f0000000000000000000e01"
		one.URL = "https://heartwood.example.com/g/5f0000000000000000000001/alerts/" + string(a.ID)
		one.AckURL = one.URL + "/acknowledge"
		all[i] = one
	}
	m := all[0]
	m.Others = all[1:]
	return m
}

// Update is set by -update: golden files are written anew.
var Update = flag.Bool("update", false, "write the golden files anew")

// Golden compares bytes with the file testdata/name.
func Golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *Update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (go test -update writes it anew): %s", path, d)
	}
}

// GoldenJSON is Golden of a JSON text, indented.
func GoldenJSON(t *testing.T, name string, got []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, got, "", " "); err != nil {
		t.Fatalf("%v in %s", err, got)
	}
	b.WriteByte('\n')
	Golden(t, name, b.Bytes())
}
