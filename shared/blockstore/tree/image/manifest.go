package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/pack"
	"github.com/heartwood-db/heartwood/shared/blockstore/tree/page"
)

// Limits of a manifest.
const (
	ManifestVersion = 1
	maxManifest     = 64 << 20  // stored bytes
	maxManifestRaw  = 256 << 20 // bytes before compression
	MaxFiles        = 1 << 20
	MaxMeta         = 8 << 20
	MinBlockSize    = 64
	MaxBlockSize    = 16 << 20
	manifestHead    = 4 + 4 + sha256.Size
	KeySize         = 32
)

var manifestMagic = [4]byte{'H', 'W', 'S', 'N'}

// ManifestKey is the object of a snapshot's manifest.
func ManifestKey(job, id string) string { return "snapshots/" + job + "/" + id }

// Zero says whether a file has no map: it is empty, or a folder.
func (r *Ref) Zero() bool { return r.Pack == "" }

// Sum is the hash.
func (r *Ref) Sum() (h page.Hash) {
	copy(h[:], r.Hash)
	return h
}

// Blocks is how many blocks a file has.
func (f *File) Blocks(size int) int64 { return (f.Size + int64(size) - 1) / int64(size) }

// Time is when the file was last changed, to the nanosecond.
func (f *File) Time() time.Time { return f.ModTime.Add(time.Duration(f.Nanos)) }

// SetTime notes when a file was last changed.
func SetTime(f *File, t time.Time) {
	f.ModTime = t.UTC().Truncate(time.Millisecond)
	f.Nanos = int32(t.Sub(f.ModTime))
}

// Find looks a file up.
func (m *Manifest) Find(path string) *File {
	for lo, hi := 0, len(m.Files); lo < hi; {
		mid := (lo + hi) / 2
		switch c := strings.Compare(m.Files[mid].Path, path); {
		case c == 0:
			return &m.Files[mid]
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return nil
}

// EncodeManifest gives the bytes of a manifest object.
func EncodeManifest(m *Manifest) ([]byte, error) {
	plain, err := bson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	defer func() { _ = enc.Close() }()
	stored := enc.EncodeAll(plain, nil)
	if len(plain) > maxManifestRaw || len(stored) > maxManifest-manifestHead {
		return nil, fmt.Errorf("%w: a manifest of %d files has %d bytes", blockstore.ErrTooLarge, len(m.Files), len(stored))
	}
	b := make([]byte, 0, manifestHead+len(stored))
	b = append(b, manifestMagic[:]...)
	b = binary.LittleEndian.AppendUint32(b, ManifestVersion)
	sum := sha256.Sum256(stored)
	return append(append(b, sum[:]...), stored...), nil
}

var errManifest = errors.New("not a manifest")

// decodeManifest reads the bytes of a manifest object and checks that nothing in it can mislead a reader.
func decodeManifest(b []byte) (*Manifest, error) {
	if len(b) < manifestHead || [4]byte(b[:4]) != manifestMagic {
		return nil, fmt.Errorf("%w: %d bytes", errManifest, len(b))
	}
	if v := binary.LittleEndian.Uint32(b[4:]); v != ManifestVersion {
		return nil, fmt.Errorf("%w: %d", ErrVersion, v)
	}
	if sum := sha256.Sum256(b[manifestHead:]); !bytes.Equal(sum[:], b[8:manifestHead]) {
		return nil, fmt.Errorf("%w: its hash is wrong", errManifest)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxManifestRaw))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	defer dec.Close()
	plain, err := dec.DecodeAll(b[manifestHead:], nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errManifest, err)
	}
	var m Manifest
	if err := bson.Unmarshal(plain, &m); err != nil {
		return nil, fmt.Errorf("%w: %w", errManifest, err)
	}
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", errManifest, err)
	}
	for i := range m.Files {
		m.Files[i].ModTime = m.Files[i].ModTime.UTC()
	}
	m.Created = m.Created.UTC()
	return &m, nil
}

