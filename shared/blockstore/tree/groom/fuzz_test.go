package groom

import (
	"bytes"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// FuzzCondemned: a list never names what is not of the job.
func FuzzCondemned(f *testing.F) {
	b, err := bson.Marshal(sentences{Version: 1, List: []sentence{{Key: "blocks/j/x", Size: 1}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decodeSentences(b, "j")
		if err != nil {
			return
		}
		for _, c := range list {
			if !bytes.Contains([]byte(c.Key), []byte("/j/")) {
				t.Fatal(c.Key)
			}
		}
	})
}
