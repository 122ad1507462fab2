package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Origin says which layer a value came from.
type Origin string

// The layers, weakest first.
const (
	FromDefault     Origin = "default"
	FromDatabase    Origin = "database"
	FromFile        Origin = "file"
	FromEnvironment Origin = "environment"
	FromFlag        Origin = "flag"
)

// Sources are the layers a configuration is made of. Nil layers are empty. Values are texts by setting name, except Environ,
// which is as os.Environ gives it.
type Sources struct {
	Database map[string]string
	File     map[string]string
	FileName string
	Environ  []string
	Flags    map[string]string
	ReadFile func(name string) ([]byte, error) // for *_FILE variables; nil means os.ReadFile
}

// Loaded is a configuration with the origin of each value and what to tell the operator about it.
type Loaded struct {
	Server   Server
	Origins  map[string]Origin
	Values   map[string]string // effective texts by setting name
	Warnings []string          // known settings without effect, and the like
}

// Load lays the sources over each other and validates the outcome. All faults are reported together.
func Load(src Sources) (*Loaded, error) {
	l := &Loaded{Values: map[string]string{}, Origins: map[string]Origin{}}
	var faults []error
	for _, k := range serverKeys() {
		l.Values[k.Name], l.Origins[k.Name] = k.Default, FromDefault
	}
	overlay := func(layer map[string]string, from Origin, where string) {
		for _, name := range slices.Sorted(maps.Keys(layer)) {
			key, used := findKey(name)
			switch {
			case used && key.Boot && from == FromDatabase:
				faults = append(faults, fmt.Errorf("%s: %s is needed to reach the database and cannot be kept in it", where, name))
			case used:
				l.Values[name], l.Origins[name] = layer[name], from
			case isKnown(name):
				l.Warnings = append(l.Warnings, fmt.Sprintf("%s: %s has no effect in this version", where, name))
			default:
				faults = append(faults, unknownKey(where, name))
			}
		}
	}
	fromEnv, envFaults := environment(src)
	faults = append(faults, envFaults...)
	overlay(src.Database, FromDatabase, "database")
	overlay(src.File, FromFile, src.FileName)
	overlay(fromEnv, FromEnvironment, "environment")
	overlay(src.Flags, FromFlag, "flags")

	faults = append(faults, decode(l.Values, &l.Server)...)
	faults = append(faults, l.Server.validate()...)
	l.Warnings = append(l.Warnings, l.Server.warnings()...)
	return l, errors.Join(faults...)
}

func unknownKey(where, name string) error {
	names := make([]string, 0, len(serverKeys()))
	for _, k := range serverKeys() {
		names = append(names, k.Name)
	}
	return unknownName(where, name, names, "`heartwood config show` lists all")
}

func unknownName(where, name string, names []string, otherwise string) error {
	if near := Suggest(name, names); near != "" {
		return fmt.Errorf("%s: unknown setting %s: did you mean %s?", where, name, near)
	}
	return fmt.Errorf("%s: unknown setting %s: %s", where, name, otherwise)
}

// environment picks our variables.
func environment(src Sources) (values map[string]string, faults []error) {
	vars := env.ToMap(src.Environ)
	values = map[string]string{}
	for _, k := range serverKeys() {
		switch v, set, err := variable(vars, k.Env, src.ReadFile); {
		case err != nil:
			faults = append(faults, err)
		case set:
			values[k.Name] = v
		}
	}
	return values, faults
}

// variable reads NAME, or the file that NAME_FILE names, without its last line break. Nil read means os.ReadFile.
func variable(vars map[string]string, name string, read func(string) ([]byte, error)) (value string, set bool, err error) {
	v, set := vars[name]
	file, byFile := vars[name+"_FILE"]
	if set && byFile {
		return "", false, fmt.Errorf("environment: set %s or %s_FILE, not both", name, name)
	}
	if !byFile {
		return v, set, nil
	}
	if read == nil {
		read = os.ReadFile
	}
	b, err := read(file)
	if err != nil {
		return "", false, fmt.Errorf("environment: %s_FILE: %w", name, err)
	}
	return strings.TrimRight(string(b), "\r\n"), true, nil
}

// decode sets the fields of a struct with key tags from texts and returns all faults, each naming its setting. An empty text is
// the zero value of the field, whatever its type.
func decode[T any](values map[string]string, into *T) []error {
	texts := maps.Clone(values)
	maps.DeleteFunc(texts, func(_, v string) bool { return v == "" })
	err := env.ParseWithOptions(into, env.Options{
		Environment: texts, TagName: "key", DefaultValueTagName: "unused",
		FuncMap: map[reflect.Type]env.ParserFunc{
			reflect.TypeFor[model.Secret](): func(s string) (any, error) { return model.Secret(s), nil },
		},
	})
	var all env.AggregateError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &all):
		return []error{err}
	}
	faults := make([]error, 0, len(all.Errors))
	for _, e := range all.Errors {
		var p env.ParseError
		if errors.As(e, &p) { // the library names the field
			if f, ok := reflect.TypeFor[T]().FieldByName(p.Name); ok {
				e = fmt.Errorf("%s: %w", f.Tag.Get("key"), p.Err)
			}
		}
		faults = append(faults, e)
	}
	return faults
}
