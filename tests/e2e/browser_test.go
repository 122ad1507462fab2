package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/heartwood-db/heartwood/tests/harness"
)

type step = chromedp.Action[chromedp.Void]

// browser is one headless Chromium tab that remembers what its console complained about.
type browser struct {
	ctx      context.Context
	mu       sync.Mutex
	problems []string
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	path := harness.Need(t, "chromium")
	ctx, stop := chromedp.NewContext(t.Context(), chromedp.WithAllocatorOptions(
		append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU)...))
	t.Cleanup(stop)
	b := &browser{ctx: ctx}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	err := chromedp.Listen(ctx, func(ev any) {
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			b.complain(e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.ConsoleAPICalledTypeError {
				b.complain(fmt.Sprintf("console.error: %v", e.Args))
			}
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError {
				b.complain(e.Entry.Text + " " + e.Entry.URL)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, log.Enable, struct{}{}); err != nil {
		t.Fatalf("listen to the console: %v", err)
	}
	return b
}

func (b *browser) complain(s string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, s)
}

// take returns the complaints since the last call.
func (b *browser) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.problems
	b.problems = nil
	return p
}

// ask runs an action that has an answer, and fails the test with what the page shows when it does not end in time.
func ask[T any](t *testing.T, b *browser, what string, a chromedp.Action[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 60*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		last, stop := context.WithTimeout(b.ctx, 5*time.Second)
		defer stop()
		body, _ := chromedp.Run(last, chromedp.Text(chromedp.CSS("body")))
		t.Fatalf("%s: %v\nthe page says: %.1500s", what, err, body)
	}
	return v
}

func (b *browser) do(t *testing.T, what string, steps ...step) {
	t.Helper()
	ask(t, b, what, chromedp.Steps(steps...))
}

// look is a size and a colour scheme to see every page in.
type look struct {
	name          string
	width, height int64
	scheme        string
}

var looks = []look{
	{"wide-light", 1440, 900, "light"},
	{"wide-dark", 1440, 900, "dark"},
	{"narrow-light", 390, 844, "light"},
	{"narrow-dark", 390, 844, "dark"},
}

func (l look) apply(ctx context.Context) error {
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(l.width, l.height)); err != nil {
		return err
	}
	_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: l.scheme}},
	})
	return err
}

// audit lists what is wrong with the page that is shown: it is wider than the window, a field has no label, text has too little
// contrast to what is behind it.
const audit = `(() => {
	const out = [];
	const over = document.documentElement.scrollWidth - window.innerWidth;
	if (over > 0) out.push("the page is " + over + " px wider than the window");
	for (const f of document.querySelectorAll("input:not([type=hidden]):not([type=submit]):not([aria-hidden=true]), select, textarea")) {
		if (!f.labels?.length && !f.getAttribute("aria-label") && !f.getAttribute("aria-labelledby")) out.push("no label: " + f.outerHTML.slice(0, 120));
	}
	for (const i of document.querySelectorAll("img:not([alt])")) out.push("no alt: " + i.outerHTML.slice(0, 120));
	if (document.querySelectorAll("h1").length !== 1) out.push("h1 elements: " + document.querySelectorAll("h1").length);
	if (!document.documentElement.lang) out.push("no lang");
	const rgb = c => { const m = c.match(/[\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1]; };
	const lum = c => { const f = c.slice(0, 3).map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * f[0] + .7152 * f[1] + .0722 * f[2]; };
	const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] > .9) return c; } return [255, 255, 255, 1]; };
	const seen = new Set();
	for (const e of document.querySelectorAll("main *, header *, nav *, footer *")) {
		const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
		if (!own || e.closest("[aria-hidden=true]") || !e.checkVisibility({checkOpacity: true, checkVisibilityCSS: true}) || e.closest("[disabled], [aria-disabled=true], .uplot")) continue;
		const s = getComputedStyle(e);
		if (!/^rgb/.test(s.color)) continue;
		const a = lum(rgb(s.color)), b = lum(behind(e));
		const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
		const key = e.className + s.color;
		if (ratio < 4.5 && !seen.has(key)) { seen.add(key); out.push("contrast " + ratio.toFixed(1) + ": " + e.outerHTML.slice(0, 100)); }
	}
	return out;
})()`

// visit shows a page, checks it and keeps its picture.
func (b *browser) visit(t *testing.T, l look, name, url string, settled ...step) {
	t.Helper()
	b.take()
	if err := l.apply(b.ctx); err != nil {
		t.Fatal(err)
	}
	b.do(t, name, chromedp.Navigate(url), chromedp.WaitReady(chromedp.CSS("h1")), chromedp.Steps(settled...), chromedp.Sleep(300*time.Millisecond))
	faults := ask(t, b, name, chromedp.Evaluate[[]string](audit))
	picture := ask(t, b, name, chromedp.FullScreenshot(100))
	for _, f := range append(faults, b.take()...) {
		t.Errorf("%s (%s): %s", name, l.name, f)
	}
	keepPicture(t, name+"-"+l.name, picture)
}

// keepPicture writes a picture for people to look at; the folder is not under version control.
func keepPicture(t *testing.T, name string, png []byte) {
	t.Helper()
	dir := filepath.Join(harness.Root(t), "tests", "e2e", "pictures")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		t.Fatal(err)
	}
}

// chartsDrawn waits until the charts in sight show something; those further down wait for the reader.
func chartsDrawn() step {
	return chromedp.Poll[chromedp.Void](`(() => {
		const all = [...document.querySelectorAll(".uplot canvas")];
		return all.length > 0 && all.slice(0, 2).every(c => c.width > 100 && c.getContext("2d").getImageData(0, 0, c.width, c.height).data.some(v => v !== 0));
	})()`, chromedp.WithPollingInterval(200*time.Millisecond), chromedp.WithPollingTimeout(30*time.Second))
}
