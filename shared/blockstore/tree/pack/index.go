package pack

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of a pack.
const (
	MaxBlocks = 1024     // blocks in a frame
	MaxFrame  = 32 << 20 // bytes of a frame before compression
	MaxFrames = 1 << 20  // frames in a pack
	MaxSize   = 1 << 30  // bytes after which a pack must end

	tailLen    = 32
	perFrame   = 20
	version    = 1
	maxIndex   = 64 << 20 // bytes of an index before compression
	maxName    = 64
	flagUneven = 1 // of a frame in the index: the lengths of its blocks follow
)

var magic = [4]byte{'H', 'W', 'P', 'K'}

// ErrFormat is the answer to bytes that are no pack.
var ErrFormat = errors.New("not a pack")

// Codec says how a frame is kept.
type Codec uint8

// The codecs. Plain is for what compression would make longer.
const (
	Plain Codec = 0
	Zstd  Codec = 1
)

// Frame says where a frame is in its pack and how it is cut into blocks.
type Frame struct {
	Offset uint32
	Stored uint32 // bytes in the pack; 0: the frame was dropped
	Raw    uint32 // bytes before compression
	CRC    uint32 // CRC-32C of the stored bytes: tells which object is damaged before anything is decompressed
	Codec  Codec
	// Lengths of the blocks in it. A block that was dropped has 0.
	Lengths []uint32
}

// Index says where the frames of a pack are. It stands at its end.
type Index struct {
	Frames []Frame
}

// Block is where a block is in its frame's plain bytes; ok is false when the pack does not have it (any more).
func (f *Frame) Block(n uint16) (offset, length uint32, ok bool) {
	if f.Stored == 0 || int(n) >= len(f.Lengths) || f.Lengths[n] == 0 {
		return 0, 0, false
	}
	for _, l := range f.Lengths[:n] {
		offset += l
	}
	return offset, f.Lengths[n], true
}

// encode gives the plain bytes of an index.
func (x *Index) encode() []byte {
	b := make([]byte, 0, 4+len(x.Frames)*perFrame)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(x.Frames)))
	for i := range x.Frames {
		f := &x.Frames[i]
		flags := byte(0)
		if !even(f) {
			flags = flagUneven
		}
		b = binary.LittleEndian.AppendUint32(b, f.Offset)
		b = binary.LittleEndian.AppendUint32(b, f.Stored)
		b = binary.LittleEndian.AppendUint32(b, f.Raw)
		b = binary.LittleEndian.AppendUint32(b, f.CRC)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(f.Lengths)))
		b = append(b, byte(f.Codec), flags)
		if flags&flagUneven != 0 {
			for _, l := range f.Lengths {
				b = binary.LittleEndian.AppendUint32(b, l)
			}
		}
	}
	return b
}

// even says that all blocks of a frame have one length, so that it need not be written for each.
func even(f *Frame) bool {
	for _, l := range f.Lengths {
		if l != f.Lengths[0] {
			return false
		}
	}
	return true
}

// decodeIndex reads the plain bytes of an index of a pack whose frames lie before end.
func decodeIndex(b []byte, end int64) (*Index, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("%w: its index has %d bytes", ErrFormat, len(b))
	}
	n := binary.LittleEndian.Uint32(b)
	b = b[4:]
	if n > MaxFrames || int64(n)*perFrame > int64(len(b)) {
		return nil, fmt.Errorf("%w: an index of %d frames in %d bytes", ErrFormat, n, len(b))
	}
	x := &Index{Frames: make([]Frame, n)}
	at := int64(0)
	for i := range x.Frames {
		f := &x.Frames[i]
		if len(b) < perFrame {
			return nil, fmt.Errorf("%w: its index ends in frame %d", ErrFormat, i)
		}
		f.Offset, f.Stored, f.Raw, f.CRC = binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
		count, flags := int(binary.LittleEndian.Uint16(b[16:])), b[19]
		f.Codec = Codec(b[18])
		b = b[perFrame:]
		if int64(f.Offset) != at || at+int64(f.Stored) > end || f.Raw > MaxFrame || count > MaxBlocks || f.Codec > Zstd || flags > flagUneven {
			return nil, fmt.Errorf("%w: frame %d of its index", ErrFormat, i)
		}
		at += int64(f.Stored)
		var err error
		if b, err = f.decodeLengths(b, count, flags); err != nil {
			return nil, fmt.Errorf("%w: the blocks of frame %d", err, i)
		}
	}
	if len(b) != 0 || at != end {
		return nil, fmt.Errorf("%w: its index does not end where it should", ErrFormat)
	}
	return x, nil
}

func (f *Frame) decodeLengths(b []byte, count int, flags byte) ([]byte, error) {
	if count == 0 {
		if f.Raw != 0 || f.Stored != 0 || flags != 0 {
			return nil, ErrFormat
		}
		return b, nil
	}
	if f.Stored == 0 || f.Raw == 0 || f.Codec == Plain && f.Raw != f.Stored {
		return nil, ErrFormat
	}
	f.Lengths = make([]uint32, count)
	if flags&flagUneven == 0 {
		if int(f.Raw)%count != 0 {
			return nil, ErrFormat
		}
		for i := range f.Lengths {
			f.Lengths[i] = f.Raw / uint32(count)
		}
		return b, nil
	}
	if len(b) < 4*count {
		return nil, ErrFormat
	}
	var sum uint64
	for i := range f.Lengths {
		f.Lengths[i] = binary.LittleEndian.Uint32(b[4*i:])
		sum += uint64(f.Lengths[i])
	}
	if sum != uint64(f.Raw) || even(f) {
		return nil, ErrFormat
	}
	return b[4*count:], nil
}

// tail is the end of every pack: how to find and check the index before it.
type tail struct {
	stored, raw uint32
	sum         [16]byte // of the stored index
	codec       Codec
	kind        Kind
}

func (t tail) encode() []byte {
	b := make([]byte, 0, tailLen)
	b = binary.LittleEndian.AppendUint32(b, t.stored)
	b = binary.LittleEndian.AppendUint32(b, t.raw)
	b = append(b, t.sum[:]...)
	b = append(b, byte(t.codec), version, byte(t.kind), 0)
	return append(b, magic[:]...)
}

func decodeTail(b []byte, size int64, kind Kind) (tail, error) {
	if len(b) != tailLen || [4]byte(b[28:]) != magic || b[26] != byte(kind) || b[27] != 0 {
		return tail{}, fmt.Errorf("%w: its end", ErrFormat)
	}
	if b[25] != version {
		return tail{}, fmt.Errorf("%w: version %d", ErrFormat, b[25])
	}
	t := tail{stored: binary.LittleEndian.Uint32(b), raw: binary.LittleEndian.Uint32(b[4:]), codec: Codec(b[24]), kind: kind}
	copy(t.sum[:], b[8:])
	if t.raw > maxIndex || t.codec > Zstd || int64(t.stored) > size-tailLen || t.codec == Plain && t.raw != t.stored {
		return tail{}, fmt.Errorf("%w: an index of %d bytes in an object of %d", ErrFormat, t.stored, size)
	}
	return t, nil
}

func sum16(b []byte) (s [16]byte) {
	full := sha256.Sum256(b)
	copy(s[:], full[:])
	return s
}
