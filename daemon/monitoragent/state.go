package monitoragent

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// state is the agent's folder: its identity, its spool, the last configuration.
type state struct {
	*agent.Home

	saving sync.Mutex
	kept   []byte // what confFile holds, but for its time
	keptAt time.Time
}

// StateDir is the folder of the monitoring agent for a configured one, which may be empty.
func StateDir(configured string) string { return agent.StateDir(configured, stateFolder) }

const (
	stateFolder = "heartwood-agent"

	confFile = "conf"
	// confAge is how old a kept configuration may be: after longer, hosts will have come and gone.
	confAge = 24 * time.Hour
	// confRenew is how often it is written although nothing changed but its age.
	confRenew = time.Hour
)

func (s *state) spoolDir() string { return filepath.Join(s.Dir, "spool") }

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
	if err := agent.ReplaceFile(filepath.Join(s.Dir, confFile), b); err != nil {
		return err
	}
	s.kept, s.keptAt = same, conf.Time
	return nil
}

func (s *state) loadConf(now time.Time) (wire.Conf, bool) {
	b, err := os.ReadFile(filepath.Join(s.Dir, confFile))
	if err != nil {
		return wire.Conf{}, false
	}
	conf, err := wire.DecodeConf(b)
	if err != nil || conf.State == string(model.AgentStandby) || now.Sub(conf.Time) > confAge {
		return wire.Conf{}, false
	}
	return conf, true
}
