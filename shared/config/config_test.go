package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func load(t *testing.T, src Sources) *Loaded {
	t.Helper()
	l, err := Load(src)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return l
}

func TestDefaultsAreValidAndDecode(t *testing.T) {
	l := load(t, Sources{})
	if l.Server.IngestionPort != 8081 || l.Server.RetainMinutes != 48*time.Hour || len(l.Server.TrustedProxies) != 2 || !l.Server.Embedded() {
		t.Fatalf("defaults decoded wrongly: %+v", l.Server)
	}
	if len(l.Warnings) != 0 {
		t.Fatalf("defaults warn: %v", l.Warnings)
	}
}

func TestStrongerLayersWin(t *testing.T) {
	const key = "mms.session.maxHours"
	layers := []struct {
		src  Sources
		want int
		from Origin
	}{
		{Sources{}, 12, FromDefault},
		{Sources{Database: map[string]string{key: "1"}}, 1, FromDatabase},
		{Sources{Database: map[string]string{key: "1"}, File: map[string]string{key: "2"}}, 2, FromFile},
		{Sources{File: map[string]string{key: "2"}, Environ: []string{"HEARTWOOD_MMS_SESSION_MAXHOURS=3"}}, 3, FromEnvironment},
		{Sources{Environ: []string{"HEARTWOOD_MMS_SESSION_MAXHOURS=3"}, Flags: map[string]string{key: "4"}}, 4, FromFlag},
	}
	for _, c := range layers {
		l := load(t, c.src)
		if l.Server.SessionMaxHours != c.want || l.Origins[key] != c.from {
			t.Errorf("got %d from %s, want %d from %s", l.Server.SessionMaxHours, l.Origins[key], c.want, c.from)
		}
	}
}

