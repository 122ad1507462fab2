package model

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretsAreRedactedHoweverTheyArePrinted(t *testing.T) {
	s := Secret("hush-hush")
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("m", "key", s, "in", Credentials{Password: s})
	asJSON, err := json.Marshal(map[string]any{"s": s, "c": Credentials{Username: "ann", Password: s}})
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{
		logged.String(), string(asJSON), fmt.Sprint(s), fmt.Sprintf("%q %v %+v %#v %s", s, s, Credentials{Password: s}, Credentials{Password: s}, s),
	} {
		if strings.Contains(shown, "hush") {
			t.Errorf("shown in %s", shown)
		}
	}
	if s.Reveal() != "hush-hush" || Secret("").String() != "" {
		t.Error("the text itself is gone, or an empty secret looks set")
	}
}

func TestAddresses(t *testing.T) {
	good := map[string]string{
		"db1": "db1:27017", "DB1.Example.com:27018": "db1.example.com:27018", "[::1]:27019": "[::1]:27019", "[fe80::1]": "[fe80::1]:27017",
		" db1:1 ": "db1:1", "::1": "[::1]:27017",
	}
	for in, want := range good {
		host, port, err := SplitAddress(in)
		if err != nil || Address(host, port) != want {
			t.Errorf("%q: %q %d %v, want %s", in, host, port, err, want)
		}
	}
	for _, in := range []string{"", ":27017", "db1:0", "db1:65536", "db1:x", "a b", "mongodb://db1", "u@db1", "db1/x"} {
		if host, port, err := SplitAddress(in); err == nil {
			t.Errorf("%q was taken for %s %d", in, host, port)
		}
	}
}

func TestIDs(t *testing.T) {
	if a, b := NewID(), NewID(); a == b || !a.Valid() || !b.Valid() {
		t.Errorf("%s %s", a, b)
	}
	g := ID("5f0000000000000000000001")
	if h := NewHostID(g, "DB1", 27017); !h.Valid() || h != NewHostID(g, "db1", 27017) || h == NewHostID(g, "db1", 27018) {
		t.Errorf("host id %s", h)
	}
	first, again, other := DeriveID("a", "b"), DeriveID("a", "b"), DeriveID("a", "c")
	if first != again || first == other || !first.Valid() {
		t.Errorf("derived ids: %s, %s, %s", first, again, other)
	}
	for _, bad := range []ID{"", "5f", "5F0000000000000000000001", "5f000000000000000000000g"} {
		if bad.Valid() {
			t.Errorf("%q is valid", bad)
		}
	}
}

func TestMemberStatesThatNoServerSendsAreUnknown(t *testing.T) {
	for s, want := range map[MemberState]string{StatePrimary: "PRIMARY", StateRemoved: "REMOVED", -1: "UNKNOWN", 42: "UNKNOWN"} {
		if s.String() != want {
			t.Errorf("%d is %s, want %s", int(s), s, want)
		}
	}
}
