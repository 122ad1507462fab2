package auth

import (
	"regexp"
	"strings"
	"testing"
)

func TestSecretsHaveTheirForm(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		public, private := NewAPIKey()
		token, key := NewToken()
		agent := NewAgentKey()
		for what, c := range map[string]struct{ got, form string }{
			"public key":  {public, `^[a-z]{8}$`},
			"private key": {private, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`},
			"token":       {token, `^[A-Za-z0-9_-]{43}$`},
			"token key":   {key, `^[0-9a-f]{64}$`},
			"agent key":   {agent, `^[0-9a-f]{32}$`},
		} {
			if !regexp.MustCompile(c.form).MatchString(c.got) {
				t.Fatalf("%s %q", what, c.got)
			}
			if seen[c.got] {
				t.Fatalf("%s %q came twice", what, c.got)
			}
			seen[c.got] = true
		}
		if TokenKey(token) != key || strings.Contains(key, token) {
			t.Fatal("the key is not the token's")
		}
		if MaskedTail(private) != private[24:] {
			t.Fatalf("tail %q of %q", MaskedTail(private), private)
		}
	}
}
