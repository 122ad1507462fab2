package series

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/series/pack"
)

// Checks say whether a document of the area can be read and lies under the id that its contents ask for.
func Checks() store.Checks {
	codec, err := pack.NewCodec()
	if err != nil {
		failed := func(*store.Checking, docstore.Doc) error { return err }
		return store.Checks{collRows: failed, collChunks: failed, collH1: failed, collD1: failed}
	}
	s := &Series{codec: codec}
	return store.Checks{
		collRows: func(_ *store.Checking, doc docstore.Doc) error {
			p, err := parseRowID(doc.ID)
			if err != nil {
				return err
			}
			if bucketOf(p.host) != p.bucket {
				return errors.New("it lies in another host's bucket")
			}
			_, err = decodeRow(doc.Body, p.at)
			return err
		},
		collChunks: s.checkPacked(hourLayout, func(d *packedDoc) (int, error) {
			f, err := s.codec.DecodeChunk(d.At.UTC(), d.Packed, nil)
			if err != nil {
				return 0, err
			}
			return f.Len(), nil
		}),
		collH1: s.checkPacked(dayLayout, s.blockSamples),
		collD1: s.checkPacked(monLayout, s.blockSamples),
	}
}

func (s *Series) blockSamples(d *packedDoc) (int, error) {
	b, err := s.codec.DecodeBlock(d.Packed, nil)
	if err != nil {
		return 0, err
	}
	return total(b.Samples), nil
}

// checkPacked checks a document by the layout of the time in its id and by the number of samples that are in it.
func (s *Series) checkPacked(layout string, count func(*packedDoc) (int, error)) func(*store.Checking, docstore.Doc) error {
	return func(_ *store.Checking, doc docstore.Doc) error {
		d, err := decodeDoc(&doc)
		if err != nil {
			return err
		}
		_, stamp, ok := strings.Cut(doc.ID, "/")
		if at, err := time.Parse(layout, stamp); !ok || err != nil || !at.Equal(d.At) {
			return fmt.Errorf("it is about %s", d.At.UTC().Format(time.RFC3339))
		}
		n, err := count(&d)
		if err != nil {
			return err
		}
		if n != d.Samples {
			return fmt.Errorf("it holds %d samples and says %d", n, d.Samples)
		}
		return nil
	}
}
