package headd

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/heartwood-db/heartwood/local/mongosim/status"
)

// Options are what mongod's command line says, as far as the stand-in heeds it.
type Options struct {
	DBPath   string // default /data/db
	Port     int    // default 27017
	BindIP   string // the first address of --bind_ip; default 127.0.0.1
	LogPath  string // empty: standard output
	Append   bool   // --logappend
	Quiet    bool
	NoJourn  bool // --nojournal, before 6.1
	PerDB    bool // --directoryperdb
	Auth     bool // --auth; refused: the stand-in has no users
	Version  status.Version
	Show     Show
	Params   []Parameter // of --setParameter, in order
	CacheGB  float64
	Repair   bool
	Argv     []string // the whole command line, for getCmdLineOpts
	given    []string // names of the options, in order
	PIDFile  string
	Replica  string // --replSet; refused
	OplogMB  int
	Profile  int
	SlowMS   int
	Verbose  int
	MaxConns int
}

// Parameter is one --setParameter.
type Parameter struct{ Name, Value string }

// Show says what to print instead of serving.
type Show int

// What --version and --help ask for.
const (
	Serve Show = iota
	ShowVersion
	ShowHelp
)

// DefaultVersion is claimed when neither a flag nor a folder's name says which version to be.
const DefaultVersion = "7.0.14"

// flag is one of mongod's options.
type flag struct {
	name  string
	arity arity
	until [2]int // removed in this version; zero: still there
	set   func(o *Options, v string) error
}

type arity int

const (
	alone     arity = iota // --logappend
	valued                 // --port 27017
	implicitV              // -v, -vv, --verbose[=vv]
)

// errBad is an option whose value does not do.
var errBad = errors.New("is invalid")

// flags are the options that a head, or a person who tries one, may give. Those without set are accepted and change nothing
// that a client of the stand-in could see.
func flags() []flag {
	text := func(dst func(*Options) *string) func(*Options, string) error {
		return func(o *Options, v string) error { *dst(o) = v; return nil }
	}
	on := func(dst func(*Options) *bool) func(*Options, string) error {
		return func(o *Options, _ string) error { *dst(o) = true; return nil }
	}
	whole := func(dst func(*Options) *int, low, high int) func(*Options, string) error {
		return func(o *Options, v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < low || n > high {
				return errBad
			}
			*dst(o) = n
			return nil
		}
	}
	return []flag{
		{name: "dbpath", arity: valued, set: text(func(o *Options) *string { return &o.DBPath })},
		{name: "port", arity: valued, set: whole(func(o *Options) *int { return &o.Port }, 0, 65535)},
		{name: "bind_ip", arity: valued, set: func(o *Options, v string) error { o.BindIP, _, _ = strings.Cut(v, ","); return nil }},
		{name: "bind_ip_all", set: func(o *Options, _ string) error { o.BindIP = "0.0.0.0"; return nil }},
		{name: "logpath", arity: valued, set: text(func(o *Options) *string { return &o.LogPath })},
		{name: "logappend", set: on(func(o *Options) *bool { return &o.Append })},
		{name: "quiet", set: on(func(o *Options) *bool { return &o.Quiet })},
		{name: "journal", until: [2]int{6, 1}},
		{name: "nojournal", until: [2]int{6, 1}, set: on(func(o *Options) *bool { return &o.NoJourn })},
		{name: "directoryperdb", set: on(func(o *Options) *bool { return &o.PerDB })},
		{name: "storageEngine", arity: valued, set: func(_ *Options, v string) error {
			if v != "wiredTiger" {
				return fmt.Errorf("Cannot start server with an unknown storage engine: %s", v) //nolint:staticcheck,revive // the server's words
			}
			return nil
		}},
		{name: "wiredTigerCacheSizeGB", arity: valued, set: func(o *Options, v string) error {
			f, err := strconv.ParseFloat(v, 64)
			if err != nil {
				return errBad
			}
			if f < 0.25 || f > 10_000 {
				return fmt.Errorf("storage.wiredTiger.engineConfig.cacheSizeGB must be between 0.25 and 10000, not %s", v)
			}
			o.CacheGB = f
			return nil
		}},
		{name: "setParameter", arity: valued, set: func(o *Options, v string) error {
			name, value, ok := strings.Cut(v, "=")
			if !ok {
				return errBad
			}
			o.Params = append(o.Params, Parameter{name, value})
			return nil
		}},
		{name: "auth", set: on(func(o *Options) *bool { return &o.Auth })},
		{name: "noauth"},
		{name: "repair", set: on(func(o *Options) *bool { return &o.Repair })},
		{name: "pidfilepath", arity: valued, set: text(func(o *Options) *string { return &o.PIDFile })},
		{name: "replSet", arity: valued, set: text(func(o *Options) *string { return &o.Replica })},
		{name: "oplogSize", arity: valued, set: whole(func(o *Options) *int { return &o.OplogMB }, 1, 1<<30)},
		{name: "profile", arity: valued, set: whole(func(o *Options) *int { return &o.Profile }, 0, 2)},
		{name: "slowms", arity: valued, set: whole(func(o *Options) *int { return &o.SlowMS }, 0, 1<<30)},
		{name: "maxConns", arity: valued, set: whole(func(o *Options) *int { return &o.MaxConns }, 1, 1<<30)},
		{name: "verbose", arity: implicitV},
		{name: "syncdelay", arity: valued},
		{name: "journalCommitInterval", arity: valued},
		{name: "nounixsocket"},
		{name: "unixSocketPrefix", arity: valued},
		{name: "noscripting"},
		{name: "notablescan"},
		{name: "ipv6"},
		{name: "wiredTigerDirectoryForIndexes"},
		{name: "wiredTigerJournalCompressor", arity: valued},
		{name: "wiredTigerCollectionBlockCompressor", arity: valued},
		{name: "wiredTigerIndexPrefixCompression", arity: valued},
		{name: "wiredTigerEngineConfigString", arity: valued},
		{name: "networkMessageCompressors", arity: valued},
		{name: "timeStampFormat", arity: valued},
		{name: "version", set: func(o *Options, _ string) error { o.Show = ShowVersion; return nil }},
		{name: "help", set: func(o *Options, _ string) error { o.Show = ShowHelp; return nil }},
	}
}

