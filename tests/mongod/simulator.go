package mongod

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/tests/harness"
)

// simulator runs all members in one process of the simulator, on ports of 127.0.0.1, so that other processes reach them without a
// container engine. What happens to a member happens to all.
type simulator struct {
	d    *Deployment
	dir  string
	base int // port of the first member

	mu  sync.Mutex
	run *process // nil: stopped
}

// errTogether is what members of one process cannot do.
var errTogether = fmt.Errorf("%w: its members are one process; set HEARTWOOD_TEST_MONGOD or HEARTWOOD_TEST_MONGO_IMAGE", errUnsupported)

func (s *simulator) names(i int) []string {
	return []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(s.base+i))}
}

func (s *simulator) prepare(context.Context) error {
	for _, m := range s.d.o.Members {
		if m != (MemberOptions{}) {
			return fmt.Errorf("%w: only members that may become primary", errTogether)
		}
	}
	if s.d.o.TLS || s.d.o.Slow {
		return fmt.Errorf("%w: TLS and relays", errTogether)
	}
	for range 50 { // below the ports that the system gives to outgoing connections
		n, err := rand.Int(rand.Reader, big.NewInt(20_000))
		if err != nil {
			return err
		}
		s.base = 12_000 + int(n.Int64())
		var all []string
		for i := range s.d.o.Members {
			all = append(all, s.names(i)...)
		}
		if freeAddresses(all...) {
			return nil
		}
	}
	return errors.New("no free ports for members")
}

// launch starts the process where it does not run.
func (s *simulator) launch(context.Context, int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil {
		return nil
	}
	args := []string{"mongosim", "--no-workload", "--load", "0", "--port", strconv.Itoa(s.base), "--set", setName, "--dbpath", filepath.Join(s.dir, "db")}
	if s.d.o.Standalone {
		args = append(args, "--standalone")
	} else {
		args = append(args, "--members", strconv.Itoa(len(s.d.o.Members)))
	}
	if s.d.o.Auth {
		args = append(args, "--user", username, "--password", password)
	}
	cmd := exec.Command(harness.Binary(s.d.t), args...)
	f, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd.Stderr = f
	if err := cmd.Start(); err != nil {
		return err
	}
	s.run = watch(cmd)
	return nil
}

func (s *simulator) stop(context.Context, int) error { return s.end(syscall.SIGTERM) }

func (s *simulator) kill(context.Context, int) error { return s.end(syscall.SIGKILL) }

func (s *simulator) end(with syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return nil
	}
	err := s.run.signal(with, true)
	s.run = nil
	return err
}

func (s *simulator) pause(_ context.Context, _ int, on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.run == nil:
		return nil
	case on:
		return s.run.signal(syscall.SIGSTOP, false)
	default:
		return s.run.signal(syscall.SIGCONT, false)
	}
}

func (s *simulator) cut(context.Context, int, Side, bool) error { return errTogether }

// initiate has nothing to do: the simulator has made the set, and the user.
func (s *simulator) initiate(context.Context, *Deployment, bson.D) error { return nil }

func (s *simulator) log(context.Context, int) string {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8<<10):])
}

func (s *simulator) close(context.Context) error { return s.end(syscall.SIGKILL) }

// addressed is a name with its port.
func addressed(name string) string {
	if _, _, err := net.SplitHostPort(name); err == nil {
		return name
	}
	return net.JoinHostPort(name, port)
}

var _ engine = (*simulator)(nil)

// freeAddresses reports whether nobody listens on any of the addresses.
func freeAddresses(names ...string) bool {
	for _, n := range names {
		l, err := net.Listen("tcp", addressed(n))
		if err != nil {
			return false
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return false
		}
	}
	return true
}
