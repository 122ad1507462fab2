package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/config"
)

const goodAgent = `
# as the classic agent's file has it
mmsApiKey = 0123456789abcdef
mmsGroupId=5f3a1c0e9d8b7a6f5e4d3c2b
mmsBaseUrl=http://heartwood.example.com:8081
`

func loadAgent(t *testing.T, file string, environ ...string) (*config.LoadedAgent, error) {
	t.Helper()
	values, err := config.ParseProperties("agent.config", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return config.LoadAgent(config.AgentSources{
		File: values, FileName: "agent.config", Environ: environ,
		ReadFile: func(name string) ([]byte, error) {
			if name == "/run/secrets/key" {
				return []byte("from-a-file\n"), nil
			}
			return nil, errors.New("no such file")
		},
	})
}

func TestAgentDefaults(t *testing.T) {
	l, err := loadAgent(t, goodAgent)
	if err != nil {
		t.Fatal(err)
	}
	a := l.Agent
	if !a.TLSVerify || !a.ServerVerify || a.TLSAll || a.LogMaxFiles != 10 || a.LogMaxSize != 268435456 || a.LogPlainFiles != 2 ||
		a.LogMaxHours != 24 || a.SpoolMaxBytes != 1<<30 || a.APIKey.Reveal() != "0123456789abcdef" {
		t.Errorf("%+v", a)
	}
	if len(l.Warnings) > 0 {
		t.Errorf("warnings %v", l.Warnings)
	}
}

func TestAgentLayers(t *testing.T) {
	tests := []struct {
		name, file string
		environ    []string
		key, want  string
		origin     config.Origin
	}{
		{"file", "", nil, "mmsApiKey", "0123456789abcdef", config.FromFile},
		{"our variable wins over the file", "", []string{"HEARTWOOD_AGENT_MMS_API_KEY=env"}, "mmsApiKey", "env", config.FromEnvironment},
		{"classic variable", "", []string{"MMS_API_KEY=env"}, "mmsApiKey", "env", config.FromEnvironment},
		{"variable that names a file", "", []string{"MMS_API_KEY_FILE=/run/secrets/key"}, "mmsApiKey", "from-a-file", config.FromEnvironment},
		{
			"our variable that names a file", "",
			[]string{"HEARTWOOD_AGENT_GLOBAL_AUTH_PASSWORD_FILE=/run/secrets/key", "GLOBAL_AUTH_USERNAME=u"},
			"globalAuthPassword", "from-a-file", config.FromEnvironment,
		},
		{"newer spelling", "httpsCAFile=/ca.pem\n", nil, "sslTrustedMMSServerCertificate", "/ca.pem", config.FromFile},
		{
			"a word with capitals inside", "",
			[]string{"HEARTWOOD_AGENT_SSL_REQUIRE_VALID_MMS_SERVER_CERTIFICATES=false"},
			"sslRequireValidMMSServerCertificates", "false", config.FromEnvironment,
		},
		{"True of the Python agent", "useSslForAllConnections=True\n", nil, "useSslForAllConnections", "True", config.FromFile},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := loadAgent(t, goodAgent+tt.file, tt.environ...)
			if err != nil {
				t.Fatal(err)
			}
			if l.Values[tt.key] != tt.want || l.Origins[tt.key] != tt.origin {
				t.Errorf("%s is %q from %s", tt.key, l.Values[tt.key], l.Origins[tt.key])
			}
		})
	}
}

