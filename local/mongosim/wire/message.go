package wire

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

const (
	opReply      = 1
	opQuery      = 2004
	opCompressed = 2012
	opMsg        = 2013

	flagChecksum   = 1 << 0
	flagMoreToCome = 1 << 1
	flagExhaust    = 1 << 16

	headerLen  = 16
	maxMessage = 48_000_000
)

var errProtocol = errors.New("wire protocol violation")

type header struct{ length, requestID, responseTo, opCode int32 }

func parseHeader(b []byte) header {
	le := func(i int) int32 { return int32(binary.LittleEndian.Uint32(b[i:])) }
	return header{le(0), le(4), le(8), le(12)}
}

func appendHeader(b []byte, h header) []byte {
	for _, n := range []int32{h.length, h.requestID, h.responseTo, h.opCode} {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return b
}

// request is one decoded message.
type request struct {
	id         int32
	legacy     bool // OP_QUERY: the reply is an OP_REPLY
	db         string
	cmd        bson.Raw
	moreToCome bool // the client wants no reply
	exhaust    bool // the client takes a stream of replies
	secondary  bool // the legacy flag
	compressor byte // of the request; the reply uses it too
}

// readMessage reads one message and its header; the body is without it.
func readMessage(r io.Reader) (header, []byte, error) {
	var hb [headerLen]byte
	if _, err := io.ReadFull(r, hb[:]); err != nil {
		return header{}, nil, err
	}
	h := parseHeader(hb[:])
	if h.length < headerLen || h.length > maxMessage {
		return h, nil, fmt.Errorf("%w: message of %d bytes", errProtocol, h.length)
	}
	body := make([]byte, h.length-headerLen)
	if _, err := io.ReadFull(r, body); err != nil {
		return h, nil, err
	}
	return h, body, nil
}

// decode understands one message; comp decompresses.
func decode(h header, body []byte, comp *compression) (*request, error) {
	q := &request{id: h.requestID}
	op := h.opCode
	if op == opCompressed {
		if len(body) < 9 {
			return nil, fmt.Errorf("%w: short compressed message", errProtocol)
		}
		op = int32(binary.LittleEndian.Uint32(body))
		size := int32(binary.LittleEndian.Uint32(body[4:]))
		q.compressor = body[8]
		if size < 0 || size > maxMessage || op == opCompressed {
			return nil, fmt.Errorf("%w: compressed message of %d bytes", errProtocol, size)
		}
		plain, err := comp.decompress(q.compressor, body[9:], int(size))
		if err != nil {
			return nil, err
		}
		return q, q.decodeBody(op, plain)
	}
	if err := verify(h, body); err != nil {
		return nil, err
	}
	return q, q.decodeBody(op, body)
}

// verify checks the CRC-32C that a message with the checksum flag ends with.
func verify(h header, body []byte) error {
	if h.opCode != opMsg || len(body) < 8 || binary.LittleEndian.Uint32(body)&flagChecksum == 0 {
		return nil
	}
	end := len(body) - 4
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(crc32.Checksum(appendHeader(nil, h), table), table, body[:end])
	if sum != binary.LittleEndian.Uint32(body[end:]) {
		return fmt.Errorf("%w: checksum differs", errProtocol)
	}
	return nil
}

func (q *request) decodeBody(op int32, body []byte) error {
	switch op {
	case opMsg:
		return q.decodeMsg(body)
	case opQuery:
		return q.decodeQuery(body)
	}
	return fmt.Errorf("%w: operation %d", errProtocol, op)
}

// takeDoc cuts a checked document from the front.
func takeDoc(b []byte) (bson.Raw, []byte, error) {
	if len(b) < 5 {
		return nil, nil, fmt.Errorf("%w: short document", errProtocol)
	}
	n := int(int32(binary.LittleEndian.Uint32(b)))
	if n < 5 || n > len(b) {
		return nil, nil, fmt.Errorf("%w: document of %d bytes", errProtocol, n)
	}
	doc := bson.Raw(b[:n:n])
	if err := bsonval.Validate(doc); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errProtocol, err)
	}
	return doc, b[n:], nil
}

func takeCString(b []byte) (string, []byte, error) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return "", nil, fmt.Errorf("%w: name without end", errProtocol)
	}
	return string(b[:i]), b[i+1:], nil
}

func (q *request) decodeMsg(body []byte) error {
	if len(body) < 5 {
		return fmt.Errorf("%w: short message", errProtocol)
	}
	flags := binary.LittleEndian.Uint32(body)
	if flags&0xffff&^(flagChecksum|flagMoreToCome) != 0 {
		return fmt.Errorf("%w: required flags %#x", errProtocol, flags)
	}
	rest := body[4:]
	if flags&flagChecksum != 0 {
		if len(rest) < 4 {
			return fmt.Errorf("%w: no checksum", errProtocol)
		}
		rest = rest[:len(rest)-4]
	}
	q.moreToCome, q.exhaust = flags&flagMoreToCome != 0, flags&flagExhaust != 0
	type sequence struct {
		name string
		docs []bson.Raw
	}
	var seqs []sequence
	for len(rest) > 0 {
		kind := rest[0]
		rest = rest[1:]
		switch kind {
		case 0:
			doc, r, err := takeDoc(rest)
			if err != nil {
				return err
			}
			if q.cmd != nil {
				return fmt.Errorf("%w: two bodies", errProtocol)
			}
			q.cmd, rest = doc, r
		case 1:
			if len(rest) < 4 {
				return fmt.Errorf("%w: short sequence", errProtocol)
			}
			n := int(int32(binary.LittleEndian.Uint32(rest)))
			if n < 5 || n > len(rest) {
				return fmt.Errorf("%w: sequence of %d bytes", errProtocol, n)
			}
			name, b, err := takeCString(rest[4:n])
			if err != nil {
				return err
			}
			s := sequence{name: name}
			for len(b) > 0 {
				doc, r, err := takeDoc(b)
				if err != nil {
					return err
				}
				s.docs, b = append(s.docs, doc), r
			}
			seqs, rest = append(seqs, s), rest[n:]
		default:
			return fmt.Errorf("%w: section of kind %d", errProtocol, kind)
		}
	}
	if q.cmd == nil {
		return fmt.Errorf("%w: no body", errProtocol)
	}
	if len(seqs) > 0 {
		var b bsonval.Builder
		b.All(q.cmd)
		for _, s := range seqs {
			if _, dup := bsonval.Lookup(q.cmd, s.name); dup {
				return fmt.Errorf("%w: %s is in the body and in a sequence", errProtocol, s.name)
			}
			b.Docs(s.name, s.docs)
		}
		q.cmd = b.Raw()
	}
	db, _ := bsonval.Lookup(q.cmd, "$db")
	q.db = bsonval.Str(db)
	return nil
}

