package profile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFlagsGoBeforeTheEnvironmentBeforeTheProfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "profiles.yaml")
	a := Profile{URL: "http://a", PublicKey: "pa", PrivateKey: "ka", Group: "ga", CAFile: "ca", Insecure: true}
	b := Profile{URL: "http://b", PublicKey: "pb", PrivateKey: "kb", Group: "gb"}
	f := File{Default: "a", Profiles: map[string]Profile{"a": a, "b": b}}
	if err := f.Save(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	t.Setenv(EnvFile, path)
	for _, c := range []struct {
		name  string
		flags Flags
		env   map[string]string
		want  Profile
		fault string
	}{
		{"the default", Flags{}, nil, a, ""},
		{"one that a flag names", Flags{Profile: "b"}, nil, b, ""},
		{"one that the environment names", Flags{}, map[string]string{EnvProfile: "b"}, b, ""},
		{"the flag's rather than the environment's", Flags{Profile: "a"}, map[string]string{EnvProfile: "b"}, a, ""},
		{"parts of each", Flags{Profile: "b", Group: "flag"}, map[string]string{EnvURL: "http://env", EnvGroup: "env"}, Profile{URL: "http://env", PublicKey: "pb", PrivateKey: "kb", Group: "flag"}, ""},
		{"the environment alone", Flags{}, map[string]string{EnvURL: "http://e", EnvPublic: "p", EnvPrivate: "k"}, Profile{URL: "http://e", PublicKey: "p", PrivateKey: "k"}, ""},
		{"none of the name", Flags{Profile: "c"}, nil, Profile{}, "no such profile (it has: a, b)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.flags.Resolve(func(k string) string { return c.env[k] })
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Error(err)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("%v\n%s", err, cmp.Diff(c.want, got))
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("default: a\nprofiles:\n  a: {url: http://a, publicKey: p, privateKey: k, group: g, caFile: c, insecure: true}\n"))
	f.Add([]byte("profiles: &a {a: *a}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		x := &File{}
		if x.decode("f", b) != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "p.yaml")
		if err := x.Save(path); err != nil {
			t.Fatal(err)
		}
		again, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(reveal(x), reveal(again)); d != "" {
			t.Error(d)
		}
	})
}

func reveal(f *File) map[string][]string {
	out := map[string][]string{"default": {f.Default}}
	for name, p := range f.Profiles {
		out["p/"+name] = []string{p.URL, p.PublicKey, p.PrivateKey.Reveal(), p.Group, p.CAFile}
	}
	return out
}
