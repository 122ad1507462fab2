package resolve

import (
	"context"
	"net"
	"testing"
	"time"
)

func TestNamesOfTheProcess(t *testing.T) {
	Name("db1.names.test", net.IPv4(10, 1, 2, 3))
	ips, err := net.DefaultResolver.LookupHost(t.Context(), "db1.names.test")
	if err != nil || len(ips) != 1 || ips[0] != "10.1.2.3" {
		t.Errorf("%v %v", ips, err)
	}
	Name("db1.names.test", nil)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if ips, err := net.DefaultResolver.LookupHost(ctx, "db1.names.test"); err == nil {
		t.Errorf("a name that is gone: %v", ips)
	}
	if ips, err := net.DefaultResolver.LookupHost(t.Context(), "localhost"); err != nil || len(ips) == 0 {
		t.Errorf("localhost: %v %v", ips, err)
	}
}
