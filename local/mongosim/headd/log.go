package headd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim/status/logline"
)

// logger writes lines as a server of the version does.
type logger struct {
	mu   sync.Mutex
	out  io.Writer
	file *os.File // to close; nil for standard output
	json bool
	last []string // for getLog
}

// openLog opens the log. A file that is there is put aside unless it is to be continued.
func openLog(o *Options, out io.Writer) (*logger, error) {
	l := &logger{out: out, json: o.Version.AtLeast(4, 4)}
	if o.LogPath == "" {
		return l, nil
	}
	if _, err := os.Stat(o.LogPath); err == nil && !o.Append {
		if err := os.Rename(o.LogPath, o.LogPath+"."+time.Now().UTC().Format("2006-01-02T15-04-05")); err != nil {
			return nil, fmt.Errorf("put the old log aside: %w", err)
		}
	}
	f, err := os.OpenFile(o.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("Failed to open %q: %w", o.LogPath, err) //nolint:staticcheck,revive // the server's words
	}
	l.out, l.file = f, f
	return l, nil
}

// keepLines is how many lines getLog gives.
const keepLines = 1024

func (l *logger) line(severity, component string, id int, ctx, msg string, attr map[string]any) {
	s := logline.Line{At: time.Now(), Severity: severity, Component: component, ID: id, Context: ctx, Msg: msg, Attr: attr}.Format(l.json)
	if !l.json && len(attr) > 0 {
		s += fmt.Sprintf(" %v", attr)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.last) == keepLines {
		l.last = append(l.last[:0:0], l.last[keepLines/4:]...)
	}
	l.last = append(l.last, s)
	_, _ = io.WriteString(l.out, s+"\n") // a server goes on when its log does not
}

func (l *logger) info(component string, id int, ctx, msg string, attr map[string]any) {
	l.line("I", component, id, ctx, msg, attr)
}

func (l *logger) close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// slog makes the parts of the simulator write into the same log.
func (l *logger) slog() *slog.Logger { return slog.New(&handler{l: l}) }

type handler struct {
	l     *logger
	attrs []slog.Attr
}

// Enabled leaves out what servers do not log either.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle writes a record as a server's line.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	severity := "I"
	switch {
	case r.Level >= slog.LevelError:
		severity = "E"
	case r.Level >= slog.LevelWarn:
		severity = "W"
	}
	attr := map[string]any{}
	put := func(a slog.Attr) bool {
		attr[a.Key] = a.Value.String()
		return true
	}
	for _, a := range h.attrs {
		put(a)
	}
	r.Attrs(put)
	h.l.line(severity, "STORAGE", 22430, "simulator", r.Message, attr)
	return nil
}

// WithAttrs keeps attributes for later records.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{l: h.l, attrs: append(slices.Clip(h.attrs), attrs...)}
}

// WithGroup leaves groups out: a server's lines are flat.
func (h *handler) WithGroup(string) slog.Handler { return h }
