package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/wire"
	"github.com/heartwood-db/heartwood/tests/client"
	"github.com/heartwood-db/heartwood/tests/replies"
)

// What is timed: as many host pages' data and deployment pages as give a steady 95th percentile.
const (
	chartedHosts    = 5
	chartRequests   = 100
	deploymentPages = 40
)

// charts are ten of the default charts of a host page.
const charts = "opcounters,opcounters-repl,connections,network,queues,memory,page-faults,cursors,asserts,document-metrics"

// fillPast gives a few hosts a day of history.
func fillPast(ctx context.Context, t *replies.Template, site *client.Site, hosts []wire.Host) error {
	end := time.Now().UTC().Truncate(time.Minute)
	for _, h := range hosts[:min(chartedHosts, len(hosts))] {
		if err := backfill(ctx, t, site, h, end); err != nil {
			return fmt.Errorf("fill in a day of %s: %w", h.Hostname, err)
		}
	}
	return nil
}

// timePages signs in as a person and asks for pages.
func timePages(ctx context.Context, site *client.Site, hosts []wire.Host) error {
	browser, err := signIn(ctx, site)
	if err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	g := site.URL + "/g/" + site.Group
	var series, deployment []time.Duration
	for i := range chartRequests {
		h := hosts[i%min(chartedHosts, len(hosts))]
		q := url.Values{"charts": {charts}, "range": {"24h"}}
		took, size, err := timed(ctx, browser, g+"/hosts/"+h.ID+"/series?"+q.Encode())
		if err != nil {
			return err
		}
		if size < 10_000 {
			return fmt.Errorf("a day of ten charts in %d bytes: something is missing", size)
		}
		series = append(series, took)
	}
	for i := range deploymentPages {
		view := []string{"clusters", "hosts"}[i%2]
		took, _, err := timed(ctx, browser, g+"/deployment?view="+view)
		if err != nil {
			return err
		}
		deployment = append(deployment, took)
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{"chartData24hMillis": spread(series), "deploymentPageMillis": spread(deployment), "hostsStored": len(hosts)})
}

func spread(d []time.Duration) map[string]float64 {
	slices.Sort(d)
	at := func(q float64) float64 { return ms(d[min(len(d)-1, int(q*float64(len(d))))]) }
	return map[string]float64{"p50": at(0.5), "p95": at(0.95), "max": at(1)}
}

// backfill posts the minutes of the day before, as an agent does after an outage.
func backfill(ctx context.Context, t *replies.Template, site *client.Site, h wire.Host, end time.Time) error {
	const perPost = 120
	n := replies.Number(h.Hostname)
	for from := 24 * 60; from > 0; from -= perPost {
		msg := wire.Post{Version: wire.Version, Agent: site.Agent, Sent: time.Now().UTC(), Seq: int64(from)}
		for back := from; back > from-perPost; back-- {
			at := end.Add(-time.Duration(back) * time.Minute)
			z, err := wire.EncodeReplies(t.At(nil, n, 25*time.Hour-time.Duration(back)*time.Minute, at))
			if err != nil {
				return err
			}
			msg.Pings = append(msg.Pings, wire.Ping{HostID: h.ID, At: at, Late: true, RTT: 400, Address: h.Hostname + ":27017", IP: "127.0.0.1", Replies: z})
		}
		body, err := wire.EncodePost(msg)
		if err != nil {
			return err
		}
		ack, err := site.Post(ctx, http.DefaultClient, body)
		if err != nil {
			return err
		}
		if len(ack.Rejected) > 0 {
			return errors.New(ack.Rejected[0].Reason)
		}
	}
	return nil
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// signIn goes through the sign-in form.
func signIn(ctx context.Context, site *client.Site) (*http.Client, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	browser := &http.Client{Jar: jar, Timeout: time.Minute}
	page, err := fetch(ctx, browser, site.URL+"/login")
	if err != nil {
		return nil, err
	}
	m := csrfField.FindSubmatch(page)
	if m == nil {
		return nil, errors.New("the form has no token")
	}
	form := url.Values{"csrf": {string(m[1])}, "username": {client.User}, "password": {client.Password}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, site.URL+"/login", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := browser.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || strings.HasSuffix(resp.Request.URL.Path, "/login") {
		return nil, fmt.Errorf("refused: %s at %s", resp.Status, resp.Request.URL.Path)
	}
	return browser, nil
}

func timed(ctx context.Context, browser *http.Client, address string) (time.Duration, int, error) {
	began := time.Now()
	b, err := fetch(ctx, browser, address)
	return time.Since(began), len(b), err
}

func fetch(ctx context.Context, browser *http.Client, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := browser.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %.200s", address, resp.Status, b)
	}
	return b, err
}
