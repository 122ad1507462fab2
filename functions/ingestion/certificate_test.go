package ingestion

import (
	"context"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/functions/ingestion/derive"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// updateSpy counts the writes of host documents.
type updateSpy struct {
	Inventory
	n int
}

func (s *updateSpy) UpdateHost(ctx context.Context, group model.ID, id model.HostID, change func(*model.Host) error) error {
	s.n++
	return s.Inventory.UpdateHost(ctx, group, id, change)
}

var _ derive.Inventory = (*updateSpy)(nil)

// TestCertificateIsKeptWithTheHost: the host's document is written when the certificate is another one, and else left alone.
func TestCertificateIsKeptWithTheHost(t *testing.T) {
	spy := &updateSpy{}
	x := newSite(t, storetest.Engine(t), func(o *Options) { spy.Inventory, o.Inventory = o.Inventory, spy })
	h := x.host("127.0.0.1:27117")
	replies := recorded(t, "primary", "hello", "getCmdLineOpts")
	first, renewed := wire.Certificate{Until: t0.Add(time.Hour), Subject: "CN=db1"}, wire.Certificate{Until: t0.AddDate(1, 0, 0), Subject: "CN=db1"}
	for i, c := range []struct {
		name   string
		cert   wire.Certificate
		writes int
	}{{"first", first, 1}, {"the same", first, 0}, {"still the same", first, 0}, {"renewed", renewed, 1}} {
		at := t0.Add(time.Duration(i) * time.Minute)
		x.setNow(at)
		p := answered(t, h, at, replies)
		p.Cert = &c.cert
		spy.n = 0
		x.post(p)
		now, err := x.inv.Host(t.Context(), h.GroupID, h.ID)
		if err != nil {
			t.Fatal(err)
		}
		if !now.CertExpires.Equal(c.cert.Until) || now.CertSubject != c.cert.Subject || now.TLSMode != "disabled" || now.BindIP != "127.0.0.1" {
			t.Errorf("%s: the host has %s until %s, TLS %q, listens at %q", c.name, now.CertSubject, now.CertExpires, now.TLSMode, now.BindIP)
		}
		if spy.n != c.writes {
			t.Errorf("%s: the host was written %d times, want %d", c.name, spy.n, c.writes)
		}
	}
}
