package redact

import (
	"bytes"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func raw(t testing.TB, v any) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReply(t *testing.T) {
	for name, c := range map[string]struct{ in, want any }{
		"a secret by its name":              {bson.D{{Key: "ldapQueryPassword", Value: "x"}}, bson.D{{Key: "ldapQueryPassword", Value: "***"}}},
		"where a secret is kept is none":    {bson.D{{Key: "tokenFile", Value: "/x"}}, bson.D{{Key: "tokenFile", Value: "/x"}}},
		"one that is not set":               {bson.D{{Key: "password", Value: ""}}, bson.D{{Key: "password", Value: ""}}},
		"a number is none":                  {bson.D{{Key: "tokenLifetime", Value: int32(5)}}, bson.D{{Key: "tokenLifetime", Value: int32(5)}}},
		"deep in documents and arrays":      {bson.D{{Key: "a", Value: bson.A{bson.D{{Key: "secret", Value: "x"}}}}}, bson.D{{Key: "a", Value: bson.A{bson.D{{Key: "secret", Value: "***"}}}}}},
		"an array of secrets":               {bson.D{{Key: "tokens", Value: bson.A{"x", "y"}}}, bson.D{{Key: "tokens", Value: bson.A{"***", "***"}}}},
		"the password of an address":        {bson.D{{Key: "to", Value: "mongodb://u:p@h/?a"}}, bson.D{{Key: "to", Value: "mongodb://u:***@h/?a"}}},
		"an option and its value":           {bson.D{{Key: "argv", Value: bson.A{"--password", "x", "y"}}}, bson.D{{Key: "argv", Value: bson.A{"--password", "***", "y"}}}},
		"an option with its value":          {bson.D{{Key: "argv", Value: bson.A{"--password=x"}}}, bson.D{{Key: "argv", Value: bson.A{"--password=***"}}}},
		"an option without a value":         {bson.D{{Key: "argv", Value: bson.A{"--password", "--port"}}}, bson.D{{Key: "argv", Value: bson.A{"--password", "--port"}}}},
		"a parameter on the command line":   {bson.D{{Key: "argv", Value: bson.A{"--setParameter", "apiToken=x"}}}, bson.D{{Key: "argv", Value: bson.A{"--setParameter", "apiToken=***"}}}},
		"an address on the command line":    {bson.D{{Key: "argv", Value: bson.A{"http://u:p@h"}}}, bson.D{{Key: "argv", Value: bson.A{"http://u:***@h"}}}},
		"arguments that are not strings go": {bson.D{{Key: "argv", Value: bson.A{int32(1)}}}, bson.D{{Key: "argv", Value: bson.A{int32(1)}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Reply(raw(t, c.in))
			if want := raw(t, c.want); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%v %v, want %v", got, err, want)
			}
		})
	}
}

// sound reports whether a document is one.
func sound(b bson.Raw) (ok bool) {
	defer func() { ok = recover() == nil && ok }()
	return b.Validate() == nil
}

// FuzzReply gives it whatever a process may answer.
func FuzzReply(f *testing.F) {
	f.Add([]byte(raw(f, bson.D{{Key: "argv", Value: bson.A{"--password", "x"}}, {Key: "secret", Value: "x"}})))
	f.Add([]byte{5, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Reply(b)
		if err != nil || !sound(b) {
			return
		}
		if err := got.Validate(); err != nil {
			t.Errorf("of a sound reply it made %x: %v", got, err)
		}
		if s, ok := got.Lookup("secret").StringValueOK(); ok && s != "" && s != hidden {
			t.Errorf("secret %q stays", s)
		}
	})
}
