package config

import (
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Key describes one setting of the server.
type Key struct {
	Name    string
	Env     string // environment variable; Env+"_FILE" names a file that holds the value
	Default string
	Help    string
	Boot    bool   // needed to reach the database, so it cannot be kept there
	Secret  string // "": plain, "all": never shown, "uri": shown without its password
}

// serverKeys are the settings this build uses, in the order of the struct.
var serverKeys = sync.OnceValue(func() []Key {
	t := reflect.TypeFor[Server]()
	keys := make([]Key, 0, t.NumField())
	for f := range t.Fields() {
		name := f.Tag.Get("key")
		keys = append(keys, Key{
			Name: name, Env: envName(name), Default: f.Tag.Get("default"), Help: f.Tag.Get("help"),
			Boot: f.Tag.Get("scope") == "boot", Secret: f.Tag.Get("secret"),
		})
	}
	return keys
})

func findKey(name string) (Key, bool) {
	i := slices.IndexFunc(serverKeys(), func(k Key) bool { return k.Name == name })
	if i < 0 {
		return Key{}, false
	}
	return serverKeys()[i], true
}

// envName is HEARTWOOD_ and the key in capitals with underscores; our own prefix is not doubled.
func envName(key string) string {
	key = strings.TrimPrefix(key, "heartwood.")
	return "HEARTWOOD_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}

// known are settings of MMS On Prem and Ops Manager that load without an error but have no effect in this build. An entry
// that ends in ".*" stands for all keys below it.
var known = []string{
	"mms.adminFromEmailAddr", "mms.bounceEmailAddr", "reCaptcha.*", "mongo.replicaSet",
	"mongo.encryptedCredentials", "mongo.backupdb.replicaSet", "mms.https.dualConnectors", "mms.http.bindhostname", "http.proxy.*",
	"mms.password.*", "mms.user.*", "mms.email.validation", "mms.multiFactorAuth.*", "mms.userSvcClass", "mms.ldap.*",
	"mms.kerberos.*", "jvm.*", "mms.alerts.*", "mms.backup.*", "brs.*", "backup.*", "mms.publicApi.whitelistEnabled",
	"mms.admin.*", "mms.security.disableBrowserCaching", "mms.security.show.om.version", "mms.allclusters.onlyMembership",
	"snmp.*", "automation.*", "mongodb.release.autoDownload", "ping.queue.size", "ping.thread.count", "increment.queue.size",
	"increment.thread.count", "mms.featureFlag.*", "mms.prom.*", "mms.ignoreInitialUiSetup",
	"mms.monitoring.*", "mms.appVersion", "mms.license.*", "mms.helpAndSupportPage.*",
}

func isKnown(key string) bool {
	return slices.ContainsFunc(known, func(k string) bool {
		if prefix, all := strings.CutSuffix(k, "*"); all {
			return strings.HasPrefix(key, prefix)
		}
		return k == key
	})
}
