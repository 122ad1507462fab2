package config

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/caarlos0/env/v11"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// Agent is the configuration of an agent: the keys of monitoring-agent.config and backup-agent.config as they always were, and a few of our own
// (mongoUri, seedHosts, stateDir, spoolMaxBytes, logFormat). The tags are those of Server; alias is a second spelling, classic
// marks keys that may also come from an environment variable without our prefix, as container images have them.
type Agent struct {
	// Server.
	APIKey         model.Secret `key:"mmsApiKey" secret:"all" classic:"yes" help:"agent API key of the group"`
	APIKeyExec     string       `key:"mmsApiKeyExec" help:"command that prints the agent API key"`
	GroupID        string       `key:"mmsGroupId" classic:"yes" help:"id of the group, 24 hexadecimal digits"`
	BaseURL        string       `key:"mmsBaseUrl" classic:"yes" help:"URL of the server's agent port, e.g. http://heartwood.example.com:8081"`
	HTTPProxy      string       `key:"httpProxy" secret:"url" help:"proxy to reach the server through, e.g. http://proxy.example.com:3128"`
	ServerCAFile   string       `key:"sslTrustedMMSServerCertificate" alias:"httpsCAFile" help:"CA certificates (PEM) that the server's certificate is checked against (default: the system's)"`
	ServerVerify   bool         `key:"sslRequireValidMMSServerCertificates" alias:"tlsRequireValidMMSServerCertificates" default:"true" help:"refuse a server whose certificate is not valid"`
	ServerCertFile string       `key:"sslServerClientCertificate" help:"client certificate and key (PEM) to show to the server"`
	ServerCertPass model.Secret `key:"sslServerClientCertificatePassword" secret:"all" classic:"yes" help:"password of sslServerClientCertificate"`
	ServerCertExec string       `key:"sslServerClientCertificatePasswordExec" help:"command that prints that password"`

	// What to monitor, and as whom.
	MongoURI            string       `key:"mongoUri" secret:"uri" help:"connection string of a deployment: its hosts are reported as seeds, its user and TLS options serve for every host"`
	SeedHosts           []string     `key:"seedHosts" help:"host:port of any process of each deployment to monitor, comma separated"`
	AuthUsername        string       `key:"globalAuthUsername" classic:"yes" help:"user for every host; wins over credentials kept by the server"`
	AuthPassword        model.Secret `key:"globalAuthPassword" secret:"all" classic:"yes" help:"password of globalAuthUsername"`
	AuthPasswordExec    string       `key:"globalAuthPasswordExec" help:"command that prints that password"`
	AuthMechanism       string       `key:"globalAuthMechanism" help:"SCRAM-SHA-256, SCRAM-SHA-1, MONGODB-X509 or PLAIN (default: negotiated)"`
	AuthSource          string       `key:"globalAuthSource" help:"authentication database (default: admin)"`
	RestoreUsername     string       `key:"restoreUsername" classic:"yes" help:"backup agent: user that writes restores into a running replica set, with the roles restore, readWriteAnyDatabase, dbAdminAnyDatabase and clusterMonitor; used for nothing else, and known to no server of ours"`
	RestorePassword     model.Secret `key:"restorePassword" secret:"all" classic:"yes" help:"password of restoreUsername"`
	RestorePasswordExec string       `key:"restorePasswordExec" help:"command that prints that password"`
	RestoreMechanism    string       `key:"restoreAuthMechanism" help:"as globalAuthMechanism, for restoreUsername"`
	RestoreSource       string       `key:"restoreAuthSource" help:"authentication database of restoreUsername (default: admin)"`
	TLSAll              bool         `key:"useSslForAllConnections" default:"false" help:"TLS to every mongod and mongos"`
	TLSCAFile           string       `key:"sslTrustedServerCertificates" help:"CA certificates (PEM) that mongods' certificates are checked against (default: the system's)"`
	TLSVerify           bool         `key:"sslRequireValidServerCertificates" default:"true" help:"refuse mongods whose certificate is not valid"`
	TLSCertFile         string       `key:"sslClientCertificate" help:"client certificate and key (PEM) to show to mongods; with MONGODB-X509 it is the user"`
	TLSCertPass         model.Secret `key:"sslClientCertificatePassword" secret:"all" classic:"yes" help:"password of sslClientCertificate"`
	TLSCertPassExec     string       `key:"sslClientCertificatePasswordExec" help:"command that prints that password"`
	DialSeconds         int          `key:"dialTimeoutSeconds" default:"10" help:"time to connect to a mongod"`
	SelectionSeconds    int          `key:"serverSelectionTimeoutSeconds" default:"10" help:"time until a mongod that does not answer is called unreachable"`
	NoLogs              bool         `key:"disableGetLogsDataCollection" default:"false" help:"never collect mongod logs, whatever the server asks"`

	// Itself.
	StateDir      string `key:"stateDir" help:"folder of the agent's id and spool (default: $STATE_DIRECTORY, else heartwood-agent in the user's state folder)"`
	SpoolMaxBytes int64  `key:"spoolMaxBytes" default:"1073741824" help:"disk space for what waits while the server is away; beyond it the oldest pings are dropped, and oplogs wait on their source"`
	LogFile       string `key:"logFile" help:"log file (default: standard error)"`
	LogLevel      string `key:"logLevel" default:"INFO" help:"DEBUG, INFO, WARN or ERROR"`
	LogFormat     string `key:"logFormat" default:"text" help:"text or json"`
	LogMaxFiles   int    `key:"maxLogFiles" default:"10" help:"rotated log files kept"`
	LogMaxSize    int64  `key:"maxLogFileSize" default:"268435456" help:"bytes after which the log file is rotated"`
	LogMaxHours   int    `key:"maxLogFileDurationHrs" default:"24" help:"hours after which the log file is rotated"`
	LogPlainFiles int    `key:"maxUncompressedLogFiles" default:"2" help:"newest rotated files left uncompressed"`
}

