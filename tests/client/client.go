// Package client speaks to a running server as scripts and agents do: the Public API with digest, configuration calls and
// posts of pings. Tests and the load generator use it.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/mongodb-forks/digest"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Site is a provisioned group on the server.
type Site struct {
	URL       string
	Ingestion string
	Group     string
	AgentKey  string
	Agent     wire.AgentInfo
	API       *http.Client // signs in with the site's first key
}

// The first user that Provision registers.
const (
	User     = "load@example.com"
	Password = "Correct-horse-47" //nolint:gosec // of a server that lives for one test
)

// Provision registers a new server's first user and makes a group, through the Public API as a script would. The server's
// ports are those that follow from --port-base.
func Provision(ctx context.Context, portBase int) (*Site, error) {
	st := &Site{
		URL: "http://127.0.0.1:" + strconv.Itoa(portBase), Ingestion: "http://127.0.0.1:" + strconv.Itoa(portBase+1), API: http.DefaultClient,
	}
	var first struct {
		ProgrammaticAPIKey struct{ PublicKey, PrivateKey string }
	}
	user := map[string]string{"username": User, "password": Password, "firstName": "Lo", "lastName": "Ad"}
	if err := st.Call(ctx, http.MethodPost, "/unauth/users", user, &first); err != nil {
		return nil, err
	}
	st.API = &http.Client{Transport: digest.NewTransport(first.ProgrammaticAPIKey.PublicKey, first.ProgrammaticAPIKey.PrivateKey)}
	var group struct{ ID, AgentAPIKey string }
	if err := st.Call(ctx, http.MethodPost, "/groups", map[string]string{"name": "load"}, &group); err != nil {
		return nil, err
	}
	st.Group, st.AgentKey = group.ID, group.AgentAPIKey
	st.Agent = wire.AgentInfo{
		ID: "load", Session: "load", Type: string(model.AgentMonitoring), Hostname: "load", Version: "0", OS: "linux", Started: time.Now().UTC().Truncate(time.Second),
	}
	return st, nil
}

// Call makes a Public API call: path is below /api/public/v1.0, in and out are JSON values or nil.
func (st *Site) Call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, st.URL+"/api/public/v1.0"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := st.API.Do(req)
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
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

// Conf makes an agent's configuration call that names seeds, which the server adds to the group.
func (st *Site) Conf(ctx context.Context, seeds []string) (wire.Conf, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, st.Ingestion+wire.PathConf+"?"+wire.ConfQuery(st.Agent, seeds).Encode(), nil)
	if err != nil {
		return wire.Conf{}, err
	}
	req.SetBasicAuth(st.Group, st.AgentKey)
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

// AddHosts has the server know n hosts and returns them with their ids.
func (st *Site) AddHosts(ctx context.Context, n int) ([]wire.Host, error) {
	const perCall = 100
	for from := 0; from < n; from += perCall {
		var seeds []string
		for i := from; i < min(n, from+perCall); i++ {
			seeds = append(seeds, fmt.Sprintf("db%05d.load.example:27017", i))
		}
		if _, err := st.Conf(ctx, seeds); err != nil {
			return nil, err
		}
	}
	conf, err := st.Conf(ctx, nil)
	if err != nil {
		return nil, err
	}
	if len(conf.Hosts) < n {
		return nil, fmt.Errorf("the server knows %d of %d hosts", len(conf.Hosts), n)
	}
	return conf.Hosts[:n], nil
}

// Verify reads some hosts' series back: every posted minute must be there.
func (st *Site) Verify(ctx context.Context, hosts []wire.Host, minutes int) error {
	step := max(1, len(hosts)/20)
	for i := 0; i < len(hosts); i += step {
		var m struct {
			Measurements []struct {
				Name       string
				DataPoints []struct{ Value *float64 }
			}
		}
		end := time.Now().UTC().Truncate(time.Minute).Add(time.Minute) // the minute in progress counts too
		path := fmt.Sprintf("/groups/%s/hosts/%s/measurements?granularity=PT1M&start=%s&end=%s&m=CONNECTIONS",
			st.Group, hosts[i].ID, end.Add(-time.Duration(minutes+3)*time.Minute).Format(time.RFC3339), end.Format(time.RFC3339))
		if err := st.Call(ctx, http.MethodGet, path, nil, &m); err != nil {
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

// Post sends one post of pings and returns the server's acknowledgement, or an error that says how it was refused.
func (st *Site) Post(ctx context.Context, client *http.Client, body []byte) (wire.Ack, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, st.Ingestion+wire.PathPings, bytes.NewReader(body))
	if err != nil {
		return wire.Ack{}, err
	}
	req.SetBasicAuth(st.Group, st.AgentKey)
	req.Header.Set("Content-Type", wire.ContentType)
	resp, err := client.Do(req)
	if err != nil {
		return wire.Ack{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, wire.MaxPost))
	if err != nil {
		return wire.Ack{}, err
	}
	if resp.StatusCode != http.StatusOK {
		problem, _ := wire.DecodeProblem(b)
		return wire.Ack{}, fmt.Errorf("status %d: %s", resp.StatusCode, problem.Reason)
	}
	return wire.DecodeAck(b)
}
