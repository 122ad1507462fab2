package wire

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// maxMessage bounds a decompressed message. Replies travel compressed inside a post, so a post hardly grows.
const maxMessage = 32 << 20

// Codes of Problem, as they travel.
const (
	CodeBadKey      = "BAD_KEY"
	CodeBadVersion  = "BAD_VERSION"
	CodeTooLarge    = "TOO_LARGE"
	CodeMalformed   = "MALFORMED"
	CodeClock       = "CLOCK"
	CodeUnavailable = "UNAVAILABLE"
)

// Error is a message that cannot be read, and the Problem code that says so to its sender.
type Error struct {
	Code   string
	Reason string
}

// Error is the reason.
func (e *Error) Error() string { return e.Reason }

func malformed(format string, args ...any) *Error {
	return &Error{Code: CodeMalformed, Reason: fmt.Sprintf(format, args...)}
}

func tooLarge(format string, args ...any) *Error {
	return &Error{Code: CodeTooLarge, Reason: fmt.Sprintf(format, args...)}
}

// The zstd coders keep pools of their own and are safe to share; they hold no state between calls.
var (
	encoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(4),
			zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic(err) // constant options
		}
		return e
	})
	messages = sync.OnceValue(func() *zstd.Decoder { return newDecoder(maxMessage) })
	replies  = sync.OnceValue(func() *zstd.Decoder { return newDecoder(MaxReplies) })
)

func newDecoder(limit uint64) *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(limit), zstd.WithDecoderMaxWindow(32<<20),
		zstd.WithDecoderConcurrency(4), zstd.WithDecoderLowmem(true))
	if err != nil {
		panic(err) // constant options
	}
	return d
}

// inflate decompresses z behind dst and checks that what came out is one valid document. It refuses to produce more than
// limit bytes before it allocates them.
func inflate(d *zstd.Decoder, dst, z []byte, what string, limit int) (bson.Raw, error) {
	if len(z) == 0 {
		return nil, malformed("%s: empty", what)
	}
	out, err := d.DecodeAll(z, dst[:0])
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return nil, tooLarge("%s: over %d bytes once decompressed", what, limit)
	case err != nil:
		return nil, malformed("%s: not zstd: %v", what, err)
	}
	if err := Validate(out); err != nil {
		return nil, malformed("%s: not BSON: %v", what, err)
	}
	return out, nil
}

func encode(what string, v any) ([]byte, error) {
	doc, err := bson.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", what, err)
	}
	if len(doc) > maxMessage {
		return nil, tooLarge("%s: %d bytes, over the limit of %d", what, len(doc), maxMessage)
	}
	return encoder().EncodeAll(doc, make([]byte, 0, len(doc)/2+64)), nil
}

func decode[T any](what string, b []byte, version func(*T) int32) (T, error) {
	var v T
	doc, err := inflate(messages(), nil, b, what, maxMessage)
	if err != nil {
		return v, err
	}
	if err := bson.Unmarshal(doc, &v); err != nil {
		return v, malformed("%s: %v", what, err)
	}
	if version != nil {
		if err := checkVersion(version(&v)); err != nil {
			return v, err
		}
	}
	return v, nil
}

func checkVersion(v int32) error {
	if v >= MinVersion && v <= Version {
		return nil
	}
	older := "the sender is too old for this build"
	if v > Version {
		older = "the sender is newer than this build"
	}
	return &Error{Code: CodeBadVersion, Reason: fmt.Sprintf(
		"protocol version %d is not spoken here (this build speaks %d to %d): %s, install the same release on both", v, MinVersion, Version, older)}
}

// EncodeReplies compresses the document of a ping's replies as Ping.Replies wants it.
func EncodeReplies(doc bson.Raw) ([]byte, error) {
	if len(doc) > MaxReplies {
		return nil, tooLarge("replies: %d bytes, over the limit of %d", len(doc), MaxReplies)
	}
	return encoder().EncodeAll(doc, make([]byte, 0, len(doc)/4+64)), nil
}

// DecodeReplies opens Ping.Replies. The document is valid at every depth.
func DecodeReplies(z []byte) (Replies, error) { return DecodeRepliesInto(nil, z) }

// DecodeRepliesInto is DecodeReplies with a buffer to use again: the answer shares dst's memory if it fits there.
func DecodeRepliesInto(dst, z []byte) (Replies, error) {
	return inflate(replies(), dst, z, "replies", MaxReplies)
}

// EncodePost encodes a post.
func EncodePost(p Post) ([]byte, error) { return encode("post", p) }

// EncodeAck encodes an acknowledgement.
func EncodeAck(a Ack) ([]byte, error) { return encode("ack", a) }

// DecodeAck decodes an acknowledgement.
func DecodeAck(b []byte) (Ack, error) {
	return decode("ack", b, func(a *Ack) int32 { return a.Version })
}

// EncodeConf encodes a configuration.
func EncodeConf(c Conf) ([]byte, error) { return encode("conf", c) }

// DecodeConf decodes a configuration.
func DecodeConf(b []byte) (Conf, error) {
	return decode("conf", b, func(c *Conf) int32 { return c.Version })
}

// EncodeProblem encodes the body of a refusal.
func EncodeProblem(p Problem) []byte {
	b, err := encode("problem", p)
	if err != nil { // two strings always encode, unless they are enormous
		b, _ = encode("problem", Problem{Code: p.Code})
	}
	return b
}

// DecodeProblem decodes the body of a refusal. A proxy between agent and server may have written something else: then it
// fails, and the HTTP status is all there is.
func DecodeProblem(b []byte) (Problem, error) { return decode[Problem]("problem", b, nil) }
