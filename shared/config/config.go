// Package config is every setting of the server and the agents: one struct each, the layers a value may come from, and what
// makes a value valid. It reads files and environment through what its callers hand it, and knows nothing of the programs it
// configures.
//
// The server's settings are named as in conf-mms.properties and conf-daemon.properties, so that a file written for MMS On Prem
// or Ops Manager loads as it is; our own begin with "heartwood.". A value comes from the first of: command line flag, environment,
// file, database, default.
package config

import (
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Server is the configuration of `heartwood serve`. The tags: key is the setting's name, default its default, help its
// meaning (used by `config show --help-keys` and docs), scope "boot" marks what cannot be kept in the database because it is
// needed to reach it.
type Server struct {
	// Where things are.
	DataDir string `key:"heartwood.data" default:"data" scope:"boot" help:"folder of the embedded database, the key file and the pid file"`
	KeyFile string `key:"mms.keyfile" scope:"boot" help:"gen.key: 24 random bytes that encrypt secrets in the database; created when absent (default: gen.key in the data folder)"`

	// Listening.
	Listen          string `key:"heartwood.listen" default:"127.0.0.1:8080" help:"address of the web UI and the Public API"`
	IngestionPort   int    `key:"heartwood.ingestion.port" default:"8081" help:"port for agents; same address as heartwood.listen"`
	DiagnosticsPort int    `key:"heartwood.diagnostics.port" default:"8091" help:"127.0.0.1 port of /health and /metrics"`

	// Public addresses.
	CentralURL      string `key:"mms.centralUrl" help:"URL that people use, e.g. https://heartwood.example.com (default: from heartwood.listen)"`
	AgentCentralURL string `key:"mms.agentCentralUrl" help:"URL that agents use, when it differs from mms.centralUrl (default: mms.centralUrl, else the port for agents)"`

	// Database.
	MongoURI          string       `key:"mongo.mongoUri" scope:"boot" secret:"uri" help:"application database, a replica set; empty: the embedded database in heartwood.data"`
	BackupMongoURI    string       `key:"mongo.backupdb.mongoUri" scope:"boot" secret:"uri" help:"backup database (default: mongo.mongoUri)"`
	MongoDatabase     string       `key:"heartwood.mongo.database" default:"heartwood" scope:"boot" help:"name of the application database in mongo.mongoUri"`
	MongoTLS          bool         `key:"mongo.ssl" default:"false" scope:"boot" help:"TLS to the application database"`
	MongoCAFile       string       `key:"mongodb.ssl.CAFile" scope:"boot" help:"CA certificates (PEM) for the application database"`
	MongoPEMKeyFile   string       `key:"mongodb.ssl.PEMKeyFile" scope:"boot" help:"client certificate and key (PEM) for the application database"`
	MongoPEMKeyPass   model.Secret `key:"mongodb.ssl.PEMKeyFilePassword" scope:"boot" secret:"all" help:"password of mongodb.ssl.PEMKeyFile"`
	AllowStandalone   bool         `key:"heartwood.mongo.allowStandalone" default:"false" scope:"boot" help:"accept an application database that is no replica set (tests only)"`
	HTTPSPEMKeyFile   string       `key:"mms.https.PEMKeyFile" scope:"boot" help:"certificate and key (PEM) to serve TLS with; empty: HTTP"`
	HTTPSPEMKeyPass   model.Secret `key:"mms.https.PEMKeyFilePassword" scope:"boot" secret:"all" help:"password of mms.https.PEMKeyFile"`
	HTTPSCAFile       string       `key:"mms.https.CAFile" scope:"boot" help:"CA certificates (PEM) that client certificates are checked against"`
	HTTPSClientCert   string       `key:"mms.https.ClientCertificateMode" default:"none" scope:"boot" help:"who must show a client certificate: none, agents_only, required"`
	RemoteIPHeader    string       `key:"mms.remoteIp.header" help:"header in which a load balancer passes the client's address, e.g. X-Forwarded-For"`
	TrustedProxies    []string     `key:"heartwood.trustedProxies" default:"127.0.0.0/8,::1/128" help:"networks whose mms.remoteIp.header is believed, comma separated"`
	HSTSMaxAgeSeconds int          `key:"mms.security.hstsMaxAgeSeconds" default:"31536000" help:"Strict-Transport-Security when served over TLS; 0 turns it off"`

	// People.
	SessionMaxHours  int `key:"mms.session.maxHours" default:"12" help:"lifetime of a sign-in in hours"`
	LoginAttempts    int `key:"mms.login.ratelimit.attemptsAllowed" default:"10" help:"failed sign-ins before an account is locked for a while"`
	LoginLockMinutes int `key:"mms.login.ratelimit.lockedPeriodMinutes" default:"5" help:"for how long it is locked"`

	// Agents.
	AgentSessionMillis  int64 `key:"mms.monitoring.agent.session.timeoutMillis" default:"90000" help:"silence after which a standby monitoring agent takes over; at least 90000"`
	StandbyFactor       int   `key:"mms.monitoring.agent.standbyCollectionFactor" default:"4" help:"how often standby agents ask: 1 = 55 s, 2 = 27 s, 3 = 18 s, 4 = 14 s"`
	MaxPostBytes        int64 `key:"heartwood.ingestion.maxPostBytes" default:"16777216" help:"largest body an agent may post"`
	MaxConcurrentIntake int   `key:"heartwood.ingestion.maxConcurrent" default:"64" help:"posts worked on at once; more are answered 503 and come again"`

	// Retention.
	RetainMinutes time.Duration `key:"heartwood.retention.minute" default:"48h" help:"how long 1 minute points are kept"`
	RetainFives   time.Duration `key:"heartwood.retention.fiveMinutes" default:"168h" help:"how long 5 minute points are kept"`
	RetainHours   time.Duration `key:"heartwood.retention.hour" default:"1512h" help:"how long 1 hour points are kept (63 days)"`

	// Log.
	LogLevel  string `key:"heartwood.log.level" default:"INFO" help:"DEBUG, INFO, WARN or ERROR"`
	LogFormat string `key:"heartwood.log.format" default:"text" help:"text or json"`
}

// The values of mms.https.ClientCertificateMode: who must show a client certificate.
const (
	CertNone       = "none"
	CertAgentsOnly = "agents_only"
	CertRequired   = "required"
)

// DatabaseFile is the embedded database in the data folder.
const DatabaseFile = "heartwood.db"

// Embedded reports whether the server keeps its own database file.
func (s *Server) Embedded() bool { return s.MongoURI == "" }
