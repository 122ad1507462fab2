package agent

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// execLimit is how long a command that prints a secret may take.
const execLimit = 30 * time.Second

// ObtainSecrets runs the commands that print secrets, and puts what they print where the secret itself would have been.
func ObtainSecrets(ctx context.Context, cfg *config.Agent) error {
	for _, s := range []struct {
		key     string
		command *string
		into    *model.Secret
	}{
		{"mmsApiKeyExec", &cfg.APIKeyExec, &cfg.APIKey},
		{"globalAuthPasswordExec", &cfg.AuthPasswordExec, &cfg.AuthPassword},
		{"restorePasswordExec", &cfg.RestorePasswordExec, &cfg.RestorePassword},
		{"sslClientCertificatePasswordExec", &cfg.TLSCertPassExec, &cfg.TLSCertPass},
		{"sslServerClientCertificatePasswordExec", &cfg.ServerCertExec, &cfg.ServerCertPass},
	} {
		if *s.command == "" || *s.into != "" {
			continue
		}
		out, err := runCommand(ctx, *s.command)
		if err != nil {
			return opererr.New(s.key, err, "run the command as the agent's user: it must print the secret and nothing else")
		}
		*s.into, *s.command = model.Secret(out), ""
	}
	return nil
}

// runCommand runs a command line through the shell. What it prints never reaches an error.
func runCommand(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, execLimit, errors.New("the command did not end in time"))
	defer cancel()
	out, err := exec.CommandContext(ctx, "/bin/sh", "-c", command).Output() //nolint:gosec // that is what the setting is for
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", fmt.Errorf("the command failed: %w", err)
	}
	secret := strings.TrimRight(string(out), "\r\n")
	if secret == "" {
		return "", errors.New("the command printed nothing")
	}
	return secret, nil
}
