package chaos

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/functions/alerts/deliver"
	"github.com/heartwood-db/heartwood/functions/alerts/evaluate"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/notify/email"
	"github.com/heartwood-db/heartwood/shared/notify/letter"
	mailpost "github.com/heartwood-db/heartwood/shared/notify/letter/post"
	"github.com/heartwood-db/heartwood/shared/notify/webhook"
	"github.com/heartwood-db/heartwood/shared/seal"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/access"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/inventory"
	"github.com/heartwood-db/heartwood/shared/store/series"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

// The environment of a child: this test program run again to evaluate and deliver on a database file until it is killed.
const (
	childFile  = "HEARTWOOD_CHAOS_ALERTS_FILE"  // of the database
	childMail  = "HEARTWOOD_CHAOS_ALERTS_MAIL"  // port of the mail catcher
	childKill  = "HEARTWOOD_CHAOS_ALERTS_KILL"  // the step at which it kills itself, 0: never
	childAfter = "HEARTWOOD_CHAOS_ALERTS_AFTER" // "1": once the step is done, else before
	childFrom  = "HEARTWOOD_CHAOS_ALERTS_FROM"  // minutes after killStart of its first pass
)

var killStart = time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)

// deadly kills the process, as kill -9 does, before or after its n-th write to the database or message to the world.
type deadly struct {
	docstore.Engine
	notify.Sender
	mu    sync.Mutex
	at    int
	after bool
	steps int
}

func (d *deadly) step(do func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.steps++
	if d.steps == d.at && !d.after {
		d.die()
	}
	do()
	if d.steps == d.at {
		d.die()
	}
}

func (d *deadly) die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func (d *deadly) Write(ctx context.Context, ops []docstore.Op, ordered bool) (results []docstore.Result, err error) {
	d.step(func() { results, err = d.Engine.Write(ctx, ops, ordered) })
	return results, err
}

func (d *deadly) Send(ctx context.Context, to notify.Target, m notify.Message) (result notify.Result, err error) {
	d.step(func() { result, err = d.Sender.Send(ctx, to, m) })
	return result, err
}

// killSite is the store of the child, and of the test before and after.
type killSite struct {
	store     *store.Store
	inventory *inventory.Inventory
	alerting  *alerting.Alerting
}

func openKillSite(ctx context.Context, e docstore.Engine) (*killSite, error) {
	box, err := seal.New([]byte(storetest.GenKey))
	if err != nil {
		return nil, err
	}
	s, err := areas.Open(ctx, store.Options{Engine: e, Box: box, Version: "test"})
	if err != nil {
		return nil, err
	}
	return &killSite{s, inventory.New(s), alerting.New(s)}, nil
}

// alertsChild evaluates once and delivers for some minutes. It prints how many steps that took.
func alertsChild(ctx context.Context) error {
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: os.Getenv(childFile)})
	if err != nil {
		return err
	}
	defer e.Close()
	number := func(name string) int {
		n, _ := strconv.Atoi(os.Getenv(name))
		return n
	}
	d := &deadly{Engine: e, at: number(childKill), after: os.Getenv(childAfter) == "1"}
	x, err := openKillSite(ctx, d)
	if err != nil {
		return err
	}
	from, err := mailpost.NewSender("hw@example.com", "", letter.Options{})
	if err != nil {
		return err
	}
	mailer, err := email.New(email.Options{Host: "127.0.0.1", Port: number(childMail), Sender: from})
	if err != nil {
		return err
	}
	client := notify.Client(notify.ClientOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	d.Sender = *notify.NewSender(map[string]notify.Notifier{notify.Email: mailer, notify.Webhook: webhook.New(webhook.Options{Client: client})})
	d.steps = 0 // opening is not what is tried
	numbers, err := series.New(series.Options{Engine: d})
	if err != nil {
		return err
	}
	evaluator, err := evaluate.New(evaluate.Options{
		Inventory: x.inventory, Series: numbers, Access: access.New(x.store), Alerting: x.alerting, Duties: x.store, Backups: backup.New(x.store), Version: "1.0.0",
	})
	if err != nil {
		return err
	}
	deliverer, err := deliver.New(deliver.Options{
		Outbox: x.alerting, Groups: x.inventory, Sender: d, By: "child", Gap: func(string) time.Duration { return 0 },
	})
	if err != nil {
		return err
	}
	for m := range 3 {
		now := killStart.Add(time.Duration(number(childFrom)+m) * time.Minute)
		if m == 0 || number(childKill) == 0 {
			_, err = evaluator.Pass(ctx, now)
		}
		if err == nil {
			_, err = deliverer.Pass(ctx, now)
		}
		if err != nil {
			return err
		}
	}
	_, err = fmt.Println("steps", d.steps)
	return err
}

// runAlertsChild runs the child to its end. killed says that it killed itself.
func runAlertsChild(t *testing.T, file string, mailPort, kill int, after bool, from int) (steps int, killed bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(),
		childFile+"="+file, childMail+"="+strconv.Itoa(mailPort), childKill+"="+strconv.Itoa(kill), childFrom+"="+strconv.Itoa(from))
	if after {
		cmd.Env = append(cmd.Env, childAfter+"=1")
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && kill > 0 {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return 0, true
		}
	}
	if err != nil {
		t.Fatalf("the child: %v\n%s%s", err, out.String(), said.String())
	}
	if _, err := fmt.Sscanf(out.String(), "steps %d", &steps); err != nil {
		t.Fatalf("the child said %q", out.String())
	}
	return steps, false
}

// mailCatcher takes mail: X-Heartwood-Delivery of each message, in order.
type mailCatcher struct {
	net.Listener
	mu   sync.Mutex
	keys []string
}

