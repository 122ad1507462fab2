package app

import (
	"testing"

	"github.com/heartwood-db/heartwood/shared/config"
)

func TestAgentURL(t *testing.T) {
	for _, c := range []struct{ central, agents, mode, want string }{
		{"", "", config.CertNone, ""},
		{"https://mon.example.com", "", config.CertNone, "https://mon.example.com"},
		{"https://mon.example.com", "https://agents.example.com:1", config.CertAgentsOnly, "https://agents.example.com:1"},
		{"https://mon.example.com:8080", "", config.CertAgentsOnly, "https://mon.example.com:8081"},
		{"https://[2001:db8::1]", "", config.CertAgentsOnly, "https://[2001:db8::1]:8081"},
		{"", "http://agents.example.com", config.CertNone, "http://agents.example.com"},
	} {
		if got := agentURL(&config.Server{CentralURL: c.central, AgentCentralURL: c.agents, HTTPSClientCert: c.mode}, "8081"); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
