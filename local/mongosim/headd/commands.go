package headd

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/local/mongosim/engine"
	"github.com/heartwood-db/heartwood/local/mongosim/status"
)

// fcvError says that the data are of a version that this one does not read.
type fcvError struct{ have, want string }

// Error gives the server's words.
func (e *fcvError) Error() string {
	return fmt.Sprintf("UPGRADE PROBLEM: Found an invalid featureCompatibilityVersion document (ERROR: BadValue: Invalid value for version, found %s, expected '%s'). "+
		"If the current featureCompatibilityVersion is below the server's, run the version that fits it first", e.have, e.want)
}

const versionNS = "system.version"

// open readies data that have just been opened, before anybody is served: the featureCompatibilityVersion is checked, or
// written for new data, and the start is noted in local.startup_log.
func (s *server) open(m *mongosim.Member) error {
	s.m = m
	have, err := s.fcv(context.Background())
	if err != nil {
		return err
	}
	if have == "" {
		if err := s.setFCV(context.Background(), own(s.o.Version)); err != nil {
			return err
		}
	} else if !readable(s.o.Version, have) {
		return &fcvError{have: have, want: lower(s.o.Version) + "' or '" + own(s.o.Version)}
	}
	return s.noteStart()
}

// ask runs a command within and gives an error for any refusal.
func (s *server) ask(ctx context.Context, db string, cmd bson.D) (bson.Raw, error) {
	raw, err := bson.Marshal(cmd)
	if err != nil {
		return nil, err
	}
	reply, err := s.m.Run(ctx, db, raw)
	if err != nil {
		return nil, err
	}
	if v := reply.Lookup("ok"); v.Type != bson.TypeDouble || v.Double() != 1 {
		return nil, fmt.Errorf("%s: %s", cmd[0].Key, reply)
	}
	if v, err := reply.LookupErr("writeErrors"); err == nil {
		return nil, fmt.Errorf("%s: %s", cmd[0].Key, v)
	}
	return reply, nil
}

func (s *server) fcv(ctx context.Context) (string, error) {
	reply, err := s.ask(ctx, "admin", bson.D{{Key: "find", Value: versionNS}, {Key: "filter", Value: bson.D{{Key: "_id", Value: "featureCompatibilityVersion"}}}, {Key: "limit", Value: int32(1)}})
	if err != nil {
		return "", err
	}
	docs, err := reply.Lookup("cursor", "firstBatch").Array().Values()
	if err != nil || len(docs) == 0 {
		return "", err
	}
	v, _ := docs[0].Document().Lookup("version").StringValueOK()
	return v, nil
}

func (s *server) setFCV(ctx context.Context, to string) error {
	_, err := s.ask(ctx, "admin", bson.D{{Key: "update", Value: versionNS}, {Key: "updates", Value: bson.A{bson.D{
		{Key: "q", Value: bson.D{{Key: "_id", Value: "featureCompatibilityVersion"}}},
		{Key: "u", Value: bson.D{{Key: "version", Value: to}}},
		{Key: "upsert", Value: true},
	}}}})
	return err
}

// noteStart writes the line of local.startup_log that each start of a server leaves.
func (s *server) noteStart() error {
	reply, err := s.ask(context.Background(), "local", bson.D{{Key: "listCollections", Value: 1}, {Key: "filter", Value: bson.D{{Key: "name", Value: "startup_log"}}}})
	if err != nil {
		return err
	}
	if have, err := reply.Lookup("cursor", "firstBatch").Array().Values(); err != nil || len(have) == 0 {
		if _, err := s.ask(context.Background(), "local", bson.D{{Key: "create", Value: "startup_log"}, {Key: "capped", Value: true}, {Key: "size", Value: int64(10 << 20)}}); err != nil {
			return err
		}
	}
	now := time.Now()
	_, err = s.ask(context.Background(), "local", bson.D{{Key: "insert", Value: "startup_log"}, {Key: "documents", Value: bson.A{bson.D{
		{Key: "_id", Value: fmt.Sprintf("localhost-%d", now.UnixMilli())},
		{Key: "hostname", Value: "localhost"},
		{Key: "startTime", Value: now},
		{Key: "startTimeLocal", Value: now.Format(time.ANSIC)},
		{Key: "cmdLine", Value: parsedOptions(&s.o)},
		{Key: "buildinfo", Value: bson.D{{Key: "version", Value: s.o.Version.String()}, {Key: "gitVersion", Value: simulated}}},
	}}}})
	return err
}