func TestEveryFaultIsReportedAtOnce(t *testing.T) {
	_, err := Load(Sources{
		FileName: "conf-mms.properties",
		Database: map[string]string{"mongo.mongoUri": "mongodb://a"},
		File: map[string]string{
			"mms.centralURL": "http://x", "heartwood.ingestion.port": "many", "mms.monitoring.agent.session.timeoutMillis": "60000",
			"heartwood.retention.hour": "24h", "mms.centralUrl": "nowhere", "zzz": "1",
			"heartwood.alerts.webhook.allow": "10.0.0.0", "heartwood.alerts.heartbeatUrl": "hush", "heartwood.alerts.retention": "1h", "heartwood.alerts.every": "4s",
			"heartwood.proxyProtocol": "v2", "heartwood.drainSeconds": "301",
		},
		Environ: []string{"HEARTWOOD_LOG_LEVEL=LOUD", "HEARTWOOD_MONGO_MONGOURI=mongodb://x", "HEARTWOOD_MONGO_MONGOURI_FILE=/f"},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"conf-mms.properties: unknown setting mms.centralURL: did you mean mms.centralUrl?", "heartwood.ingestion.port: ",
		"60000 is below 90000", "heartwood.retention.hour: 24h", `mms.centralUrl: "nowhere"`, "unknown setting zzz: `heartwood config show`",
		`log level "LOUD"`, `heartwood.alerts.webhook.allow: "10.0.0.0"`, "heartwood.alerts.heartbeatUrl: it is not a URL", "heartwood.alerts.retention: 1h0m0s", "heartwood.alerts.every: 4s is not from 5s to 1m0s", `heartwood.proxyProtocol: "v2"`, "heartwood.drainSeconds: 301", "set HEARTWOOD_MONGO_MONGOURI or HEARTWOOD_MONGO_MONGOURI_FILE", "mongo.mongoUri is needed to reach the database",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
}

func TestKnownSettingsOfOpsManagerWarnOnce(t *testing.T) {
	l := load(t, Sources{FileName: "f", File: map[string]string{"mms.ldap.url": "ldap://x", "mongo.replicaSet": "rs0"}})
	if len(l.Warnings) != 2 || !strings.Contains(l.Warnings[0], "mms.ldap.url has no effect") {
		t.Fatalf("warnings: %q", l.Warnings)
	}
}

func TestSecretFromFileIsTrimmedAndRedacted(t *testing.T) {
	l := load(t, Sources{
		Environ: []string{"HEARTWOOD_MONGO_MONGOURI_FILE=/run/uri", "HEARTWOOD_MMS_HTTPS_PEMKEYFILEPASSWORD=hush"},
		ReadFile: func(string) ([]byte, error) {
			return []byte("mongodb://ann:s3cret@a,b,c/?replicaSet=rs0\n"), nil
		},
	})
	if l.Server.MongoURI != "mongodb://ann:s3cret@a,b,c/?replicaSet=rs0" || l.Server.HTTPSPEMKeyPass.Reveal() != "hush" {
		t.Fatalf("not read: %+v", l.Server)
	}
	for _, r := range l.Redacted() {
		if strings.Contains(r.Value, "s3cret") || strings.Contains(r.Value, "hush") {
			t.Errorf("%s shows a secret: %s", r.Key, r.Value)
		}
		if r.Key == "mongo.mongoUri" && r.Value != "mongodb://ann:***@a,b,c/?replicaSet=rs0" {
			t.Errorf("uri shown as %s", r.Value)
		}
	}
}

func TestFewHostsWarn(t *testing.T) {
	for uri, warns := range map[string]bool{
		"mongodb://a,b,c/?replicaSet=r": false, "mongodb://a,b/": true, "mongodb://u:p@a": true, "mongodb+srv://cluster.example.com/": false,
	} {
		l := load(t, Sources{Flags: map[string]string{"mongo.mongoUri": uri}})
		if got := len(l.Warnings) > 0; got != warns {
			t.Errorf("%s: warnings %v", uri, l.Warnings)
		}
	}
}

func TestDrain(t *testing.T) {
	for _, c := range []struct {
		name     string
		settings map[string]string
		want     time.Duration
	}{
		{"nothing in front: stop at once", nil, 0},
		{"behind a balancer that sends the header", map[string]string{"mms.remoteIp.header": "X-Forwarded-For"}, 5 * time.Second},
		{"behind a balancer that speaks the PROXY protocol", map[string]string{"heartwood.proxyProtocol": "required"}, 5 * time.Second},
		{"as said", map[string]string{"heartwood.proxyProtocol": "optional", "heartwood.drainSeconds": "60"}, time.Minute},
		{"none although behind a balancer", map[string]string{"mms.remoteIp.header": "X-Forwarded-For", "heartwood.drainSeconds": "0"}, 0},
	} {
		if got := load(t, Sources{Flags: c.settings}).Server.Drain(); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestNobodyTrustedWarns(t *testing.T) {
	for header, want := range map[string]bool{"": false, "X-Forwarded-For": true} {
		l := load(t, Sources{Flags: map[string]string{"mms.remoteIp.header": header, "heartwood.trustedProxies": ""}})
		if got := strings.Contains(strings.Join(l.Warnings, "\n"), "heartwood.trustedProxies is empty"); got != want {
			t.Errorf("header %q: warned %v: %q", header, got, l.Warnings)
		}
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "gen.key")
	if _, err := ReadKey(path); !IsMissing(err) {
		t.Fatalf("missing file: %v", err)
	}
	made, err := CreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ReadKey(path); err != nil || string(got) != string(made) {
		t.Fatalf("read back %x, %v", got, err)
	}
	if _, err := CreateKey(path); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("overwrote the key: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKey(path); err == nil || !strings.Contains(err.Error(), "lets others read") {
		t.Fatalf("mode 644: %v", err)
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("short"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKey(path); err == nil || !strings.Contains(err.Error(), "5 bytes") {
		t.Fatalf("short key: %v", err)
	}
}

func TestParseProperties(t *testing.T) {
	got, err := ParseProperties("f", []byte("# c\n! c\n\n a = b = c \nuri=mongodb://x,\\\n  y\nempty=\n"))
	if err != nil || got["a"] != "b = c" || got["uri"] != "mongodb://x,y" || len(got) != 3 {
		t.Fatalf("%q, %v", got, err)
	}
	_, err = ParseProperties("f", []byte("a=1\nnonsense\na=2\n=3\n"))
	for _, want := range []string{"f line 2: expected key=value", "f line 3: a is set twice", "f line 4"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

func FuzzParseProperties(f *testing.F) {
	f.Add([]byte("a=b\\\nc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		values, _ := ParseProperties("f", b)
		for k := range values {
			if k == "" || strings.TrimSpace(k) != k {
				t.Fatalf("key %q", k)
			}
		}
	})
}

func TestAKeyMayBeGivenAsAValue(t *testing.T) {
	const key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3" // 24 bytes
	l := load(t, Sources{Environ: []string{"HEARTWOOD_GEN_KEY=" + key}})
	if got, err := l.Server.GivenKey(); err != nil || string(got) != "0123456789abcdef01234567" {
		t.Errorf("%q, %v", got, err)
	}
	for _, r := range l.Redacted() {
		if strings.Contains(r.Value, key) {
			t.Errorf("%s shows the key", r.Key)
		}
	}
	if got, err := load(t, Sources{}).Server.GivenKey(); got != nil || err != nil {
		t.Errorf("without the setting: %q, %v", got, err)
	}
	for name, c := range map[string]struct {
		src  Sources
		want string
	}{
		"no base64":    {Sources{Environ: []string{"HEARTWOOD_GEN_KEY=not*base64"}}, "heartwood.gen.key: it is not base64"},
		"too short":    {Sources{Environ: []string{"HEARTWOOD_GEN_KEY=bm90YmFzZTY0"}}, "heartwood.gen.key: it holds 9 bytes, not 24"},
		"and a file":   {Sources{Flags: map[string]string{"heartwood.gen.key": key, "mms.keyfile": "gen.key"}}, "set it or mms.keyfile"},
		"in the store": {Sources{Database: map[string]string{"heartwood.gen.key": key}}, "cannot be kept in it"},
	} {
		_, err := Load(c.src)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		} else if strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "not*base64") {
			t.Errorf("%s: the key is in %v", name, err)
		}
	}
}
