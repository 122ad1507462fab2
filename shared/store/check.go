package store

import (
	"fmt"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/seal"
)

// Checks say, by collection, whether one document is sound. Each area exports its own; see shared/store/areas.
type Checks map[string]func(c *Checking, doc docstore.Doc) error

// Checking is what a check has at hand besides the document.
type Checking struct {
	Box   *seal.Box                   // nil when the key is not at hand: then nothing is opened
	Refer func(collection, id string) // notes that the document needs another one to exist
}

// Opens says whether a sealed value opens with the site's key.
func (c *Checking) Opens(sealed []byte, context string) error {
	if c.Box == nil {
		return nil
	}
	_, err := c.Box.Open(sealed, context)
	return err
}

// CheckAs is the check that a document decodes as a T, and whatever more inspects of it. more may be nil.
func CheckAs[T any](more func(c *Checking, doc docstore.Doc, v *T) error) func(*Checking, docstore.Doc) error {
	return func(c *Checking, doc docstore.Doc) error {
		v, err := Decode[T](doc)
		if err != nil || more == nil {
			return err
		}
		return more(c, doc, &v)
	}
}

// CheckID is an error when a document's id is not the one that its content calls for.
func CheckID(doc docstore.Doc, want string) error {
	if doc.ID != want {
		return fmt.Errorf("its id should be %q", want)
	}
	return nil
}

// KernelChecks checks the kernel's own collections.
func KernelChecks() Checks {
	return Checks{
		collSite: CheckAs(func(c *Checking, doc docstore.Doc, v *Site) error {
			if doc.ID == siteID && c.Box != nil && v.Fingerprint != c.Box.Fingerprint() {
				return fmt.Errorf("it belongs to the gen.key with fingerprint %s, this one has %s", v.Fingerprint, c.Box.Fingerprint())
			}
			return nil
		}),
		collInstances: CheckAs[model.Instance](nil),
		collLeases:    CheckAs[leaseDoc](nil),
		collPasses:    CheckAs[PassState](nil),
		collSettings: CheckAs(func(c *Checking, doc docstore.Doc, v *settingDoc) error {
			if v.Sealed == nil {
				return nil
			}
			if err := c.Opens(v.Sealed, settingContext(doc.ID)); err != nil {
				return fmt.Errorf("its value does not open: %w", err)
			}
			return nil
		}),
	}
}
