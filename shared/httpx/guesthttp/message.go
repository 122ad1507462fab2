// Package guesthttp carries HTTP requests to a guest, a function compiled to WebAssembly, and its answers back: the messages both
// sides exchange, and, in a guest, the loop around the function's handler.
//
// # How a guest and its host talk
//
// A guest is a reactor: it exports "start", called once, which builds its handler, and "handle", called once a request. It imports
// two functions of the module "heartwood":
//
//	call(name_ptr, name_len, in_ptr, in_len u32) -> u32   asks the host for a named capability; the length of the answer
//	fetch(ptr u32)                                         copies that answer to the guest's memory
//
// An answer is a byte, 0 or 1 for an error, and the bytes or the error's text. Everything is such a call: "request" yields the
// request that handle is to answer, "answer" takes the answer, "docstore" is the document engine (package hostdoc), "log" takes a
// line of slog's JSON; others are the host's to offer. The host refuses names it does not know. One guest serves one request at a
// time.
//
// A body of more than inline bytes is no part of its request: the guest takes it piece by piece ("body"), so that it is in the guest's
// memory once. An answer's body may be an object of a block store: then the guest says which, and the host sends it.
//
// # Messages
//
// Requests and answers are BSON documents, the structs of this package. Both sides are of one build: there is no version.
package guesthttp

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/httpx"
)

// The capabilities every host has.
const (
	CapRequest  = "request"
	CapAnswer   = "answer"
	CapConfig   = "config"
	CapDocstore = "docstore"
	CapLog      = "log"
	CapBody     = "body" // eight bytes, big-endian: an offset -> at most BodyPiece bytes of the request's body from there
)

const (
	inline = 1 << 20 // the largest body that travels within its request
	// BodyPiece is the largest part of a body that a guest gets at a time.
	BodyPiece = 1 << 20
)

// Request is an HTTP request on its way to a guest.
type Request struct {
	Method string              `bson:"m"`
	URI    string              `bson:"u"` // as the client wrote it
	Host   string              `bson:"o"`
	Remote string              `bson:"r"` // host:port of the peer
	TLS    bool                `bson:"t"`
	Header map[string][]string `bson:"h"`
	Body   []byte              `bson:"b"`
	Length int64               `bson:"l"` // of the body; more than Body holds: it is taken with CapBody
	Millis int64               `bson:"d"` // how long the host will wait; 0: for ever
}

// Answer is an HTTP answer on its way back.
type Answer struct {
	Status int                 `bson:"s"`
	Header map[string][]string `bson:"h"`
	Body   []byte              `bson:"b"`
	Object *httpx.Object       `bson:"o,omitempty"` // the body instead, which the host sends
}

// EncodeRequest takes a request whose body was read already.
func EncodeRequest(r *http.Request, body []byte, millis int64) ([]byte, error) {
	uri := r.RequestURI
	if uri == "" { // made by a test or a schedule, not by a server
		uri = r.URL.RequestURI()
	}
	m := Request{
		Method: r.Method, URI: uri, Host: r.Host, Remote: r.RemoteAddr, TLS: r.TLS != nil, Header: r.Header, Length: int64(len(body)), Millis: millis,
	}
	if len(body) <= inline {
		m.Body = body
	}
	return bson.Marshal(m)
}

// DecodeRequest makes the request a handler sees. Its context ends when the host stops waiting, or with stop. Call is how the host is
// asked for a body that did not come along.
func DecodeRequest(ctx context.Context, b []byte, call func(name string, in []byte) ([]byte, error)) (r *http.Request, stop context.CancelFunc, err error) {
	var m Request
	if err := bson.Unmarshal(b, &m); err != nil {
		return nil, nil, fmt.Errorf("request from the host: %w", err)
	}
	u, err := url.ParseRequestURI(m.URI)
	if err != nil {
		return nil, nil, fmt.Errorf("request from the host: %w", err)
	}
	stop = func() {}
	if m.Millis > 0 {
		ctx, stop = context.WithTimeout(ctx, time.Duration(m.Millis)*time.Millisecond)
	}
	var body io.Reader = bytes.NewReader(m.Body)
	if m.Length > int64(len(m.Body)) {
		body = &pieces{call: call, length: m.Length}
	}
	r, err = http.NewRequestWithContext(ctx, m.Method, "/", io.NopCloser(body))
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("request from the host: %w", err)
	}
	r.URL, r.RequestURI, r.Host, r.RemoteAddr, r.Header, r.ContentLength = u, m.URI, m.Host, m.Remote, m.Header, max(m.Length, int64(len(m.Body)))
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if m.TLS {
		r.TLS = &tls.ConnectionState{}
	}
	return r, stop, nil
}

