package image

import (
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// FuzzManifest: no bytes make the decoder fall over, and what it accepts can be written and read again.
func FuzzManifest(f *testing.F) {
	m := &Manifest{Version: 1, ID: "s1", Job: "j", BlockSize: 16384, Key: make([]byte, 32), Created: time.Unix(0, 0).UTC(), Files: []File{
		{Path: "a", Size: 5, Root: Ref{Pack: "p", Hash: make([]byte, 32)}}, {Path: "b"}, {Path: "c", Dir: true},
	}}
	b, err := EncodeManifest(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("HWSN"))
	plain, err := bson.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeManifest(b); err == nil {
			again, err := EncodeManifest(m)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := decodeManifest(again); err != nil {
				t.Fatal(err)
			}
		}
		// The hash keeps the fuzzer out: what is behind it is tried directly.
		var m Manifest
		if bson.Unmarshal(b, &m) == nil && m.Check() == nil {
			for i := range m.Files {
				_ = m.Find(m.Files[i].Path).Path
			}
		}
	})
}
