package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
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
		case <-time.After(50 * time.Millisecond):
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
