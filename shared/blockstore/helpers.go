package blockstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
)

// Put writes an object that is in memory. When the key is taken by an object with the same content, as after an earlier try
// whose answer was lost, that is success; with other content it is ErrExists.
func Put(ctx context.Context, s Store, key string, content []byte) error {
	err := put(ctx, s, key, content)
	if !errors.Is(err, ErrExists) {
		return err
	}
	have, gerr := Get(ctx, s, key, int64(len(content)))
	switch {
	case errors.Is(gerr, ErrTooLarge):
		return err
	case gerr != nil:
		return fmt.Errorf("compare with what is there: %w", gerr)
	case !bytes.Equal(have, content):
		return err
	}
	return nil
}

func put(ctx context.Context, s Store, key string, content []byte) error {
	w, err := s.Create(ctx, key)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(content); err != nil {
		return err
	}
	return w.Commit(ctx)
}

// Get reads a whole object of at most limit bytes; a larger one is ErrTooLarge.
func Get(ctx context.Context, s Store, key string, limit int64) ([]byte, error) {
	r, err := s.Open(ctx, key, 0, limit+1)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	var b bytes.Buffer
	if _, err := b.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	if int64(b.Len()) > limit {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrTooLarge, key, limit)
	}
	return b.Bytes(), nil
}

// All yields every object under a prefix, ascending by key, asking for pages as they are needed. An error is yielded once
// and ends it.
func All(ctx context.Context, s Store, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		after := ""
		for {
			page, err := s.List(ctx, prefix, after, MaxList)
			if err != nil {
				yield(Object{}, err)
				return
			}
			if len(page) == 0 {
				return
			}
			for _, o := range page {
				if !yield(o, nil) {
					return
				}
			}
			last := page[len(page)-1].Key
			if last <= after { // a storage that does not keep the order must not make a loop without an end
				yield(Object{}, fmt.Errorf("list %s: the store answered %q after %q", prefix, last, after))
				return
			}
			after = last
		}
	}
}
