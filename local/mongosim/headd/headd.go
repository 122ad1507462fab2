// Package headd is a process that stands in for mongod under mongod's flags: one simulated standalone over a dbpath, with the
// lock file, log lines and exit codes that whoever starts a mongod relies on. The backup daemon runs it as a head where no
// real mongod is found. It is a test double: what it keeps is readable by itself only, and it must never be sold as mongod.
//
// It owns the process: command line, lock, log, signals' outcome, and the commands about all that (shutdown,
// getCmdLineOpts, setFeatureCompatibilityVersion). Documents are the engine's.
package headd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/local/mongosim/status"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// Exit codes of mongod.
const (
	ExitClean      = 0
	ExitBadOptions = 2  // the command line
	ExitAbrupt     = 14 // data that cannot be gone on with
	ExitNet        = 48 // the port is taken
	ExitFCV        = 62 // the data are of another version
	ExitUncaught   = 100
)

// stopLimit bounds a clean stop.
const stopLimit = 10 * time.Minute

// server is the running process.
type server struct {
	o    Options
	log  *logger
	kit  *status.Kit
	stop context.CancelCauseFunc
	m    *mongosim.Member

	mu     sync.Mutex
	params map[string]string // set while running or on the command line
}

// Run is the whole process: it serves until ctx ends or a client shuts it down, and returns mongod's exit code. claimed is
// the version to stand in for; empty means that the command line or the default says.
func Run(ctx context.Context, args []string, claimed string, out, errOut io.Writer) int {
	o, err := Parse(args, claimed)
	var usage *UsageError
	if errors.As(err, &usage) {
		_, _ = fmt.Fprintf(errOut, "Error parsing command line: %v\ntry '%s --help' for more information\n", err, args[0])
		return ExitBadOptions
	}
	switch o.Show {
	case ShowVersion:
		_, _ = io.WriteString(out, versionText(o.Version))
		return ExitClean
	case ShowHelp:
		_, _ = io.WriteString(out, helpText())
		return ExitClean
	case Serve:
	}
	log, err := openLog(&o, out)
	if err != nil {
		_, _ = fmt.Fprintln(errOut, err)
		return ExitUncaught
	}
	code := serve(ctx, o, log)
	log.info("CONTROL", 20565, "initandlisten", "Now exiting", nil)
	log.info("CONTROL", 23138, "initandlisten", "Shutting down", map[string]any{"exitCode": code})
	if err := log.close(); err != nil {
		_, _ = fmt.Fprintln(errOut, err)
	}
	return code
}

// errAsked is why a process stops that a client told to.
var errAsked = errors.New("shutdown command")

func serve(ctx context.Context, o Options, log *logger) int {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	const main = "initandlisten"
	log.info("CONTROL", 4615611, main, "MongoDB starting", map[string]any{
		"pid": os.Getpid(), "port": o.Port, "dbPath": o.DBPath, "architecture": "64-bit", "host": host, "simulated": true,
	})
	log.info("CONTROL", 23403, main, "Build Info", map[string]any{"buildInfo": map[string]any{"version": o.Version.String(), "gitVersion": simulated}})
	log.info("CONTROL", 21951, main, "Options set by command line", map[string]any{"options": parsedOptions(&o)})
	terminate := func(code int, err error) int {
		log.line("E", "CONTROL", 20557, main, "DBException in initAndListen, terminating", map[string]any{"error": err.Error()})
		return code
	}
	kit, err := status.NewKit(o.Version)
	if err != nil {
		return terminate(ExitAbrupt, err)
	}
	s := &server{o: o, log: log, kit: kit, params: map[string]string{}}
	if err := s.setParameters(); err != nil {
		return terminate(ExitBadOptions, err)
	}
	lk, err := takeLock(o.DBPath)
	if err != nil {
		return terminate(ExitUncaught, err)
	}
	if lk.unclean {
		log.line("W", "STORAGE", 22271, main, "Detected unclean shutdown - Lock file is not empty", map[string]any{"lockFile": filepath.Join(o.DBPath, lockName)})
	}
	if err := s.writePIDFile(); err != nil {
		return terminate(ExitUncaught, errors.Join(err, lk.release(!lk.unclean)))
	}
	if err := checkStorage(&o); err != nil {
		return terminate(ExitUncaught, errors.Join(err, lk.release(!lk.unclean)))
	}
	run, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s.stop = stop
	d, err := mongosim.Start(run, mongosim.Options{
		Standalone: true, BasePort: o.Port, Hostname: o.BindIP, DBPath: o.DBPath, Version: o.Version.String(), Log: log.slog(),
		Process: &mongosim.Process{Hostname: host, PID: int64(os.Getpid()), Commands: s.commands, Engine: s.engine, Open: s.open},
	})
	var wrong *fcvError
	switch {
	case errors.Is(err, syscall.EADDRINUSE), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EACCES) && !errors.Is(err, os.ErrPermission):
		log.line("E", "CONTROL", 20568, main, "Error setting up listener", map[string]any{
			"error": map[string]any{"code": 9001, "codeName": "SocketException", "errmsg": syscall.EADDRINUSE.Error()},
		})
		return s.over(ExitNet, lk.release(!lk.unclean))
	case errors.As(err, &wrong):
		log.line("F", "CONTROL", 20573, main, "Wrong mongod version", map[string]any{"error": wrong.Error()})
		return s.over(ExitFCV, lk.release(!lk.unclean))
	case err != nil && run.Err() != nil:
		return s.over(ExitClean, lk.release(true))
	case err != nil:
		log.line("F", "STORAGE", 28595, main, "Terminating.", map[string]any{"reason": err.Error()})
		return s.over(ExitAbrupt, lk.release(false))
	}
	log.info("NETWORK", 23015, "listener", "Listening on", map[string]any{"address": o.BindIP})
	log.info("NETWORK", 23016, "listener", "Waiting for connections", map[string]any{"port": o.Port, "ssl": "off"})
	<-run.Done()
	if errors.Is(context.Cause(run), errAsked) {
		log.info("COMMAND", 4695400, "conn", "Terminating via shutdown command", map[string]any{"force": false})
	} else {
		log.info("CONTROL", 23377, "SignalHandler", "Received signal", map[string]any{"signal": int(syscall.SIGTERM), "error": "Terminated"})
	}
	log.info("NETWORK", 20562, "SignalHandler", "Shutdown: going to close listening sockets", nil)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	if err := d.Stop(end); err != nil {
		log.line("F", "STORAGE", 23139, "SignalHandler", "Error during shutdown", map[string]any{"error": err.Error()})
		return s.over(ExitAbrupt, lk.release(false))
	}
	log.info("STORAGE", 4795901, "SignalHandler", "WiredTiger closed", nil)
	return s.over(ExitClean, lk.release(true))
}

