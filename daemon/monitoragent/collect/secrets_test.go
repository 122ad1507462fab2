package collect_test

import (
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/mongotest"
)

func TestNoSecretLeavesTheAgent(t *testing.T) {
	proc := mongotest.Start(t, "standalone")
	proc.Set("getParameter", mongotest.Doc(bson.D{
		{Key: "ldapQueryPassword", Value: "geheim"},
		{Key: "ldapBindTimeoutMS", Value: int32(7)},
		{Key: "vault", Value: bson.D{{Key: "token", Value: "geheim"}, {Key: "tokenFile", Value: "/etc/token"}}},
		{Key: "someSecrets", Value: bson.A{"geheim", bson.D{{Key: "clientSecret", Value: "geheim"}, {Key: "id", Value: "x1"}}}},
		{Key: "mongotHost", Value: "mongodb://search:geheim@db1:27027/?a=b"},
		{Key: "tokenLifetimeSecs", Value: int64(60)},
		{Key: "ok", Value: 1.0},
	}))
	proc.Set("getCmdLineOpts", mongotest.Doc(bson.D{
		{Key: "argv", Value: bson.A{
			"mongod", "--tlsCertificateKeyFilePassword", "geheim", "--sslPEMKeyPassword=geheim", "--setParameter", "ldapQueryPassword=geheim",
			"--port", "27017", "--vaultTokenFile", "/etc/token",
		}},
		{Key: "parsed", Value: bson.D{
			{Key: "net", Value: bson.D{{Key: "port", Value: int32(27017)}, {Key: "tls", Value: bson.D{{Key: "certificateKeyFilePassword", Value: "geheim"}}}}},
			{Key: "setParameter", Value: bson.D{{Key: "ldapQueryPassword", Value: "geheim"}}},
		}},
		{Key: "ok", Value: 1.0},
	}))
	p, r := visit(t, start(t, proc, nil), day)
	if len(p.Errors) > 0 {
		t.Errorf("failures %+v", p.Errors)
	}
	if all := r.String(); strings.Contains(all, "geheim") {
		t.Errorf("a secret was sent: %s%s", r.Lookup("getParameter"), r.Lookup("getCmdLineOpts"))
	}
	for path, want := range map[string]string{
		"getParameter.ldapQueryPassword": "***", "getParameter.vault.tokenFile": "/etc/token", "getParameter.someSecrets.1.id": "x1",
		"getParameter.mongotHost": "mongodb://search:***@db1:27027/?a=b", "getCmdLineOpts.argv.0": "mongod", "getCmdLineOpts.argv.2": "***",
		"getCmdLineOpts.argv.3": "--sslPEMKeyPassword=***", "getCmdLineOpts.argv.5": "ldapQueryPassword=***", "getCmdLineOpts.argv.7": "27017",
		"getCmdLineOpts.argv.9": "/etc/token",
	} {
		if got, _ := r.Lookup(strings.Split(path, ".")...).StringValueOK(); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	if n, ok := r.Lookup("getParameter", "tokenLifetimeSecs").Int64OK(); !ok || n != 60 {
		t.Error("a number was touched")
	}
}
