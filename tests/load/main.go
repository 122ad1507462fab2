// Load posts the pings of many hosts straight to a server's ingestion, as agents would, and says what that cost: latencies,
// the server's processor time and memory, the growth of its data. The replies are recorded ones whose counters advance.
//
//	go run ./tests/load --server ./bin/heartwood --hosts 10000 --minutes 10
//
// It starts the server itself on a fresh data folder and free loopback ports, and removes the folder unless --keep is given.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heartwood-db/heartwood/shared/wire"
	"github.com/heartwood-db/heartwood/tests/client"
	"github.com/heartwood-db/heartwood/tests/replies"
)

type options struct {
	server  string
	hosts   int
	minutes int
	batch   int
	workers int
	data    string
	keep    bool
	base    int
	pages   bool
	start   bool
}

func main() {
	var o options
	flag.StringVar(&o.server, "server", "./bin/heartwood", "the binary to load")
	flag.IntVar(&o.hosts, "hosts", 10_000, "hosts, each with one ping a minute")
	flag.IntVar(&o.minutes, "minutes", 10, "how long")
	flag.IntVar(&o.batch, "batch", 10, "pings a post")
	flag.IntVar(&o.workers, "workers", 8, "connections")
	flag.StringVar(&o.data, "data", "", "the server's data folder (default: a temporary one)")
	flag.BoolVar(&o.keep, "keep", false, "leave the data folder for a look at it")
	flag.IntVar(&o.base, "port-base", 18080, "the server's first port")
	flag.BoolVar(&o.pages, "pages", true, "afterwards, time the pages and the data of charts")
	flag.BoolVar(&o.start, "start-only", false, "only time starts on existing data")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.data == "" {
		dir, err := os.MkdirTemp("", "heartwood-load-")
		if err != nil {
			return err
		}
		o.data = dir
		if !o.keep {
			defer os.RemoveAll(dir)
		}
	}
	if o.start {
		return timeStarts(ctx, o)
	}
	t, err := replies.New()
	if err != nil {
		return err
	}
	srv, err := startServer(ctx, o)
	if err != nil {
		return err
	}
	defer srv.stop()
	site, err := client.Provision(ctx, o.base)
	if err != nil {
		return fmt.Errorf("provision: %w", err)
	}
	hosts, err := site.AddHosts(ctx, o.hosts)
	if err != nil {
		return fmt.Errorf("add hosts: %w", err)
	}
	fmt.Printf("server %s, %d hosts, %d min, %d pings a post, replies of %d kB\n", o.server, len(hosts), o.minutes, o.batch, t.Size()>>10)

	if o.pages { // the past first, so that it is compacted by the time the pages are asked for
		if err := fillPast(ctx, t, site, hosts); err != nil {
			return err
		}
	}
	before, err := srv.usage()
	if err != nil {
		return err
	}
	began := time.Now()
	res := drive(ctx, o, t, site, hosts)
	took := time.Since(began)
	after, err := srv.usage()
	if err != nil {
		return err
	}
	report(o, res, before, after, took)
	if err := site.Verify(ctx, hosts, o.minutes); err != nil {
		return err
	}
	if res.failed.Load() > 0 || res.rejected.Load() > 0 {
		return fmt.Errorf("%d posts failed, %d pings were rejected: %w", res.failed.Load(), res.rejected.Load(), res.first())
	}
	if o.pages {
		if err := timePages(ctx, site, hosts); err != nil {
			return fmt.Errorf("pages: %w", err)
		}
	}
	return ctx.Err()
}

// results are what the posts came to.
type results struct {
	mu        sync.Mutex
	latencies []time.Duration
	firstErr  error
	accepted  atomic.Int64
	rejected  atomic.Int64
	failed    atomic.Int64
	bytes     atomic.Int64
	late      atomic.Int64 // posts that could not be sent at their time
}

func (r *results) first() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.firstErr
}

func (r *results) fail(err error) {
	r.failed.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.firstErr == nil {
		r.firstErr = err
	}
}

// drive spreads each minute's posts evenly over the minute.
func drive(ctx context.Context, o options, t *replies.Template, site *client.Site, hosts []wire.Host) *results {
	res := &results{}
	type job struct {
		hosts []wire.Host
		due   time.Time
		up    time.Duration
	}
	jobs := make(chan job, 1024)
	var wg sync.WaitGroup
	for range o.workers {
		wg.Go(func() {
			p := poster{site: site, t: t, res: res, conn: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}}
			for j := range jobs {
				p.post(ctx, j.hosts, j.due, j.up)
			}
		})
	}
	posts := slices.Collect(slices.Chunk(hosts, o.batch))
	start := time.Now()
	gap := time.Minute / time.Duration(len(posts))
