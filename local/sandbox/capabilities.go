package sandbox

import (
	"context"
	"errors"

	"github.com/heartwood-db/heartwood/local/sandbox/talk"
	"github.com/heartwood-db/heartwood/local/wasmhost"
	"github.com/heartwood-db/heartwood/shared/blockstore/hostblock"
	"github.com/heartwood-db/heartwood/shared/docstore/hostdoc"
	"github.com/heartwood-db/heartwood/shared/httpx/guesthttp"
	"github.com/heartwood-db/heartwood/shared/notify"
)

// maxDuties bounds what a guest may tell.
const maxDuties = 64

// capabilities are what a function may ask for: each only what it is for.
func (s *Sandbox) capabilities(function string) map[string]wasmhost.Capability {
	all := map[string]wasmhost.Capability{
		guesthttp.CapDocstore: func(ctx context.Context, in []byte) ([]byte, error) { return hostdoc.Serve(ctx, s.o.Engine, in), nil },
		talk.CapUpgrading:     s.upgrading,
	}
	if s.o.BackupDB != nil {
		all[talk.CapBackupDB] = func(ctx context.Context, _ []byte) ([]byte, error) { return nil, s.o.BackupDB(ctx) }
	}
	switch function {
	case App:
		all[talk.CapSend] = answer(s.send)
		all[talk.CapHash] = answer(s.hash)
		all[talk.CapCheck] = answer(s.check)
	case Ingestion:
		all[talk.CapDuties] = s.learn(function)
		if s.o.Blobs != nil {
			all[talk.CapBlocks] = func(ctx context.Context, in []byte) ([]byte, error) { return hostblock.Serve(ctx, s.o.Blobs, in), nil }
		}
	case Alerts:
		all[talk.CapDuties] = s.learn(function)
		all[talk.CapSend] = answer(s.send)
		all[talk.CapProbe] = answer(s.probe)
		if s.o.Heartbeat != nil {
			all[talk.CapHeartbeat] = answer(s.beat)
		}
	}
	return all
}

// answer makes a capability of a function over messages.
func answer[Q, A any](do func(ctx context.Context, q Q) (A, error)) wasmhost.Capability {
	return func(ctx context.Context, in []byte) ([]byte, error) {
		q, err := talk.Decode[Q](in)
		if err != nil {
			return nil, err
		}
		a, err := do(ctx, q)
		if err != nil {
			return nil, err
		}
		return talk.Encode(a)
	}
}

func (s *Sandbox) send(ctx context.Context, l talk.Letter) (talk.Sent, error) {
	return talk.NewSent(s.o.Sender.Send(ctx, l.To, l.Message)), nil
}

func (s *Sandbox) hash(_ context.Context, p talk.Password) (talk.Hashed, error) {
	h, err := s.o.Passwords.Hash(p.Password)
	return talk.Hashed{Hash: h}, err
}

func (s *Sandbox) check(_ context.Context, p talk.Password) (talk.Checked, error) {
	ok, rehash := s.o.Passwords.Check(p.Hash, p.Password)
	return talk.Checked{OK: ok, Rehash: rehash}, nil
}

func (s *Sandbox) probe(ctx context.Context, d talk.Door) (talk.Finding, error) {
	return s.o.Probe(ctx, d.Host, d.Port), nil
}

func (s *Sandbox) beat(ctx context.Context, _ talk.Sent) (talk.Sent, error) {
	return talk.NewSent(notify.Result{}, s.o.Heartbeat(ctx)), nil
}

func (s *Sandbox) upgrading(context.Context, []byte) ([]byte, error) {
	if s.o.Upgrading != nil && s.o.Upgrading() {
		return []byte{1}, nil
	}
	return []byte{0}, nil
}

// learn keeps what a guest says its duties are; its first word counts, as all its instances say the same.
func (s *Sandbox) learn(function string) wasmhost.Capability {
	return func(_ context.Context, in []byte) ([]byte, error) {
		d, err := talk.Decode[talk.Duties](in)
		if err != nil {
			return nil, err
		}
		if len(d.List) > maxDuties {
			return nil, errors.New("more duties than a function has")
		}
		for _, one := range d.List {
			if one.Every <= 0 || one.Name == "" {
				return nil, errors.New("a duty lacks its name or its period")
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.duties[function] == nil {
			s.duties[function] = d.List
		}
		return nil, nil
	}
}
