package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/profile"
	"github.com/heartwood-db/heartwood/local/demo"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

func newDemoCmd() *cobra.Command {
	var f serverFlags
	var asJSON, backup bool
	var history, trouble time.Duration
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the server with a simulated replica set and an agent, to look at",
		Long: `Run the server with a simulated three-member replica set under a changing load and a monitoring agent, all in one process.
The past is filled in first, through the same agent and the same ingestion as live data. Everything stays in the data folder:
a second start goes on where the first ended. Ctrl-C stops everything in order.

The group has alerts for elections, replication lag, the oplog's length and connections, which what the load brings sets off by
itself after a while: every four minutes an election, now and then a secondary that falls behind. With --trouble 3m more goes
wrong, in each three minutes. Mail is sent once a mail server is set, as with heartwood serve.

The replica set is backed up, too: a backup agent and a backup daemon run in the same process. The daemon's heads are processes
of this program, which stands in for mongod as the replica set's members are simulated; what is restored from the demo opens
with it, too (heartwood mongosim --help). --backup=false leaves that out.

With --json the first line on standard output, once everything serves, is one JSON object with url, ingestionUrl, user,
password, publicKey, privateKey, groupId, agentApiKey, members, backup and profileFile: a file of profiles (heartwood profile) in the
data folder, with which the command line works against the demo.`,
		Example: "  heartwood demo --data data/demo\n  heartwood demo --data /tmp/d --port-base 9080 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.data == "" {
				f.data = filepath.Join("data", "demo")
			}
			loaded, src, err := f.load()
			if err != nil {
				return err
			}
			level := "WARN" // the demo is for looking at pages; --set heartwood.log.level=INFO shows more
			if _, set := src.Flags["heartwood.log.level"]; set {
				level = loaded.Server.LogLevel
			}
			log, err := obs.NewLogger(cmd.ErrOrStderr(), level, loaded.Server.LogFormat)
			if err != nil {
				return err
			}
			mongod := ""
			if backup {
				if mongod, err = os.Executable(); err != nil {
					return opererr.New("find this program, which stands in for mongod", err, "start with --backup=false")
				}
			}
			return demo.Run(cmd.Context(), demo.Options{
				Sources: src, DataDir: f.data, History: history, Trouble: trouble, Mongod: mongod, Log: log, Progress: progressLine(cmd.ErrOrStderr()),
				Started: func(_ context.Context, l *demo.Login) {
					file, err := keepProfile(f.data, l)
					if err != nil {
						_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "no profile for the command line: %v\n", err)
					}
					printLogin(cmd, asJSON, l, file)
				},
			})
		},
	}
	f.register(cmd)
	f.registerSandbox(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the login as one line of JSON on standard output")
	cmd.Flags().BoolVar(&backup, "backup", true, "back the replica set up, too")
	cmd.Flags().DurationVar(&history, "history", 24*time.Hour, "how much of the past to fill in on the first start")
	cmd.Flags().DurationVar(&trouble, "trouble", 0, "make something go wrong in each such period: an election, a secondary that falls behind, a member that is killed; 0: only what the load brings")
	return cmd
}

// progressLine prints at most one line every few per cent.
func progressLine(w io.Writer) func(what string, done, total int) {
	shown := -1
	return func(what string, done, total int) {
		if tenth := done * 10 / max(total, 1); tenth != shown {
			shown = tenth
			_, _ = fmt.Fprintf(w, "%s: %d %%\n", what, tenth*10)
		}
	}
}

// keepProfile writes a file of profiles for the command line into the data folder.
func keepProfile(data string, l *demo.Login) (string, error) {
	file := filepath.Join(absolute(data), "profiles.yaml")
	f := profile.File{Default: "demo", Profiles: map[string]profile.Profile{
		"demo": {URL: l.URL, PublicKey: l.PublicKey, PrivateKey: model.Secret(l.PrivateKey), Group: l.GroupID},
	}}
	return file, f.Save(file)
}

func printLogin(cmd *cobra.Command, asJSON bool, l *demo.Login, profiles string) {
	if asJSON {
		_ = json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
			*demo.Login
			ProfileFile string `json:"profileFile"`
		}{l, profiles})
		return
	}
	backup := "none"
	if l.Backup {
		backup = l.URL + "/g/" + l.GroupID + "/backup (restore a minute ago once the first snapshot is there;\n" +
			"             heads run this program in mongod's place)"
	}
	_, _ = fmt.Fprintf(cmd.OutOrStdout(), `
Heartwood demo is ready.

  open       %s
  user       %s
  password   %s
  watching   %s (simulated replica set rs0)
  alerts     %s (an election every four minutes, lag now and then:
             they open and close by themselves; --trouble 3m makes more go wrong)
  backup     %s
  try        %s=%s heartwood alerts list

Ctrl-C stops it; the same command starts it again with its data.
`, l.URL, l.User, l.Password, strings.Join(l.Members, ", "), l.URL+"/g/"+l.GroupID+"/alerts", backup, profile.EnvFile, profiles)
}
