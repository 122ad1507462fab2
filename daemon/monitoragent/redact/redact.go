// Package redact takes the secrets out of what processes say of their settings.
package redact

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// hidden stands where a secret was.
const hidden = "***"

// Reply hides the secrets among parameters and command line options, so that they never leave the agent. Servers hide those
// they know themselves, but not what a start script passes with --setParameter, nor what their descendants have added.
func Reply(reply bson.Raw) (out bson.Raw, err error) {
	// The driver's readers believe lengths of strings and arrays near 2^31 and panic. A process that sends such is not believed.
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("the reply does not read: %v", p)
		}
	}()
	doc, changed, err := hideIn(bsoncore.Document(reply))
	if err != nil || !changed {
		return reply, err
	}
	return bson.Raw(doc), nil
}

func hideIn(doc bsoncore.Document) (out bsoncore.Document, changed bool, err error) {
	elements, err := doc.Elements()
	if err != nil {
		return nil, false, err
	}
	at, out := bsoncore.AppendDocumentStart(make([]byte, 0, len(doc)+16))
	for _, e := range elements {
		v, touched, err := hideValue(e.Key(), e.Value())
		if err != nil {
			return nil, false, err
		}
		changed = changed || touched
		out = bsoncore.AppendValueElement(out, e.Key(), v)
	}
	out, err = bsoncore.AppendDocumentEnd(out, at)
	return out, changed, err
}

func hideValue(name string, v bsoncore.Value) (out bsoncore.Value, changed bool, err error) {
	switch v.Type {
	case bsoncore.TypeString:
		was, _ := v.StringValueOK()
		is := hideCredentials(was)
		if secretName(name) && was != "" {
			is = hidden
		}
		return text(is), is != was, nil
	case bsoncore.TypeEmbeddedDocument:
		doc, changed, err := hideIn(v.Document())
		return bsoncore.Value{Type: v.Type, Data: doc}, changed, err
	case bsoncore.TypeArray:
		return hideList(name, v)
	}
	return v, false, nil
}

// hideList goes through an array; that of the command line has names and values side by side.
func hideList(name string, v bsoncore.Value) (out bsoncore.Value, changed bool, err error) {
	values, err := v.Array().Values()
	if err != nil {
		return v, false, err
	}
	hideNext := false
	for i := range values {
		was, ok := values[i].StringValueOK()
		if !ok || name != "argv" {
			var touched bool
			if values[i], touched, err = hideValue(name, values[i]); err != nil {
				return v, false, err
			}
			changed = changed || touched
			continue
		}
		is := hideCredentials(was)
		option, _, assigned := strings.Cut(was, "=")
		switch {
		case hideNext && !strings.HasPrefix(was, "--"):
			is = hidden
		case assigned && secretName(strings.TrimLeft(option, "-")):
			is = option + "=" + hidden
		}
		hideNext = !assigned && strings.HasPrefix(was, "--") && secretName(strings.TrimLeft(was, "-"))
		if is != was {
			values[i], changed = text(is), true
		}
	}
	return bsoncore.Value{Type: bsoncore.TypeArray, Data: bsoncore.BuildArray(nil, values...)}, changed, nil
}

func text(s string) bsoncore.Value {
	return bsoncore.Value{Type: bsoncore.TypeString, Data: bsoncore.AppendString(nil, s)}
}

// secretName reports whether a setting of this name holds a secret itself, not where one is kept.
func secretName(name string) bool {
	name = strings.ToLower(name)
	for _, place := range []string{"file", "path", "dir", "url", "uri"} {
		if strings.HasSuffix(name, place) {
			return false
		}
	}
	return slices.ContainsFunc([]string{"password", "passwd", "passphrase", "pwd", "secret", "token", "credential"}, func(word string) bool {
		return strings.Contains(name, word)
	})
}

var inURL = regexp.MustCompile(`(://[^\s:/@]*:)[^\s/@]+@`)

// hideCredentials hides the password of an address like scheme://user:password@host.
func hideCredentials(s string) string {
	if !strings.Contains(s, "://") {
		return s
	}
	return inURL.ReplaceAllString(s, "${1}"+hidden+"@")
}
