package config

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// maxPropertiesBytes bounds a settings file.
const maxPropertiesBytes = 1 << 20

// ParseProperties reads a file of "key=value" lines as conf-mms.properties and agent configuration files have them: spaces
// around key and value are dropped, lines that begin with # or ! and empty lines are passed over, a backslash at the end of a
// line continues it. A key given twice is a fault, because nobody can tell which was meant. All faults are reported together.
func ParseProperties(name string, b []byte) (map[string]string, error) {
	if len(b) > maxPropertiesBytes {
		return nil, fmt.Errorf("%s: a settings file of %d bytes is over the limit of %d", name, len(b), maxPropertiesBytes)
	}
	values := map[string]string{}
	var faults []error
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, maxPropertiesBytes+1)
	for n, start, pending := 1, 1, ""; sc.Scan(); n++ {
		line := pending + strings.TrimSpace(strings.TrimPrefix(sc.Text(), "\ufeff"))
		if pending == "" {
			start = n
			if line == "" || line[0] == '#' || line[0] == '!' {
				continue
			}
		}
		if rest, more := strings.CutSuffix(line, `\`); more {
			pending = rest
			continue
		}
		pending = ""
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch _, twice := values[key]; {
		case !ok || key == "":
			faults = append(faults, fmt.Errorf("%s line %d: expected key=value", name, start))
		case twice:
			faults = append(faults, fmt.Errorf("%s line %d: %s is set twice", name, start, key))
		default:
			values[key] = value
		}
	}
	if err := sc.Err(); err != nil {
		faults = append(faults, fmt.Errorf("%s: %w", name, err))
	}
	return values, errors.Join(faults...)
}
