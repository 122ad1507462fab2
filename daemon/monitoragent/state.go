package monitoragent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// state is the agent's folder: its identity, its spool, the last configuration. One agent a folder.
type state struct {
	dir  string
	id   string
	lock *os.File

	saving sync.Mutex
	kept   []byte // what confFile holds, but for its time
	keptAt time.Time
}

// stateDir is the configured folder, systemd's, or one in the user's home.
func stateDir(configured string) string {
	if configured != "" {
		return configured
	}
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "heartwood-agent")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "heartwood-agent"
	}
	return filepath.Join(home, ".local", "state", "heartwood-agent")
}

const (
	lockFile = "lock"
	idFile   = "agent-id"
	confFile = "conf"
	// confAge is how old a kept configuration may be: after longer, hosts will have come and gone.
	confAge = 24 * time.Hour
	// confRenew is how often it is written although nothing changed but its age.
	confRenew = time.Hour
)

func openState(dir string) (*state, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, opererr.New("make the agent's state folder", err, "set stateDir to a folder the agent may write to")
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, opererr.New("take the agent's state folder", err, "set stateDir to a folder the agent may write to")
	}
	if err := lockExclusive(lock); err != nil {
		return nil, errors.Join(opererr.New("take the agent's state folder "+dir, errors.New("another agent uses it"),
			"stop the other agent, or give this one its own stateDir"), lock.Close())
	}
	id, err := readID(dir)
	if errors.Is(err, fs.ErrNotExist) {
		id = string(model.NewID())
		err = replaceFile(filepath.Join(dir, idFile), []byte(id+"\n"))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the agent's id: %w", err), lock.Close())
	}
	return &state{dir: dir, id: id, lock: lock}, nil
}

// readID reads the identity of an agent that ran in the folder before.
func readID(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, idFile))
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(b))
	if !model.ID(id).Valid() {
		return "", fs.ErrNotExist // cut short by a crash: nobody knows it yet
	}
	return id, nil
}

func (s *state) spoolDir() string { return filepath.Join(s.dir, "spool") }

func (s *state) close() error { return s.lock.Close() }

// saveConf keeps what an active agent needs to go on after a restart while the server is away. Credentials of the server's are
// not written to disk, so hosts that need them wait for the server.
func (s *state) saveConf(conf wire.Conf) error {
	s.saving.Lock()
	defer s.saving.Unlock()
	kept := conf
	kept.Hosts = make([]wire.Host, 0, len(conf.Hosts))
	for _, h := range conf.Hosts {
		if h.Password == "" {
			kept.Hosts = append(kept.Hosts, h)
		}
	}
	kept.Time = time.Time{}
	same, err := wire.EncodeConf(kept)
	if err != nil {
		return err
	}
	if bytes.Equal(same, s.kept) && conf.Time.Sub(s.keptAt) < confRenew {
		return nil
	}
	kept.Time = conf.Time
	b, err := wire.EncodeConf(kept)
	if err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(s.dir, confFile), b); err != nil {
		return err
	}
	s.kept, s.keptAt = same, conf.Time
	return nil
}

func (s *state) loadConf(now time.Time) (wire.Conf, bool) {
	b, err := os.ReadFile(filepath.Join(s.dir, confFile))
	if err != nil {
		return wire.Conf{}, false
	}
	conf, err := wire.DecodeConf(b)
	if err != nil || conf.State == string(model.AgentStandby) || now.Sub(conf.Time) > confAge {
		return wire.Conf{}, false
	}
	return conf, true
}

// replaceFile writes a file so that a reader finds the old content or the new.
func replaceFile(name string, b []byte) error {
	if err := os.WriteFile(name+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
