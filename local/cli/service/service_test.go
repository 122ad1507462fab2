package service

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"
)

func TestTheServiceManagerIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	ctx, stop := context.WithCancel(t.Context())
	defer StoppingWith(ctx)()
	for _, c := range []struct {
		do   func()
		want string
	}{
		{func() { Status("waiting for\nthe database") }, "STATUS=waiting for the database"},
		{Ready, "READY=1\nSTATUS="},
		{stop, "STOPPING=1"},
	} {
		c.do()
		b := make([]byte, 256)
		if err := socket.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := socket.Read(b)
		if got := string(b[:n]); err != nil || got != c.want {
			t.Errorf("told %q (%v), want %q", got, err, c.want)
		}
	}
	t.Setenv("NOTIFY_SOCKET", "")
	Ready() // nobody listens: nothing happens
}
