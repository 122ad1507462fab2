package runner

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/obs"
)

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestKillPortStopsWhoeverHasTheToken(t *testing.T) {
	dir, port := t.TempDir(), freePort(t)
	stopped := make(chan struct{}, 8)
	done, err := listenKill(t.Context(), port, dir, obs.Discard(), func() { stopped <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, killTokenName)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the token's file: %v, %v", info, err)
	}
	if _, err := listenKill(t.Context(), port, t.TempDir(), obs.Discard(), func() {}); err == nil || !strings.Contains(err.Error(), "already running") {
		t.Errorf("a second server: %v", err)
	}

	wrong := t.TempDir()
	if err := os.WriteFile(filepath.Join(wrong, killTokenName), []byte("guess\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := RequestStop(t.Context(), wrong, port); err == nil {
		t.Error("a wrong token was taken")
	}
	if len(stopped) != 0 {
		t.Error("a wrong token stopped the server")
	}
	if err := RequestStop(t.Context(), dir, port); err != nil {
		t.Fatal(err)
	}
	<-stopped
	if err := done(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the token's file stays: %v", err)
	}
	if err := RequestStop(t.Context(), dir, port); err == nil {
		t.Error("a stopped server took the token")
	}
}

func TestWithoutAKillPortNothingListens(t *testing.T) {
	dir := t.TempDir()
	done, err := listenKill(t.Context(), 0, dir, obs.Discard(), func() {})
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("files: %v", left)
	}
	if err := done(context.Background()); err != nil {
		t.Fatal(err)
	}
}
