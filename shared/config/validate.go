package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/obs"
)

// least silence before a standby agent may take over: below it two agents would poll in turn.
const minAgentSessionMillis = 90_000

// longest time that a stopping server may wait for its load balancers.
const maxDrainSeconds = 300

// validate returns every fault of the values themselves, each naming its setting.
func (s *Server) validate() []error {
	var faults []error
	fault := func(format string, a ...any) { faults = append(faults, fmt.Errorf(format, a...)) }

	if _, err := s.GivenKey(); err != nil {
		faults = append(faults, err)
	}
	if s.GenKey != "" && s.KeyFile != "" {
		fault("heartwood.gen.key: set it or mms.keyfile, not both")
	}
	if _, _, err := net.SplitHostPort(s.Listen); err != nil {
		fault("heartwood.listen: %q is not address:port, such as 127.0.0.1:8080", s.Listen)
	}
	for name, p := range map[string]int{
		"heartwood.ingestion.port": s.IngestionPort, "heartwood.diagnostics.port": s.DiagnosticsPort,
		"heartwood.alerts.port": s.AlertsPort, "heartwood.alerts.killPort": s.AlertsKillPort,
	} {
		if p < 0 || p > 65535 {
			fault("%s: %d is not a port", name, p)
		}
	}
	if s.Sandbox != "" && s.Sandbox != SandboxWasm {
		fault("heartwood.sandbox: %q: use wasm, or leave it empty", s.Sandbox)
	}
	for name, u := range map[string]string{"mms.centralUrl": s.CentralURL, "mms.agentCentralUrl": s.AgentCentralURL, "mms.backupCentralUrl": s.BackupCentralURL} {
		if p, err := url.Parse(u); u != "" && (err != nil || p.Host == "" || p.Scheme != "http" && p.Scheme != "https") {
			fault("%s: %q is not a URL such as https://heartwood.example.com:8080", name, u)
		}
	}
	for name, u := range map[string]string{"mongo.mongoUri": s.MongoURI, "mongo.backupdb.mongoUri": s.BackupMongoURI} {
		if u != "" && !strings.HasPrefix(u, "mongodb://") && !strings.HasPrefix(u, "mongodb+srv://") {
			fault("%s: a connection string begins with mongodb:// or mongodb+srv://", name)
		}
	}
	if !slices.Contains([]string{CertNone, CertAgentsOnly, CertRequired}, s.HTTPSClientCert) {
		fault("mms.https.ClientCertificateMode: %q: use none, agents_only or required", s.HTTPSClientCert)
	}
	if s.HTTPSClientCert != CertNone && (s.HTTPSPEMKeyFile == "" || s.HTTPSCAFile == "") {
		fault("mms.https.ClientCertificateMode: %s needs mms.https.PEMKeyFile and mms.https.CAFile", s.HTTPSClientCert)
	}
	if s.HSTSMaxAgeSeconds < 0 {
		fault("mms.security.hstsMaxAgeSeconds: %d is negative: use 0 to turn it off", s.HSTSMaxAgeSeconds)
	}
	if !slices.Contains([]string{ProxyOff, ProxyOptional, ProxyRequired}, s.ProxyProtocol) {
		fault("heartwood.proxyProtocol: %q: use off, optional or required", s.ProxyProtocol)
	}
	if s.DrainSeconds < -1 || s.DrainSeconds > maxDrainSeconds {
		fault("heartwood.drainSeconds: %d: use 0 to %d, or -1", s.DrainSeconds, maxDrainSeconds)
	}
	for _, p := range s.TrustedProxies {
		if _, err := netip.ParsePrefix(p); err != nil {
			fault("heartwood.trustedProxies: %q is not a network such as 10.0.0.0/8", p)
		}
	}
	faults = append(faults, s.alertFaults()...)
	faults = append(faults, s.mailFaults()...)
	faults = append(faults, s.accountFaults()...)
	faults = append(faults, s.blockStoreFaults()...)
	faults = append(faults, s.backupFaults()...)
	if s.AgentSessionMillis < minAgentSessionMillis {
		fault("mms.monitoring.agent.session.timeoutMillis: %d is below %d", s.AgentSessionMillis, minAgentSessionMillis)
	}
	if s.StandbyFactor < 1 || s.StandbyFactor > 4 {
		fault("mms.monitoring.agent.standbyCollectionFactor: %d: use 1 to 4", s.StandbyFactor)
	}
	positive := map[string]int64{
		"mms.session.maxHours": int64(s.SessionMaxHours), "mms.login.ratelimit.attemptsAllowed": int64(s.LoginAttempts),
		"mms.login.ratelimit.lockedPeriodMinutes": int64(s.LoginLockMinutes), "heartwood.ingestion.maxConcurrent": int64(s.MaxConcurrentIntake),
	}
	for name, v := range positive {
		if v < 1 {
			fault("%s: %d must be at least 1", name, v)
		}
	}
	if s.MaxPostBytes < 64<<10 || s.MaxPostBytes > 64<<20 {
		fault("heartwood.ingestion.maxPostBytes: %d: use 65536 to 67108864", s.MaxPostBytes)
	}
	least := map[string][2]time.Duration{
		"heartwood.retention.minute":      {s.RetainMinutes, 2 * time.Hour},
		"heartwood.retention.fiveMinutes": {s.RetainFives, s.RetainMinutes},
		"heartwood.retention.hour":        {s.RetainHours, s.RetainFives},
	}
	for name, v := range least {
		if v[0] < v[1] {
			fault("%s: %v is below %v; each coarser series must be kept at least as long as the finer one", name, v[0], v[1])
		}
	}
	if _, err := obs.ParseLevel(s.LogLevel); err != nil {
		fault("heartwood.log.level: %w", err)
	}
	if s.LogFormat != "text" && s.LogFormat != "json" {
		fault("heartwood.log.format: %q: use text or json", s.LogFormat)
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return faults
}

// leastAlerts is the shortest time that ended alerts are kept: repeats are at most a day apart, deliveries are tried for a day.
const leastAlerts = 7 * 24 * time.Hour

// Alerts are evaluated at least each minute, which delays are counted in, and no more often than deliveries go out.
const (
	leastEvery = 5 * time.Second
	mostEvery  = time.Minute
)

func (s *Server) alertFaults() []error {
	var faults []error
	for name, networks := range map[string][]string{"heartwood.alerts.webhook.allow": s.AlertsAllow, "heartwood.exposed.vantage": s.ExposedVantage} {
		for _, p := range networks {
			if _, err := netip.ParsePrefix(p); err != nil {
				faults = append(faults, fmt.Errorf("%s: %q is not a network such as 10.0.0.0/8", name, p))
			}
		}
	}
	if u, err := url.Parse(s.AlertsHeartbeat.Reveal()); s.AlertsHeartbeat != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		faults = append(faults, errors.New("heartwood.alerts.heartbeatUrl: it is not a URL such as https://hc.example.com/ping/…")) // never shown: it may hold a token
	}
	if s.AlertsEvery < leastEvery || s.AlertsEvery > mostEvery {
		faults = append(faults, fmt.Errorf("heartwood.alerts.every: %v is not from %v to %v", s.AlertsEvery, leastEvery, mostEvery))
	}
	if s.RetainAlerts < leastAlerts {
		faults = append(faults, fmt.Errorf("heartwood.alerts.retention: %v is below %v", s.RetainAlerts, leastAlerts))
	}
	return faults
}

