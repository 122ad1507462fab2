package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"go.mongodb.org/mongo-driver/v2/bson"
)

var update = flag.Bool("update", false, "write the golden messages again")

var at = time.Date(2026, 3, 1, 10, 0, 0, 123e6, time.UTC)

func recorded(t testing.TB) bson.Raw {
	t.Helper()
	doc := bson.D{}
	for name, file := range map[string]string{
		"hello": "hello.json", "replSetGetStatus": "replSetGetStatus.json", "serverStatus": "serverStatus-unauthorised.json",
	} {
		text, err := os.ReadFile(filepath.Join("testdata", "recorded", file))
		if err != nil {
			t.Fatal(err)
		}
		var d bson.D
		if err := bson.UnmarshalExtJSON(text, true, &d); err != nil {
			t.Fatal(err)
		}
		doc = append(doc, bson.E{Key: name, Value: d})
	}
	raw, err := bson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func samplePost(t testing.TB) Post {
	t.Helper()
	z, err := EncodeReplies(recorded(t))
	if err != nil {
		t.Fatal(err)
	}
	return Post{
		Version: 1, Sent: at, Seq: 7,
		Agent: AgentInfo{
			ID: "a1", Session: "s1", Type: "MONITORING", Hostname: "watch1", Version: "0.1.0", OS: "linux", Started: at.Add(-time.Hour),
			ConfCount: 3, Spooled: 4, Dropped: 5, LastError: "none", LogTail: []string{"one", "two"},
		},
		Pings: []Ping{
			{HostID: "0123456789abcdef0123456789abcdef", At: at, RTT: 900, SkewMS: -12, Address: "db1:27017", IP: "192.0.2.1", Local: true, Replies: z},
			{HostID: "ffffffffffffffffffffffffffffffff", At: at, Late: true, Errors: []Failure{{Command: "connect", Code: 6, CodeName: "HostUnreachable", Message: "refused"}}},
		},
	}
}

func sampleConf() Conf {
	return Conf{
		Version: 1, Time: at, State: "ACTIVE", ConfSeconds: 60, PingSeconds: 10, MaxPost: MaxPost, DBStats: true, Logs: true, Diagnostics: true,
		Hosts: []Host{{
			ID: "0123456789abcdef0123456789abcdef", Hostname: "db1", Port: 27017, Type: "NO_DATA", Username: "u", Password: "p",
			Mechanism: "SCRAM-SHA-256", Source: "admin", TLS: true, Logs: true, DBStats: true,
		}},
	}
}

func sampleAck() Ack {
	return Ack{Version: 1, Seq: 7, Time: at, Accepted: 1, Rejected: []Rejected{{HostID: "x", At: at, Reason: "not a host of this group"}}}
}

func TestCertificateOfAPing(t *testing.T) {
	long := strings.Repeat("ü", 200)
	tests := []struct {
		name string
		cert any // as it travels; nil: the field is missing
		want *Certificate
		bad  bool
	}{
		{"an older agent sends none", nil, nil, false},
		{"end and subject", bson.D{{Key: "until", Value: at}, {Key: "subject", Value: "CN=db1"}}, &Certificate{Until: at, Subject: "CN=db1"}, false},
		{"fields of a later revision are passed over", bson.D{{Key: "until", Value: at}, {Key: "issuer", Value: 1}}, &Certificate{Until: at}, false},
		{"one without an end is left out", bson.D{{Key: "subject", Value: "CN=db1"}}, nil, false},
		{"one that ended before 1970 is left out", bson.D{{Key: "until", Value: time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC)}}, nil, false},
		{"null", bson.Null{}, nil, false},
		{"a long subject is cut between characters", bson.D{{Key: "until", Value: at}, {Key: "subject", Value: long}}, &Certificate{Until: at, Subject: long[:256]}, false},
		{"an end that is no date", bson.D{{Key: "until", Value: "soon"}}, nil, true},
		{"a subject that is no text", bson.D{{Key: "until", Value: at}, {Key: "subject", Value: 7}}, nil, true},
		{"no document", "CN=db1", nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ping := bson.D{{Key: "host", Value: "h"}, {Key: "at", Value: at}}
			if tt.cert != nil {
				ping = append(ping, bson.E{Key: "cert", Value: tt.cert})
			}
			b, err := encode("post", bson.D{
				{Key: "v", Value: int32(1)}, {Key: "agent", Value: bson.D{{Key: "id", Value: "a"}}}, {Key: "sent", Value: at}, {Key: "pings", Value: bson.A{ping}},
			})
			if err != nil {
				t.Fatal(err)
			}
			post, err := DecodePost(b)
			if tt.bad {
				if err == nil {
					t.Fatalf("accepted as %+v", post.Pings)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, post.Pings[0].Cert); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
	p := samplePost(t)
	p.Pings[0].Cert = &Certificate{Until: at, Subject: "CN=db1"}
	b, err := EncodePost(p)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodePost(b); err != nil || cmp.Diff(p.Pings[0].Cert, got.Pings[0].Cert) != "" || got.Pings[1].Cert != nil {
		t.Errorf("sent and read: %+v, %v", got.Pings, err)
	}
}

// TestGolden reads messages that were written when version 1 was made. They are never regenerated once released.
func TestGolden(t *testing.T) {
	golden := func(name string, fresh func() ([]byte, error)) []byte {
		file := filepath.Join("testdata", "v1", name)
		if *update {
			b, err := fresh()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	post, err := DecodePost(golden("post.zst", func() ([]byte, error) { return EncodePost(samplePost(t)) }))
	if err != nil {
		t.Fatal(err)
	}
	replies, err := DecodeReplies(post.Pings[0].Replies)
	if err != nil {
		t.Fatal(err)
	}
	if set, _ := replies.Lookup("replSetGetStatus", "set").StringValueOK(); set != "rs0" {
		t.Errorf("the golden post's replies name set %q", set)
	}
	want := samplePost(t)
	want.Pings[0].Replies, post.Pings[0].Replies = nil, nil
	if d := cmp.Diff(want, post); d != "" {
		t.Errorf("post (-want +got)\n%s", d)
	}
	ack, err := DecodeAck(golden("ack.zst", func() ([]byte, error) { return EncodeAck(sampleAck()) }))
	if err != nil || !cmp.Equal(sampleAck(), ack) {
		t.Errorf("ack: %v\n%s", err, cmp.Diff(sampleAck(), ack))
	}
	conf, err := DecodeConf(golden("conf.zst", func() ([]byte, error) { return EncodeConf(sampleConf()) }))
	if err != nil || !cmp.Equal(sampleConf(), conf) {
		t.Errorf("conf: %v\n%s", err, cmp.Diff(sampleConf(), conf))
	}
}

func TestRoundTrip(t *testing.T) {
	want := samplePost(t)
	b, err := EncodePost(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodePost(b)
	if err != nil || !cmp.Equal(want, got) {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got))
	}
	p := Problem{Reason: "no", Code: CodeBadKey}
	if got, err := DecodeProblem(EncodeProblem(p)); err != nil || got != p {
		t.Errorf("problem %v, %v", got, err)
	}
	info := want.Agent
	info.Spooled, info.Dropped, info.LastError, info.LogTail = 0, 0, "", nil
	q := ConfQuery(info, []string{"db1:27017", "db2:27017"})
	back, seeds, err := ParseConfQuery(q)
	if err != nil || !cmp.Equal(info, back) || !cmp.Equal(seeds, []string{"db1:27017", "db2:27017"}) {
		t.Errorf("%v %v\n%s", err, seeds, cmp.Diff(info, back))
	}
}

func TestRefused(t *testing.T) {
	pack := func(v any) []byte {
		doc, err := bson.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return encoder().EncodeAll(doc, nil)
	}
	agent := bson.D{{Key: "id", Value: "a"}}
	bomb := encoder().EncodeAll(make([]byte, maxMessage+1), nil)
	var stream bytes.Buffer // a bomb that does not announce its size
	w, err := zstd.NewWriter(&stream)
	if err != nil {
		t.Fatal(err)
	}
	for range 40 {
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if len(bomb) > 1<<20 || stream.Len() > 1<<20 {
		t.Fatal("the bombs are no bombs")
	}
	many := make(bson.A, MaxPings+1)
	for i := range many {
		many[i] = bson.D{}
	}
	for _, c := range []struct {
		name string
		body []byte
		code string
		says string
	}{
		{"empty body", nil, CodeMalformed, "empty"},
		{"not zstd", []byte("hello, is this the right door?"), CodeMalformed, "not zstd"},
		{"zstd of no BSON", encoder().EncodeAll([]byte("plain text, long enough"), nil), CodeMalformed, "not BSON"},
		{"an oversized body", make([]byte, MaxPost+1), CodeTooLarge, "over the limit"},
		{"a bomb that announces its size", bomb, CodeTooLarge, "decompressed"},
		{"a bomb that does not", stream.Bytes(), CodeTooLarge, "decompressed"},
		{"two frames that are each small enough", append(bytes.Clone(encoder().EncodeAll(make([]byte, 20<<20), nil)), encoder().EncodeAll(make([]byte, 20<<20), nil)...), CodeTooLarge, "decompressed"},
		{"no version", pack(bson.D{{Key: "sent", Value: at}}), CodeMalformed, "version"},
		{"a newer version", pack(bson.D{{Key: "v", Value: int32(2)}, {Key: "pings", Value: 3}}), CodeBadVersion, "newer than this build"},
		{"version 0", pack(bson.D{{Key: "v", Value: int64(0)}}), CodeBadVersion, "too old"},
		{"pings of a wrong type", pack(bson.D{{Key: "v", Value: 1}, {Key: "pings", Value: "x"}}), CodeMalformed, "pings is a string"},
		{"a ping that is no document", pack(bson.D{{Key: "v", Value: 1}, {Key: "pings", Value: bson.A{1}}}), CodeMalformed, "pings holds"},
		{"no agent", pack(bson.D{{Key: "v", Value: 1}, {Key: "sent", Value: at}}), CodeMalformed, "agent"},
		{"no time of sending", pack(bson.D{{Key: "v", Value: 1}, {Key: "agent", Value: agent}}), CodeMalformed, "time of sending"},
		{"a time beyond the year 9999", pack(bson.D{{Key: "v", Value: 1}, {Key: "sent", Value: bson.DateTime(1 << 60)}}), CodeMalformed, "9999"},
		{"too many pings", pack(bson.D{{Key: "v", Value: 1}, {Key: "agent", Value: agent}, {Key: "sent", Value: at}, {Key: "pings", Value: many}}), CodeTooLarge, "5000 pings"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := DecodePost(c.body)
			var e *Error
			if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(e.Reason, c.says) {
				t.Errorf("got %v, want %s saying %q", err, c.code, c.says)
			}
		})
	}
	if _, err := EncodeReplies(make([]byte, MaxReplies+1)); err == nil {
		t.Error("replies over the limit were encoded")
	}
	if _, err := DecodeReplies(encoder().EncodeAll(make([]byte, MaxReplies+1), nil)); err == nil {
		t.Error("replies over the limit were decoded")
	}
}

func TestDeepNestingIsRefused(t *testing.T) {
	doc := []byte{5, 0, 0, 0, 0}
	for range maxDepth + 2 {
		outer := binary.LittleEndian.AppendUint32(nil, uint32(len(doc)+8))
		outer = append(outer, byte(bson.TypeEmbeddedDocument), 'a', 0)
		doc = append(append(outer, doc...), 0)
	}
	if err := Validate(doc); err == nil || !strings.Contains(err.Error(), "deeper") {
		t.Errorf("got %v", err)
	}
}

func FuzzDecodePost(f *testing.F) {
	b, err := EncodePost(samplePost(f))
	if err != nil {
		f.Fatal(err)
	}
	raw, err := messages().DecodeAll(b, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	p := samplePost(f)
	p.Pings[0].Cert = &Certificate{Until: at, Subject: "CN=db1"}
	if b, err = EncodePost(p); err != nil {
		f.Fatal(err)
	}
	if raw, err = messages().DecodeAll(b, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, doc []byte) {
		// The mutations go inside the compression, or nearly all would be refused at the door.
		post, err := DecodePost(encoder().EncodeAll(doc, nil))
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v has no code", err)
			}
			return
		}
		for _, p := range post.Pings {
			_, _ = DecodeReplies(p.Replies)
		}
	})
}

func FuzzValidate(f *testing.F) {
	f.Add([]byte(recorded(f)))
	all, err := bson.Marshal(bson.D{
		{Key: "a", Value: bson.CodeWithScope{Code: "f", Scope: bson.D{{Key: "x", Value: 1}}}},
		{Key: "b", Value: bson.Regex{Pattern: "a", Options: "i"}},
		{Key: "c", Value: bson.DBPointer{DB: "x"}},
		{Key: "d", Value: bson.Binary{Subtype: 2, Data: []byte("xy")}},
		{Key: "e", Value: bson.MinKey{}},
		{Key: "f", Value: bson.Decimal128{}},
		{Key: "g", Value: bson.A{1, "two", nil, true}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, doc []byte) {
		if Validate(doc) != nil {
			return
		}
		// What passed must be good enough for the driver too, and safe to walk to the bottom.
		if err := bson.Raw(doc).Validate(); err != nil {
			t.Fatalf("the driver finds fault: %v", err)
		}
		_ = bson.Raw(doc).String()
	})
}

func FuzzConfQuery(f *testing.F) {
	f.Add(ConfQuery(samplePost(f).Agent, []string{"db1:27017"}).Encode())
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		a, seeds, err := ParseConfQuery(q)
		if err == nil && (a.ID == "" || len(seeds) > maxSeeds || a.ConfCount < 0) {
			t.Fatalf("%+v, %d seeds", a, len(seeds))
		}
	})
}

func BenchmarkDecodePost(b *testing.B) {
	p := samplePost(b)
	for len(p.Pings) < 100 {
		p.Pings = append(p.Pings, p.Pings[0])
	}
	body, err := EncodePost(p)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodePost(body); err != nil {
			b.Fatal(err)
		}
	}
}
