package api_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/heartwood-db/heartwood/shared/model"
)

// TestAConfigurationOnAMetricThatHostsLackSaysSo: in the answer to whoever writes it, and whenever it is read.
func TestAConfigurationOnAMetricThatHostsLackSaysSo(t *testing.T) {
	x := newSite(t)
	for i, version := range []string{"8.0.4", "3.6.23", "3.6.20"} {
		x.host(fmt.Sprintf("db%d:27017", i), func(h *model.Host) { h.Type, h.Version = model.TypeReplicaSecondary, version })
	}
	config := func(metric string) string {
		return `{"eventTypeName":"OUTSIDE_METRIC_THRESHOLD","enabled":true,"metricThreshold":{"metricName":"` + metric +
			`","operator":"GREATER_THAN","threshold":5,"units":"RAW","mode":"AVERAGE"},"notifications":[{"typeName":"WEBHOOK","intervalMin":60,"webhookUrl":"https://hooks.example.com/x"}]}`
	}
	const lack = "2 of 3 hosts it matches run 3.6 and have no TRANSACTIONS_OPEN."
	says := func(got map[string]any) bool { return slices.Contains(got["warnings"].([]any), any(lack)) }
	path := x.base() + "/alertConfigs"
	plain := x.ok(x.owner, http.MethodPost, path, config("CONNECTIONS"), 200)
	if says(plain) {
		t.Errorf("all have connections: %v", plain["warnings"])
	}
	id := plain["id"].(string)
	for name, got := range map[string]map[string]any{
		"created": x.ok(x.owner, http.MethodPost, path, config("TRANSACTIONS_OPEN"), 200),
		"changed": x.ok(x.owner, http.MethodPut, path+"/"+id, config("TRANSACTIONS_OPEN"), 200),
		"read":    x.ok(x.owner, http.MethodGet, path+"/"+id, "", 200),
	} {
		if !says(got) {
			t.Errorf("%s: %v", name, got["warnings"])
		}
	}
}
