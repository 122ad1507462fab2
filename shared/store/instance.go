package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
)

const collInstances = "instances"

// InstanceTimeout is how long after its last heartbeat an instance counts as running.
const InstanceTimeout = 2 * time.Minute

// Register records a starting server process. The schema it writes is filled in.
func (s *Store) Register(ctx context.Context, in model.Instance) error {
	if in.ID == "" {
		return errors.New("register instance: it has no id")
	}
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	in.Schema, in.Heartbeat = s.schema, now
	if in.Started.IsZero() {
		in.Started = now
	}
	if in.Version == "" {
		in.Version = s.version
	}
	return Put(ctx, s, collInstances, in.ID, in)
}

// Heartbeat says that the instance is alive. It fails with the reason when the site has moved on to a schema this
// binary must not work on: a newer server has begun a migration.
func (s *Store) Heartbeat(ctx context.Context, id string) error {
	site, err := s.Site(ctx)
	if err != nil {
		return err
	}
	if err := s.judge(site); err != nil {
		return err
	}
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	return Update(ctx, s, collInstances, id, func(in *model.Instance) error {
		in.Heartbeat = now
		return nil
	})
}

// Unregister forgets an instance that ends in order.
func (s *Store) Unregister(ctx context.Context, id string) error {
	return s.Delete(ctx, collInstances, id)
}

// Instances lists all instances that ever registered and were not forgotten, by id. Those whose heartbeat is older than
// InstanceTimeout are gone.
func (s *Store) Instances(ctx context.Context) ([]model.Instance, error) {
	return All[model.Instance](ctx, s, docstore.Query{Collection: collInstances})
}

// Running lists the instances with a fresh heartbeat.
func (s *Store) Running(ctx context.Context) ([]model.Instance, error) {
	all, err := s.Instances(ctx)
	if err != nil {
		return nil, err
	}
	now, err := s.Now(ctx)
	if err != nil {
		return nil, err
	}
	running := all[:0]
	for _, in := range all {
		if now.Sub(in.Heartbeat) < InstanceTimeout {
			running = append(running, in)
		}
	}
	return running, nil
}

// ForgetInstances removes instances whose last heartbeat is older than age.
func (s *Store) ForgetInstances(ctx context.Context, age time.Duration) error {
	all, err := s.Instances(ctx)
	if err != nil {
		return err
	}
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	for _, in := range all {
		if now.Sub(in.Heartbeat) < age {
			continue
		}
		if err := s.Unregister(ctx, in.ID); err != nil {
			return fmt.Errorf("forget instance %s: %w", in.ID, err)
		}
	}
	return nil
}

// ReadInstances lists the running instances of a database that is not opened.
func ReadInstances(ctx context.Context, e docstore.Engine) ([]model.Instance, error) {
	s := &Store{engine: e}
	running, err := s.Running(ctx)
	if errors.Is(err, docstore.ErrCollection) { // not declared in this process
		switch err = e.Ensure(ctx, []docstore.Collection{{Name: collInstances}}); {
		case err == nil:
			running, err = s.Running(ctx)
		case errors.Is(err, docstore.ErrCollection): // a file that is only read, and has none
			return nil, nil
		}
	}
	return running, err
}
