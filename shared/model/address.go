package model

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// DefaultPort is where a mongod listens unless told otherwise.
const DefaultPort = 27017

// Address joins a host name and a port into the canonical lower-case "host:port" (IPv6 in brackets).
func Address(hostname string, port int) string {
	return net.JoinHostPort(strings.ToLower(hostname), strconv.Itoa(port))
}

// SplitAddress takes "host", "host:port", "[v6]:port" or "[v6]" apart; the port is DefaultPort when left out.
func SplitAddress(s string) (hostname string, port int, err error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return "", 0, fmt.Errorf("address is empty: give host or host:port")
	}
	if host, p, splitErr := net.SplitHostPort(s); splitErr == nil {
		n, convErr := strconv.Atoi(p)
		if convErr != nil || n < 1 || n > 65535 {
			return "", 0, fmt.Errorf("address %q: the port must be a number from 1 to 65535", s)
		}
		if host == "" {
			return "", 0, fmt.Errorf("address %q: the host name is missing", s)
		}
		return strings.ToLower(host), n, nil
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if strings.Contains(bare, ":") && net.ParseIP(bare) == nil || strings.ContainsAny(bare, " /@[]") {
		return "", 0, fmt.Errorf("address %q is not host:port", s)
	}
	return strings.ToLower(bare), DefaultPort, nil
}
