package agent

import (
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/config"
)

func TestSecretsFromCommands(t *testing.T) {
	cfg := config.DefaultAgent()
	cfg.APIKey, cfg.APIKeyExec = "", "printf '%s\\n' key-from-command"
	if err := ObtainSecrets(t.Context(), &cfg); err != nil || cfg.APIKey.Reveal() != "key-from-command" {
		t.Errorf("key %q, %v", cfg.APIKey.Reveal(), err)
	}
	for _, command := range []string{"exit 3", "true", "echo secret-part; exit 1"} {
		cfg.APIKey, cfg.APIKeyExec = "", command
		if err := ObtainSecrets(t.Context(), &cfg); err == nil || strings.Contains(err.Error(), "secret-part") {
			t.Errorf("%s: %v", command, err)
		}
	}
}
