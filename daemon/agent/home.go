package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// Home is an agent's folder: its identity and what else it keeps over restarts. One agent a folder.
type Home struct {
	Dir string
	ID  string // made at the first start

	lock *os.File
}

// StateDir is the configured folder, systemd's, or one of the given name in the user's home.
func StateDir(configured, name string) string {
	if configured != "" {
		return configured
	}
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, name)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return name
	}
	return filepath.Join(home, ".local", "state", name)
}

const (
	lockFile = "lock"
	idFile   = "agent-id"
)

// OpenHome takes the folder, which it makes when absent. It fails while another process has it.
func OpenHome(dir string) (*Home, error) {
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
	id, err := ReadID(dir)
	if errors.Is(err, fs.ErrNotExist) {
		id = string(model.NewID())
		err = ReplaceFile(filepath.Join(dir, idFile), []byte(id+"\n"))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the agent's id: %w", err), lock.Close())
	}
	return &Home{Dir: dir, ID: id, lock: lock}, nil
}

// Close gives the folder up.
func (h *Home) Close() error { return h.lock.Close() }

// ReadID reads the identity of an agent that ran in the folder before; fs.ErrNotExist when none did.
func ReadID(dir string) (string, error) {
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

// ReplaceFile writes a file so that a reader finds the old content or the new.
func ReplaceFile(name string, b []byte) error {
	if err := os.WriteFile(name+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
