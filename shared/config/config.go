// Package config is every setting of the server and the agents: one struct each, the layers a value may come from, and what
// makes a value valid. It reads files and environment through what its callers hand it, and knows nothing of the programs it
// configures.
//
// The server's settings are named as in conf-mms.properties and conf-daemon.properties, so that a file written for MMS On Prem
// or Ops Manager loads as it is; our own begin with "heartwood.". A value comes from the first of: command line flag, environment,
// file, database, default.
package config

import (
	"path/filepath"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/snapshot"
)

// Server is the configuration of `heartwood serve`. The tags: key is the setting's name, default its default, help its
// meaning (used by `config show --help-keys` and docs), scope "boot" marks what cannot be kept in the database because it is
// needed to reach it.
type Server struct {
	// Where things are.
	DataDir string       `key:"heartwood.data" default:"data" scope:"boot" help:"folder of the embedded database, the key file and the pid file"`
	KeyFile string       `key:"mms.keyfile" scope:"boot" help:"gen.key: 24 random bytes that encrypt secrets in the database; created when absent (default: gen.key in the data folder)"`
	GenKey  model.Secret `key:"heartwood.gen.key" scope:"boot" secret:"all" help:"what gen.key holds, in base64, for places without files of their own such as Lambda; instead of mms.keyfile"`

	// Listening.
	Listen          string `key:"heartwood.listen" default:"127.0.0.1:8080" help:"address of the web UI and the Public API"`
	IngestionPort   int    `key:"heartwood.ingestion.port" default:"8081" help:"port for agents; same address as heartwood.listen"`
	DiagnosticsPort int    `key:"heartwood.diagnostics.port" default:"8091" help:"127.0.0.1 port of /health and /metrics"`
	ProxyProtocol   string `key:"heartwood.proxyProtocol" default:"off" help:"PROXY protocol (versions 1 and 2) on heartwood.listen and the port for agents, from heartwood.trustedProxies only: off, optional (everybody else may connect without), required (nobody else may connect)"`
	DrainSeconds    int    `key:"heartwood.drainSeconds" default:"-1" help:"when stopping, seconds that the server goes on serving while /monitor/health already fails, so that load balancers send nothing more; -1: 5 behind a load balancer (mms.remoteIp.header or heartwood.proxyProtocol is set), else 0"`

	// Functions as WebAssembly guests.
	Sandbox       string `key:"heartwood.sandbox" scope:"boot" help:"wasm: the functions run as WebAssembly guests, without files, sockets or secrets of others; empty: natively"`
	SandboxGuests string `key:"heartwood.sandbox.guests" scope:"boot" help:"folder of the guests' .wasm files, which make guests builds (default: guests beside the program)"`

	// Public addresses.
	CentralURL       string `key:"mms.centralUrl" help:"URL that people use, e.g. https://heartwood.example.com (default: from heartwood.listen)"`
	AgentCentralURL  string `key:"mms.agentCentralUrl" help:"URL that agents use, when it differs from mms.centralUrl (default: mms.centralUrl, else the port for agents)"`
	BackupCentralURL string `key:"mms.backupCentralUrl" help:"URL where archives of restores are fetched, e.g. https://heartwood.example.com:8081 (default: mms.centralUrl)"`

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
	TrustedProxies    []string     `key:"heartwood.trustedProxies" default:"127.0.0.0/8,::1/128" help:"networks of load balancers, comma separated: only their mms.remoteIp.header and PROXY headers are believed"`
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

	// Alerts.
	AlertsEnabled   bool          `key:"heartwood.alerts.enabled" default:"true" help:"evaluate alerts and deliver notifications in this process; another server on the same database may do it instead"`
	AlertsPort      int           `key:"heartwood.alerts.port" default:"8092" help:"127.0.0.1 port of the alerts function's /health and /metrics"`
	AlertsKillPort  int           `key:"heartwood.alerts.killPort" default:"8650" help:"127.0.0.1 port through which the alerts function is stopped; 0: none"`
	AlertsEvery     time.Duration `key:"heartwood.alerts.every" default:"1m" help:"time between two evaluations of alerts, from 5s to 1m; delays and distances between notifications do not change with it"`
	AlertsHeartbeat model.Secret  `key:"heartwood.alerts.heartbeatUrl" secret:"all" help:"URL that is called after each healthy evaluation, so that another system notices when none happens; empty: none"`
	AlertsAllow     []string      `key:"heartwood.alerts.webhook.allow" help:"networks that notifications may go to although they are loopback, link-local or the like, comma separated"`
	ExposedVantage  []string      `key:"heartwood.exposed.vantage" help:"networks whose hosts are checked for being open to anybody although they are not public, comma separated"`
	AlertsReleases  string        `key:"heartwood.alerts.releases" help:"file with a newer table of MongoDB releases than the one in the program"`
	RetainAlerts    time.Duration `key:"heartwood.alerts.retention" default:"8760h" help:"how long alerts that have ended, their deliveries and past maintenance windows are kept"`

	// Mail, and the other ways of telling people that need an account.
	FromEmail     string       `key:"mms.fromEmailAddr" help:"address that mail comes from; needed before mail is sent"`
	ReplyToEmail  string       `key:"mms.replyToEmailAddr" help:"address that answers to mail go to (default: mms.fromEmailAddr)"`
	AdminEmail    []string     `key:"mms.adminEmailAddr" help:"mailboxes of the operators of this site, comma separated"`
	MailTransport string       `key:"mms.mail.transport" default:"smtp" help:"smtp, smtps (TLS from the first byte) or ses (Amazon SES, with aws.accesskey and aws.secretkey)"`
	MailClass     string       `key:"mms.emailDaoClass" help:"AWS_MAILER, or a class ending in AwsEmailDao, is another way to say mms.mail.transport=ses"`
	MailHost      string       `key:"mms.mail.hostname" help:"mail server; empty: no mail is sent, except by Amazon SES"`
	MailPort      int          `key:"mms.mail.port" help:"its port (default: 25 for smtp, 465 for smtps)"`
	MailUser      string       `key:"mms.mail.username" help:"name to sign in to the mail server with; empty: without signing in"`
	MailPass      model.Secret `key:"mms.mail.password" secret:"all" help:"its password; never sent without TLS unless the server is on this machine or knows CRAM-MD5 or SCRAM"`
	MailTLS       bool         `key:"mms.mail.tls" default:"false" help:"with smtp: insist on STARTTLS and a certificate that this machine trusts"`
	MailCAFile    string       `key:"heartwood.mail.CAFile" help:"CA certificates (PEM) for the mail server (default: those of this machine)"`
	AWSAccessKey  string       `key:"aws.accesskey" help:"id of the access key for Amazon SES and SNS"`
	AWSSecretKey  model.Secret `key:"aws.secretkey" secret:"all" help:"the access key"`
	SESEndpoint   string       `key:"aws.ses.endpoint" default:"https://email.us-east-1.amazonaws.com" help:"where mail goes with mms.mail.transport=ses: the endpoint of a region"`
	TwilioSID     string       `key:"twilio.account.sid" help:"account at Twilio for SMS"`
	TwilioToken   model.Secret `key:"twilio.auth.token" secret:"all" help:"its token"`
	TwilioFrom    string       `key:"twilio.from.num" help:"number that SMS come from, such as +15005550006, or the id of a messaging service (MG…)"`

	// Where backups go, unless block stores of other names are described on the admin page.
	BlockStoreType     string       `key:"heartwood.blockstore.type" help:"kind of the block store named default: FILE_SYSTEM, S3 or MONGODB (default: FILE_SYSTEM with the embedded database, else MONGODB)"`
	BlockStorePath     string       `key:"heartwood.blockstore.path" help:"FILE_SYSTEM: its folder, on a file system that all servers share where there are several (default: blocks in heartwood.data)"`
	BlockStoreURI      string       `key:"heartwood.blockstore.mongoUri" secret:"uri" help:"MONGODB: its connection string (default: mongo.backupdb.mongoUri, else mongo.mongoUri)"`
	BlockStoreDatabase string       `key:"heartwood.blockstore.database" default:"heartwood_blocks" help:"MONGODB: name of its database"`
	BlockStoreBucket   string       `key:"heartwood.blockstore.s3BucketName" help:"S3: its bucket"`
	BlockStorePrefix   string       `key:"heartwood.blockstore.s3Prefix" help:"S3: what its keys begin with, ending in a slash, so that several sites may share a bucket"`
	BlockStoreEndpoint string       `key:"heartwood.blockstore.s3BucketEndpoint" help:"S3: URL of the service, such as https://s3.example.com:9000; empty: Amazon's"`
	BlockStoreRegion   string       `key:"heartwood.blockstore.s3Region" default:"us-east-1" help:"S3: its region"`
	BlockStorePathway  bool         `key:"heartwood.blockstore.pathStyleAccessEnabled" default:"false" help:"S3: the bucket in the path instead of the host name, as most services but Amazon's want it"`
	BlockStoreAuth     string       `key:"heartwood.blockstore.s3AuthMethod" help:"S3: KEYS, or IAM_ROLE for what the environment, the machine or the container says (default: KEYS when a key is given)"`
	BlockStoreAccess   string       `key:"heartwood.blockstore.awsAccessKey" help:"S3: id of the access key"`
	BlockStoreSecret   model.Secret `key:"heartwood.blockstore.awsSecretKey" secret:"all" help:"S3: the access key"`
	BlockStoreCAFile   string       `key:"heartwood.blockstore.CAFile" help:"S3: further CA certificates (PEM) for the endpoint"`
	BlockStoreConns    int          `key:"heartwood.blockstore.s3MaxConnections" default:"50" help:"S3: connections at once"`
	BlockStoreEncrypt  bool         `key:"heartwood.blockstore.encrypt" default:"false" help:"encrypt objects with a key from gen.key before they reach the block store; then agents cannot upload to a bucket directly"`
	BlockStoreBytes    int64        `key:"heartwood.blockstore.maxBytesPerSecond" default:"0" help:"bytes read and written a second by one process; 0: without limit"`

	// The backup daemon.
	BackupDaemon     bool          `key:"heartwood.backup.daemon" default:"false" help:"run a backup daemon in the server's process, as serve --backup does; with the embedded database it is the only way"`
	HeadRoot         string        `key:"rootDirectory" help:"folder of the heads, the private copies of what is backed up: as much room as the data, and a fifth (default: heads in heartwood.data)"`
	HeadReleases     string        `key:"mongodb.release.directory" help:"folder with the mongods that heads run: one folder a release, as MongoDB's archives unpack (default: releases in heartwood.data)"`
	HeadWorkers      int           `key:"numWorkers" default:"4" help:"heads that run at once; with more backups they take turns"`
	HeadBasePort     int           `key:"heartwood.backup.headPort" default:"27500" help:"first 127.0.0.1 port of the heads; as many follow as numWorkers says"`
	HeadCacheMB      int           `key:"heartwood.backup.headCacheMB" default:"256" help:"cache of each head's mongod in MB, at least 256"`
	BackupPort       int           `key:"heartwood.backup.port" default:"8090" help:"127.0.0.1 port of the backup daemon's /health and /metrics, where it is a process of its own"`
	BackupKillPort   int           `key:"heartwood.backup.killPort" default:"8640" help:"127.0.0.1 port through which the backup daemon is stopped, where it is a process of its own; 0: none"`
	BackupTakeOver   time.Duration `key:"heartwood.backup.takeOver" default:"15m" help:"silence of a backup daemon after which others take its backups over, from 2m on"`
	MinOplogHours    int           `key:"mms.backup.minimumOplogWindowHours" default:"3" help:"a source whose oplog reaches back for less behind what is stored is warned about; as long as the interval of snapshots is better"`
	ReadMBPerSecond  int           `key:"heartwood.backup.readMBPerSecond" default:"0" help:"a full read takes at most so many MB a second from its source; 0: no limit"`
	ReadMaxLag       time.Duration `key:"heartwood.backup.readMaxLag" default:"0s" help:"a full read pauses while a secondary is further behind its primary than this; 0s: never"`
	SnapshotInterval int           `key:"brs.snapshotSchedule.interval" default:"24" help:"of new backups: hours between snapshots: 6, 8, 12 or 24"`
	SnapshotDays     int           `key:"brs.snapshotSchedule.retention.base" default:"2" help:"of new backups: days that a snapshot is kept"`
	SnapshotDaily    int           `key:"brs.snapshotSchedule.retention.daily" default:"0" help:"of new backups: days that the first snapshot of a day is kept; 0: no longer than others"`
	SnapshotWeekly   int           `key:"brs.snapshotSchedule.retention.weekly" default:"2" help:"of new backups: weeks that the first snapshot of a week is kept"`
	SnapshotMonthly  int           `key:"brs.snapshotSchedule.retention.monthly" default:"1" help:"of new backups: months that the first snapshot of a month is kept"`
	PointInTimeHours int           `key:"brs.pitWindowInHours" default:"24" help:"of new backups: hours back to any second of which they can be restored"`

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

// The values of heartwood.proxyProtocol: whether connections begin with a header that tells the client's address.
const (
	ProxyOff      = "off"
	ProxyOptional = "optional"
	ProxyRequired = "required"
)

// balancerDrain is enough for a load balancer that probes every two seconds and believes the second failure.
const balancerDrain = 5 * time.Second

// Drain is for how long a stopping server goes on serving while its health check fails.
func (s *Server) Drain() time.Duration {
	switch {
	case s.DrainSeconds >= 0:
		return time.Duration(s.DrainSeconds) * time.Second
	case s.RemoteIPHeader != "" || s.ProxyProtocol == ProxyOptional || s.ProxyProtocol == ProxyRequired:
		return balancerDrain
	}
	return 0
}

// Schedule is that of new backups.
func (s *Server) Schedule() snapshot.Policy {
	return snapshot.Policy{
		IntervalHours: s.SnapshotInterval, RetentionDays: s.SnapshotDays, DailyDays: s.SnapshotDaily, WeeklyWeeks: s.SnapshotWeekly,
		MonthlyMonths: s.SnapshotMonthly, PointInTimeHour: s.PointInTimeHours,
	}
}

// Heads is the folder of the heads, as an absolute path that ends with a slash.
func (s *Server) Heads() string { return folder(s.HeadRoot, s.DataDir, "heads") + "/" }

// Releases is the folder of the mongods that heads run, as an absolute path.
func (s *Server) Releases() string { return folder(s.HeadReleases, s.DataDir, "releases") }

func folder(named, data, below string) string {
	if named == "" {
		named = filepath.Join(data, below)
	}
	if abs, err := filepath.Abs(named); err == nil {
		return abs
	}
	return filepath.Clean(named)
}

// SandboxWasm is the value of heartwood.sandbox with which functions run as guests.
const SandboxWasm = "wasm"

// DatabaseFile is the embedded database in the data folder.
const DatabaseFile = "heartwood.db"

// Embedded reports whether the server keeps its own database file.
func (s *Server) Embedded() bool { return s.MongoURI == "" }