// commands answers what is about the process rather than its data.
func (s *server) commands(ctx context.Context, _ *engine.Session, db, name string, cmd bson.Raw) (bson.Raw, bool) {
	var r any
	switch name {
	case "shutdown":
		if db != "admin" {
			r = engine.Errf(engine.CodeUnauthorized, "shutdown may only be run against the admin database.")
			break
		}
		s.stop(errAsked)
		r = done
	case "getCmdLineOpts":
		r = bson.D{{Key: "argv", Value: s.o.Argv}, {Key: "parsed", Value: parsedOptions(&s.o)}, {Key: "ok", Value: 1.0}}
	case "getLog":
		if what, _ := cmd.Lookup("getLog").StringValueOK(); what != "global" {
			return nil, false
		}
		s.log.mu.Lock()
		lines := slices.Clone(s.log.last)
		s.log.mu.Unlock()
		r = bson.D{{Key: "totalLinesWritten", Value: int32(len(lines))}, {Key: "log", Value: lines}, {Key: "ok", Value: 1.0}}
	case "setFeatureCompatibilityVersion":
		r = s.setFeatureCompatibilityVersion(ctx, db, cmd)
	case "setParameter":
		r = s.setParameter(db, cmd)
	case "getParameter":
		r = s.getParameter(ctx, db, cmd)
	default:
		return nil, false
	}
	switch x := r.(type) {
	case nil:
		return nil, false
	case *engine.Error:
		return engine.ErrorReply(x), true
	default:
		raw, err := bson.Marshal(x)
		if err != nil {
			return engine.ErrorReply(engine.Errf(engine.CodeInternalError, "%v", err)), true
		}
		return raw, true
	}
}

var done = bson.D{{Key: "ok", Value: 1.0}} //nolint:gochecknoglobals // read only

func (s *server) setFeatureCompatibilityVersion(ctx context.Context, db string, cmd bson.Raw) any {
	if db != "admin" {
		return engine.Errf(engine.CodeUnauthorized, "setFeatureCompatibilityVersion may only be run against the admin database.")
	}
	to, isText := cmd.Lookup("setFeatureCompatibilityVersion").StringValueOK()
	if !isText {
		return engine.Errf(engine.CodeTypeMismatch, "BSON field 'setFeatureCompatibilityVersion.setFeatureCompatibilityVersion' is the wrong type, expected type 'string'")
	}
	v := s.o.Version
	if to != own(v) && to != lower(v) {
		return engine.Errf(engine.CodeBadValue, "Invalid feature compatibility version value '%s'; expected '%s' or '%s'. See https://docs.mongodb.com/master/release-notes/%s-compatibility/#feature-compatibility.",
			to, lower(v), own(v), own(v))
	}
	confirm, has := cmd.Lookup("confirm").BooleanOK()
	switch {
	case v.AtLeast(7, 0) && !confirm:
		return engine.Errf(7369100, "Once you have changed the feature compatibility version you may not be able to go back without support assistance. "+
			"Please re-run this command with 'confirm: true' to acknowledge this and continue with the FCV change.")
	case !v.AtLeast(7, 0) && has:
		return engine.Errf(40415, "BSON field 'setFeatureCompatibilityVersion.confirm' is an unknown field.")
	}
	if err := s.setFCV(ctx, to); err != nil {
		return engine.Errf(engine.CodeInternalError, "%v", err)
	}
	return done
}

// startupOnly are parameters that getParameter of the recorded server does not show, but the command line may set.
func startupOnly(name string) bool {
	switch name {
	case "diagnosticDataCollectionEnabled", "disableLogicalSessionCacheRefresh", "enableLocalhostAuthBypass", "enableTestCommands",
		"tcmallocReleaseRate", "opensslCipherConfig", "disableJavaScriptJIT", "authenticationMechanisms", "suppressNoTLSPeerCertificateWarning",
		"wiredTigerEngineRuntimeConfig", "transactionLifetimeLimitSeconds", "minSnapshotHistoryWindowInSeconds", "ttlMonitorEnabled",
		"ttlMonitorSleepSecs", "internalQueryExecMaxBlockingSortBytes", "maxIndexBuildMemoryUsageMegabytes", "logLevel", "cursorTimeoutMillis",
		"diagnosticDataCollectionDirectorySizeMB", "notablescan", "failIndexKeyTooLong", "storageGlobalParams", "takeUnstableCheckpointOnShutdown",
		"recoverFromOplogAsStandalone", "startupRecoveryForRestore", "skipShardingConfigurationChecks", "disableSplitHorizonIPCheck":
		return true
	}
	return false
}

// isParameter says that a server has a parameter.
func (s *server) isParameter(name string) bool {
	if startupOnly(name) {
		return true
	}
	req, err := bson.Marshal(bson.D{{Key: "getParameter", Value: int32(1)}, {Key: name, Value: int32(1)}})
	if err != nil {
		return false
	}
	_, found := s.kit.Parameters(&status.View{Version: s.o.Version}, req)
	return found
}

