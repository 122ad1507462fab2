package mongod

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/tests/harness"
)

// simulator runs all members in one process of the simulator, on ports of 127.0.0.1, so that other processes reach them without a
// container engine. What happens to a member happens to all.
type simulator struct {
	d       *Deployment
	dir     string
	run     *process
	members []string // host:port
}

// errTogether is what members of one process cannot do.
var errTogether = fmt.Errorf("%w: its members are one process; set HEARTWOOD_TEST_MONGOD or HEARTWOOD_TEST_MONGO_IMAGE", errUnsupported)

func (s *simulator) names(i int) []string { return []string{s.members[i]} }

func (s *simulator) prepare(context.Context) error {
	args := []string{"mongosim", "--json", "--no-workload", "--load", "0", "--port", "0", "--set", setName}
	if s.d.o.Standalone {
		args = append(args, "--standalone")
	} else {
		args = append(args, "--members", strconv.Itoa(len(s.d.o.Members)))
	}
	for _, m := range s.d.o.Members {
		if m != (MemberOptions{}) {
			return fmt.Errorf("%w: only members that may become primary", errTogether)
		}
	}
	if s.d.o.TLS || s.d.o.Slow {
		return fmt.Errorf("%w: TLS and relays", errTogether)
	}
	if s.d.o.Auth {
		args = append(args, "--user", username, "--password", password)
	}
	cmd := exec.Command(harness.Binary(s.d.t), args...)
	f, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return err
	}
	defer f.Close()
	cmd.Stderr = f
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var said struct{ Members []string }
	line, err := bufio.NewReader(out).ReadBytes('\n')
	s.run = watch(cmd)
	if err == nil {
		err = json.Unmarshal(line, &said)
	}
	if err != nil {
		return fmt.Errorf("the simulator does not start: %w: %s", err, s.log(context.Background(), 0))
	}
	s.members = said.Members
	return nil
}

// launch has nothing to do: the process is there.
func (s *simulator) launch(context.Context, int) error { return nil }

func (s *simulator) stop(context.Context, int) error { return errTogether }

func (s *simulator) kill(context.Context, int) error { return errTogether }

func (s *simulator) pause(_ context.Context, _ int, on bool) error {
	if on {
		return s.run.signal(syscall.SIGSTOP, false)
	}
	return s.run.signal(syscall.SIGCONT, false)
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

func (s *simulator) close(context.Context) error {
	if s.run == nil {
		return nil
	}
	return s.run.signal(syscall.SIGKILL, true)
}

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
