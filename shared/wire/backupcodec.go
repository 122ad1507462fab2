package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog/chain"
)

// BackupMessage is a whole message of backup's endpoints, in either direction. Encode and Decode are for all of them.
type BackupMessage interface {
	BackupConf | BackupReport | BackupAck | BeginEpoch | PutCollections | CollectionsPage | OplogAck | Scanned | EndEpoch | FoundDocs |
		UploadWish | Upload | Push | PushProgress
}

// Encode encodes a message of backup. The version is filled in.
func Encode[T BackupMessage](m T) ([]byte, error) {
	what, v := message(&m)
	*v = Version
	return encode(what, m)
}

// Decode decodes and checks a message of backup.
func Decode[T BackupMessage](b []byte) (T, error) {
	var none T
	what, _ := message(&none)
	m, err := decode(what, b, func(m *T) int32 {
		_, v := message(m)
		return *v
	})
	if err != nil {
		return none, err
	}
	if err := checkBackup(any(&m)); err != nil {
		return none, malformed("%s: %v", what, err)
	}
	return m, nil
}

// message names a message for people and gives its version.
func message[T BackupMessage](m *T) (what string, version *int32) {
	switch m := any(m).(type) {
	case *BackupConf:
		return "backup conf", &m.Version
	case *BackupReport:
		return "backup report", &m.Version
	case *BackupAck:
		return "backup ack", &m.Version
	case *BeginEpoch:
		return "epoch", &m.Version
	case *PutCollections:
		return "collections", &m.Version
	case *CollectionsPage:
		return "page of collections", &m.Version
	case *OplogAck:
		return "oplog ack", &m.Version
	case *Scanned:
		return "end of the full read", &m.Version
	case *EndEpoch:
		return "end of an epoch", &m.Version
	case *FoundDocs:
		return "missing documents", &m.Version
	case *UploadWish:
		return "wish to upload", &m.Version
	case *Upload:
		return "upload", &m.Version
	case *Push:
		return "push", &m.Version
	case *PushProgress:
		return "progress of a push", &m.Version
	}
	panic("wire: a message of backup without a name") // BackupMessage has no other
}

// checkBackup says what contradicts itself in a message of an agent.
func checkBackup(m any) error {
	switch m := m.(type) {
	case *BackupReport:
		if m.Agent.ID == "" || m.Sent.IsZero() {
			return errors.New("the agent's id and the time of sending are required")
		}
		if len(m.Jobs) > MaxReportedJobs {
			return fmt.Errorf("over %d jobs", MaxReportedJobs)
		}
	case *BeginEpoch:
		if m.Job == "" || m.Number <= 0 || m.AgentID == "" || m.ReplicaSetID == "" || m.Start.IsZero() || m.StartEntry.IsZero() {
			return errors.New("job, number, agent, replica set id, and the start with its digest are required")
		}
	case *PutCollections:
		if m.Job == "" || m.Epoch <= 0 {
			return errors.New("job and epoch are required")
		}
		if len(m.Collections) > MaxCollections {
			return fmt.Errorf("over %d collections", MaxCollections)
		}
		for i := range m.Collections {
			c := &m.Collections[i]
			if c.NS == "" || c.UUID.IsZero() != (c.View != nil) {
				return fmt.Errorf("collection %d: it needs a name, and either a UUID or the document of a view", i)
			}
			if c.Attempt < 0 || c.Slices < 0 || c.Docs < 0 || c.Bytes < 0 {
				return fmt.Errorf("collection %s: a count is negative", c.NS)
			}
		}
	case *Scanned:
		if m.Job == "" || m.Epoch <= 0 || m.ScanEnd.IsZero() {
			return errors.New("job, epoch and the end are required")
		}
	case *EndEpoch:
		if m.Job == "" || m.Epoch <= 0 || m.Why == "" {
			return errors.New("job, epoch and a reason are required")
		}
	case *FoundDocs:
		if m.Job == "" || m.Epoch <= 0 || m.OperationTime.IsZero() {
			return errors.New("job, epoch and the operation time are required")
		}
	case *PushProgress:
		if m.Done < 0 || m.Total < 0 || m.Waiting && (m.Finished || m.Error != "") {
			return errors.New("a count is negative, or it waits although it has ended")
		}
	case *UploadWish:
		if m.Kind != UploadSeed && m.Kind != UploadOplog {
			return fmt.Errorf("%q is no kind of upload", m.Kind)
		}
	}
	return nil
}

// Frame puts a header and compressed documents into one body: the header's length as uint32, little endian, the header, the content.
func Frame(header bson.Raw, content []byte) []byte {
	out := make([]byte, 4, 4+len(header)+len(content))
	binary.LittleEndian.PutUint32(out, uint32(len(header)))
	return append(append(out, header...), content...)
}

// Unframe takes a framed body apart. Both parts share its memory; the header is valid at every depth.
func Unframe(b []byte) (header bson.Raw, content []byte, err error) {
	if len(b) < 4 {
		return nil, nil, malformed("slice: %d bytes are no frame", len(b))
	}
	n := int64(binary.LittleEndian.Uint32(b))
	switch {
	case n > MaxSliceHeader:
		return nil, nil, tooLarge("slice: a header of %d bytes, over the limit of %d", n, MaxSliceHeader)
	case n > int64(len(b)-4):
		return nil, nil, malformed("slice: a header of %d bytes, %d are there", n, len(b)-4)
	}
	header = bson.Raw(b[4 : 4+n : 4+n])
	if err := Validate(header); err != nil {
		return nil, nil, malformed("slice: the header is not BSON: %v", err)
	}
	return header, b[4+n:], nil
}

