package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// connectionString is a MongoDB connection string taken apart as text: net/url knows neither lists of hosts nor sockets, and its
// errors repeat passwords. Judging the parts is the driver's.
type connectionString struct {
	scheme   string // with ://
	user     string // with the password, percent-encoded; empty when there is none
	hosts    string
	database string
	options  []string // name=value, percent-encoded
}

func splitURI(uri string) connectionString {
	var c connectionString
	rest := uri
	if scheme, after, ok := strings.Cut(uri, "://"); ok {
		c.scheme, rest = scheme+"://", after
	}
	// The driver takes one @ only, the one behind the password. Where there are more, somebody forgot to encode his password, and
	// gets an error; here it must not slip into what follows.
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		c.user, rest = rest[:at], rest[at+1:]
	}
	end := first(rest, "/?")
	c.hosts = rest[:end]
	path, query, _ := strings.Cut(rest[end:], "?")
	c.database = strings.TrimPrefix(path, "/")
	c.options = strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' })
	return c
}

// first is where the first of some characters is, or the end.
func first(s, chars string) int {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return i
	}
	return len(s)
}

// URIDatabase is the database that a connection string names, or "".
func URIDatabase(uri string) string { return splitURI(uri).database }

// BareURI names a database by its hosts alone.
func BareURI(uri, database string) string {
	c := splitURI(uri)
	return c.scheme + c.hosts + "/" + database
}

func (c connectionString) String() string {
	var b strings.Builder
	b.WriteString(c.scheme)
	if c.user != "" {
		b.WriteString(c.user + "@")
	}
	b.WriteString(c.hosts + "/" + c.database)
	if len(c.options) > 0 {
		b.WriteString("?" + strings.Join(c.options, "&"))
	}
	return b.String()
}

// optionName is the name of an option in small letters: the driver does not tell them apart by case either.
func optionName(option string) string {
	name, _, _ := strings.Cut(option, "=")
	return strings.ToLower(name)
}

// set replaces an option, under all its names.
func (c *connectionString) set(value, name string, others ...string) {
	c.options = slices.DeleteFunc(c.options, func(o string) bool {
		return optionName(o) == strings.ToLower(name) || slices.Contains(others, optionName(o))
	})
	c.options = append(c.options, name+"="+url.QueryEscape(value))
}

// redactURI hides what is secret in a connection string.
func redactURI(uri string) string {
	c := splitURI(uri)
	if name, _, ok := strings.Cut(c.user, ":"); ok {
		c.user = name + ":***"
	}
	bare := !strings.Contains(strings.TrimPrefix(uri, c.scheme), "/")
	for i, o := range c.options {
		name, _, ok := strings.Cut(o, "=")
		if l := optionName(o); ok && (strings.Contains(l, "password") || l == "authmechanismproperties") {
			c.options[i] = name + "=***"
		}
	}
	if s := c.String(); !bare || len(c.options) > 0 {
		return s
	}
	return strings.TrimSuffix(c.String(), "/")
}

// ConnectionString adds the settings for TLS to a connection string, as the driver's own options.
func (s *Server) ConnectionString(uri string) string {
	c := splitURI(uri)
	if s.MongoTLS {
		c.set("true", "tls", "ssl")
	}
	if s.MongoCAFile != "" {
		c.set(s.MongoCAFile, "tlsCAFile", "sslcertificateauthorityfile")
	}
	if s.MongoPEMKeyFile != "" {
		c.set(s.MongoPEMKeyFile, "tlsCertificateKeyFile", "sslclientcertificatekeyfile")
	}
	if s.MongoPEMKeyPass != "" {
		c.set(s.MongoPEMKeyPass.Reveal(), "tlsCertificateKeyFilePassword", "sslclientcertificatekeypassword")
	}
	return c.String()
}

// uriWarnings tell what of a connection string counts for nothing, or against what it is for.
func uriWarnings(key, uri, database string) []string {
	c := splitURI(uri)
	var w, idle []string
	if c.database != "" && c.database != "admin" && c.database != database {
		w = append(w, fmt.Sprintf("%s names the database %s, which only serves to sign in: the data is kept in %s (heartwood.mongo.database)", key, c.database, database))
	}
	several := strings.Contains(c.hosts, ",")
	for _, o := range c.options {
		switch optionName(o) {
		case "w", "journal", "wtimeoutms", "readpreference", "readpreferencetags", "maxstalenessseconds", "readconcernlevel":
			idle = append(idle, o)
		case "directconnection", "connect":
			if v := strings.ToLower(o); several && (strings.HasSuffix(v, "=true") || strings.HasSuffix(v, "=direct")) {
				w = append(w, fmt.Sprintf("%s: with %s the server does not follow the replica set to its next primary: leave it out", key, o))
			}
		case "retrywrites":
			if strings.EqualFold(o, "retryWrites=false") {
				w = append(w, fmt.Sprintf("%s: with %s every election fails the writes under way: leave it out", key, o))
			}
		}
	}
	if len(idle) > 0 {
		w = append(w, fmt.Sprintf("%s: %s has no effect: reads are of the primary and reads and writes of the majority, always", key, strings.Join(idle, ", ")))
	}
	return w
}
