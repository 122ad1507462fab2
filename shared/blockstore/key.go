package blockstore

import (
	"fmt"
	"strings"
)

// ValidKey says what is wrong with a key: an error that is ErrInvalid, or nil.
func ValidKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: an empty key", ErrInvalid)
	case len(key) > MaxKey:
		return fmt.Errorf("%w: a key of %d bytes, the longest is %d", ErrInvalid, len(key), MaxKey)
	}
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "" || segment[0] == '.' {
			return fmt.Errorf("%w: a segment of %.100q is empty or begins with a dot", ErrInvalid, key)
		}
		if len(segment) > MaxSegment {
			return fmt.Errorf("%w: a segment of %d bytes in %.100q, the longest is %d", ErrInvalid, len(segment), key, MaxSegment)
		}
	}
	return validBytes(key)
}

// ValidPrefix says what is wrong with a prefix, or the key to list after: an error that is ErrInvalid, or nil. It may be empty
// and end anywhere.
func ValidPrefix(prefix string) error {
	if len(prefix) > MaxKey {
		return fmt.Errorf("%w: a prefix of %d bytes, the longest is %d", ErrInvalid, len(prefix), MaxKey)
	}
	if strings.HasPrefix(prefix, "/") || strings.HasPrefix(prefix, ".") || strings.Contains(prefix, "//") || strings.Contains(prefix, "/.") {
		return fmt.Errorf("%w: a segment of %.100q is empty or begins with a dot", ErrInvalid, prefix)
	}
	return validBytes(prefix)
}

func validBytes(key string) error {
	for i := range len(key) {
		c := key[i]
		if ('a' > c || c > 'z') && ('0' > c || c > '9') && c != '/' && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf("%w: the byte %q in %.100q; keys are made of a-z 0-9 . _ - and /", ErrInvalid, c, key)
		}
	}
	return nil
}
