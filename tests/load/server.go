package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// server is the program under load.
type server struct {
	cmd  *exec.Cmd
	o    options
	done chan struct{} // closed when it has ended
	err  error
}

func startServer(ctx context.Context, o options) (*server, error) {
	s := &server{o: o, done: make(chan struct{})}
	s.cmd = exec.CommandContext(ctx, o.server, "serve", "--data", o.data, "--port-base", strconv.Itoa(o.base))
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	log, err := os.Create(filepath.Join(o.data, "load-server.log"))
	if err != nil {
		return nil, err
	}
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	const poll = 5 * time.Millisecond
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		if resp, err := http.Get(s.url() + "/monitor/health"); err == nil { //nolint:noctx // a probe of our own child
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return s, nil
			}
		}
		select {
		case <-s.done:
			b, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("the server ended: %w\n%s", s.err, b)
		case <-time.After(poll):
		}
	}
	s.stop()
	return nil, fmt.Errorf("the server did not answer within 30 s; see %s", log.Name())
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(time.Minute):
		_ = s.cmd.Process.Kill()
	}
}

func (s *server) url() string { return "http://127.0.0.1:" + strconv.Itoa(s.o.base) }

func (s *server) usage() (usage, error) {
	var u usage
	var err error
	if u.cpu, u.peak, err = procUsage(s.cmd.Process.Pid); err != nil {
		return u, err
	}
	u.disk, err = diskUsage(s.o.data)
	return u, err
}

// timeStarts says how long the server takes from its start to its first healthy answer, on the data folder as it is after a first
// start.
func timeStarts(ctx context.Context, o options) error {
	const runs = 5
	var took []time.Duration
	for range runs + 1 {
		began := time.Now()
		s, err := startServer(ctx, o)
		if err != nil {
			return err
		}
		took = append(took, time.Since(began))
		s.stop()
	}
	took = took[1:] // the first made the data
	slices.Sort(took)
	fmt.Printf("start to first healthy answer: median %v, max %v\n", took[runs/2].Round(time.Millisecond), took[runs-1].Round(time.Millisecond))
	return nil
}
