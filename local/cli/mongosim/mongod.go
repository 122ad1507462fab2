package mongosim

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/local/mongosim/headd"
)

// newMongodCmd is a process under mongod's flags. They are not cobra's: it reads its own.
func newMongodCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "mongod",
		Short: "Stand in for mongod, under mongod's flags",
		Long: `Stand in for mongod, under mongod's flags: one standalone over a dbpath, with mongod's lock file, log lines and exit codes.
The backup daemon runs it as a head where no real mongod is found. It is not MongoDB and reads no real server's files.

The binary is also mongod when it is called through a symbolic link of that name; the folder's name then says which version
to claim, as in mongodb-linux-x86_64-7.0.14/bin/mongod. --serverVersion says it too.

Exit codes: mongod's: 0 stopped on request, 2 wrong usage, 14 data that cannot be gone on with, 48 the port is taken, 62 data
of another version, 100 dbpath missing or in use.`,
		Example: `  heartwood mongosim mongod --dbpath /tmp/head --port 27500 --bind_ip 127.0.0.1
  mkdir -p releases/mongodb-linux-x86_64-7.0.14/bin && ln -s "$(command -v heartwood)" releases/mongodb-linux-x86_64-7.0.14/bin/mongod`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			program := headd.Program
			if len(args) > 0 && strings.HasPrefix(args[0], calledAs) {
				program, args = strings.TrimPrefix(args[0], calledAs), args[1:]
			}
			code := headd.Run(cmd.Context(), append([]string{program}, args...), headd.VersionOf(program), cmd.OutOrStdout(), cmd.ErrOrStderr())
			if code == headd.ExitClean {
				return nil
			}
			return &exit.Error{Code: code}
		},
	}
}

// calledAs marks the argument that carries the name under which the binary was called.
const calledAs = "--called-as="

// Arguments are the command line that a call of the binary means: its own arguments, or, called as mongod, those of the
// command that stands in for it. args[0] is the name it was called by.
func Arguments(args []string) []string {
	if len(args) == 0 {
		return nil
	}
	if filepath.Base(args[0]) != headd.Program {
		return args[1:]
	}
	program := args[0]
	if !strings.ContainsRune(program, filepath.Separator) { // found on the PATH: its folder tells nothing
		return append([]string{"mongosim", "mongod"}, args[1:]...)
	}
	if dir, err := os.Getwd(); err == nil && !filepath.IsAbs(program) {
		program = filepath.Join(dir, program)
	}
	return append([]string{"mongosim", "mongod", calledAs + program}, args[1:]...)
}
