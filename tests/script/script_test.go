// Package script holds the command line's contract: one script a command under testdata, run against the real commands.
package script

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/heartwood-db/heartwood/local/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"heartwood": func() {
			os.Exit(cli.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"server": server, "wait-for": waitFor, "pick": pick, "backed-up": backedUp, "carry": carry},
		Setup: func(e *testscript.Env) error {
			base, err := freeBase()
			e.Setenv("PORTS", strconv.Itoa(base))
			e.Values[siteKey] = &running{}
			return err
		},
	})
}

// freeBase finds a first port whose followers are free too.
func freeBase() (int, error) {
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		addr, _ := l.Addr().(*net.TCPAddr)
		_ = l.Close()
		if free(addr.Port, 0, 1, 11, 12, 570) {
			return addr.Port, nil
		}
	}
	return 0, fmt.Errorf("no free ports")
}

func free(base int, offsets ...int) bool {
	for _, o := range offsets {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(base+o)))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}
