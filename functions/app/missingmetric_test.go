package app

import "testing"

// TestASettingOnAMetricThatHostsLackSaysSo: while it is written, and in the list.
func TestASettingOnAMetricThatHostsLackSaysSo(t *testing.T) {
	const lack = "All 3 hosts it matches run 7.0 and have no BACKGROUND_FLUSH_AVG."
	s, g, b := owner(t)
	s.fleet(g, "rs0", "up", "up", "up")
	form := at(g, "/alert-settings/new")
	setting := func(do, metric string) []string {
		return []string{
			"do", do, "type", "OUTSIDE_METRIC_THRESHOLD", "metric", metric, "operator", "GREATER_THAN", "threshold", "30", "units", "RAW", "enabled", "on",
			"n", "0", "n0-channel", "SLACK", "n0-delay", "5", "n0-interval", "30", "n0-channelName", "#ops", "n0-apiToken", slackToken,
		}
	}
	b.post(form, setting("redraw", "CONNECTIONS")...).want(200).wantNot("and have no")
	b.post(form, setting("redraw", "BACKGROUND_FLUSH_AVG")...).want(200, lack)
	b.post(form, append(setting("save", "BACKGROUND_FLUSH_AVG"), "units", "MILLISECONDS")...).want(200)
	b.get(at(g, "/alert-settings")).want(200, lack)
}