func (q *request) decodeQuery(body []byte) error {
	if len(body) < 4 {
		return fmt.Errorf("%w: short query", errProtocol)
	}
	flags := binary.LittleEndian.Uint32(body)
	ns, rest, err := takeCString(body[4:])
	if err != nil {
		return err
	}
	db, isCmd := bytes.CutSuffix([]byte(ns), []byte(".$cmd"))
	if !isCmd || len(rest) < 8 {
		return fmt.Errorf("%w: OP_QUERY on %q is no longer supported", errProtocol, ns)
	}
	doc, _, err := takeDoc(rest[8:])
	if err != nil {
		return err
	}
	if inner, ok := bsonval.Lookup(doc, "$query"); ok && inner.Type == bson.TypeEmbeddedDocument {
		doc = bson.Raw(inner.Value)
	}
	q.legacy, q.db, q.cmd, q.secondary = true, string(db), doc, flags&4 != 0
	return nil
}

// encode makes a reply message.
func encode(q *request, id, responseTo int32, reply bson.Raw, more bool, comp *compression) ([]byte, error) {
	var body []byte
	op := int32(opMsg)
	if q.legacy {
		op = opReply
		body = binary.LittleEndian.AppendUint32(body, 8) // awaitCapable
		body = append(body, make([]byte, 12)...)         // cursor id, starting from
		body = binary.LittleEndian.AppendUint32(body, 1)
	} else {
		flags := uint32(0)
		if more {
			flags |= flagMoreToCome
		}
		body = binary.LittleEndian.AppendUint32(body, flags)
		body = append(body, 0)
	}
	body = append(body, reply...)
	if q.compressor != 0 {
		packed, err := comp.compress(q.compressor, body)
		if err != nil {
			return nil, err
		}
		b := binary.LittleEndian.AppendUint32(nil, uint32(op))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
		body = append(append(b, q.compressor), packed...)
		op = opCompressed
	}
	return append(appendHeader(make([]byte, 0, headerLen+len(body)), header{int32(headerLen + len(body)), id, responseTo, op}), body...), nil
}

// Compressor ids of the protocol.
const (
	compSnappy = 1
	compZlib   = 2
	compZstd   = 3
)

func compressorID(name string) byte {
	switch name {
	case "snappy":
		return compSnappy
	case "zlib":
		return compZlib
	case "zstd":
		return compZstd
	}
	return 0
}

// compression packs and unpacks messages; zstd's state is made when first used. One connection owns one.
type compression struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func (c *compression) decompress(id byte, b []byte, size int) ([]byte, error) {
	var out []byte
	var err error
	switch id {
	case 0:
		out = b
	case compSnappy:
		n, e := snappy.DecodedLen(b)
		if e != nil || n != size {
			return nil, fmt.Errorf("%w: snappy length", errProtocol)
		}
		out, err = snappy.Decode(nil, b)
	case compZlib:
		var r io.ReadCloser
		if r, err = zlib.NewReader(bytes.NewReader(b)); err == nil {
			out, err = io.ReadAll(io.LimitReader(r, int64(size)+1))
		}
	case compZstd:
		if c.dec == nil {
			if c.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxMessage)); err != nil {
				return nil, fmt.Errorf("zstd: %w", err)
			}
		}
		out, err = c.dec.DecodeAll(b, nil)
	default:
		return nil, fmt.Errorf("%w: compressor %d", errProtocol, id)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: decompress: %w", errProtocol, err)
	}
	if len(out) != size {
		return nil, fmt.Errorf("%w: decompressed to %d bytes instead of %d", errProtocol, len(out), size)
	}
	return out, nil
}

func (c *compression) compress(id byte, b []byte) ([]byte, error) {
	switch id {
	case compSnappy:
		return snappy.Encode(nil, b), nil
	case compZlib:
		var buf bytes.Buffer
		w := zlib.NewWriter(&buf)
		if _, err := w.Write(b); err != nil {
			return nil, fmt.Errorf("zlib: %w", err)
		}
		if err := w.Close(); err != nil {
			return nil, fmt.Errorf("zlib: %w", err)
		}
		return buf.Bytes(), nil
	case compZstd:
		if c.enc == nil {
			enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
			if err != nil {
				return nil, fmt.Errorf("zstd: %w", err)
			}
			c.enc = enc
		}
		return c.enc.EncodeAll(b, nil), nil
	}
	return b, nil
}

func (c *compression) close() {
	if c.dec != nil {
		c.dec.Close()
	}
}
