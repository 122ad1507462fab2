package guard

import (
	"net/netip"
	"testing"
)

func TestControl(t *testing.T) {
	allow := []netip.Prefix{netip.MustParsePrefix("127.0.0.53/32"), netip.MustParsePrefix("fe80::1/128")}
	for _, c := range []struct {
		ip              string
		strict, private bool // is let through
	}{
		{"127.0.0.1", false, false},
		{"127.255.1.2", false, false},
		{"::1", false, false},
		{"::", false, false},
		{"0.0.0.0", false, false},
		{"0.1.2.3", false, false},
		{"169.254.169.254", false, false},
		{"169.254.170.2", false, false},
		{"fe80::2", false, false},
		{"fe80::2%eth0", false, false},
		{"fd00:ec2::254", false, false},
		{"fd20:ce::254", false, false},
		{"100.100.100.200", false, false},
		{"168.63.129.16", false, false},
		{"192.0.0.192", false, false},
		{"224.0.0.1", false, false},
		{"ff02::1", false, false},
		{"255.255.255.255", false, false},
		{"::ffff:127.0.0.1", false, false},
		{"::ffff:169.254.169.254", false, false},
		{"::ffff:0:127.0.0.1", false, false},
		{"::127.0.0.1", false, false},
		{"64:ff9b::7f00:1", false, false},
		{"64:ff9b::a9fe:a9fe", false, false},
		{"64:ff9b:1::a9fe:a9fe", false, false},
		{"2002:7f00:1::1", false, false},
		{"2002:a9fe:a9fe::", false, false},
		{"2001:0:1:2:3:4:80ff:fffe", false, false}, // Teredo: 127.0.0.1
		{"fec0::1", false, false},
		{"10.1.2.3", false, true},
		{"172.16.0.1", false, true},
		{"192.168.1.1", false, true},
		{"100.64.0.1", false, true},
		{"fd12:3456::1", false, true},
		{"64:ff9b::a01:203", false, true},
		{"::ffff:10.1.2.3", false, true},
		{"93.184.216.34", true, true},
		{"2606:2800:220:1::1", true, true},
		{"64:ff9b::5db8:d822", true, true},
		{"172.32.0.1", true, true},
		{"127.0.0.53", true, true},
		{"::ffff:127.0.0.53", true, true},
		{"fe80::1%eth0", true, true},
	} {
		for _, private := range []bool{false, true} {
			want := c.strict
			if private {
				want = c.private
			}
			address := netip.AddrPortFrom(netip.MustParseAddr(c.ip), 80).String()
			if err := Control(allow, private)("tcp", address, nil); (err == nil) != want {
				t.Errorf("%s, private networks %v: %v", address, private, err)
			}
		}
	}
	if err := Control(nil, true)("tcp", "hooks.example.com:80", nil); err == nil {
		t.Error("a name that was not resolved was let through")
	}
}
