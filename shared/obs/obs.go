// Package obs sets up what tells people how Heartwood itself is doing: the log and its key names, the metric registry,
// and the build's version.
package obs

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewLogger returns a logger that writes to w. Level is DEBUG, INFO, WARN, ERROR (any case; the classic ROUTINE is INFO,
// FATAL is ERROR); format is "text" or "json".
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	l, err := ParseLevel(level)
	if err != nil {
		return nil, err
	}
	opt := &slog.HandlerOptions{Level: l}
	switch format {
	case "text", "":
		return slog.New(slog.NewTextHandler(w, opt)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opt)), nil
	}
	return nil, fmt.Errorf("log format %q: use text or json", format)
}

// ParseLevel reads a level name, those of classic agents included.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToUpper(strings.TrimSpace(s)) {
	case "DEBUG":
		return slog.LevelDebug, nil
	case "", "INFO", "ROUTINE":
		return slog.LevelInfo, nil
	case "WARN", "WARNING":
		return slog.LevelWarn, nil
	case "ERROR", "FATAL":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q: use DEBUG, INFO, WARN or ERROR", s)
}

// Discard is a logger for tests and for code whose caller gave none.
func Discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// NewRegistry returns a metric registry with the Go runtime's and the process's own metrics.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	b := Build()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "heartwood_build_info", Help: "Constant 1, labelled by the build's version and commit.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision},
	})
	info.Set(1)
	reg.MustRegister(info)
	return reg
}
