package config

import "net/netip"

// Prefixes reads networks of a setting. Load has refused what is none, so nothing is left out here.
func Prefixes(texts []string) []netip.Prefix {
	all := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			all = append(all, p)
		}
	}
	return all
}
