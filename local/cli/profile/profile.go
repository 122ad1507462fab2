// Package profile knows which server the command line calls, and as whom: named profiles in a file, the environment, flags. It
// owns the file and the command `heartwood profile`.
package profile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/local/cli/public"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// The environment's names.
const (
	EnvFile    = "HEARTWOOD_PROFILE_FILE"
	EnvProfile = "HEARTWOOD_PROFILE"
	EnvURL     = "HEARTWOOD_URL"
	EnvPublic  = "HEARTWOOD_PUBLIC_KEY"
	EnvPrivate = "HEARTWOOD_PRIVATE_KEY"
	EnvGroup   = "HEARTWOOD_GROUP"
	EnvCAFile  = "HEARTWOOD_CA_FILE"
)

// Profile is one server as one key sees it.
type Profile struct {
	URL        string       `yaml:"url"`
	PublicKey  string       `yaml:"publicKey"`
	PrivateKey model.Secret `yaml:"privateKey"`
	Group      string       `yaml:"group,omitempty"` // id or name
	CAFile     string       `yaml:"caFile,omitempty"`
	Insecure   bool         `yaml:"insecure,omitempty"`
}

// File is a file of profiles.
type File struct {
	Default  string             `yaml:"default,omitempty"`
	Profiles map[string]Profile `yaml:"profiles"`
}

// Path is where the profiles are kept.
func Path() (string, error) {
	if p := os.Getenv(EnvFile); p != "" {
		return p, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", opererr.New("find the file of profiles", err, "name one in "+EnvFile)
	}
	if home, err := os.UserHomeDir(); err == nil && os.Getenv("XDG_CONFIG_HOME") == "" {
		dir = filepath.Join(home, ".config") // on every system, so that one text explains it
	}
	return filepath.Join(dir, "heartwood", "profiles.yaml"), nil
}

// maxFile bounds files of profiles.
const maxFile = 1 << 20

// Load reads a file of profiles; one that is not there is empty.
func Load(path string) (*File, error) {
	f := &File{Profiles: map[string]Profile{}}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	var b []byte
	if err == nil {
		if info.Mode().Perm()&0o077 != 0 {
			return nil, opererr.New("read the profiles", fmt.Errorf("%s holds keys and can be read by others", path), "run: chmod 600 "+path)
		}
		if info.Size() > maxFile {
			return nil, opererr.New("read the profiles", fmt.Errorf("%s has more than 1 MiB", path), "is it a file of profiles?")
		}
		b, err = os.ReadFile(path) //nolint:gosec // the user names it
	}
	if err != nil {
		return nil, opererr.New("read the profiles", err, "name another file in "+EnvFile)
	}
	return f, f.decode(path, b)
}

func (f *File) decode(path string, b []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(f); err != nil && !errors.Is(err, io.EOF) {
		return opererr.New("read the profiles in "+path, err, "mend the file, or remove it and run: heartwood profile set NAME --url URL --public-key KEY --group GROUP")
	}
	if f.Profiles == nil {
		f.Profiles = map[string]Profile{}
	}
	return nil
}

// Save writes the file so that a crash leaves the old one or the new one. Only its owner can read it.
func (f *File) Save(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return opererr.New("write the profiles", err, "name another file in "+EnvFile)
	}
	type entry struct {
		URL        string `yaml:"url"`
		PublicKey  string `yaml:"publicKey"`
		PrivateKey string `yaml:"privateKey"`
		Group      string `yaml:"group,omitempty"`
		CAFile     string `yaml:"caFile,omitempty"`
		Insecure   bool   `yaml:"insecure,omitempty"`
	}
	out := struct {
		Default  string           `yaml:"default,omitempty"`
		Profiles map[string]entry `yaml:"profiles"`
	}{f.Default, map[string]entry{}}
	for name, p := range f.Profiles {
		out.Profiles[name] = entry{p.URL, p.PublicKey, p.PrivateKey.Reveal(), p.Group, p.CAFile, p.Insecure}
	}
	var b bytes.Buffer
	b.WriteString("# Servers and keys of the heartwood command. Written by: heartwood profile set\n")
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(out), enc.Close()); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".profiles-*") // mode 0600
	if err != nil {
		return opererr.New("write the profiles", err, "name another file in "+EnvFile)
	}
	_, err = tmp.Write(b.Bytes())
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return opererr.New("write the profiles", err, "name another file in "+EnvFile)
	}
	return nil
}

// Flags are the flags by which commands find their server.
type Flags struct {
	Profile, URL, Group, CAFile string
	Insecure                    bool
}

// Register adds the flags to a command and those below it.
func (f *Flags) Register(cmd *cobra.Command) {
	p := cmd.PersistentFlags()
	p.StringVar(&f.Profile, "profile", "", "profile to use (environment "+EnvProfile+")")
	p.StringVar(&f.URL, "url", "", "address of the server (environment "+EnvURL+")")
	p.StringVar(&f.Group, "group", "", "group, by id or name (environment "+EnvGroup+")")
	p.StringVar(&f.CAFile, "ca-file", "", "PEM file of certificates to trust (environment "+EnvCAFile+")")
	p.BoolVar(&f.Insecure, "insecure", false, "do not check the server's certificate")
}

