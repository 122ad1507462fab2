package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/mongodb-forks/digest"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// server is the program under load.
type server struct {
	cmd  *exec.Cmd
	o    options
	done chan error
}

func startServer(ctx context.Context, o options) (*server, error) {
	s := &server{o: o, done: make(chan error, 1)}
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
	go func() { s.done <- s.cmd.Wait() }()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		if resp, err := http.Get(s.url() + "/monitor/health"); err == nil { //nolint:noctx // a probe of our own child
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return s, nil
			}
		}
		select {
		case err := <-s.done:
			b, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("the server ended: %w\n%s", err, b)
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

// site is a provisioned group on the server.
type site struct {
	url       string
	ingestion string
	group     string
	agentKey  string
	api       *http.Client
	agent     wire.AgentInfo
}

// provision registers the first user and makes a group, through the Public API as a script would.
func provision(ctx context.Context, s *server) (*site, error) {
	st := &site{url: s.url(), ingestion: "http://127.0.0.1:" + strconv.Itoa(s.o.base+1), api: http.DefaultClient}
	var first struct {
		ProgrammaticAPIKey struct{ PublicKey, PrivateKey string }
	}
	user := map[string]string{"username": "load@example.com", "password": "Load-0123456789", "firstName": "Lo", "lastName": "Ad"}
	if err := st.call(ctx, http.MethodPost, "/unauth/users", user, &first); err != nil {
		return nil, err
	}
	st.api = &http.Client{Transport: digest.NewTransport(first.ProgrammaticAPIKey.PublicKey, first.ProgrammaticAPIKey.PrivateKey)}
	var group struct{ ID, AgentAPIKey string }
	if err := st.call(ctx, http.MethodPost, "/groups", map[string]string{"name": "load"}, &group); err != nil {
		return nil, err
	}
	st.group, st.agentKey = group.ID, group.AgentAPIKey
	st.agent = wire.AgentInfo{
		ID: "load", Session: "load", Type: string(model.AgentMonitoring), Hostname: "load", Version: "0", OS: "linux", Started: time.Now().UTC().Truncate(time.Second),
	}
	return st, nil
}

func (st *site) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, st.url+"/api/public/v1.0"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := st.api.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, b)
	}
	return json.Unmarshal(b, out)
}

// conf makes an agent's configuration call that names seeds, which the server adds to the group.
func (st *site) conf(ctx context.Context, seeds []string) (wire.Conf, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, st.ingestion+wire.PathConf+"?"+wire.ConfQuery(st.agent, seeds).Encode(), nil)
	if err != nil {
		return wire.Conf{}, err
	}
	req.SetBasicAuth(st.group, st.agentKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return wire.Conf{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return wire.Conf{}, err
	}
	if resp.StatusCode != http.StatusOK {
		p, _ := wire.DecodeProblem(b)
		return wire.Conf{}, fmt.Errorf("configuration call: %s: %s", resp.Status, p.Reason)
	}
	return wire.DecodeConf(b)
}

// addHosts has the server know n hosts and returns them with their ids.
func (st *site) addHosts(ctx context.Context, n int) ([]wire.Host, error) {
	const perCall = 100
	for from := 0; from < n; from += perCall {
		var seeds []string
		for i := from; i < min(n, from+perCall); i++ {
			seeds = append(seeds, fmt.Sprintf("db%05d.load.example:27017", i))
		}
		if _, err := st.conf(ctx, seeds); err != nil {
			return nil, err
		}
	}
	conf, err := st.conf(ctx, nil)
	if err != nil {
		return nil, err
	}
	if len(conf.Hosts) < n {
		return nil, fmt.Errorf("the server knows %d of %d hosts", len(conf.Hosts), n)
	}
	return conf.Hosts[:n], nil
}

// verify reads some hosts' series back: every posted minute must be there.
func (st *site) verify(ctx context.Context, hosts []wire.Host, minutes int) error {
	step := max(1, len(hosts)/20)
	for i := 0; i < len(hosts); i += step {
		var m struct {
			Measurements []struct {
				Name       string
				DataPoints []struct{ Value *float64 }
			}
		}
		path := fmt.Sprintf("/groups/%s/hosts/%s/measurements?granularity=PT1M&period=PT%dM&m=CONNECTIONS", st.group, hosts[i].ID, minutes+3)
		if err := st.call(ctx, http.MethodGet, path, nil, &m); err != nil {
			return fmt.Errorf("verify %s: %w", hosts[i].Hostname, err)
		}
		have := 0
		for _, s := range m.Measurements {
			for _, p := range s.DataPoints {
				if p.Value != nil {
					have++
				}
			}
		}
		if have < minutes {
			return fmt.Errorf("verify %s: %d of %d minutes are there", hosts[i].Hostname, have, minutes)
		}
	}
	return nil
}