// agentKnown are keys of other agents and other times that load without an error but have no effect in this build.
var agentKnown = []string{
	"mothership", "https", "krb5Principal", "krb5Keytab", "krb5ConfigLocation", "gssapiServiceName", "otelConfig", "enableMunin",
	"configCollectionsEnabled", "configDatabasesEnabled", "disableProfileDataCollection", "disableLocksAndRecordStatsDataCollection",
	"mmsConfigBackup", "enableLocalConfigurationServer", "maxLogFileDurationMinutes",
}

// AgentSources are the layers of an agent's configuration: file, then environment over it.
type AgentSources struct {
	File     map[string]string
	FileName string
	Environ  []string                          // as os.Environ gives it
	ReadFile func(name string) ([]byte, error) // for *_FILE variables; nil means os.ReadFile
}

// LoadedAgent is an agent's configuration with the origin of each value.
type LoadedAgent struct {
	Agent    Agent
	Origins  map[string]Origin
	Values   map[string]string
	Warnings []string
}

type agentKey struct {
	Key
	alias   string
	classic string // environment variable without our prefix
}

var agentKeys = sync.OnceValue(func() []agentKey {
	t := reflect.TypeFor[Agent]()
	keys := make([]agentKey, 0, t.NumField())
	for f := range t.Fields() {
		name := f.Tag.Get("key")
		k := agentKey{alias: f.Tag.Get("alias"), Key: Key{
			Name: name, Env: "HEARTWOOD_AGENT_" + upperSnake(name), Default: f.Tag.Get("default"), Help: f.Tag.Get("help"),
			Secret: f.Tag.Get("secret"),
		}}
		if f.Tag.Get("classic") != "" {
			k.classic = upperSnake(name)
		}
		keys = append(keys, k)
	}
	return keys
})

// AgentKeys are the settings an agent uses, in the order of the struct.
func AgentKeys() []Key {
	keys := make([]Key, 0, len(agentKeys()))
	for _, k := range agentKeys() {
		keys = append(keys, k.Key)
	}
	return keys
}

func findAgentKey(name string) (agentKey, bool) {
	i := slices.IndexFunc(agentKeys(), func(k agentKey) bool { return k.Name == name || k.alias == name && name != "" })
	if i < 0 {
		return agentKey{}, false
	}
	return agentKeys()[i], true
}

