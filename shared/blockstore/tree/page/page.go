// Package page is the format of map pages: which block of a file is where, and what it hashes to. It is pure; FORMAT.md of the
// parent describes the bytes.
package page

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of a page.
const (
	Fanout   = 1024    // entries in a page
	MaxLevel = 3       // with blocks of 16 KiB and four levels, 16 PiB
	MaxBytes = 1 << 18 // no page has more
	maxName  = 64      // bytes of the name of a pack
	header   = 10
	perEntry = 2 + 4 + 2 + sha256.Size + len(Quick{})
	nowhere  = 0xffff // the pack of a block of zeros, which is stored nowhere
	version  = 1
)

var magic = [4]byte{'H', 'W', 'M', 'P'}

// ErrFormat is the answer to bytes that are no page.
var ErrFormat = errors.New("not a map page")

// Hash is a SHA-256.
type Hash = [sha256.Size]byte

// Quick is a fingerprint of a block under the job's secret key: GMAC, that is AES-GCM over the block as additional data with a
// nonce of zeros. It tells a changed block from an unchanged one at several times the speed of SHA-256. Who does not have the key
// cannot make a block that has the fingerprint of another.
type Quick = [16]byte

// Entry says where a block (on level 0) or a page (above) is, and what its plain content hashes to.
type Entry struct {
	Hash  Hash
	Quick Quick  // of a block; zero above level 0
	Frame uint32 // in the pack
	Pack  uint16 // in Page.Packs; meaningless when Zero
	Block uint16 // in the frame; 0 for pages
	Zero  bool   // a block of zeros: it is stored nowhere
}

// Page maps up to Fanout following blocks of a file, or pages of the level below.
type Page struct {
	Level   int
	Packs   []string // names, each once
	Entries []Entry
}

// Levels is the level of the root of a map of n blocks, n > 0.
func Levels(n int64) int {
	level := 0
	for pages := (n + Fanout - 1) / Fanout; pages > 1; pages = (pages + Fanout - 1) / Fanout {
		level++
	}
	return level
}

// Span is how many blocks one entry of a page on a level stands for.
func Span(level int) int64 {
	n := int64(1)
	for range level {
		n *= Fanout
	}
	return n
}

// Encode gives the bytes of a page. Equal pages have equal bytes.
func (p *Page) Encode() []byte {
	size := header + len(p.Entries)*perEntry
	for _, name := range p.Packs {
		size += 1 + len(name)
	}
	b := make([]byte, 0, size)
	b = append(b, magic[:]...)
	b = append(b, version, byte(p.Level))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(p.Entries)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(p.Packs)))
	for _, name := range p.Packs {
		b = append(b, byte(len(name)))
		b = append(b, name...)
	}
	for i := range p.Entries {
		pack := p.Entries[i].Pack
		if p.Entries[i].Zero {
			pack = nowhere
		}
		b = binary.LittleEndian.AppendUint16(b, pack)
	}
	for i := range p.Entries {
		b = binary.LittleEndian.AppendUint32(b, p.Entries[i].Frame)
	}
	for i := range p.Entries {
		b = binary.LittleEndian.AppendUint16(b, p.Entries[i].Block)
	}
	for i := range p.Entries {
		b = append(b, p.Entries[i].Hash[:]...)
	}
	for i := range p.Entries {
		b = append(b, p.Entries[i].Quick[:]...)
	}
	return b
}

// Decode reads the bytes of a page. It accepts only what Encode makes.
func Decode(b []byte) (*Page, error) {
	if len(b) < header || len(b) > MaxBytes || [4]byte(b[:4]) != magic {
		return nil, fmt.Errorf("%w: %d bytes", ErrFormat, len(b))
	}
	if b[4] != version {
		return nil, fmt.Errorf("%w: version %d", ErrFormat, b[4])
	}
	p := &Page{Level: int(b[5])}
	count, packs := int(binary.LittleEndian.Uint16(b[6:])), int(binary.LittleEndian.Uint16(b[8:]))
	if p.Level > MaxLevel || count == 0 || count > Fanout || packs > count {
		return nil, fmt.Errorf("%w: level %d, %d entries, %d packs", ErrFormat, p.Level, count, packs)
	}
	b = b[header:]
	seen := make(map[string]bool, packs)
	for range packs {
		if len(b) == 0 || b[0] == 0 || b[0] > maxName || len(b) < 1+int(b[0]) {
			return nil, fmt.Errorf("%w: the name of a pack", ErrFormat)
		}
		name := string(b[1 : 1+b[0]])
		if !ValidName(name) || seen[name] {
			return nil, fmt.Errorf("%w: the name of a pack: %q", ErrFormat, name)
		}
		seen[name] = true
		p.Packs = append(p.Packs, name)
		b = b[1+len(name):]
	}
	if len(b) != count*perEntry {
		return nil, fmt.Errorf("%w: %d bytes for %d entries", ErrFormat, len(b), count)
	}
	p.Entries = make([]Entry, count)
	frames, blocks, hashes, quicks := b[2*count:], b[6*count:], b[8*count:], b[(8+sha256.Size)*count:]
	for i := range p.Entries {
		e := &p.Entries[i]
		e.Pack = binary.LittleEndian.Uint16(b[2*i:])
		e.Frame = binary.LittleEndian.Uint32(frames[4*i:])
		e.Block = binary.LittleEndian.Uint16(blocks[2*i:])
		copy(e.Hash[:], hashes[sha256.Size*i:])
		copy(e.Quick[:], quicks[len(e.Quick)*i:])
		switch {
		case e.Pack == nowhere:
			if e.Frame != 0 || e.Block != 0 || p.Level > 0 {
				return nil, fmt.Errorf("%w: entry %d has a place but no pack", ErrFormat, i)
			}
			e.Pack, e.Zero = 0, true
		case int(e.Pack) >= packs || p.Level > 0 && (e.Block != 0 || e.Quick != Quick{}):
			return nil, fmt.Errorf("%w: entry %d points nowhere", ErrFormat, i)
		}
	}
	return p, nil
}

// Builder puts a page together, naming each pack once.
type Builder struct {
	page  Page
	index map[string]uint16
	last  string
	at    uint16
}

// NewBuilder begins a page of a level.
func NewBuilder(level, entries int) *Builder {
	return &Builder{page: Page{Level: level, Entries: make([]Entry, 0, entries)}, index: map[string]uint16{}}
}

// Add appends an entry in a pack; the pack of a Zero entry is ignored.
func (b *Builder) Add(pack string, e Entry) {
	if e.Zero {
		b.page.Entries = append(b.page.Entries, Entry{Hash: e.Hash, Quick: e.Quick, Zero: true})
		return
	}
	if pack != b.last || len(b.index) == 0 {
		i, ok := b.index[pack]
		if !ok {
			i = uint16(len(b.page.Packs))
			b.index[pack] = i
			b.page.Packs = append(b.page.Packs, pack)
		}
		b.last, b.at = pack, i
	}
	e.Pack = b.at
	b.page.Entries = append(b.page.Entries, e)
}

// Page is what was built.
func (b *Builder) Page() *Page { return &b.page }

// ValidName says whether a pack can be called so: 1 to 64 of a-z, 0-9, '_' and '-'. A dot would begin its generation.
func ValidName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if ('a' > c || c > 'z') && ('0' > c || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return name != "" && len(name) <= maxName
}
