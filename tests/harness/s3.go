package harness

import (
	"bytes"
	"crypto/rand"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// S3 is a real S3 server (versitygw on a folder) with one bucket.
type S3 struct {
	Endpoint  string
	Bucket    string
	Region    string
	AccessKey string
	SecretKey string
	Folder    string // what it keeps objects in: Folder/Bucket

	program string
	address string
	cmd     *exec.Cmd
}

// StartS3 runs the server until the test ends, or skips the test where it is not installed.
func StartS3(t testing.TB) *S3 {
	t.Helper()
	s := &S3{
		program: Need(t, "versitygw"), Folder: t.TempDir(), Bucket: "blocks", Region: "eu-test-1",
		AccessKey: "heartwood-test", SecretKey: strings.ToLower(rand.Text()),
	}
	if err := os.MkdirAll(filepath.Join(s.Folder, s.Bucket), 0o750); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	_ = l.Close()
	s.Endpoint = "http://" + s.address
	t.Cleanup(s.Stop)
	s.Start(t)
	return s
}

// Start runs the server again after Stop, with what it kept.
func (s *S3) Start(t testing.TB) {
	t.Helper()
	var said bytes.Buffer
	s.cmd = exec.Command(s.program, "--port", s.address, "--access", s.AccessKey, "--secret", s.SecretKey, "--region", s.Region, "--quiet", "posix", s.Folder)
	s.cmd.Stdout, s.cmd.Stderr = &said, &said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: time.Second}
	for range 200 {
		if resp, err := client.Get(s.Endpoint); err == nil { // any answer will do: it refuses who does not sign
			_ = resp.Body.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.Stop()
	t.Fatalf("versitygw does not answer on %s:\n%s", s.address, said.String())
}

// Stop ends the server at once, as a crash does.
func (s *S3) Stop() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}