// over is the end of the process after its data.
func (s *server) over(code int, err error) int {
	if s.o.PIDFile != "" {
		err = errors.Join(err, os.Remove(s.o.PIDFile))
	}
	if err != nil {
		s.log.line("E", "CONTROL", 22279, "initandlisten", "Error removing the lock", map[string]any{obs.KeyErr: err.Error()})
		if code == ExitClean {
			return ExitUncaught
		}
	}
	return code
}

func (s *server) writePIDFile() error {
	if s.o.PIDFile == "" {
		return nil
	}
	return os.WriteFile(s.o.PIDFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644) //nolint:gosec // others may read it, as mongod's
}

// engine sets what the version and the flags say of the data.
func (s *server) engine(o *engine.Options) {
	o.NoSync, o.DirectoryPerDB = s.o.NoJourn, s.o.PerDB
}

// storageName is the file in which a server keeps what its files were made with.
const storageName = "storage.bson"

// checkStorage refuses files made with other options, and notes the options of new ones.
func checkStorage(o *Options) error {
	path := filepath.Join(o.DBPath, storageName)
	b, err := os.ReadFile(path)
	if err == nil {
		var have struct {
			Storage struct {
				Engine  string
				Options struct{ DirectoryPerDB bool }
			}
		}
		if err := bson.Unmarshal(b, &have); err != nil {
			return fmt.Errorf("Failed to parse metadata file %s: %w", path, err) //nolint:staticcheck,revive // the server's words
		}
		if was := have.Storage.Options.DirectoryPerDB; was != o.PerDB {
			return fmt.Errorf("InvalidOptions: Requested option conflicts with current storage engine option for directoryPerDB; you requested %t but the current server storage is already set to %t and cannot be changed", o.PerDB, was)
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(filepath.Join(o.DBPath, "WiredTiger")); err == nil {
		return fmt.Errorf("the files in %s are a real server's: the stand-in cannot read them", o.DBPath)
	}
	if b, err = bson.Marshal(bson.D{{Key: "storage", Value: bson.D{{Key: "engine", Value: "wiredTiger"}, {Key: "options", Value: bson.D{
		{Key: "directoryPerDB", Value: o.PerDB}, {Key: "directoryForIndexes", Value: false}, {Key: "groupCollections", Value: false},
	}}}}}); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

func helpText() string {
	return `heartwood mongosim mongod: a simulated process under mongod's flags. It is not MongoDB.

  --dbpath arg                 folder of the data (default /data/db)
  --port arg                   port (default 27017)
  --bind_ip arg                address (default 127.0.0.1)
  --logpath arg, --logappend   log file, which is continued
  --setParameter name=value    as mongod's
  --directoryperdb             a folder for each database
  --nojournal                  versions before 6.1
  --version                    the version that is claimed
  --serverVersion arg          which version to claim; else the name of the release folder says it
`
}