// upperSnake turns mmsApiKey into MMS_API_KEY and sslTrustedMMSServerCertificate into SSL_TRUSTED_MMS_SERVER_CERTIFICATE.
func upperSnake(s string) string {
	var b strings.Builder
	r := []rune(s)
	for i, c := range r {
		if i > 0 && unicode.IsUpper(c) && (!unicode.IsUpper(r[i-1]) || i+1 < len(r) && unicode.IsLower(r[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(c))
	}
	return b.String()
}

// LoadAgent lays the sources over each other and validates the outcome. All faults are reported together.
func LoadAgent(src AgentSources) (*LoadedAgent, error) {
	l := &LoadedAgent{Values: map[string]string{}, Origins: map[string]Origin{}}
	var faults []error
	for _, k := range agentKeys() {
		l.Values[k.Name], l.Origins[k.Name] = k.Default, FromDefault
	}
	var idle []string
	mothership := src.File["mothership"]
	if mothership != "" && src.File["mmsBaseUrl"] == "" { // classic backup agents: host[:port], and whether by TLS
		scheme := "https://"
		if src.File["https"] == "false" {
			scheme = "http://"
		}
		l.Values["mmsBaseUrl"], l.Origins["mmsBaseUrl"] = scheme+mothership, FromFile
	} else {
		mothership = ""
	}
	for _, name := range slices.Sorted(maps.Keys(src.File)) {
		key, used := findAgentKey(name)
		_, primary := src.File[key.Name]
		switch {
		case used && name != key.Name && primary:
			faults = append(faults, fmt.Errorf("%s: %s and %s are the same setting: keep one", src.FileName, key.Name, name))
		case used:
			l.Values[key.Name], l.Origins[key.Name] = src.File[name], FromFile
		case mothership != "" && (name == "mothership" || name == "https"): // taken above
		case slices.Contains(agentKnown, name):
			idle = append(idle, name)
		default:
			faults = append(faults, unknownAgentKey(src.FileName, name))
		}
	}
	if len(idle) > 0 {
		l.Warnings = append(l.Warnings, fmt.Sprintf("%s: no effect in this version: %s", src.FileName, strings.Join(idle, ", ")))
	}
	faults = append(faults, l.environment(src)...)
	faults = append(faults, decode(l.Values, &l.Agent)...)
	faults = append(faults, l.Agent.Validate()...)
	return l, errors.Join(faults...)
}

// environment takes HEARTWOOD_AGENT_X, then X for classic keys, each also as X_FILE naming a file with the value.
func (l *LoadedAgent) environment(src AgentSources) (faults []error) {
	vars := env.ToMap(src.Environ)
	known := map[string]bool{}
	for _, k := range agentKeys() {
		known[k.Env], known[k.Env+"_FILE"] = true, true
		for _, name := range []string{k.Env, k.classic} {
			if name == "" {
				continue
			}
			v, set, err := variable(vars, name, src.ReadFile)
			if err != nil {
				faults = append(faults, err)
				break
			}
			if set {
				l.Values[k.Name], l.Origins[k.Name] = v, FromEnvironment
				break
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if strings.HasPrefix(name, "HEARTWOOD_AGENT_") && !known[name] {
			hint := ""
			if near := Suggest(name, slices.Collect(maps.Keys(known))); near != "" {
				hint = ": did you mean " + near + "?"
			}
			faults = append(faults, fmt.Errorf("environment: unknown variable %s%s", name, hint))
		}
	}
	return faults
}

func unknownAgentKey(where, name string) error {
	var names []string
	for _, k := range agentKeys() {
		names = append(names, k.Name)
		if k.alias != "" {
			names = append(names, k.alias)
		}
	}
	return unknownName(where, name, names, "`heartwood monitoring-agent --help` lists all")
}

// Validate returns every fault of the values themselves, each naming its setting.
func (a *Agent) Validate() []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if a.BaseURL == "" {
		fault("mmsBaseUrl: required: the URL of the server's agent port, such as http://heartwood.example.com:8081")
	} else if !isHTTPURL(a.BaseURL) {
		fault("mmsBaseUrl: %q is not a URL such as http://heartwood.example.com:8081", a.BaseURL)
	}
	if !model.ID(a.GroupID).Valid() {
		fault("mmsGroupId: %q is not a group id (24 hexadecimal digits): Settings > Agents shows it", a.GroupID)
	}
	switch {
	case a.APIKey == "" && a.APIKeyExec == "":
		fault("mmsApiKey: required: create one under Settings > Agents (or give mmsApiKeyExec)")
	case a.APIKey != "" && a.APIKeyExec != "":
		fault("mmsApiKey: set it or mmsApiKeyExec, not both")
	}
	if a.HTTPProxy != "" && !isHTTPURL(a.HTTPProxy) {
		fault("httpProxy: not a URL such as http://proxy.example.com:3128")
	}
	if a.MongoURI != "" && !strings.HasPrefix(a.MongoURI, "mongodb://") && !strings.HasPrefix(a.MongoURI, "mongodb+srv://") {
		fault("mongoUri: a connection string begins with mongodb:// or mongodb+srv://")
	}
	for _, s := range a.SeedHosts {
		if _, _, err := model.SplitAddress(s); err != nil {
			fault("seedHosts: %w", err)
		}
	}
	if a.AuthPassword != "" && a.AuthPasswordExec != "" {
		fault("globalAuthPassword: set it or globalAuthPasswordExec, not both")
	}
	if a.AuthUsername == "" && (a.AuthPassword != "" || a.AuthPasswordExec != "") {
		fault("globalAuthUsername: a password is set without it")
	}
	if a.RestorePassword != "" && a.RestorePasswordExec != "" {
		fault("restorePassword: set it or restorePasswordExec, not both")
	}
	if a.RestoreUsername == "" && (a.RestorePassword != "" || a.RestorePasswordExec != "") {
		fault("restoreUsername: a password is set without it")
	}
	mechanisms := []string{"", "SCRAM-SHA-256", "SCRAM-SHA-1", "MONGODB-X509", "PLAIN"}
	switch {
	case !slices.Contains(mechanisms, a.RestoreMechanism):
		fault("restoreAuthMechanism: %q: use SCRAM-SHA-256, SCRAM-SHA-1, MONGODB-X509 or PLAIN", a.RestoreMechanism)
	case a.RestoreMechanism == "MONGODB-X509" && a.TLSCertFile == "":
		fault("restoreAuthMechanism: MONGODB-X509 needs sslClientCertificate")
	}
	switch {
	case !slices.Contains(mechanisms, a.AuthMechanism):
		fault("globalAuthMechanism: %q: use SCRAM-SHA-256, SCRAM-SHA-1, MONGODB-X509 or PLAIN", a.AuthMechanism)
	case a.AuthMechanism == "MONGODB-X509" && a.TLSCertFile == "":
		fault("globalAuthMechanism: MONGODB-X509 needs sslClientCertificate")
	}
	if a.TLSCertPass != "" && a.TLSCertPassExec != "" {
		fault("sslClientCertificatePassword: set it or sslClientCertificatePasswordExec, not both")
	}
	if a.ServerCertPass != "" && a.ServerCertExec != "" {
		fault("sslServerClientCertificatePassword: set it or sslServerClientCertificatePasswordExec, not both")
	}
	if _, err := obs.ParseLevel(a.LogLevel); err != nil {
		fault("logLevel: %w", err)
	}
	if a.LogFormat != "text" && a.LogFormat != "json" {
		fault("logFormat: %q: use text or json", a.LogFormat)
	}
	for _, n := range []struct {
		key        string
		value, min int64
	}{
		{"dialTimeoutSeconds", int64(a.DialSeconds), 1},
		{"serverSelectionTimeoutSeconds", int64(a.SelectionSeconds), 1},
		{"spoolMaxBytes", a.SpoolMaxBytes, 1 << 20},
		{"maxLogFiles", int64(a.LogMaxFiles), 1},
		{"maxLogFileSize", a.LogMaxSize, 1 << 10},
		{"maxLogFileDurationHrs", int64(a.LogMaxHours), 1},
		{"maxUncompressedLogFiles", int64(a.LogPlainFiles), 0},
	} {
		if n.value < n.min {
			fault("%s: %d is below %d", n.key, n.value, n.min)
		}
	}
	return faults
}

func isHTTPURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// DefaultAgent is an agent's configuration with every default and nothing required set.
func DefaultAgent() Agent {
	l, _ := LoadAgent(AgentSources{}) // the faults are the required keys
	return l.Agent
}

// Redacted lists every setting with its effective value and origin; secrets are replaced by ***.
func (l *LoadedAgent) Redacted() []Row {
	rows := make([]Row, 0, len(agentKeys()))
	for _, k := range agentKeys() {
		v := l.Values[k.Name]
		switch {
		case v == "":
		case k.Secret == "all":
			v = model.Secret(v).String()
		case k.Secret == "uri":
			v = redactURI(v)
		case k.Secret == "url":
			if u, err := url.Parse(v); err == nil {
				v = u.Redacted()
			}
		}
		rows = append(rows, Row{Key: k.Name, Value: v, Origin: l.Origins[k.Name], Env: k.Env, Help: k.Help})
	}
	return rows
}
