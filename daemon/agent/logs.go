package agent

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// LogFile is the agent's log: it is rotated by size, by age, and when asked; old ones are compressed and removed.
type LogFile struct {
	out   *lumberjack.Logger
	age   time.Duration
	plain int
	ready atomic.Bool // signals are listened for
}

// NewLog makes the agent's logger. Without a configured file it writes to fallback, and the LogFile is nil, which is valid.
func NewLog(cfg *config.Agent, fallback io.Writer) (*slog.Logger, *LogFile, error) {
	if cfg.LogFile == "" {
		log, err := obs.NewLogger(fallback, cfg.LogLevel, cfg.LogFormat)
		return log, nil, err
	}
	f := &LogFile{
		out: &lumberjack.Logger{
			Filename: cfg.LogFile, MaxSize: int(max(1, cfg.LogMaxSize>>20)), MaxBackups: cfg.LogMaxFiles,
		},
		age: time.Duration(cfg.LogMaxHours) * time.Hour, plain: cfg.LogPlainFiles,
	}
	log, err := obs.NewLogger(f.out, cfg.LogLevel, cfg.LogFormat)
	return log, f, err
}

// shrinkEvery is how often rotated files are looked for, since size may rotate at any moment.
const shrinkEvery = 10 * time.Minute

// Run rotates by age and on SIGUSR1 or SIGHUP until ctx ends.
func (f *LogFile) Run(ctx context.Context, log *slog.Logger) {
	if f == nil {
		return
	}
	asked := make(chan os.Signal, 1)
	if signals := rotateSignals(); len(signals) > 0 {
		signal.Notify(asked, signals...)
		defer signal.Stop(asked)
	}
	f.ready.Store(true)
	old := time.NewTicker(f.age)
	defer old.Stop()
	shrink := time.NewTicker(shrinkEvery)
	defer shrink.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-asked:
			err = f.Rotate()
		case <-old.C:
			err = f.Rotate()
		case <-shrink.C:
			err = f.shrink()
		}
		if err != nil {
			log.Warn("log rotation", obs.KeyFile, f.out.Filename, obs.KeyErr, err)
		}
	}
}

// Rotate renames the log file and starts a new one.
func (f *LogFile) Rotate() error {
	return errors.Join(f.out.Rotate(), f.shrink())
}

// Close closes the file. A later line opens it again.
func (f *LogFile) Close() error {
	if f == nil {
		return nil
	}
	return f.out.Close()
}

// shrink compresses all rotated files but the newest few. Their names carry the time, so they sort by age.
func (f *LogFile) shrink() error {
	ext := filepath.Ext(f.out.Filename)
	names, err := filepath.Glob(strings.TrimSuffix(f.out.Filename, ext) + "-*" + ext)
	if err != nil || len(names) <= f.plain {
		return err
	}
	slices.Sort(names)
	for _, name := range names[:len(names)-f.plain] {
		err = errors.Join(err, compress(name))
	}
	return err
}

// compress replaces a file by its gzip, under the name that the rotation knows to remove one day.
func compress(name string) (err error) {
	in, err := os.Open(name) //nolint:gosec // one of our own
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // read only
	out, err := os.OpenFile(name+".gz", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	if err = errors.Join(err, z.Close(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(name+".gz"))
	}
	return os.Remove(name)
}

// Tail keeps the newest lines of the log for the server's agents page.
type Tail struct {
	mu      sync.Mutex
	lines   []string
	dirty   bool
	sent    time.Time
	problem string
}

const (
	tailLines = 100
	tailLine  = 1000
	tailEvery = time.Minute
)

// Write takes one line.
func (t *Tail) Write(b []byte) (int, error) {
	line := string(bytes.TrimRight(b, "\n"))
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == tailLines {
		copy(t.lines, t.lines[1:])
		t.lines = t.lines[:tailLines-1]
	}
	t.lines = append(t.lines, strings.ToValidUTF8(line[:min(len(line), tailLine)], "?"))
	t.dirty = true
	return len(b), nil
}

// Fresh gives the lines if there are new ones and the last were given a while ago, and the newest warning.
func (t *Tail) Fresh(now time.Time) (lines []string, problem string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.dirty || now.Sub(t.sent) < tailEvery {
		return nil, t.problem
	}
	t.dirty, t.sent = false, now
	return slices.Clone(t.lines), t.problem
}

// Tee is a handler that writes to next and to the tail.
func (t *Tail) Tee(next slog.Handler) slog.Handler {
	return &teeHandler{tail: t, next: next, text: slog.NewTextHandler(t, nil)}
}

type teeHandler struct {
	tail *Tail
	next slog.Handler
	text slog.Handler
}

// Enabled reports whether either side wants the level.
func (h *teeHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.next.Enabled(ctx, l) || h.text.Enabled(ctx, l)
}

// Handle hands the record to the sides that want it.
func (h *teeHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		problem := r.Message
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == obs.KeyReason || a.Key == obs.KeyErr || a.Key == obs.KeyHost {
				problem += ": " + a.Value.String()
			}
			return true
		})
		h.tail.mu.Lock()
		h.tail.problem = problem
		h.tail.mu.Unlock()
	}
	var err error
	if h.text.Enabled(ctx, r.Level) {
		err = h.text.Handle(ctx, r.Clone())
	}
	if h.next.Enabled(ctx, r.Level) {
		err = errors.Join(err, h.next.Handle(ctx, r))
	}
	return err
}

// WithAttrs adds to both.
func (h *teeHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &teeHandler{tail: h.tail, next: h.next.WithAttrs(attrs), text: h.text.WithAttrs(attrs)}
}

// WithGroup adds to both.
func (h *teeHandler) WithGroup(name string) slog.Handler {
	return &teeHandler{tail: h.tail, next: h.next.WithGroup(name), text: h.text.WithGroup(name)}
}