// setParameters takes the command line's parameters.
func (s *server) setParameters() error {
	for _, p := range s.o.Params {
		if !s.isParameter(p.Name) {
			return fmt.Errorf("BadValue: Unknown --setParameter '%s'", p.Name)
		}
		s.params[p.Name] = p.Value
	}
	return nil
}

func (s *server) setParameter(db string, cmd bson.Raw) any {
	if db != "admin" {
		return engine.Errf(engine.CodeUnauthorized, "setParameter may only be run against the admin database.")
	}
	elems, err := cmd.Elements()
	if err != nil || len(elems) < 2 {
		return engine.Errf(engine.CodeInvalidOptions, "no option found to set, use help:true to see options ")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range elems[1:] {
		if len(e.Key()) == 0 || e.Key()[0] == '$' || slices.Contains([]string{"lsid", "comment", "writeConcern", "readConcern", "maxTimeMS", "apiVersion"}, e.Key()) {
			continue
		}
		if !s.isParameter(e.Key()) {
			return engine.Errf(engine.CodeInvalidOptions, "attempted to set unrecognized parameter [%s], use help:true to see options ", e.Key())
		}
		was, had := s.params[e.Key()]
		s.params[e.Key()] = plain(e.Value())
		out := bson.D{{Key: "ok", Value: 1.0}}
		if had {
			out = append(bson.D{{Key: "was", Value: typed(was)}}, out...)
		}
		return out
	}
	return engine.Errf(engine.CodeInvalidOptions, "no option found to set, use help:true to see options ")
}

// getParameter answers for what this process set and for its featureCompatibilityVersion; the rest is the member's.
func (s *server) getParameter(ctx context.Context, db string, cmd bson.Raw) any {
	if db != "admin" {
		return engine.Errf(engine.CodeUnauthorized, "getParameter may only be run against the admin database.")
	}
	elems, err := cmd.Elements()
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out bson.D
	for _, e := range elems[1:] {
		switch v, own := s.params[e.Key()]; {
		case e.Key() == "featureCompatibilityVersion":
			fcv, err := s.fcv(ctx)
			if err != nil {
				return engine.Errf(engine.CodeInternalError, "%v", err)
			}
			out = append(out, bson.E{Key: e.Key(), Value: bson.D{{Key: "version", Value: fcv}}})
		case own:
			out = append(out, bson.E{Key: e.Key(), Value: typed(v)})
		}
	}
	if out == nil {
		return nil
	}
	return append(out, bson.E{Key: "ok", Value: 1.0})
}

// plain is a value as a command line has it.
func plain(v bson.RawValue) string {
	switch v.Type {
	case bson.TypeString:
		return v.StringValue()
	case bson.TypeBoolean:
		return strconv.FormatBool(v.Boolean())
	}
	if n, ok := v.AsInt64OK(); ok {
		return strconv.FormatInt(n, 10)
	}
	return v.String()
}

// typed is a command line's value as a reply has it.
func typed(s string) any {
	if b, err := strconv.ParseBool(s); err == nil && len(s) > 1 {
		return b
	}
	if n, err := strconv.ParseInt(s, 10, 32); err == nil {
		return int32(n)
	}
	return s
}

// parsedOptions are the options in the form of a configuration file, as getCmdLineOpts and the log show them.
func parsedOptions(o *Options) bson.M {
	given := func(name string) bool { return slices.Contains(o.given, name) }
	out := bson.M{}
	net := bson.M{}
	if given("bind_ip") {
		net["bindIp"] = o.BindIP
	}
	if given("bind_ip_all") {
		net["bindIpAll"] = true
	}
	if given("port") {
		net["port"] = int32(o.Port)
	}
	storage := bson.M{}
	if given("dbpath") {
		storage["dbPath"] = o.DBPath
	}
	if given("directoryperdb") {
		storage["directoryPerDB"] = true
	}
	if given("nojournal") || given("journal") {
		storage["journal"] = bson.M{"enabled": !o.NoJourn}
	}
	if given("storageEngine") {
		storage["engine"] = "wiredTiger"
	}
	if given("wiredTigerCacheSizeGB") {
		storage["wiredTiger"] = bson.M{"engineConfig": bson.M{"cacheSizeGB": o.CacheGB}}
	}
	system := bson.M{}
	if given("logpath") {
		system["destination"], system["path"] = "file", o.LogPath
	}
	if given("logappend") {
		system["logAppend"] = true
	}
	if given("quiet") {
		system["quiet"] = true
	}
	params := bson.M{}
	for _, p := range o.Params {
		params[p.Name] = p.Value
	}
	security := bson.M{}
	if given("noauth") {
		security["authorization"] = "disabled"
	}
	for name, section := range map[string]bson.M{"net": net, "storage": storage, "systemLog": system, "setParameter": params, "security": security} {
		if len(section) > 0 {
			out[name] = section
		}
	}
	return out
}
