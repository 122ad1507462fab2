package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
)

// A segment is a file of records in order: magic, then for each record its length, the CRC-32C of length and payload, and the
// payload, integers little-endian. Its name is the sequence number of its first record, in 16 hexadecimal digits. A segment is
// never appended to after a restart, so a torn end can only be at the end of one.
const (
	segmentMagic  = "HWSPOOL1"
	segmentSuffix = ".spool"
	headerLen     = 8
	// MaxRecord is the largest record a spool takes: that of a slice of the oplog, which may hold entries of over 16 MiB.
	MaxRecord = 64 << 20
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	// errTorn is the end of what can be read of a segment: what follows is not a whole record.
	errTorn = errors.New("the segment ends in the middle of a record or is damaged")
)

func segmentName(first uint64) string { return fmt.Sprintf("%016x%s", first, segmentSuffix) }

func parseSegmentName(name string) (first uint64, ok bool) {
	digits, ok := strings.CutSuffix(filepath.Base(name), segmentSuffix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 16, 64)
	return first, err == nil
}

func checksum(head [headerLen]byte, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(head[:4], castagnoli), castagnoli, payload)
}

// appendRecord appends the stored form of a record to b.
func appendRecord(b, payload []byte) []byte {
	var head [headerLen]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(head[4:], checksum(head, payload))
	return append(append(b, head[:]...), payload...)
}

// readMagic checks the start of a segment.
func readMagic(r io.Reader) error {
	var magic [len(segmentMagic)]byte
	if _, err := io.ReadFull(r, magic[:]); err != nil || string(magic[:]) != segmentMagic {
		return errTorn
	}
	return nil
}

// readRecord reads the next record; left is how many bytes the segment still has. The end of the segment is io.EOF.
func readRecord(r io.Reader, left int64) ([]byte, error) {
	if left == 0 {
		return nil, io.EOF
	}
	var head [headerLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, errTorn
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > MaxRecord || int64(n) > left-headerLen {
		return nil, errTorn
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, errTorn
	}
	if checksum(head, payload) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, errTorn
	}
	return payload, nil
}

// countRecords walks the headers of a segment without reading payloads: how many records seem whole.
func countRecords(f io.ReaderAt, size int64) uint64 {
	var n uint64
	var head [headerLen]byte
	for at := int64(len(segmentMagic)); at+headerLen <= size; {
		if _, err := f.ReadAt(head[:], at); err != nil {
			break
		}
		length := binary.LittleEndian.Uint32(head[:])
		at += headerLen + int64(length)
		if length > MaxRecord || at > size {
			break
		}
		n++
	}
	return n
}

// file is what a spool needs of an open segment; tests put failing ones in its place.
type file interface {
	io.Writer
	Truncate(size int64) error
	Sync() error
	Close() error
}

// fileSystem is where segments are made; the rest goes through package os.
type fileSystem interface {
	Create(name string) (file, error)
	WriteFile(name string, b []byte, perm fs.FileMode) error
}
