package head

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/shared/obs"
)

// Files of a job's folder that are the head's.
const (
	pidFile = "head.pid"
	logFile = "mongod.log"
)

// maxLog is from where on a log is put aside at a start; one old log is kept.
const maxLog = 64 << 20

// selectLimit is for how long an operation waits for a head that does not answer: one that checkpoints, or a machine under load, is
// no reason to give up.
const selectLimit = 15 * time.Second

// connections a client of a head holds at most.
const connections = 32

// slowMS is from how many milliseconds on an operation is written to the log: large batches are none of people's business.
const slowMS = "60000"

// parameters are set on every head: it does nothing by itself, and keeps no sessions, which would be collections of its own.
func parameters() map[string]string {
	return map[string]string{
		"ttlMonitorEnabled":                 "false",
		"disableLogicalSessionCacheRefresh": "true",
		"diagnosticDataCollectionEnabled":   "false",
	}
}

func (m *Manager) arguments(h *Head, s Spec) []string {
	args := []string{
		"--dbpath", DBPath(h.Dir), "--port", strconv.Itoa(h.Port), "--bind_ip", "127.0.0.1",
		"--nounixsocket", // in /tmp it would be anybody's to hinder
		"--logpath", filepath.Join(h.Dir, logFile), "--logappend", "--quiet", "--slowms", slowMS,
		"--wiredTigerCacheSizeGB", strconv.FormatFloat(max(float64(m.o.CacheMB)/1024, 0.25), 'f', 3, 64),
	}
	set := parameters()
	maps.Copy(set, s.Set)
	for _, name := range slices.Sorted(maps.Keys(set)) {
		args = append(args, "--setParameter", name+"="+set[name])
	}
	return args
}

// start starts the process and waits until it answers.
func (m *Manager) start(ctx context.Context, h *Head, s Spec) error {
	if err := os.MkdirAll(DBPath(h.Dir), 0o700); err != nil {
		return err
	}
	if err := m.adopt(ctx, h.Dir); err != nil {
		return err
	}
	if info, err := os.Stat(filepath.Join(h.Dir, logFile)); err == nil && info.Size() > maxLog {
		if err := os.Rename(filepath.Join(h.Dir, logFile), filepath.Join(h.Dir, logFile+".1")); err != nil {
			return err
		}
	}
	clean, err := m.Clean(h.Dir)
	if err != nil {
		return err
	}
	// Before the start: were this program killed right after it, the folder would not look as if nothing had run there.
	if err := writePID(h.Dir, 0, h.Port); err != nil {
		return err
	}
	cmd := exec.Command(s.Release.Path, m.arguments(h, s)...) //nolint:noctx // it outlives the context of its start
	cmd.Dir = h.Dir
	var out strings.Builder // mongod complains of its command line there; everything else goes to its log
	cmd.Stdout, cmd.Stderr = &limited{w: &out}, &limited{w: &out}
	apart(cmd)
	if err := cmd.Start(); err != nil {
		if clean {
			err = errors.Join(err, os.Remove(filepath.Join(h.Dir, pidFile)))
		}
		return fmt.Errorf("%w: %w", ErrNotStarted, err)
	}
	h.process = cmd.Process
	if m.o.started != nil {
		m.o.started()
	}
	if err := writePID(h.Dir, cmd.Process.Pid, h.Port); err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	go func() {
		_ = cmd.Wait()
		h.state = cmd.ProcessState
		m.forget(h)
		close(h.done)
	}()
	client, err := mongo.Connect(options.Client().
		ApplyURI("mongodb://127.0.0.1:" + strconv.Itoa(h.Port) + "/?directConnection=true").
		SetAppName("heartwood backup daemon").SetRetryWrites(false).SetRetryReads(false).SetMaxPoolSize(connections).
		SetServerSelectionTimeout(selectLimit).SetHeartbeatInterval(time.Second))
	if err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	h.client = client
	if err = m.answers(ctx, h); err == nil && s.FCV != "" {
		err = h.setFCV(ctx, s.FCV)
	}
	if err == nil {
		go func() { // the port is free again when the process is gone
			<-h.done
			m.ports <- h.Port
		}()
		m.o.Log.Info("head started", obs.KeyPath, h.Dir, obs.KeyPort, h.Port, obs.KeyVersion, h.Version)
		return nil
	}
	_ = client.Disconnect(context.WithoutCancel(ctx))
	ended := false
	select {
	case <-h.done:
		ended = true
	default:
		_ = h.process.Kill()
		<-h.done
	}
	text := strings.TrimSpace(out.String())
	if text != "" {
		text = ": " + text
	}
	if ended {
		return fmt.Errorf("%w: mongod ended with %s%s%s", ErrNotStarted, h.state, text, lastWords(h.Dir))
	}
	return fmt.Errorf("%w: %w%s", ErrNotStarted, err, lastWords(h.Dir))
}

// answers waits until the head answers for the folder it was started for.
func (m *Manager) answers(ctx context.Context, h *Head) error {
	ctx, stop := context.WithTimeoutCause(ctx, m.o.StartLimit, fmt.Errorf("it did not answer within %s", m.o.StartLimit))
	defer stop()
	asking, end := context.WithCancel(ctx)
	defer end()
	go func() { // one that has ended will never answer
		select {
		case <-h.done:
			end()
		case <-asking.Done():
		}
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := h.client.Database("admin").RunCommand(asking, bson.D{{Key: "ping", Value: 1}}).Err()
		if err == nil {
			return nil
		}
		select {
		case <-h.done:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// limited keeps the first of what is written, so that a talkative process fills no memory.
type limited struct{ w *strings.Builder }

// Write is io.Writer's.
func (l *limited) Write(p []byte) (int, error) {
	if room := 4096 - l.w.Len(); room > 0 {
		l.w.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

func writePID(dir string, pid, port int) error {
	return os.WriteFile(filepath.Join(dir, pidFile), fmt.Appendf(nil, "%d %d\n", pid, port), 0o600)
}

// readPID gives the process noted for a folder: 0 for one that was about to start.
func readPID(dir string) (pid int, err error) {
	b, err := os.ReadFile(filepath.Join(dir, pidFile))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	return strconv.Atoi(first)
}

// lastWords are the last errors of a head's log, for people.
func lastWords(dir string) string {
	f, err := os.Open(filepath.Join(dir, logFile))
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 64<<10 {
		_, _ = f.Seek(-64<<10, io.SeekEnd)
	}
	var words []string
	for s := bufio.NewScanner(f); s.Scan(); {
		var line struct {
			S    string         `json:"s"`
			Msg  string         `json:"msg"`
			Attr map[string]any `json:"attr"`
		}
		switch {
		case json.Unmarshal(s.Bytes(), &line) != nil: // before 4.4: plain text
			if t := s.Text(); strings.Contains(t, " E ") || strings.Contains(t, " F ") {
				words = append(words, t)
			}
		case line.S == "E" || line.S == "F":
			text := line.Msg
			if e, ok := line.Attr["error"]; ok {
				text = fmt.Sprintf("%s: %v", text, e)
			}
			words = append(words, text)
		}
	}
	if words = words[max(0, len(words)-3):]; len(words) == 0 {
		return ""
	}
	return fmt.Sprintf(" (its log: %s)", strings.Join(words, "; "))
}