loop:
	for minute := range o.minutes {
		for i, batch := range posts {
			due := start.Add(time.Duration(minute)*time.Minute + time.Duration(i)*gap)
			select {
			case <-ctx.Done():
				break loop
			case <-time.After(time.Until(due)):
			}
			select {
			case jobs <- job{batch, due, time.Hour + due.Sub(start)}:
			default:
				res.late.Add(1)
				jobs <- job{batch, due, time.Hour + due.Sub(start)}
			}
		}
	}
	close(jobs)
	wg.Wait()
	return res
}

// poster is one connection's reusable buffers.
type poster struct {
	site *client.Site
	t    *replies.Template
	res  *results
	conn *http.Client
	buf  []byte
	seq  int64
}

func (p *poster) post(ctx context.Context, hosts []wire.Host, at time.Time, up time.Duration) {
	p.seq++
	msg := wire.Post{Version: wire.Version, Agent: p.site.Agent, Sent: time.Now().UTC(), Seq: p.seq}
	for _, h := range hosts {
		p.buf = p.t.At(p.buf, replies.Number(h.Hostname), up, at)
		z, err := wire.EncodeReplies(p.buf)
		if err != nil {
			p.res.fail(err)
			return
		}
		msg.Pings = append(msg.Pings, wire.Ping{
			HostID: h.ID, At: at.UTC().Truncate(time.Millisecond), RTT: 400, Address: h.Hostname + ":" + strconv.Itoa(int(h.Port)), IP: "127.0.0.1", Replies: z,
		})
	}
	body, err := wire.EncodePost(msg)
	if err != nil {
		p.res.fail(err)
		return
	}
	began := time.Now()
	ack, err := p.site.Post(ctx, p.conn, body)
	took := time.Since(began)
	if err != nil {
		p.res.fail(err)
		return
	}
	p.res.accepted.Add(int64(ack.Accepted))
	p.res.rejected.Add(int64(len(ack.Rejected)))
	p.res.bytes.Add(int64(len(body)))
	p.res.mu.Lock()
	defer p.res.mu.Unlock()
	p.res.latencies = append(p.res.latencies, took)
	if len(ack.Rejected) > 0 && p.res.firstErr == nil {
		p.res.firstErr = errors.New(ack.Rejected[0].Reason)
	}
}

func report(o options, res *results, before, after usage, took time.Duration) {
	slices.Sort(res.latencies)
	at := func(q float64) time.Duration {
		if len(res.latencies) == 0 {
			return 0
		}
		return res.latencies[min(len(res.latencies)-1, int(q*float64(len(res.latencies))))].Round(10 * time.Microsecond)
	}
	n := float64(max(1, res.accepted.Load()))
	cpu := after.cpu - before.cpu
	out := map[string]any{
		"pings": res.accepted.Load(), "rejected": res.rejected.Load(), "failedPosts": res.failed.Load(), "latePosts": res.late.Load(),
		"postMillis":      map[string]float64{"p50": ms(at(0.5)), "p95": ms(at(0.95)), "p99": ms(at(0.99)), "max": ms(at(1))},
		"serverCores":     cpu.Seconds() / took.Seconds(),
		"cpuMillisAPing":  ms(cpu) / n,
		"residentPeakMB":  after.peak >> 20,
		"dataMB":          after.disk >> 20,
		"dataGrowthMB":    (after.disk - before.disk) >> 20,
		"sentBytesAPing":  float64(res.bytes.Load()) / n,
		"hosts":           o.hosts,
		"minutes":         took.Minutes(),
		"pingsAPost":      o.batch,
		"concurrentPosts": o.workers,
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	_ = enc.Encode(out)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// usage is what the server has used so far.
type usage struct {
	cpu  time.Duration
	peak int64 // bytes resident at most
	disk int64 // bytes in the data folder
}

func diskUsage(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return nil
	})
	return n, err
}

// procUsage reads a process's figures from /proc.
func procUsage(pid int) (cpu time.Duration, peak int64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The second field is a name in parentheses that may hold spaces: count from behind it.
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f))
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	cpu = time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")), 10, 64)
			peak = n << 10
		}
	}
	return cpu, peak, nil
}
