package lambdahttp

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"unicode/utf8"
)

// answer is a response in memory.
type answer struct {
	header http.Header
	sent   bool
	status int
	body   bytes.Buffer
}

func newAnswer() *answer { return &answer{header: http.Header{}, status: http.StatusOK} }

// Header is what will be sent; changes after the first write have no effect on a real connection, and handlers do not rely on them.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader keeps the first final status.
func (a *answer) WriteHeader(status int) {
	if status < 200 || a.sent {
		return
	}
	a.sent, a.status = true, status
}

// Write keeps the body.
func (a *answer) Write(b []byte) (int, error) {
	if !a.sent {
		a.WriteHeader(http.StatusOK)
	}
	if a.header.Get("Content-Type") == "" && a.body.Len() == 0 {
		a.header.Set("Content-Type", http.DetectContentType(b))
	}
	return a.body.Write(b)
}

// serve calls the handler. A handler that gives its connection up (http.ErrAbortHandler) has sent half an answer: nothing of it is
// passed on.
func (f *Function) serve(r *http.Request, limit int) (a *answer) {
	a = newAnswer()
	defer func() {
		if failure := recover(); failure != nil {
			a = newAnswer()
			http.Error(a, "The answer could not be finished.", http.StatusInternalServerError)
		}
	}()
	f.o.Handler.ServeHTTP(a, r)
	if size := a.size(); size > limit-limitSlack {
		a = tooLarge(r, size, limit)
	}
	return a
}

// binary reports whether the body cannot travel as JSON text. Compressed bodies may look like text by chance.
func (a *answer) binary() bool {
	return a.header.Get("Content-Encoding") != "" || !utf8.Valid(a.body.Bytes())
}

// size is how many bytes body and headers take in the JSON answer.
func (a *answer) size() int {
	n := 0
	for name, values := range a.header {
		for _, v := range values {
			n += len(name) + len(v) + 8
		}
	}
	if a.binary() {
		return n + base64.StdEncoding.EncodedLen(a.body.Len())
	}
	for _, c := range a.body.Bytes() { // what JSON escapes
		switch {
		case c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t':
			n += 2
		case c < ' ':
			n += 6
		default:
			n++
		}
	}
	return n
}

func (a *answer) text() (body string, encoded bool) {
	if a.binary() {
		return base64.StdEncoding.EncodeToString(a.body.Bytes()), true
	}
	return a.body.String(), false
}

// encode is the answer's JSON. HTML is not escaped: pages would grow by a third.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// single joins the values of each header, for fronts that take one.
func (a *answer) single() map[string]string {
	out := make(map[string]string, len(a.header))
	for name, values := range a.header {
		out[name] = strings.Join(values, ", ")
	}
	return out
}
