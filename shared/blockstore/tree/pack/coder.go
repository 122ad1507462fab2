package pack

import (
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/zstd"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Coder compresses and decompresses frames, several at a time. It keeps a few megabytes for each.
type Coder struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

// NewCoder makes a coder for so many goroutines. level is 1 (fastest) to 4; 0 means 1.
func NewCoder(workers, level int) (*Coder, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(workers), zstd.WithEncoderLevel(zstd.EncoderLevel(max(level, 1))),
		zstd.WithWindowSize(1<<20), zstd.WithAllLitEntropyCompression(true), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true), zstd.WithSingleSegment(true))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(workers), zstd.WithDecoderMaxMemory(maxIndex), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return &Coder{enc: enc, dec: dec}, nil
}

// Close lets the memory go.
func (c *Coder) Close() {
	_ = c.enc.Close()
	c.dec.Close()
}

// Encode compresses plain bytes into into (which may be nil). The result is plain itself when it would not get shorter.
func (c *Coder) Encode(plain, into []byte) ([]byte, Codec) {
	out := c.enc.EncodeAll(plain, into[:0])
	if len(out) >= len(plain) {
		return plain, Plain
	}
	return out, Zstd
}

// Decode gives the plain bytes, raw of them, in a buffer that grows from into. The result may be stored itself.
func (c *Coder) Decode(stored []byte, codec Codec, raw int, into []byte) ([]byte, error) {
	if codec == Plain {
		if len(stored) != raw {
			return nil, fmt.Errorf("%w: %d plain bytes, %d expected", ErrFormat, len(stored), raw)
		}
		return stored, nil
	}
	if cap(into) < raw {
		into = make([]byte, 0, raw)
	}
	out, err := c.dec.DecodeAll(stored, into[:0:raw])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if len(out) != raw {
		return nil, fmt.Errorf("%w: %d bytes, %d expected", ErrFormat, len(out), raw)
	}
	return out, nil
}

// Plain checks and decompresses the stored bytes of a frame. A frame that does not fit its index is ErrFormat.
func (c *Coder) Plain(f *Frame, stored, into []byte) ([]byte, error) {
	if len(stored) != int(f.Stored) {
		return nil, fmt.Errorf("%w: %d bytes of a frame, %d expected", ErrFormat, len(stored), f.Stored)
	}
	if crc32.Checksum(stored, castagnoli) != f.CRC {
		return nil, fmt.Errorf("%w: the checksum of a frame is wrong", ErrFormat)
	}
	return c.Decode(stored, f.Codec, int(f.Raw), into)
}
