package config

import (
	"slices"
	"strings"
	"testing"
)

// TestConnectionStrings: the settings for TLS are added, and whatever else the string says is left as it is.
func TestConnectionStrings(t *testing.T) {
	for in, want := range map[string]string{
		"mongodb://a":                                             "mongodb://a/?tls=true&tlsCAFile=%2Fca+x.pem",
		"mongodb://a,b:2,c/db":                                    "mongodb://a,b:2,c/db?tls=true&tlsCAFile=%2Fca+x.pem",
		"mongodb://[::1]:1,[::2]:2/":                              "mongodb://[::1]:1,[::2]:2/?tls=true&tlsCAFile=%2Fca+x.pem",
		"mongodb://%2Ftmp%2Fm.sock/?w=1":                          "mongodb://%2Ftmp%2Fm.sock/?w=1&tls=true&tlsCAFile=%2Fca+x.pem",
		"mongodb://u:p%40%2Fw@a/?ssl=false":                       "mongodb://u:p%40%2Fw@a/?tls=true&tlsCAFile=%2Fca+x.pem",
		"mongodb+srv://u:p@c.example/?a=b;c=d&TLSCAFILE=y":        "mongodb+srv://u:p@c.example/?a=b&c=d&tls=true&tlsCAFile=%2Fca+x.pem",
		"mongodb://a/?authMechanismProperties=SERVICE_NAME:m,X:y": "mongodb://a/?authMechanismProperties=SERVICE_NAME:m,X:y&tls=true&tlsCAFile=%2Fca+x.pem",
	} {
		s := Server{MongoTLS: true, MongoCAFile: "/ca x.pem"}
		if got := s.ConnectionString(in); got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
	}
	s := Server{MongoPEMKeyFile: "/k.pem", MongoPEMKeyPass: "a&b"}
	if got := s.ConnectionString("mongodb://a"); got != "mongodb://a/?tlsCertificateKeyFile=%2Fk.pem&tlsCertificateKeyFilePassword=a%26b" {
		t.Error(got)
	}
}

// TestSecretsOfConnectionStrings: nothing of a password is shown, also when it should have been encoded and was not.
func TestSecretsOfConnectionStrings(t *testing.T) {
	for in, want := range map[string]string{
		"mongodb://ann:hush@a,b:2/?replicaSet=r": "mongodb://ann:***@a,b:2/?replicaSet=r",
		"mongodb://a:1,b:2":                      "mongodb://a:1,b:2",
		"mongodb://ann@a/":                       "mongodb://ann@a/",
		"mongodb://[::1]:1,[::2]/":               "mongodb://[::1]:1,[::2]/",
		"mongodb://ann:hu@sh@a/x":                "mongodb://ann:***@a/x",
		"mongodb://ann:hush/hush@a/x":            "mongodb://ann:***@a/x",
		"mongodb://ann:hush?hush@a":              "mongodb://ann:***@a",
		"mongodb://ann:hush@a/?tlsCertificateKeyFilePassword=hush&authMechanismProperties=AWS_SESSION_TOKEN:hush&w=1": "mongodb://ann:***@a/?tlsCertificateKeyFilePassword=***&authMechanismProperties=***&w=1",
	} {
		if got := redactURI(in); got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
	}
}

func FuzzRedactURI(f *testing.F) {
	f.Add("pass:/?@%,;&word", "h:1,g")
	f.Fuzz(func(t *testing.T, password, host string) {
		if len(password) < 6 || strings.ContainsAny(host, "@:/?") || strings.Contains("mongodb://ann:***@"+host+"/", password) {
			return
		}
		if got := redactURI("mongodb://ann:" + password + "@" + host); strings.Contains(got, password) {
			t.Errorf("%q shows %q", got, password)
		}
	})
}

func TestWarningsOfConnectionStrings(t *testing.T) {
	const three = "mongodb://a,b,c/"
	for in, want := range map[string]string{
		three + "?replicaSet=rs0":             "",
		three + "admin?retryWrites=true":      "",
		three + "heartwood":                   "",
		three + "other":                       "names the database other",
		three + "?w=1&readPreference=nearest": "w=1, readPreference=nearest has no effect",
		three + "?directConnection=true":      "does not follow",
		three + "?connect=direct":             "does not follow",
		three + "?connect=automatic":          "",
		three + "?retryWrites=false":          "every election",
	} {
		l := load(t, Sources{Flags: map[string]string{"mongo.mongoUri": in}})
		if ok := slices.ContainsFunc(l.Warnings, func(w string) bool { return want != "" && strings.Contains(w, want) }); ok != (want != "") || want == "" && len(l.Warnings) > 0 {
			t.Errorf("%s: %q", in, l.Warnings)
		}
	}
}