// warnings are what works but should not stay so.
func (s *Server) warnings() []string {
	var w []string
	if n := hostCount(s.MongoURI); s.MongoURI != "" && n < 3 {
		w = append(w, fmt.Sprintf("mongo.mongoUri names %d host(s): name at least three members of the replica set, so that losing one loses nothing", n))
	}
	w = append(w, uriWarnings("mongo.mongoUri", s.MongoURI, s.MongoDatabase)...)
	if host, _, err := net.SplitHostPort(s.Listen); err == nil && !isLoopback(host) && s.HTTPSPEMKeyFile == "" && s.RemoteIPHeader == "" && s.ProxyProtocol == ProxyOff {
		w = append(w, "heartwood.listen is reachable from other machines without TLS: set mms.https.PEMKeyFile, or put a TLS load balancer in front and set mms.remoteIp.header")
	}
	if behind := s.RemoteIPHeader != "" || s.ProxyProtocol != ProxyOff; behind && len(s.TrustedProxies) == 0 {
		w = append(w, "heartwood.trustedProxies is empty, so that nobody's mms.remoteIp.header or PROXY header is believed: name the load balancers' networks")
	}
	return w
}

// hostCount counts the hosts of a connection string; an SRV name counts as three, since it stands for a list.
func hostCount(uri string) int {
	if strings.HasPrefix(uri, "mongodb+srv://") {
		return 3
	}
	hosts := splitURI(uri).hosts
	if hosts == "" {
		return 0
	}
	return strings.Count(hosts, ",") + 1
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
