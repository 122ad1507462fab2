package model

import "log/slog"

// Secret is text that must not reach a log, a page or an error: every way of printing it yields "***". Use Reveal where
// the plain text is really needed. The store seals secrets before they are written.
type Secret string

const redacted = "***"

// Reveal returns the plain text.
func (s Secret) Reveal() string { return string(s) }

// String redacts.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString redacts %#v too.
func (s Secret) GoString() string { return `model.Secret("` + s.String() + `")` }

// LogValue redacts in slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText redacts in JSON and every other text encoding.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
