package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
)

const collSettings = "settings"

type settingDoc struct {
	Value   string    `bson:"value,omitempty"`
	Sealed  []byte    `bson:"sealed,omitempty"`
	Updated time.Time `bson:"updated"`
}

// Settings returns all values kept in the database, by key; secret ones in plain text.
func (s *Store) Settings(ctx context.Context) (map[string]string, error) {
	all := map[string]string{}
	for doc, err := range s.Docs(ctx, docstore.Query{Collection: collSettings}) {
		if err != nil {
			return nil, err
		}
		v, err := Decode[settingDoc](doc)
		if err != nil {
			return nil, err
		}
		if all[doc.ID], err = s.openSetting(doc.ID, v); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Setting returns one value, or ErrNotFound.
func (s *Store) Setting(ctx context.Context, key string) (string, error) {
	v, err := Get[settingDoc](ctx, s, collSettings, key)
	if err != nil {
		return "", err
	}
	return s.openSetting(key, v)
}

// SetSetting stores a value.
func (s *Store) SetSetting(ctx context.Context, key, value string) error {
	return s.putSetting(ctx, key, settingDoc{Value: value})
}

// SetSecretSetting stores a value that nobody must read in the database.
func (s *Store) SetSecretSetting(ctx context.Context, key, value string) error {
	return s.putSetting(ctx, key, settingDoc{Sealed: s.box.Seal([]byte(value), settingContext(key))})
}

// DeleteSetting removes a value; that there was none is no error.
func (s *Store) DeleteSetting(ctx context.Context, key string) error {
	return s.Delete(ctx, collSettings, key)
}

func (s *Store) putSetting(ctx context.Context, key string, v settingDoc) error {
	if key == "" {
		return errors.New("a setting needs a key")
	}
	var err error
	if v.Updated, err = s.Now(ctx); err != nil {
		return err
	}
	return Put(ctx, s, collSettings, key, v)
}

func (s *Store) openSetting(key string, v settingDoc) (string, error) {
	if v.Sealed == nil {
		return v.Value, nil
	}
	plain, err := s.box.Open(v.Sealed, settingContext(key))
	if err != nil {
		return "", fmt.Errorf("setting %s: %w", key, err)
	}
	return string(plain), nil
}

func settingContext(key string) string { return "setting/" + key }
