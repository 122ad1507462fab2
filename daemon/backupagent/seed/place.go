package seed

import (
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/heartwood-db/heartwood/shared/wire"
)

// place is how far an attempt at a collection has got: behind the last slice that was cut. There are three kinds:
//
//   - in a member's own order of records (4.4 and later): tokens of that member. A record never changes its place, so what was
//     behind a token stays behind it. Another member has another order.
//   - in the order of _id (4.2, which gives no tokens): the last _id. Every member has that order.
//   - none: of capped collections, whose oldest documents go meanwhile, and of what is read at once anyway. Such a collection is
//     read again from its beginning.
//
// Going on may read documents again that an earlier slice holds: those between a token and the end of the slice, where a slice
// ended amid a batch or the record of a newer token is gone. The copy is fuzzy and holds one document for an _id, so that this
// changes nothing.
type place struct {
	slices, docs, bytes int64

	address, identity string     // of the member that the tokens are of
	tokens            []bson.Raw // the newest first
	byID              bool       // it is read in the order of _id
	id                bson.RawValue
}

// item is a collection in work.
type item struct {
	c     wire.CollectionInfo
	small bool // a slice, or not much more: it is read at once
	at    place
}

// mostTokens is how many tokens a note holds: when the newest one's record was deleted, the one before it will do.
const mostTokens = 8

// resumes reports whether a read can go on here.
func (p *place) resumes() bool { return len(p.tokens) > 0 || p.id.Type != 0 }

// pass notes a token.
func (p *place) pass(token bson.Raw) {
	if token != nil {
		p.tokens = append([]bson.Raw{append(bson.Raw(nil), token...)}, p.tokens[:min(len(p.tokens), mostTokens-1)]...)
	}
}

// note is the place as the server keeps it with a slice, nil if there is none or it is too long for one.
func (p *place) note() []byte {
	if !p.resumes() {
		return nil
	}
	b := bsoncore.NewDocumentBuilder().AppendInt32("v", 1).AppendInt64("d", p.docs).AppendInt64("b", p.bytes)
	if p.id.Type != 0 {
		b.AppendValue("i", bsoncore.Value{Type: bsoncore.Type(p.id.Type), Data: p.id.Value})
	} else {
		tokens := bsoncore.NewArrayBuilder()
		for _, t := range p.tokens {
			tokens.AppendDocument(bsoncore.Document(t))
		}
		b.AppendString("a", p.address).AppendString("m", p.identity).AppendArray("t", tokens.Build())
	}
	if doc := b.Build(); len(doc) <= wire.MaxResumeToken {
		return doc
	}
	return nil
}

// readNote reads a note. It says false where it is none that this agent can go on from.
func readNote(b []byte) (p place, ok bool) {
	if len(b) == 0 {
		return p, false
	}
	var n struct {
		Version  int32         `bson:"v"`
		Docs     int64         `bson:"d"`
		Bytes    int64         `bson:"b"`
		Address  string        `bson:"a"`
		Identity string        `bson:"m"`
		Tokens   []bson.Raw    `bson:"t"`
		ID       bson.RawValue `bson:"i"`
	}
	if err := bson.Unmarshal(b, &n); err != nil || n.Version != 1 || n.Docs < 0 || n.Bytes < 0 || len(n.Tokens) > mostTokens {
		return place{}, false
	}
	p = place{docs: n.Docs, bytes: n.Bytes, address: n.Address, identity: n.Identity, tokens: n.Tokens, id: n.ID, byID: n.ID.Type != 0}
	if len(p.tokens) > 0 && (p.identity == "" || p.address == "" || p.id.Type != 0) {
		return place{}, false
	}
	return p, p.resumes()
}

// String is for the log.
func (p *place) String() string {
	return fmt.Sprintf("slice %d (%d documents)", p.slices, p.docs)
}