// Encode gives the header of a framed seed slice.
func (h *SeedHeader) Encode() (bson.Raw, error) {
	b, err := bson.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode a seed header: %w", err)
	}
	return b, nil
}

// DecodeSeedHeader reads and checks a seed slice's header.
func DecodeSeedHeader(b bson.Raw) (SeedHeader, error) {
	var h SeedHeader
	if err := bson.Unmarshal(b, &h); err != nil {
		return h, malformed("seed header: %v", err)
	}
	switch {
	case h.Job == "" || h.Epoch <= 0 || h.UUID.IsZero() || h.Attempt < 0 || h.Seq < 0:
		return h, malformed("seed header: job, epoch and collection are required")
	case h.Count <= 0 || h.Count > h.Bytes/5 || h.Digest.IsZero():
		return h, malformed("seed header: %d documents in %d bytes", h.Count, h.Bytes)
	case h.Bytes > MaxSliceBytes:
		return h, tooLarge("seed slice: %d bytes, over the limit of %d", h.Bytes, MaxSliceBytes)
	case len(h.Resume) > MaxResumeToken:
		return h, tooLarge("seed header: a resume note of %d bytes", len(h.Resume))
	case h.Uploaded && h.Stored <= 0:
		return h, malformed("seed header: uploaded, without the object's size")
	}
	return h, nil
}

type oplogHeader struct {
	Slice    bson.Raw  `bson:"slice"`
	Wall     time.Time `bson:"wall,omitempty"`
	Uploaded bool      `bson:"uploaded,omitempty"`
	Stored   int64     `bson:"stored,omitempty"`
}

// Encode gives the header of a framed oplog slice.
func (h *OplogHeader) Encode() (bson.Raw, error) {
	b, err := bson.Marshal(oplogHeader{Slice: h.Slice.Encode(), Wall: h.Wall, Uploaded: h.Uploaded, Stored: h.Stored})
	if err != nil {
		return nil, fmt.Errorf("encode an oplog header: %w", err)
	}
	return b, nil
}

// DecodeOplogHeader reads and checks an oplog slice's header.
func DecodeOplogHeader(b bson.Raw) (OplogHeader, error) {
	var in oplogHeader
	if err := bson.Unmarshal(b, &in); err != nil {
		return OplogHeader{}, malformed("oplog header: %v", err)
	}
	s, err := chain.Decode(in.Slice)
	switch {
	case err != nil:
		return OplogHeader{}, &Error{Code: CodeDamaged, Reason: err.Error()}
	case s.Bytes > MaxSliceBytes:
		return OplogHeader{}, tooLarge("oplog slice: %d bytes, over the limit of %d", s.Bytes, MaxSliceBytes)
	case in.Uploaded && in.Stored <= 0:
		return OplogHeader{}, malformed("oplog header: uploaded, without the object's size")
	}
	return OplogHeader{Slice: *s, Wall: in.Wall, Uploaded: in.Uploaded, Stored: in.Stored}, nil
}

var sliceDecoder = sync.OnceValue(func() *zstd.Decoder { return newDecoder(MaxSliceBytes) })

// sliceEncoder is at the fastest level: an agent is a guest on its machine, and on documents the next one gains 3 % of their size for a quarter more time.
// A window of more than half a MiB gains nothing on documents and costs a fifth more time: what it looks back at leaves the cache.
var sliceEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(4), zstd.WithWindowSize(512<<10), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // constant options
	}
	return e
})

// Compress gives the content of a slice from its documents, one after another.
func Compress(docs []byte) []byte {
	return sliceEncoder().EncodeAll(docs, make([]byte, 0, len(docs)/3+64))
}

// Decompress gives back a slice's documents; want is how many bytes its header says. It never produces more than MaxSliceBytes.
func Decompress(content []byte, want int64) ([]byte, error) {
	if want < 0 || want > MaxSliceBytes {
		return nil, tooLarge("slice: %d bytes, over the limit of %d", want, MaxSliceBytes)
	}
	out, err := sliceDecoder().DecodeAll(content, nil) // takes the memory that the frame announces, up to the limit
	if err != nil {
		return nil, &Error{Code: CodeDamaged, Reason: fmt.Sprintf("slice: not zstd: %v", err)}
	}
	if int64(len(out)) != want {
		return nil, &Error{Code: CodeDamaged, Reason: fmt.Sprintf("slice: %d bytes of documents, its header says %d", len(out), want)}
	}
	return out, nil
}

// Open checks a seed slice's documents against its header: digest, count, and that each is a document.
func (h *SeedHeader) Open(docs []byte) error {
	if int64(len(docs)) != h.Bytes || sha256.Sum256(docs) != h.Digest {
		return &Error{Code: CodeDamaged, Reason: fmt.Sprintf("seed slice: %d bytes of documents differ from their digest", len(docs))}
	}
	n := int64(0)
	for rest := docs; len(rest) > 0; n++ {
		size, err := docLength(rest)
		if err != nil {
			return &Error{Code: CodeDamaged, Reason: fmt.Sprintf("seed slice: document %d: %v", n, err)}
		}
		rest = rest[size:]
	}
	if n != h.Count {
		return &Error{Code: CodeDamaged, Reason: fmt.Sprintf("seed slice: %d documents, its header says %d", n, h.Count)}
	}
	return nil
}
