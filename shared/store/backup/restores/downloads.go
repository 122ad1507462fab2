package restores

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup/entry"
)

// useLife is for how long at least a download that has begun may be resumed, also beyond the end of the link: large archives
// take their time, and a link may be used in its last minute.
const useLife = 6 * time.Hour

func tokenContext(restore string) string { return "backup/download/" + restore }

// OfferDownload makes the link of a restore whose objects are stored: a fresh token, from now on for Delivery.Hours. It is called
// within the change that sets Objects (UpdateRestoreAs); only the token's digest and its sealed form are kept.
func (rs *Register) OfferDownload(r *Restore, now time.Time) {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails: crypto/rand ends the program instead
	token := base64.RawURLEncoding.EncodeToString(raw[:])
	digest := sha256.Sum256([]byte(token))
	d := &r.Delivery
	d.Digest, d.Sealed = digest[:], rs.s.Box().Seal([]byte(token), tokenContext(r.ID))
	d.Hours, d.MaxDownloads = max(d.Hours, 1), max(d.MaxDownloads, 1)
	d.Expires, d.Downloads, d.Status = now.Add(time.Duration(d.Hours)*time.Hour), 0, model.DeliveryReady
	for i := range r.Objects {
		r.Objects[i].Downloads, r.Objects[i].UseEnds = 0, time.Time{}
	}
}

// DownloadToken is the token of a restore's link, for those who may restore. entry.ErrLink when there is none, entry.ErrLinkEnded when it is over.
func (rs *Register) DownloadToken(r *Restore, now time.Time) (model.Secret, error) {
	if len(r.Delivery.Sealed) == 0 {
		return "", entry.ErrLink
	}
	if r.Delivery.StatusAt(r.Objects, now) != model.DeliveryReady && r.Delivery.StatusAt(r.Objects, now) != model.DeliveryTransferring {
		return "", entry.ErrLinkEnded
	}
	token, err := rs.s.Box().Open(r.Delivery.Sealed, tokenContext(r.ID))
	if err != nil {
		return "", fmt.Errorf("the link of restore %s: %w", r.ID, err)
	}
	return model.Secret(token), nil
}

func (d *Delivery) usedUp(objects []Object) bool {
	for i := range objects {
		if objects[i].Downloads < d.MaxDownloads {
			return false
		}
	}
	return true
}

// StatusAt is what people are told of a link at a time.
func (d *Delivery) StatusAt(objects []Object, now time.Time) model.DeliveryStatus {
	switch {
	case len(d.Digest) == 0 || d.Status == model.DeliveryFinished:
		return d.Status
	case d.Status == model.DeliveryTransferring && running(objects, now):
		return d.Status
	case d.usedUp(objects):
		return model.DeliveryMaxDownloads
	case !now.Before(d.Expires):
		return model.DeliveryExpired
	}
	return model.DeliveryReady
}

func running(objects []Object, now time.Time) bool {
	for i := range objects {
		if now.Before(objects[i].UseEnds) {
			return true
		}
	}
	return false
}

// Download finds the file that a link names. entry.ErrLink: there is no such restore, token or file; the time it takes tells no
// more. entry.ErrLinkEnded: the link expired or is used up. resume asks to go on with a download that has begun.
func (rs *Register) Download(ctx context.Context, id, token, file string, resume bool, now time.Time) (Restore, int, error) {
	r, err := rs.Restore(ctx, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return r, 0, err
	}
	want := r.Delivery.Digest
	if len(want) != sha256.Size { // compared all the same: the time taken tells nothing
		want = make([]byte, sha256.Size)
	}
	have := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(have[:], want) != 1 || len(r.Delivery.Digest) != sha256.Size || r.Status != model.RestoreFinished {
		return Restore{}, 0, entry.ErrLink
	}
	for i := range r.Objects {
		if r.Objects[i].Name == file {
			return r, i, r.mayDownload(i, resume, now)
		}
	}
	return Restore{}, 0, entry.ErrLink
}

func (r *Restore) mayDownload(object int, resume bool, now time.Time) error {
	o, d := &r.Objects[object], &r.Delivery
	switch {
	case !r.Cleaned.IsZero():
		return fmt.Errorf("%w: the file was deleted", entry.ErrLinkEnded)
	case resume && now.Before(o.UseEnds):
		return nil
	case o.Downloads >= d.MaxDownloads:
		return fmt.Errorf("%w: it was used %d times of %d", entry.ErrLinkEnded, o.Downloads, d.MaxDownloads)
	case !now.Before(d.Expires):
		return fmt.Errorf("%w: it expired at %s", entry.ErrLinkEnded, d.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// CountDownload counts a use of a link, before the first byte flows: of any number at once no more succeed than the link
// allows (entry.ErrLinkEnded for the others). A resumption within the life of a use is not counted.
func (rs *Register) CountDownload(ctx context.Context, id string, object int, resume bool, now time.Time) error {
	return rs.UpdateRestore(ctx, id, func(r *Restore) error {
		if object < 0 || object >= len(r.Objects) {
			return entry.ErrLink
		}
		if err := r.mayDownload(object, resume, now); err != nil {
			return err
		}
		o, d := &r.Objects[object], &r.Delivery
		if resume && now.Before(o.UseEnds) {
			return store.ErrUnchanged
		}
		o.Downloads++
		d.Downloads = max(d.Downloads, o.Downloads)
		o.UseEnds = now.Add(useLife)
		if d.Expires.After(o.UseEnds) {
			o.UseEnds = d.Expires
		}
		d.Status = model.DeliveryTransferring
		return nil
	})
}

// EndDownload notes that a file was sent to its end. It is for people: nothing depends on it.
func (rs *Register) EndDownload(ctx context.Context, id string, now time.Time) error {
	return rs.UpdateRestore(ctx, id, func(r *Restore) error {
		d := &r.Delivery
		if d.Status != model.DeliveryTransferring {
			return store.ErrUnchanged
		}
		d.Status = model.DeliveryReady
		if d.usedUp(r.Objects) || !now.Before(d.Expires) {
			d.Status = model.DeliveryFinished
		}
		return nil
	})
}
