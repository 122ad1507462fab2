package httpx

import "net/http"

// Object is a part of an object of a block store that is an answer's body.
type Object struct {
	Store  string `bson:"s"` // its id
	Key    string `bson:"k"`
	From   int64  `bson:"f"` // the first byte
	Length int64  `bson:"l"`
	// Note names what is told to whoever answers for the transport once the last byte is with the client; empty: nothing.
	Note string `bson:"n,omitempty"`
}

// ObjectSender is implemented by answers whose transport sends an object by itself, so that its bytes never pass the handler. It is
// called instead of Write, once, after the header is complete.
type ObjectSender interface{ SendObject(o Object) error }

// ObjectSenderOf finds the sender behind an answer, through whatever was put around it.
func ObjectSenderOf(w http.ResponseWriter) (ObjectSender, bool) {
	for {
		if s, ok := w.(ObjectSender); ok {
			return s, true
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil, false
		}
		w = u.Unwrap()
	}
}