// UsageError is a command line that mongod refuses; it ends with exit code 2.
type UsageError struct{ Msg string }

// Error gives mongod's words.
func (e *UsageError) Error() string { return e.Msg }

// VersionFlag tells the stand-in which version to claim. It is not one of mongod's.
const VersionFlag = "serverVersion"

// Parse reads mongod's command line, args[0] being the program's name. claimed is the version to claim unless the command
// line has VersionFlag; empty is DefaultVersion.
func Parse(args []string, claimed string) (Options, error) {
	o := Options{DBPath: "/data/db", Port: 27017, BindIP: "127.0.0.1", SlowMS: 100, Argv: args}
	if claimed == "" {
		claimed = DefaultVersion
	}
	refuse := func(format string, a ...any) (Options, error) {
		return o, &UsageError{Msg: fmt.Sprintf(format, a...)}
	}
	rest := args[min(1, len(args)):]
	var kept []string
	for i := 0; i < len(rest); i++ { // the version first: what the other options are depends on it
		name, value, has := strings.Cut(rest[i], "=")
		if name != "--"+VersionFlag {
			kept = append(kept, rest[i])
			continue
		}
		if !has {
			if i++; i == len(rest) {
				return refuse("the required argument for option '--%s' is missing", VersionFlag)
			}
			value = rest[i]
		}
		claimed = value
	}
	var err error
	if o.Version, err = status.ParseVersion(claimed); err != nil {
		return refuse("%v", err)
	}
	if !o.Version.AtLeast(4, 2) {
		return refuse("the stand-in can claim versions from 4.2 on, not %s", o.Version)
	}
	known := flags()
	for i := 0; i < len(kept); i++ {
		f, name, value, has := find(known, kept[i])
		if f == nil && !strings.HasPrefix(kept[i], "-") {
			return refuse("too many positional options have been specified on the command line")
		}
		if f == nil || f.until != [2]int{} && o.Version.AtLeast(f.until[0], f.until[1]) {
			return refuse("unrecognised option '%s'", name)
		}
		switch {
		case f.arity == valued && !has:
			if i++; i == len(kept) || strings.HasPrefix(kept[i], "--") {
				return refuse("the required argument for option '%s' is missing", name)
			}
			value = kept[i]
		case f.arity == alone && has:
			return refuse("option '%s' does not take any arguments", name)
		}
		if slices.Contains(o.given, f.name) && f.name != "setParameter" && f.name != "verbose" && f.arity == valued {
			return refuse("option '%s' cannot be specified more than once", name)
		}
		o.given = append(o.given, f.name)
		if f.set == nil {
			continue
		}
		if err := f.set(&o, value); errors.Is(err, errBad) {
			return refuse("the argument ('%s') for option '%s' is invalid", value, name)
		} else if err != nil {
			return refuse("%v", err)
		}
	}
	return o, o.check()
}

// find looks an argument up: its flag, the name as written, and a value after "=".
func find(known []flag, arg string) (f *flag, name, value string, has bool) {
	name, value, has = strings.Cut(arg, "=")
	long, isLong := strings.CutPrefix(name, "--")
	switch {
	case isLong:
	case name == "-h":
		long = "help"
	case strings.HasPrefix(name, "-v") && strings.Trim(name, "-v") == "":
		long = "verbose"
	default:
		return nil, name, value, has
	}
	if i := slices.IndexFunc(known, func(f flag) bool { return f.name == long }); i >= 0 {
		return &known[i], name, value, has
	}
	return nil, name, value, has
}

// check refuses what the stand-in cannot be.
func (o *Options) check() error {
	switch {
	case o.Show != Serve:
		return nil
	case o.Replica != "":
		return &UsageError{Msg: "--replSet: the stand-in is a standalone; run a simulated replica set with: heartwood mongosim"}
	case o.Auth:
		return &UsageError{Msg: "--auth: the stand-in has no access control"}
	case o.Port == 0:
		return &UsageError{Msg: "bad --port number"}
	case o.BindIP != "localhost" && net.ParseIP(o.BindIP) == nil:
		return &UsageError{Msg: fmt.Sprintf("the argument ('%s') for option '--bind_ip' is invalid", o.BindIP)}
	}
	return nil
}
