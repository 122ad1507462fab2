package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The wire protocol, as much of it as two questions need. OP_QUERY is what every version answers hello in; listDatabases is asked in
// OP_MSG where the process knows it.
const (
	opReply  = 1
	opQuery  = 2004
	opMsg    = 2013
	header   = 16
	maxReply = 4 << 20
	msgSince = 6 // maxWireVersion
)

var errOdd = errors.New("no MongoDB process answers there")

// ask holds the conversation. An error means that nobody spoke the protocol.
func ask(conn io.ReadWriter) (Result, error) {
	hello, err := call(conn, opQuery, 1, bson.D{{Key: "isMaster", Value: 1}, {Key: "helloOk", Value: true}})
	if err != nil {
		if errors.Is(err, errOdd) {
			return Result{Not, "is no MongoDB process"}, nil
		}
		return Result{}, err
	}
	op := opQuery
	if n, ok := number(hello.Lookup("maxWireVersion")); ok && n >= msgSince {
		op = opMsg
	}
	reply, err := call(conn, op, 2, bson.D{{Key: "listDatabases", Value: 1}, {Key: "nameOnly", Value: true}})
	switch {
	case errors.Is(err, errOdd):
		return Result{Unknown, "gave an answer that cannot be read"}, nil
	case err != nil:
		return Result{Unknown, "said what it is and gave no answer to who is not signed in"}, nil
	}
	if n, ok := number(reply.Lookup("ok")); ok && n == 1 {
		if _, lists := reply.Lookup("databases").ArrayOK(); lists {
			return Result{Exposed, "lists its databases to anybody who connects"}, nil
		}
	}
	code, _ := number(reply.Lookup("code"))
	switch text, _ := reply.Lookup("codeName").StringValueOK(); {
	case code == 13 || text == "Unauthorized":
		return Result{Not, "refuses those who do not sign in"}, nil
	case code == 59: // an arbiter or a proxy
		return Result{Not, "does not list databases"}, nil
	}
	if text, _ := reply.Lookup("errmsg").StringValueOK(); text == "unauthorized" || text == "need to login" { // before codes
		return Result{Not, "refuses those who do not sign in"}, nil
	}
	return Result{Unknown, fmt.Sprintf("answered with error %d", code)}, nil
}

// call sends one command to admin and reads its reply.
func call(conn io.ReadWriter, op int, id uint32, cmd bson.D) (bson.Raw, error) {
	if op == opMsg {
		cmd = append(cmd, bson.E{Key: "$db", Value: "admin"})
	}
	doc, err := bson.Marshal(cmd)
	if err != nil {
		return nil, fmt.Errorf("encode a command: %w", err)
	}
	b := make([]byte, header, header+64+len(doc))
	if op == opMsg {
		b = append(b, 0, 0, 0, 0, 0) // flags, section of kind 0
	} else {
		b = append(b, 0, 0, 0, 0)
		b = append(b, "admin.$cmd\x00"...)
		b = binary.LittleEndian.AppendUint32(b, 0)
		b = binary.LittleEndian.AppendUint32(b, ^uint32(0)) // one document
	}
	b = append(b, doc...)
	for i, n := range []uint32{uint32(len(b)), id, 0, uint32(op)} { //nolint:gosec // small
		binary.LittleEndian.PutUint32(b[4*i:], n)
	}
	if _, err := conn.Write(b); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	var head [header]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size < header || size > maxReply || binary.LittleEndian.Uint32(head[8:]) != id {
		return nil, errOdd
	}
	body := make([]byte, size-header)
	if _, err := io.ReadFull(conn, body); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return document(binary.LittleEndian.Uint32(head[12:]), body)
}

// document takes the first document out of the body of a reply.
func document(op uint32, body []byte) (bson.Raw, error) {
	skip := 20 // flags, cursor, start, count
	if op == opMsg {
		skip = 5
	}
	if op != opMsg && op != opReply || len(body) < skip || op == opMsg && body[4] != 0 {
		return nil, errOdd
	}
	length, rest := uint32(0), body[skip:]
	if len(rest) >= 4 {
		length = binary.LittleEndian.Uint32(rest)
	}
	if length < 5 || uint64(length) > uint64(len(rest)) {
		return nil, errOdd
	}
	doc := bson.Raw(rest[:length])
	if doc.Validate() != nil {
		return nil, errOdd
	}
	return doc, nil
}

func number(v bson.RawValue) (int64, bool) {
	switch v.Type {
	case bson.TypeInt32:
		return int64(v.Int32()), true
	case bson.TypeInt64:
		return v.Int64(), true
	case bson.TypeDouble:
		return int64(v.Double()), true
	}
	return 0, false
}
