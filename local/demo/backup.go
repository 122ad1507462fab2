package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/mongodb-forks/digest"

	"github.com/heartwood-db/heartwood/daemon/backupagent"
	"github.com/heartwood-db/heartwood/local/mongosim/headd"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

const (
	headWorkers = 3 // one head that follows, one for a restore, one to spare
	// standIn is the version that the demo's members and heads are of.
	standIn = headd.DefaultVersion
	// firstHeadPort is where free ports for heads are looked for, away from those of a real backup daemon.
	firstHeadPort = 28500
	lastHeadPort  = 28990
)

// backupSettings makes the server a backup daemon, too: its heads lie in the data folder, and their mongod is program, which
// stands in for one when it is called so. Settings that a person gave stay.
func backupSettings(o *Options) error {
	releases := filepath.Join(o.DataDir, "releases")
	mongod := filepath.Join(releases, "mongodb-stand-in-"+standIn, "bin", "mongod")
	program, err := filepath.Abs(o.Mongod)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(mongod), 0o700)
	}
	if err == nil {
		// The program may have moved since the last start.
		if err = os.Remove(mongod); err == nil || errors.Is(err, fs.ErrNotExist) {
			err = os.Symlink(program, mongod)
		}
	}
	if err != nil {
		return opererr.New("make the release directory of the demo's backup", err, "see that the data folder can be written, or start with --backup=false")
	}
	port := firstHeadPort
	for ; !portsFree(port, headWorkers); port += 10 {
		if port > lastHeadPort {
			return fmt.Errorf("no %d consecutive free ports from %d to %d on 127.0.0.1", headWorkers, firstHeadPort, lastHeadPort)
		}
	}
	flags := map[string]string{
		"heartwood.backup.daemon": "true", "rootDirectory": filepath.Join(o.DataDir, "heads") + "/", "mongodb.release.directory": releases,
		"numWorkers": strconv.Itoa(headWorkers), "heartwood.backup.headPort": strconv.Itoa(port),
	}
	for k, v := range o.Sources.Flags {
		flags[k] = v
	}
	o.Sources.Flags = flags
	return nil
}

func newBackupAgent(o Options, login *Login) (*backupagent.Agent, error) {
	c := config.DefaultAgent()
	c.APIKey, c.GroupID, c.BaseURL = model.Secret(login.AgentAPIKey), login.GroupID, login.IngestionURL
	c.StateDir = filepath.Join(o.DataDir, "backup-agent")
	return backupagent.New(backupagent.Options{Config: c, Log: o.Log.With(obs.KeyComponent, "backup agent"), Version: obs.Build().Version})
}

// backUp runs the backup agent and starts the backup once monitoring knows the replica set, as a person would. What somebody
// stopped stays stopped. The function it gives waits until the agent has ended; ctx ends it.
func backUp(ctx context.Context, o Options, login *Login) (wait func() error, err error) {
	agent, err := newBackupAgent(o, login)
	if err != nil {
		return nil, fmt.Errorf("make the backup agent: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx) }()
	go login.startBackup(ctx, o.Log)
	return func() error {
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("backup agent: %w", err)
		}
		return nil
	}, nil
}

// startBackup starts the backup of the demo's replica set through the Public API, unless it was started before.
func (l *Login) startBackup(ctx context.Context, log *slog.Logger) {
	client := &http.Client{Transport: digest.NewTransport(l.PublicKey, l.PrivateKey), Timeout: time.Minute}
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		done, err := l.tryBackup(ctx, client)
		switch {
		case ctx.Err() != nil || done:
			return
		case err != nil:
			log.WarnContext(ctx, "the demo's backup has not been started yet", obs.KeyErr, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (l *Login) tryBackup(ctx context.Context, client *http.Client) (done bool, err error) {
	var page struct {
		Results []struct {
			ID             string
			ReplicaSetName string
			TypeName       string
		}
	}
	if err := l.call(ctx, client, http.MethodGet, "/groups/"+l.GroupID+"/clusters", nil, &page); err != nil {
		return false, err
	}
	for _, c := range page.Results {
		if c.TypeName != "REPLICA_SET" || c.ReplicaSetName != setName {
			continue
		}
		path := "/groups/" + l.GroupID + "/backupConfigs/" + c.ID
		var k struct{ StatusName string }
		if err := l.call(ctx, client, http.MethodGet, path, nil, &k); err != nil {
			return false, err
		}
		if k.StatusName != string(model.BackupInactive) {
			return true, nil
		}
		return true, l.call(ctx, client, http.MethodPatch, path, map[string]string{"statusName": string(model.BackupStarted), "syncSource": "SECONDARY"}, &k)
	}
	return false, nil
}