// pieces is a body that the host keeps.
type pieces struct {
	call   func(name string, in []byte) ([]byte, error)
	length int64
	at     int64
	have   []byte
}

// Read implements io.Reader.
func (p *pieces) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if len(p.have) == 0 {
		if p.at >= p.length {
			return 0, io.EOF
		}
		var err error
		if p.have, err = p.call(CapBody, binary.BigEndian.AppendUint64(nil, uint64(p.at))); err != nil { //nolint:gosec // not negative
			return 0, fmt.Errorf("body from the host: %w", err)
		}
		if len(p.have) == 0 {
			return 0, io.ErrUnexpectedEOF
		}
		p.at += int64(len(p.have))
	}
	n := copy(b, p.have)
	p.have = p.have[n:]
	return n, nil
}

// Piece answers a guest's call for a part of a body.
func Piece(body, in []byte) ([]byte, error) {
	if len(in) != 8 {
		return nil, errors.New("a call for a body without its offset")
	}
	at := binary.BigEndian.Uint64(in)
	if at > uint64(len(body)) {
		return nil, errors.New("a call for what is behind the end of a body")
	}
	rest := body[at:]
	return rest[:min(len(rest), BodyPiece)], nil
}

// DecodeAnswer reads a guest's answer. A status no server sends is an error.
func DecodeAnswer(b []byte) (Answer, error) {
	var a Answer
	if err := bson.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("the guest's answer: %w", err)
	}
	if a.Status < 200 || a.Status > 599 {
		return a, fmt.Errorf("the guest's answer has the status %d", a.Status)
	}
	if o := a.Object; o != nil && (len(a.Body) > 0 || o.From < 0 || o.Length < 0) {
		return a, errors.New("the guest's answer has a body beside an object, or a part of one that cannot be")
	}
	return a, nil
}

// Recorder collects a handler's answer.
type Recorder struct {
	a    Answer
	sent bool
}

// NewRecorder returns an empty one.
func NewRecorder() *Recorder {
	return &Recorder{a: Answer{Status: http.StatusOK, Header: map[string][]string{}}}
}

// Header implements http.ResponseWriter.
func (w *Recorder) Header() http.Header { return w.a.Header }

// WriteHeader keeps the first final status.
func (w *Recorder) WriteHeader(status int) {
	if status >= 200 && !w.sent {
		w.sent, w.a.Status = true, status
	}
}

// Write keeps the body.
func (w *Recorder) Write(b []byte) (int, error) {
	if w.a.Object != nil {
		return 0, errors.New("guesthttp: a body after an object")
	}
	if !w.sent {
		w.WriteHeader(http.StatusOK)
	}
	if len(w.a.Body) == 0 && w.Header().Get("Content-Type") == "" && w.Header().Get("Content-Encoding") == "" {
		w.Header().Set("Content-Type", http.DetectContentType(b)) // as a server does
	}
	w.a.Body = append(w.a.Body, b...)
	return len(b), nil
}

// SendObject implements httpx.ObjectSender: the host sends it.
func (w *Recorder) SendObject(o httpx.Object) error {
	if len(w.a.Body) > 0 || w.a.Object != nil {
		return errors.New("guesthttp: an object after a part of the body")
	}
	if !w.sent {
		w.WriteHeader(http.StatusOK)
	}
	w.a.Object = &o
	return nil
}

// Encode is the message.
func (w *Recorder) Encode() ([]byte, error) { return bson.Marshal(w.a) }