func startMailCatcher(t *testing.T) *mailCatcher {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // of a test
	if err != nil {
		t.Fatal(err)
	}
	c := &mailCatcher{Listener: l}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.serve(conn)
		}
	}()
	return c
}

func (c *mailCatcher) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	say := func(s string) { _, _ = conn.Write([]byte(s + "\r\n")) }
	say("220 catcher")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " "); verb {
		case "QUIT":
			say("221 bye")
			return
		case "DATA":
			say("354 go on")
			var text strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				text.WriteString(strings.TrimPrefix(line, "."))
			}
			if m, err := mail.ReadMessage(strings.NewReader(text.String())); err == nil {
				c.mu.Lock()
				c.keys = append(c.keys, m.Header.Get("X-Heartwood-Delivery"))
				c.mu.Unlock()
			}
			say("250 taken")
		default:
			say("250 ok")
		}
	}
}

func (c *mailCatcher) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.keys)
}

// TestAlertsKilledAtEveryStep kills a process that evaluates and delivers before and after each of its writes and messages, from
// the decision to page to the record that it was delivered, and starts another one: every page arrives, and nothing arrives under
// two keys. That a host is down goes to a webhook and a mailbox, and so does an event.
func TestAlertsKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts many processes")
	}
	hook, box := startCatcher(t), startMailCatcher(t)
	mailPort := box.Addr().(*net.TCPAddr).Port
	dir := t.TempDir()
	steps, _ := runAlertsChild(t, prepareKill(t, dir, "whole", hook.URL), mailPort, 0, false, 0)
	whole := deliveredOf(hook, box, 0, 0)
	if len(whole.alerts) != 4 || whole.keys != 4 {
		t.Fatalf("without a kill %d alerts arrived under %d keys", len(whole.alerts), whole.keys)
	}
	t.Logf("%d steps", steps)
	kills := 0
	for at := 1; at <= steps; at++ {
		for _, after := range []bool{false, true} {
			hooks, mails := len(hook.all()), len(box.all())
			file := prepareKill(t, dir, fmt.Sprintf("%d-%v", at, after), hook.URL)
			if _, killed := runAlertsChild(t, file, mailPort, at, after, 0); killed {
				kills++
			}
			runAlertsChild(t, file, mailPort, 0, false, 2)
			got := deliveredOf(hook, box, hooks, mails)
			if len(got.alerts) != len(whole.alerts) || got.keys != whole.keys {
				t.Errorf("killed at step %d (after: %v): %d alerts arrived under %d keys, want %d under %d",
					at, after, len(got.alerts), got.keys, len(whole.alerts), whole.keys)
			}
		}
	}
	if kills < steps {
		t.Errorf("only %d processes were killed", kills)
	}
}

type arrived struct {
	alerts map[string]bool // channel and alert
	keys   int
}

func deliveredOf(hook *catcher, box *mailCatcher, hooks, mails int) arrived {
	a := arrived{alerts: map[string]bool{}}
	keys := map[string]bool{}
	for _, c := range hook.all()[hooks:] {
		keys["hook "+c.Key] = true
		a.alerts["hook "+c.Alert] = true
	}
	for _, key := range box.all()[mails:] {
		keys["mail "+key] = true
		alert, _, _ := strings.Cut(key, "/")
		a.alerts["mail "+alert] = true
	}
	a.keys = len(keys)
	return a
}

// prepareKill makes a database with a host that is down, an event, and whom to tell.
func prepareKill(t *testing.T, dir, name, url string) string {
	t.Helper()
	file := filepath.Join(dir, name+".db")
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: file})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	x, err := openKillSite(t.Context(), e)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	ctx := t.Context()
	g := model.Group{ID: model.DeriveID("group", name), Name: name, Settings: model.DefaultGroupSettings()}
	must(x.inventory.CreateGroup(ctx, g))
	h := model.Host{
		ID: model.NewHostID(g.ID, "db1.example.com", 27017), GroupID: g.ID, Hostname: "db1.example.com", Port: 27017, MemberID: -1,
		Type: model.TypeStandalone, Enabled: true, AlertsEnabled: true,
	}
	must(x.inventory.CreateHost(ctx, h))
	since := killStart.Add(-15 * time.Minute)
	op, err := x.inventory.StatusOp(model.HostStatus{
		HostID: h.ID, GroupID: g.ID, At: killStart, LastPing: since, Reach: model.ReachDown, ReachSince: since, AgentID: "agent",
	})
	must(err)
	must(x.store.Write(ctx, op))
	must(x.inventory.UpsertAgent(ctx, g.ID, "agent", func(a *model.Agent) error {
		a.Type, a.State, a.LastPing, a.LastConf = model.AgentMonitoring, model.AgentActive, killStart.Add(time.Minute), killStart.Add(time.Minute)
		return nil
	}))
	old := time.Unix(0, 0).UTC()
	to := func(event model.EventType, ns ...model.Notification) {
		must(x.alerting.CreateConfig(ctx, model.AlertConfig{
			ID: model.NewID(), GroupID: g.ID, EventType: event, Enabled: true, Created: old, Updated: old, Notifications: ns,
		}))
	}
	inbox := model.Notification{ID: model.NewID(), Channel: notify.Email, IntervalMin: 60, Fields: map[string]string{"emailAddress": "ops@example.com"}}
	page := webhookTo(url, 0)
	page.IntervalMin = 60
	to(model.EventHostDown, page, inbox)
	to(model.EventNewHost, webhookTo(url+"/new", 0), inbox)
	must(x.alerting.AddEvents(ctx, model.Event{
		ID: alerting.EventID(killStart.Add(-time.Minute), "new"), GroupID: g.ID, Type: model.EventNewHost, At: killStart.Add(-time.Minute),
		HostID: h.ID, HostName: h.Address(), Text: "A new host.",
	}))
	return file
}