func TestAgentFaults(t *testing.T) {
	tests := []struct {
		name, file string
		environ    []string
		want       []string // all of them, in one error
	}{
		{"nothing set", "", nil, []string{"mmsBaseUrl: required", "mmsGroupId", "mmsApiKey: required"}},
		{"typing errors get a suggestion", goodAgent + "mmsBaseURI=x\nlogfile=y\n", nil, []string{
			"unknown setting mmsBaseURI: did you mean mmsBaseUrl?", "unknown setting logfile: did you mean logFile?",
		}},
		{"unknown variable", goodAgent, []string{"HEARTWOOD_AGENT_MMS_APIKEY=x"}, []string{"did you mean HEARTWOOD_AGENT_MMS_API_KEY?"}},
		{"wrong values", goodAgent + "maxLogFiles=many\nuseSslForAllConnections=perhaps\n", nil, []string{"maxLogFiles:", "useSslForAllConnections:"}},
		{
			"values out of bounds", goodAgent + "spoolMaxBytes=5\nlogLevel=LOUD\nlogFormat=xml\nglobalAuthMechanism=MAGIC\n", nil,
			[]string{"spoolMaxBytes: 5", "logLevel", "logFormat", "globalAuthMechanism"},
		},
		{"both the secret and its command", goodAgent + "mmsApiKeyExec=cat key\n", nil, []string{"mmsApiKey: set it or mmsApiKeyExec"}},
		{"X.509 without certificate", goodAgent + "globalAuthMechanism=MONGODB-X509\n", nil, []string{"needs sslClientCertificate"}},
		{"password without user", goodAgent + "globalAuthPassword=x\n", nil, []string{"globalAuthUsername"}},
		{"both spellings", goodAgent + "httpsCAFile=a\nsslTrustedMMSServerCertificate=b\n", nil, []string{"the same setting"}},
		{"variable and file variable", goodAgent, []string{"MMS_API_KEY=a", "MMS_API_KEY_FILE=b"}, []string{"not both"}},
		{"file that is not there", goodAgent, []string{"MMS_API_KEY_FILE=/nowhere"}, []string{"MMS_API_KEY_FILE: no such file"}},
		{"seeds", goodAgent + "seedHosts=db1:27017,db2:port\n", nil, []string{"seedHosts"}},
		{
			"URLs", "mmsApiKey=a\nmmsGroupId=5f3a1c0e9d8b7a6f5e4d3c2b\nmmsBaseUrl=heartwood:8081\nhttpProxy=nowhere\nmongoUri=db1\n", nil,
			[]string{"mmsBaseUrl", "httpProxy", "mongoUri"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := loadAgent(t, tt.file, tt.environ...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in:\n%v", w, err)
				}
			}
		})
	}
}

func TestAgentKnownKeysWarnOnce(t *testing.T) {
	l, err := loadAgent(t, goodAgent+"enableMunin=true\nkrb5Principal=x\nmothership=api.example.com\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], "enableMunin, krb5Principal, mothership") {
		t.Errorf("warnings %v", l.Warnings)
	}
}

func TestAgentShowsNoSecrets(t *testing.T) {
	l, err := loadAgent(t, goodAgent+"mongoUri=mongodb://u:pl4in@db1/\nglobalAuthUsername=u\nglobalAuthPassword=pl4in\nhttpProxy=http://u:pl4in@proxy:3128\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range l.Redacted() {
		if strings.Contains(row.Value, "pl4in") || strings.Contains(row.Value, "0123456789abcdef") {
			t.Errorf("%s shows %q", row.Key, row.Value)
		}
	}
}

func TestClassicBackupAgentFile(t *testing.T) {
	const rest = "mmsApiKey=abc\nmmsGroupId=5f3a1c0e9d8b7a6f5e4d3c2b\n"
	for file, want := range map[string]string{
		"mothership=mms.example.com:8081\nhttps=false\n": "http://mms.example.com:8081",
		"mothership=mms.example.com\n":                   "https://mms.example.com",
		"mothership=mms.example.com\nhttps=true\n":       "https://mms.example.com",
	} {
		l, err := loadAgent(t, file+rest)
		if err != nil {
			t.Fatal(err)
		}
		if l.Agent.BaseURL != want || len(l.Warnings) != 0 {
			t.Errorf("%s: base URL %q, warnings %q", file, l.Agent.BaseURL, l.Warnings)
		}
	}
}
