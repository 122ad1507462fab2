package topology

import (
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// doc makes nested documents of pairs of a key and a value.
func doc(pairs ...any) bson.D {
	d := bson.D{}
	for i := 0; i < len(pairs); i += 2 {
		key, _ := pairs[i].(string)
		d = append(d, bson.E{Key: key, Value: pairs[i+1]})
	}
	return d
}

func TestOptionsOfSecurity(t *testing.T) {
	tests := []struct {
		name    string
		version string
		parsed  bson.D
		auth    bool
		tls, ip string
	}{
		{"nothing said", "6.0.5", doc(), false, "disabled", "localhost"},
		{"nothing said, before the default was this machine", "3.4.9", doc(), false, "disabled", "*"},
		{"access control and TLS", "6.0.5", doc("net", doc("bindIp", "0.0.0.0", "tls", doc("mode", "requireTLS")), "security", doc("authorization", "enabled")), true, "requireTLS", "0.0.0.0"},
		{"names before 4.2", "4.0.1", doc("net", doc("bindIpAll", true, "ssl", doc("mode", "preferSSL")), "security", doc("keyFile", "/k")), true, "preferSSL", "*"},
		{"names before 2.6", "2.4.9", doc("auth", true, "bind_ip", "10.1.2.3", "sslOnNormalPorts", true), true, "requireSSL", "10.1.2.3"},
		{"lets everybody in for a transition", "6.0.5", doc("security", doc("keyFile", "/k", "transitionToAuth", true)), false, "disabled", "localhost"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			replies := doc("hello", doc("ok", 1, "isWritablePrimary", true), "buildInfo", doc("version", tt.version), "getCmdLineOpts", doc("parsed", tt.parsed, "ok", 1))
			h := first(t, "db1:27017", replies).Host
			if h.AuthEnabled != tt.auth || h.TLSMode != tt.tls || h.BindIP != tt.ip {
				t.Errorf("access control %t, TLS %q, listens at %q; want %t, %q, %q", h.AuthEnabled, h.TLSMode, h.BindIP, tt.auth, tt.tls, tt.ip)
			}
		})
	}
}

func TestTheCertificateFollowsWhatTheProcessShows(t *testing.T) {
	hello := raw(t, doc("hello", doc("ok", 1, "isWritablePrimary", true)))
	old, renewed := &wire.Certificate{Until: t0.Add(time.Hour), Subject: "CN=old"}, &wire.Certificate{Until: t0.AddDate(1, 0, 0), Subject: "CN=new"}
	host, status := newHost("db1:27017"), model.HostStatus{}
	for i, c := range []struct {
		name    string
		replies bson.Raw
		cert    *wire.Certificate
		want    wire.Certificate
	}{
		{"first seen", hello, old, *old},
		{"not reached", nil, nil, *old},
		{"refused by the agent", nil, renewed, *renewed},
		{"answered", hello, renewed, *renewed},
		{"answered without TLS", hello, nil, wire.Certificate{}},
	} {
		o := Observe(Input{Host: host, Status: status, Replies: c.replies, Ping: wire.Ping{At: t0.Add(time.Duration(i) * time.Minute), Cert: c.cert}})
		host, status = o.Host, o.Status
		if !host.CertExpires.Equal(c.want.Until) || host.CertSubject != c.want.Subject {
			t.Errorf("%s: %s until %s, want %+v", c.name, host.CertSubject, host.CertExpires, c.want)
		}
	}
}

func TestEventsOfAHostThatIsNotWhatItWas(t *testing.T) {
	type seen struct {
		version, set, ip, agent string
	}
	tests := []struct {
		name     string
		from, to seen
		want     []model.EventType // beyond those of other tests
	}{
		{"the same again", seen{"6.0.5", "rs0", "192.0.2.1", "a"}, seen{"6.0.5", "rs0", "192.0.2.1", "a"}, nil},
		{"a newer release", seen{"6.0.9", "rs0", "192.0.2.1", "a"}, seen{"6.0.10", "rs0", "192.0.2.1", "a"}, []model.EventType{model.EventHostUpgraded}},
		{"from a candidate to the release", seen{"6.0.9-rc1", "rs0", "192.0.2.1", "a"}, seen{"6.0.9", "rs0", "192.0.2.1", "a"}, []model.EventType{model.EventHostUpgraded}},
		{"an older series", seen{"7.0.1", "rs0", "192.0.2.1", "a"}, seen{"6.0.10", "rs0", "192.0.2.1", "a"}, []model.EventType{model.EventHostDowngraded}},
		{"another build of the same release", seen{"6.0.9-ent", "rs0", "192.0.2.1", "a"}, seen{"6.0.9-com", "rs0", "192.0.2.1", "a"}, nil},
		{"no longer in a set", seen{"6.0.5", "rs0", "192.0.2.1", "a"}, seen{"6.0.5", "", "192.0.2.1", "a"}, []model.EventType{model.EventHostNowStandalone}},
		{"another address", seen{"6.0.5", "rs0", "192.0.2.1", "a"}, seen{"6.0.5", "rs0", "192.0.2.2", "a"}, []model.EventType{model.EventHostIPChanged}},
		{"another address as another agent sees it", seen{"6.0.5", "rs0", "192.0.2.1", "a"}, seen{"6.0.5", "rs0", "192.0.2.2", "b"}, nil},
		{"an address of the other family", seen{"6.0.5", "rs0", "192.0.2.1", "a"}, seen{"6.0.5", "rs0", "2001:db8::1", "a"}, nil},
		{"not resolved", seen{"6.0.5", "rs0", "192.0.2.1", "a"}, seen{"6.0.5", "rs0", "", "a"}, nil},
	}
	about := []model.EventType{model.EventHostUpgraded, model.EventHostDowngraded, model.EventHostNowStandalone, model.EventHostIPChanged}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			input := func(s seen, at time.Time) Input {
				hello := doc("ok", 1, "isWritablePrimary", true)
				if s.set != "" {
					hello = append(hello, doc("setName", s.set, "secondary", false, "ismaster", true, "me", "db1:27017", "hosts", bson.A{"db1:27017"})...)
				}
				return Input{
					Host: newHost("db1:27017"), AgentID: s.agent, Ping: wire.Ping{At: at, IP: s.ip},
					Replies: raw(t, doc("hello", hello, "buildInfo", doc("version", s.version))),
				}
			}
			before := Observe(input(tt.from, t0))
			in := input(tt.to, t0.Add(time.Minute))
			in.Host, in.Status = before.Host, before.Status
			var got []model.EventType
			for _, e := range Observe(in).Events {
				if slices.Contains(about, e.Type) {
					sentence(t, e, "db1:27017")
					got = append(got, e.Type)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("events %v, want %v", got, tt.want)
			}
		})
	}
}
