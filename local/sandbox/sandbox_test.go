package sandbox

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/local/sandbox/talk"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/memblock"
	"github.com/heartwood-db/heartwood/shared/httpx/guesthttp"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

func options(t *testing.T) Options {
	t.Helper()
	return Options{
		Folder: t.TempDir(), Functions: []string{Health}, Engine: storetest.Engine(t), Sender: notify.NewSender(nil), Log: obs.Discard(),
		Passwords: auth.Argon2{}, Probe: func(context.Context, string, int) talk.Finding { return talk.Finding{Known: true} },
	}
}

func TestAMissingGuestIsNamedWithItsRemedy(t *testing.T) {
	_, err := Start(t.Context(), options(t))
	if err == nil || !strings.Contains(err.Error(), "health.wasm") || !strings.Contains(opererr.HintOf(err), "make guests") {
		t.Errorf("%v, hint %q", err, opererr.HintOf(err))
	}
	if _, err := Start(t.Context(), Options{}); err == nil {
		t.Error("started on nothing")
	}
}

// TestEachFunctionMayAskForWhatItNeedsOnly is the list of what a guest that was taken over could do.
func TestEachFunctionMayAskForWhatItNeedsOnly(t *testing.T) {
	o := options(t)
	o.Heartbeat = func(context.Context) error { return nil }
	o.Blobs = func(context.Context, string) (blockstore.Store, error) { return memblock.New(), nil }
	s := &Sandbox{o: o, duties: map[string][]talk.Duty{}}
	always := []string{guesthttp.CapDocstore, talk.CapUpgrading}
	for function, more := range map[string][]string{
		Health: nil, App: {talk.CapSend, talk.CapHash, talk.CapCheck}, Ingestion: {talk.CapDuties, talk.CapBlocks},
		Alerts: {talk.CapDuties, talk.CapSend, talk.CapProbe, talk.CapHeartbeat},
	} {
		want := slices.Sorted(slices.Values(append(slices.Clone(always), more...)))
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(s.capabilities(function)))); diff != "" {
			t.Errorf("%s: %s", function, diff)
		}
	}
}

func ask[A any](t *testing.T, s *Sandbox, function, capability string, question any) (A, error) {
	t.Helper()
	in, err := talk.Encode(question)
	if err != nil {
		t.Fatal(err)
	}
	var none A
	out, err := s.capabilities(function)[capability](t.Context(), in)
	if err != nil {
		return none, err
	}
	return talk.Decode[A](out)
}

func TestCapabilitiesAnswer(t *testing.T) {
	o := options(t)
	o.Heartbeat = func(context.Context) error { return notify.Later(time.Minute, "nobody listens") }
	s := &Sandbox{o: o, duties: map[string][]talk.Duty{}}
	hashed, err := ask[talk.Hashed](t, s, App, talk.CapHash, talk.Password{Password: "Correct-horse-1"})
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]bool{"Correct-horse-1": true, "wrong": false} {
		if got, err := ask[talk.Checked](t, s, App, talk.CapCheck, talk.Password{Hash: hashed.Hash, Password: password}); err != nil || got.OK != want {
			t.Errorf("%s: %+v %v", password, got, err)
		}
	}
	if _, err := ask[talk.Hashed](t, s, App, talk.CapHash, talk.Password{}); err == nil {
		t.Error("an empty password was hashed")
	}
	if got, err := ask[talk.Finding](t, s, Alerts, talk.CapProbe, talk.Door{Host: "h", Port: 1}); err != nil || !got.Known {
		t.Errorf("%+v %v", got, err)
	}
	sent, err := ask[talk.Sent](t, s, Alerts, talk.CapSend, talk.Letter{To: notify.Target{Channel: notify.Email}})
	if _, failure := sent.Result(); err != nil || !errors.Is(failure, notify.ErrNotConfigured) {
		t.Errorf("%v, %v", failure, err)
	}
	sent, err = ask[talk.Sent](t, s, Alerts, talk.CapHeartbeat, talk.Sent{})
	if _, failure := sent.Result(); err != nil || notify.RetryAfter(failure) != time.Minute {
		t.Errorf("%v, %v", failure, err)
	}
}

func TestDutiesAreLearntOnceAndNonsenseIsRefused(t *testing.T) {
	s := &Sandbox{o: options(t), duties: map[string][]talk.Duty{}}
	good := talk.Duties{List: []talk.Duty{{Name: "rollup", Every: time.Minute, Path: "/passes/rollup"}}}
	for name, c := range map[string]struct {
		d  talk.Duties
		ok bool
	}{
		"a duty": {good, true}, "again": {good, true}, "without a period": {talk.Duties{List: []talk.Duty{{Name: "x"}}}, false},
		"too many": {talk.Duties{List: make([]talk.Duty, maxDuties+1)}, false},
	} {
		in, err := talk.Encode(c.d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.capabilities(Ingestion)[talk.CapDuties](t.Context(), in); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if diff := cmp.Diff(good.List, s.duties[Ingestion]); diff != "" {
		t.Error(diff)
	}
}

// FuzzCapabilities gives every capability any bytes: it answers or refuses.
func FuzzCapabilities(f *testing.F) {
	f.Add(uint8(0), []byte{5, 0, 0, 0, 0})
	s := &Sandbox{o: Options{
		Sender: notify.NewSender(nil), Passwords: quick{}, Log: obs.Discard(), Heartbeat: func(context.Context) error { return nil },
		Probe: func(context.Context, string, int) talk.Finding { return talk.Finding{} },
	}, duties: map[string][]talk.Duty{}}
	all := s.capabilities(App)
	maps.Copy(all, s.capabilities(Alerts))
	delete(all, guesthttp.CapDocstore) // has its own, in hostdoc
	names := slices.Sorted(maps.Keys(all))
	f.Fuzz(func(_ *testing.T, n uint8, in []byte) {
		_, _ = all[names[int(n)%len(names)]](context.Background(), in)
	})
}

// quick hashes nothing, so that fuzzing is not all argon2.
type quick struct{}

// Hash implements auth.Passwords.
func (quick) Hash(string) (string, error) { return "h", nil }

// Check implements auth.Passwords.
func (quick) Check(string, string) (ok, rehash bool) { return false, false }