// Check says what in a manifest could mislead a reader.
func (m *Manifest) Check() error {
	switch {
	case m.Version != ManifestVersion:
		return fmt.Errorf("%w: %d", ErrVersion, m.Version)
	case !Segment(m.ID) || !Segment(m.Job) || m.Prev != "" && !Segment(m.Prev):
		return fmt.Errorf("snapshot %q of job %q", m.ID, m.Job)
	case len(m.Key) != KeySize:
		return fmt.Errorf("a key of %d bytes", len(m.Key))
	case m.BlockSize < MinBlockSize || m.BlockSize > MaxBlockSize:
		return fmt.Errorf("blocks of %d bytes", m.BlockSize)
	case len(m.Files) > MaxFiles:
		return fmt.Errorf("%d files", len(m.Files))
	}
	for i := range m.Files {
		f := &m.Files[i]
		if !fs.ValidPath(f.Path) || f.Path == "." || strings.ContainsAny(f.Path, "\\\x00") || f.Size < 0 || f.Nanos < 0 || f.Nanos >= 1e6 {
			return fmt.Errorf("the file %.200q", f.Path)
		}
		if i > 0 && m.Files[i-1].Path >= f.Path {
			return fmt.Errorf("the file %.200q is not in order", f.Path)
		}
		n := f.Blocks(m.BlockSize)
		switch {
		case n == 0 || f.Dir:
			if n != 0 || !f.Root.Zero() {
				return fmt.Errorf("the file %.200q is empty but has a map", f.Path)
			}
		case n > 1<<32-1:
			return fmt.Errorf("the file %.200q has %d blocks", f.Path, n)
		case f.Root.Level != page.Levels(n) || !page.ValidName(f.Root.Pack) || len(f.Root.Hash) != sha256.Size || f.Root.Frame < 0 || f.Root.Frame >= pack.MaxFrames:
			return fmt.Errorf("the map of %.200q", f.Path)
		}
	}
	return nil
}

// Segment says whether s can be one segment of a key.
func Segment(s string) bool {
	return len(s) <= 128 && !strings.Contains(s, "/") && blockstore.ValidKey(s) == nil
}

// Load reads a manifest and checks it. It is ErrNotFound when there is no such snapshot, a *Damage when it is not what was
// written.
func Load(ctx context.Context, s blockstore.Store, job, id string) (*Manifest, error) {
	if !Segment(job) || !Segment(id) {
		return nil, fmt.Errorf("%w: snapshot %q of job %q", blockstore.ErrInvalid, id, job)
	}
	key := ManifestKey(job, id)
	b, err := blockstore.Get(ctx, s, key, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("load snapshot %s: %w", id, err)
	}
	m, err := decodeManifest(b)
	if errors.Is(err, ErrVersion) {
		return nil, fmt.Errorf("load snapshot %s: %w", id, err)
	}
	if err == nil && (m.ID != id || m.Job != job) {
		err = fmt.Errorf("it is that of snapshot %s of job %s", m.ID, m.Job)
	}
	if err != nil {
		return nil, &Damage{Job: job, Snapshot: id, Key: key, What: err.Error()}
	}
	return m, nil
}

// List gives the ids of the snapshots of a job that are in the store, ascending.
func List(ctx context.Context, s blockstore.Store, job string) ([]string, error) {
	if !Segment(job) {
		return nil, fmt.Errorf("%w: job %q", blockstore.ErrInvalid, job)
	}
	var ids []string
	prefix := ManifestKey(job, "")
	for o, err := range blockstore.All(ctx, s, prefix) {
		if err != nil {
			return nil, fmt.Errorf("list snapshots of %s: %w", job, err)
		}
		ids = append(ids, strings.TrimPrefix(o.Key, prefix))
	}
	return ids, nil
}

// Error says what is damaged and who needs it.
func (d *Damage) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "snapshot %s", d.Snapshot)
	if d.Path != "" {
		fmt.Fprintf(&b, ", %s at %d", d.Path, d.Offset)
	}
	fmt.Fprintf(&b, ": object %s: %s", d.Key, d.What)
	return b.String()
}

// Unwrap makes it blockstore.ErrDamaged.
func (d *Damage) Unwrap() error { return blockstore.ErrDamaged }
