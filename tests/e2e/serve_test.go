// Package e2e runs whole programs and looks at them as people and scripts do: processes, pages in a real browser.
package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/tests/harness"
)

// heartwood runs a command to its end and returns what it printed and its exit code.
func heartwood(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), harness.Binary(t), args...)
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

func get(ctx context.Context, url string) (status int, body map[string]any, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	_ = json.NewDecoder(resp.Body).Decode(&body)
	return resp.StatusCode, body, nil
}

func waitHealthy(t *testing.T, base int) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, "the server's health", func(ctx context.Context) error {
		status, _, err := get(ctx, "http://127.0.0.1:"+strconv.Itoa(base)+"/monitor/health")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
}

func TestServerStartsIsFoundRefusesASecondAndStops(t *testing.T) {
	data, base := t.TempDir(), harness.PortBase(t)
	ports := strconv.Itoa(base)
	if out, _, code := heartwood(t, "status", "--data", data); code != 3 || !strings.Contains(out, "not running") {
		t.Fatalf("status before the start: exit %d, %q", code, out)
	}
	p := harness.Start(t, "serve", "--data", data, "--port-base", ports)
	waitHealthy(t, base)

	if out, _, code := heartwood(t, "status", "--data", data, "--json"); code != 0 || !strings.Contains(out, `"state":"running"`) {
		t.Errorf("status: exit %d, %q", code, out)
	}
	if _, msg, code := heartwood(t, "serve", "--data", data, "--port-base", strconv.Itoa(harness.PortBase(t))); code != 1 || !strings.Contains(msg, "already running") || !strings.Contains(msg, "heartwood stop") {
		t.Errorf("a second server on the folder: exit %d, %q", code, msg)
	}
	if _, msg, code := heartwood(t, "serve", "--data", t.TempDir(), "--port-base", ports); code != 1 || !strings.Contains(msg, ports+" is in use") {
		t.Errorf("a second server on the ports: exit %d, %q", code, msg)
	}

	ctx := t.Context()
	status, body, err := get(ctx, "http://127.0.0.1:"+strconv.Itoa(base+11)+"/health")
	if err != nil || status != http.StatusOK || body["mms_db"] != "OK" || body["backup_db"] != "OK" {
		t.Errorf("diagnostics: %d %v %v", status, body, err)
	}
	for _, url := range []string{":" + ports + "/live", ":" + strconv.Itoa(base+1) + "/monitor/health", ":" + strconv.Itoa(base+11) + "/metrics"} {
		if status, _, err := get(ctx, "http://127.0.0.1"+url); err != nil || status != http.StatusOK {
			t.Errorf("GET %s: %d %v", url, status, err)
		}
	}

	if _, msg, code := heartwood(t, "stop", "--data", data); code != 0 {
		t.Fatalf("stop: exit %d, %q", code, msg)
	}
	if err := p.Stop(time.Second); err != nil {
		t.Errorf("the server ended with %v", err)
	}
	if _, _, code := heartwood(t, "status", "--data", data); code != 3 {
		t.Errorf("status after stop: exit %d", code)
	}
	if _, _, code := heartwood(t, "stop", "--data", data); code != 0 {
		t.Errorf("stop again: exit %d", code)
	}
}

func TestKilledServerIsReportedDeadAndStartsAgain(t *testing.T) {
	data, base := t.TempDir(), harness.PortBase(t)
	p := harness.Start(t, "serve", "--data", data, "--port-base", strconv.Itoa(base))
	waitHealthy(t, base)
	p.Kill()
	if out, _, code := heartwood(t, "status", "--data", data); code != 1 || !strings.Contains(out, "dead") {
		t.Errorf("status of a killed server: exit %d, %q", code, out)
	}
	harness.Start(t, "serve", "--data", data, "--port-base", strconv.Itoa(base))
	waitHealthy(t, base)
}
