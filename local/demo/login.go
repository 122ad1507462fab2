package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mongodb-forks/digest"

	"github.com/heartwood-db/heartwood/local/runner"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// loginFile keeps the demo's login in its data folder (mode 0600), so that a second start prints the same one: the server
// itself keeps only digests.
const loginFile = "demo.json"

// Login is how to get into the running demo, as `heartwood demo --json` prints it.
type Login struct {
	URL          string   `json:"url"`
	IngestionURL string   `json:"ingestionUrl"`
	User         string   `json:"user"`
	Password     string   `json:"password"`
	PublicKey    string   `json:"publicKey"`
	PrivateKey   string   `json:"privateKey"`
	GroupID      string   `json:"groupId"`
	AgentAPIKey  string   `json:"agentApiKey"`
	Members      []string `json:"members"`
	MembersPort  int      `json:"membersPort"` // of the first member; kept, because hosts are known by host:port
	Backup       bool     `json:"backup"`      // the replica set is backed up
}

// provision makes the demo's user, keys and group through the Public API, or reads what an earlier start made. It goes on
// where an interrupted one ended.
func provision(ctx context.Context, srv *runner.Server, path string) (*Login, error) {
	l := &Login{}
	b, err := os.ReadFile(path) //nolint:gosec // in our own data folder
	if err == nil {
		err = json.Unmarshal(b, l)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, opererr.New("read the demo's login", err, "remove the demo's data folder to start afresh")
	}
	l.URL, l.IngestionURL = srv.URL(), srv.IngestionURL()
	if l.PrivateKey == "" {
		if err := l.register(ctx); err != nil {
			return nil, err
		}
		if err := l.save(path); err != nil {
			return nil, err
		}
	}
	if l.GroupID == "" {
		if err := l.makeGroup(ctx, srv); err != nil {
			return nil, err
		}
		if err := l.save(path); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *Login) register(ctx context.Context) error {
	l.User, l.Password = "demo@example.com", "Hw9-"+strings.ToLower(rand.Text()[:20])
	var made struct {
		ProgrammaticAPIKey struct{ PublicKey, PrivateKey string }
	}
	err := l.call(ctx, http.DefaultClient, http.MethodPost, "/unauth/users",
		map[string]string{"username": l.User, "password": l.Password, "firstName": "Demo", "lastName": "User"}, &made)
	if err != nil {
		return opererr.New("register the demo's user", err, "the data folder may hold another site: choose another with --data")
	}
	l.PublicKey, l.PrivateKey = made.ProgrammaticAPIKey.PublicKey, made.ProgrammaticAPIKey.PrivateKey
	return nil
}

func (l *Login) makeGroup(ctx context.Context, srv *runner.Server) error {
	client := &http.Client{Transport: digest.NewTransport(l.PublicKey, l.PrivateKey)}
	var made struct{ ID, AgentAPIKey string }
	if err := l.call(ctx, client, http.MethodPost, "/groups", map[string]string{"name": "Demo"}, &made); err != nil {
		return err
	}
	err := srv.Site().Inventory.UpdateGroup(ctx, model.ID(made.ID), func(g *model.Group) error {
		g.Settings.PingSeconds = livePeriod
		return nil
	})
	if err != nil {
		return fmt.Errorf("set the demo's ping period: %w", err)
	}
	if err := l.join(ctx, srv, model.ID(made.ID)); err != nil {
		return fmt.Errorf("make the demo's user an owner of the group: %w", err)
	}
	if err := alerting(ctx, srv, model.ID(made.ID), time.Now().UTC().Truncate(time.Millisecond)); err != nil {
		return err
	}
	l.GroupID, l.AgentAPIKey = made.ID, made.AgentAPIKey
	return nil
}

// join gives the demo's user a role in the group: who has one is told of its alerts.
func (l *Login) join(ctx context.Context, srv *runner.Server, group model.ID) error {
	u, err := srv.Site().Access.UserByName(ctx, l.User)
	if err != nil {
		return err
	}
	return srv.Site().Access.UpdateUser(ctx, u.ID, func(u *model.User) error {
		u.Grants = append(u.Grants, model.Grant{Role: model.GroupOwner, GroupID: group})
		return nil
	})
}

func (l *Login) call(ctx context.Context, client *http.Client, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, l.URL+"/api/public/v1.0"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, answer)
	}
	return json.Unmarshal(answer, out)
}

// The members' ports are looked for from here on, away from where a real mongod would be.
const (
	firstPort = 27117
	lastPort  = 27997
)

// choosePorts settles on consecutive free ports for the members and remembers them: hosts are known by host:port.
func (l *Login) choosePorts(path string) error {
	if l.MembersPort != 0 {
		l.nameMembers()
		return nil
	}
	for base := firstPort; base <= lastPort; base += 10 {
		if portsFree(base, members) {
			l.MembersPort = base
			l.nameMembers()
			return l.save(path)
		}
	}
	return fmt.Errorf("no %d consecutive free ports from %d to %d on 127.0.0.1", members, firstPort, lastPort)
}

func (l *Login) nameMembers() {
	l.Members = nil
	for i := range members {
		l.Members = append(l.Members, model.Address("127.0.0.1", l.MembersPort+i))
	}
}

func portsFree(base, n int) bool {
	for p := base; p < base+n; p++ {
		c, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p))) //nolint:noctx // closed at once
		if err != nil {
			return false
		}
		_ = c.Close()
	}
	return true
}

// save writes the file so that a crash leaves the old one or the new one.
func (l *Login) save(path string) error {
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("keep the demo's login: %w", err)
	}
	return os.Rename(path+".new", path)
}
