package entry

import (
	"fmt"
	"maps"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/seal"
	"github.com/heartwood-db/heartwood/shared/store"
)

// secretsDoc is what is sealed beside a document: the secrets of its notifications, by the notification's id. They are
// plain strings here because model.Secret redacts itself wherever it is printed or encoded.
type secretsDoc struct {
	Of map[string]map[string]string `bson:"of"`
}

// SecretsContext is the place that sealed secrets belong to: moved to another document they do not open.
func SecretsContext(collection, id string) string { return collection + "/" + id + "/secrets" }

// Seal seals the secrets of notifications for a document. What was sealed there before stays as it is when it holds the
// same: two seals of the same secrets differ, and a document that did not change should not look changed.
func Seal(box *seal.Box, collection, id string, before []byte, of ...model.Notification) ([]byte, error) {
	plain := secretsDoc{Of: map[string]map[string]string{}}
	for i := range of {
		n := &of[i]
		own := map[string]string{}
		for name, secret := range n.Secrets {
			if secret != "" {
				own[name] = secret.Reveal()
			}
		}
		if len(own) == 0 {
			continue
		}
		if _, twice := plain.Of[string(n.ID)]; twice {
			return nil, fmt.Errorf("two notifications have the id %q", n.ID)
		}
		plain.Of[string(n.ID)] = own
	}
	if len(plain.Of) == 0 {
		return nil, nil
	}
	if before != nil {
		if have, err := open(box, collection, id, before); err == nil && maps.EqualFunc(have.Of, plain.Of, maps.Equal[map[string]string, map[string]string]) {
			return before, nil
		}
	}
	body, err := store.Encode(plain)
	if err != nil {
		return nil, err
	}
	return box.Seal(body, SecretsContext(collection, id)), nil
}

func open(box *seal.Box, collection, id string, sealed []byte) (secretsDoc, error) {
	var d secretsDoc
	if sealed == nil {
		return d, nil
	}
	plain, err := box.Open(sealed, SecretsContext(collection, id))
	if err == nil {
		err = bson.Unmarshal(plain, &d)
	}
	if err != nil {
		return d, fmt.Errorf("secrets of %s/%s: %w", collection, id, err)
	}
	return d, nil
}

// Unseal gives notifications their secrets back.
func Unseal(box *seal.Box, collection, id string, sealed []byte, of ...*model.Notification) error {
	d, err := open(box, collection, id, sealed)
	if err != nil {
		return err
	}
	for _, n := range of {
		n.Secrets = nil
		if own := d.Of[string(n.ID)]; own != nil {
			n.Secrets = make(map[string]model.Secret, len(own))
			for name, secret := range own {
				n.Secrets[name] = model.Secret(secret)
			}
		}
	}
	return nil
}

// CheckSecrets says whether the sealed secrets of a document open, for `heartwood store check`.
func CheckSecrets(c *store.Checking, doc docstore.Doc, sealed []byte, collection string) error {
	if sealed == nil {
		return nil
	}
	if err := c.Opens(sealed, SecretsContext(collection, doc.ID)); err != nil {
		return fmt.Errorf("its secrets do not open: %w", err)
	}
	return nil
}
