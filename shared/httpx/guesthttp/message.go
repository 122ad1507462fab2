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
// # Messages
//
// Requests and answers are BSON documents, the structs of this package. Both sides are of one build: there is no version.
package guesthttp

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The capabilities every host has.
const (
	CapRequest  = "request"
	CapAnswer   = "answer"
	CapConfig   = "config"
	CapDocstore = "docstore"
	CapLog      = "log"
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
	Millis int64               `bson:"d"` // how long the host will wait; 0: for ever
}

// Answer is an HTTP answer on its way back.
type Answer struct {
	Status int                 `bson:"s"`
	Header map[string][]string `bson:"h"`
	Body   []byte              `bson:"b"`
}

// EncodeRequest takes a request whose body was read already.
func EncodeRequest(r *http.Request, body []byte, millis int64) ([]byte, error) {
	uri := r.RequestURI
	if uri == "" { // made by a test or a schedule, not by a server
		uri = r.URL.RequestURI()
	}
	return bson.Marshal(Request{
		Method: r.Method, URI: uri, Host: r.Host, Remote: r.RemoteAddr, TLS: r.TLS != nil, Header: r.Header, Body: body, Millis: millis,
	})
}

// DecodeRequest makes the request a handler sees. Its context ends when the host stops waiting, or with stop.
func DecodeRequest(ctx context.Context, b []byte) (r *http.Request, stop context.CancelFunc, err error) {
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
	r, err = http.NewRequestWithContext(ctx, m.Method, "/", io.NopCloser(bytes.NewReader(m.Body)))
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("request from the host: %w", err)
	}
	r.URL, r.RequestURI, r.Host, r.RemoteAddr, r.Header, r.ContentLength = u, m.URI, m.Host, m.Remote, m.Header, int64(len(m.Body))
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if m.TLS {
		r.TLS = &tls.ConnectionState{}
	}
	return r, stop, nil
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
	if !w.sent {
		w.WriteHeader(http.StatusOK)
	}
	if len(w.a.Body) == 0 && w.Header().Get("Content-Type") == "" && w.Header().Get("Content-Encoding") == "" {
		w.Header().Set("Content-Type", http.DetectContentType(b)) // as a server does
	}
	w.a.Body = append(w.a.Body, b...)
	return len(b), nil
}

// Encode is the message.
func (w *Recorder) Encode() ([]byte, error) { return bson.Marshal(w.a) }
