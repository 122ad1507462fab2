package parity

import (
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heartwood-db/heartwood/local/sandbox"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/tests/replies"
)

// BenchmarkRequests times requests natively and as a guest, on equal stores: the ratio is what the sandbox costs.
func BenchmarkRequests(b *testing.B) {
	c := &clock{}
	file := world(b, c)
	tpl, err := replies.New()
	ok(b, err)
	host := string(model.NewHostID(groupID, replies.Name(0), 27017))
	group := "/g/" + string(groupID)
	reg := prometheus.NewRegistry()
	guest, _ := guests(b, c, file, func(o *sandbox.Options) { o.Reg = reg })
	for _, s := range []*side{native(b, c, file), guest} {
		run := func(name, function string, request func(n int) *http.Request) {
			b.Run(name+"/"+s.name, func(b *testing.B) {
				n := 0
				var spent time.Duration
				for b.Loop() {
					n++
					b.StopTimer()
					r := request(n)
					before := processor()
					b.StartTimer()
					w := httptest.NewRecorder()
					s.handlers[function].ServeHTTP(w, r)
					if w.Code != http.StatusOK {
						b.Fatal(w.Code, w.Body)
					}
					spent += processor() - before
				}
				b.ReportMetric(float64(spent.Microseconds())/float64(n)/1000, "cpu-ms/op")
				if s == guest {
					b.ReportMetric(value(b, reg, "heartwood_guest_memory_bytes", function)/1e6, "MB")
					b.ReportMetric(value(b, reg, "heartwood_guest_start_seconds", function)*1000, "start-ms")
				}
			})
		}
		page := func(path string) func(int) *http.Request {
			return func(int) *http.Request { return signedIn(http.MethodGet, path, "") }
		}
		run("deployment", sandbox.App, page(group+"/deployment?view=hosts"))
		run("host", sandbox.App, page(group+"/hosts/"+host))
		run("series", sandbox.App, page(group+"/hosts/"+host+"/series?range=1h"))
		run("hostsAPI", sandbox.App, func(int) *http.Request {
			return digest(b, s, http.MethodGet, "/api/public/v1.0/groups/"+string(groupID)+"/hosts", "")
		})
		run("ping", sandbox.Ingestion, func(n int) *http.Request {
			c.add(time.Second)
			return pings(b, tpl, 0, 1, c.now(), int64(1000+n))
		})
		run("pings10", sandbox.Ingestion, func(n int) *http.Request {
			c.add(time.Second)
			return pings(b, tpl, 10, 20, c.now(), int64(100_000+n))
		})
		run("health", sandbox.Health, func(int) *http.Request { return httptest.NewRequest(http.MethodGet, "/monitor/health", http.NoBody) })
	}
}

// processor is the time that this process has spent on processors: other programs do not count, as they do in the time that passes.
func processor() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// value is a guest's gauge, or a histogram's mean.
func value(t testing.TB, reg *prometheus.Registry, name, guest string) float64 {
	t.Helper()
	families, err := reg.Gather()
	ok(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != name || m.GetLabel()[0].GetValue() != guest {
				continue
			}
			if h := m.GetHistogram(); h != nil {
				return h.GetSampleSum() / float64(max(1, h.GetSampleCount()))
			}
			return m.GetGauge().GetValue()
		}
	}
	t.Fatalf("no %s of %s", name, guest)
	return 0
}
