package lambda

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestColdStart measures the time from the start of the process to its first answer, with HEARTWOOD_BENCH_LAMBDA starts of each
// function: settings, client, opening of the site, the function itself, one request. It asks for the goal only of the median, on a
// machine that does nothing else; make bench runs it.
func TestColdStart(t *testing.T) {
	starts, err := strconv.Atoi(os.Getenv("HEARTWOOD_BENCH_LAMBDA"))
	if err != nil {
		t.Skip("a measurement: BENCH=lambda make bench")
	}
	set := replicaSet(t)
	for path, names := range map[string][]string{"/monitor/health": functions, "/login": {"app"}} {
		for _, name := range names {
			binary(t, name)
			start(t, name, settings(set)...).invoke(request(t, "/live")) // the first start makes the site
			var took []time.Duration
			for range starts {
				i := start(t, name, settings(set)...)
				if o := i.invoke(request(t, path)); o.failed {
					t.Fatalf("%s: %s", name, o.body)
				}
				took = append(took, time.Since(i.began))
				_ = i.cmd.Process.Kill()
			}
			slices.Sort(took)
			info, err := os.Stat(binary(t, name))
			if err != nil {
				t.Fatal(err)
			}
			median := took[len(took)/2]
			t.Logf("%-9s %-15s median %v, most %v of %d; binary %.1f MB", name, path, median.Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), starts, float64(info.Size())/1e6)
			if median > 150*time.Millisecond || info.Size() > 60e6 {
				t.Errorf("%s: more than 150 ms or 60 MB", name)
			}
		}
	}
}

func request(t testing.TB, path string) []byte {
	t.Helper()
	f := &front{t: t, kind: "alb"}
	r := page(t, path)
	return f.balancer(r, r.Header, nil)
}
