package model

import (
	"crypto/md5" //nolint:gosec // an identifier with the shape existing clients expect, not a security boundary
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// ID is the identifier of everything but hosts: 24 lower-case hexadecimal digits, as in the Public API.
type ID string

// HostID identifies a monitored process: 32 lower-case hexadecimal digits.
type HostID string

// NewID returns a random ID.
func NewID() ID {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return ID(hex.EncodeToString(b[:]))
}

// Valid reports whether the ID has the form of one.
func (id ID) Valid() bool { return isHex(string(id), 24) }

// Valid reports whether the HostID has the form of one.
func (id HostID) Valid() bool { return isHex(string(id), 32) }

// NewHostID derives the id of a host from the address it was first known by. The id never changes afterwards, even when
// a better name for the process is found.
func NewHostID(group ID, hostname string, port int) HostID {
	sum := md5.Sum([]byte(string(group) + "|" + Address(hostname, port))) //nolint:gosec // see the import
	return HostID(hex.EncodeToString(sum[:]))
}

// DeriveID returns the ID that belongs to a natural key, such as ("cluster", group, replica set id): the same parts
// always give the same ID, so that two writers who find the same thing agree on it without asking.
func DeriveID(parts ...string) ID {
	sum := md5.Sum([]byte(strings.Join(parts, "|"))) //nolint:gosec // see the import
	return ID(hex.EncodeToString(sum[:12]))
}

func isHex(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