// Resolve finds the profile to use: flags go before the environment, that before the file.
func (f *Flags) Resolve(getenv func(string) string) (Profile, error) {
	first := func(values ...string) string {
		for _, v := range values {
			if v != "" {
				return v
			}
		}
		return ""
	}
	var p Profile
	name := first(f.Profile, getenv(EnvProfile))
	whole := first(f.URL, getenv(EnvURL)) != "" && getenv(EnvPublic) != "" && getenv(EnvPrivate) != ""
	if name != "" || !whole {
		path, err := Path()
		if err != nil {
			return p, err
		}
		file, err := Load(path)
		if err != nil {
			return p, err
		}
		if p, err = file.pick(name, path); err != nil {
			return p, err
		}
	}
	p.URL = first(f.URL, getenv(EnvURL), p.URL)
	p.PublicKey = first(getenv(EnvPublic), p.PublicKey)
	p.PrivateKey = model.Secret(first(getenv(EnvPrivate), p.PrivateKey.Reveal()))
	p.Group = first(f.Group, getenv(EnvGroup), p.Group)
	p.CAFile = first(f.CAFile, getenv(EnvCAFile), p.CAFile)
	p.Insecure = p.Insecure || f.Insecure
	const example = "heartwood profile set prod --url https://heartwood.example.com --public-key KEY --group GROUP"
	switch {
	case p.URL == "":
		return p, exit.Usagef(example, "no server is named: use a profile, %s or --url", EnvURL)
	case p.PublicKey == "" || p.PrivateKey == "":
		return p, exit.Usagef(example, "no API key is given: use a profile, or %s and %s", EnvPublic, EnvPrivate)
	}
	return p, nil
}

// pick is the named profile, or the default one, or the only one, or none.
func (f *File) pick(name, path string) (Profile, error) {
	names := slices.Sorted(maps.Keys(f.Profiles))
	switch {
	case name == "" && f.Default != "":
		name = f.Default
	case name == "" && len(names) == 1:
		name = names[0]
	case name == "":
		return Profile{}, nil
	}
	p, ok := f.Profiles[name]
	if !ok {
		if len(names) == 0 {
			names = []string{"none"}
		}
		return p, opererr.New("use profile "+name, fmt.Errorf("%s has no such profile (it has: %s)", path, strings.Join(names, ", ")), "make it: heartwood profile set "+name+" --url URL --public-key KEY --group GROUP")
	}
	return p, nil
}

// Client is the client of a profile.
func (p *Profile) Client() (*public.Client, error) {
	return public.New(public.Options{URL: p.URL, PublicKey: p.PublicKey, PrivateKey: p.PrivateKey, CAFile: p.CAFile, Insecure: p.Insecure})
}

// Group is a group as the API names it.
type Group struct {
	ID, Name string
}

// FindGroup finds the profile's group by its id or name; where none is named, the only one the key sees.
func (p *Profile) FindGroup(ctx context.Context, c *public.Client) (Group, error) {
	var g Group
	if id := model.ID(p.Group); id.Valid() {
		err := c.Get(ctx, "/groups/"+p.Group, nil, &g)
		return g, err
	}
	if p.Group != "" {
		var e *public.Error
		err := c.Get(ctx, "/groups/byName/"+url.PathEscape(p.Group), nil, &g)
		if err == nil || !errors.As(err, &e) || e.Status != 404 {
			return g, err
		}
	}
	all, err := Groups(ctx, c)
	if err != nil {
		return g, err
	}
	if p.Group == "" && len(all) == 1 {
		return all[0], nil
	}
	names := make([]string, 0, len(all))
	for _, g := range all[:min(len(all), 10)] {
		names = append(names, g.Name+" ("+g.ID+")")
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	what := fmt.Errorf("there is no group %q", p.Group)
	if p.Group == "" {
		what = errors.New("no group is named")
	}
	return g, &exit.Error{Code: exit.Usage, Err: opererr.New("choose the group", fmt.Errorf("%w; the key sees: %s", what, strings.Join(names, ", ")), "try: --group NAME, "+EnvGroup+"=NAME, or: heartwood profile set NAME --group NAME")}
}

// Groups lists the groups that a key sees.
func Groups(ctx context.Context, c *public.Client) ([]Group, error) {
	all, _, err := c.List(ctx, "/groups", nil, 0)
	if err != nil {
		return nil, err
	}
	groups := make([]Group, len(all))
	for i, g := range all {
		groups[i].ID, _ = g["id"].(string)
		groups[i].Name, _ = g["name"].(string)
	}
	return groups, nil
}
