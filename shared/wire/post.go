package wire

import (
	"fmt"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Limits of the small fields. Longer texts are cut, longer lists end.
const (
	maxLogTail  = 100
	maxFailures = 64
	maxText     = 4 << 10
	maxName     = 256
)

// DecodePost decodes and checks a post. Pings share the memory of the decompressed message. It is written out by hand
// because it runs for every ping of every host: reflection costs several times as much.
func DecodePost(b []byte) (Post, error) {
	var p Post
	if len(b) > MaxPost {
		return p, tooLarge("post: %d bytes, over the limit of %d", len(b), MaxPost)
	}
	doc, err := inflate(messages(), nil, b, "post", maxMessage)
	if err != nil {
		return p, err
	}
	// The version decides how the rest is read, so it is looked at first, wherever it stands.
	v, ok := number(doc.Lookup("v"))
	if !ok {
		return p, malformed("post: the version is missing")
	}
	if err := checkVersion(int32(max(min(v, 1<<30), -1))); err != nil {
		return p, err
	}
	p.Version = int32(v)
	err = each(doc, func(key []byte, v bson.RawValue) error {
		switch string(key) {
		case "agent":
			return decodeAgent(v, &p.Agent)
		case "sent":
			return setTime(&p.Sent, key, v)
		case "seq":
			return setInt(&p.Seq, key, v)
		case "pings":
			return decodePings(v, &p.Pings)
		}
		return nil // fields of a later minor revision
	})
	if err != nil {
		return Post{}, malformed("post: %v", err)
	}
	if len(p.Pings) > MaxPings {
		return Post{}, tooLarge("post: over %d pings", MaxPings)
	}
	if p.Agent.ID == "" || p.Sent.IsZero() {
		return Post{}, malformed("post: the agent's id and the time of sending are required")
	}
	return p, nil
}

func decodeAgent(v bson.RawValue, a *AgentInfo) error {
	if v.Type != bson.TypeEmbeddedDocument {
		return fmt.Errorf("agent is a %s", v.Type)
	}
	return each(v.Value, func(key []byte, v bson.RawValue) error {
		switch string(key) {
		case "id":
			return setText(&a.ID, key, v, maxName)
		case "session":
			return setText(&a.Session, key, v, maxName)
		case "type":
			return setText(&a.Type, key, v, maxName)
		case "hostname":
			return setText(&a.Hostname, key, v, maxName)
		case "version":
			return setText(&a.Version, key, v, maxName)
		case "os":
			return setText(&a.OS, key, v, maxName)
		case "started":
			return setTime(&a.Started, key, v)
		case "confCount":
			return setInt(&a.ConfCount, key, v)
		case "spooled":
			return setInt(&a.Spooled, key, v)
		case "dropped":
			return setInt(&a.Dropped, key, v)
		case "lastError":
			return setText(&a.LastError, key, v, maxText)
		case "logTail":
			return eachOf(key, v, bson.TypeString, func(v bson.RawValue) error {
				if len(a.LogTail) == maxLogTail {
					return nil
				}
				var line string
				if err := setText(&line, []byte("logTail"), v, maxText); err != nil {
					return err
				}
				a.LogTail = append(a.LogTail, line)
				return nil
			})
		}
		return nil
	})
}

func decodePings(v bson.RawValue, pings *[]Ping) error {
	return eachOf([]byte("pings"), v, bson.TypeEmbeddedDocument, func(v bson.RawValue) error {
		if len(*pings) > MaxPings {
			return nil // refused as a whole by the caller
		}
		var p Ping
		if err := decodePing(v.Value, &p); err != nil {
			return fmt.Errorf("ping %d: %w", len(*pings), err)
		}
		*pings = append(*pings, p)
		return nil
	})
}

func decodePing(doc bson.Raw, p *Ping) error {
	return each(doc, func(key []byte, v bson.RawValue) error {
		switch string(key) {
		case "host":
			return setText(&p.HostID, key, v, maxName)
		case "at":
			return setTime(&p.At, key, v)
		case "late":
			return setBool(&p.Late, key, v)
		case "rtt":
			return setInt(&p.RTT, key, v)
		case "skew":
			return setInt(&p.SkewMS, key, v)
		case "addr":
			return setText(&p.Address, key, v, maxName)
		case "ip":
			return setText(&p.IP, key, v, maxName)
		case "local":
			return setBool(&p.Local, key, v)
		case "cert":
			return decodeCertificate(v, p)
		case "errors":
			return eachOf(key, v, bson.TypeEmbeddedDocument, func(v bson.RawValue) error {
				if len(p.Errors) == maxFailures {
					return nil
				}
				var f Failure
				if err := decodeFailure(v.Value, &f); err != nil {
					return err
				}
				p.Errors = append(p.Errors, f)
				return nil
			})
		case "z":
			if v.Type == bson.TypeNull {
				return nil
			}
			if v.Type != bson.TypeBinary || v.Value[4] != 0 {
				return fmt.Errorf("z is a %s, not plain binary", v.Type)
			}
			p.Replies = v.Value[5:]
		}
		return nil
	})
}

// decodeCertificate leaves out one without an end: nothing could be said about it.
func decodeCertificate(v bson.RawValue, p *Ping) error {
	if v.Type == bson.TypeNull {
		return nil
	}
	if v.Type != bson.TypeEmbeddedDocument {
		return fmt.Errorf("cert is a %s", v.Type)
	}
	var c Certificate
	err := each(v.Value, func(key []byte, v bson.RawValue) error {
		switch string(key) {
		case "until":
			return setTime(&c.Until, key, v)
		case "subject":
			return setText(&c.Subject, key, v, maxName)
		}
		return nil
	})
	if err == nil && !c.Until.IsZero() {
		p.Cert = &c
	}
	return err
}

func decodeFailure(doc bson.Raw, f *Failure) error {
	return each(doc, func(key []byte, v bson.RawValue) error {
		switch string(key) {
		case "cmd":
			return setText(&f.Command, key, v, maxName)
		case "code":
			var n int64
			if err := setInt(&n, key, v); err != nil {
				return err
			}
			f.Code = int32(n)
		case "codeName":
			return setText(&f.CodeName, key, v, maxName)
		case "msg":
			return setText(&f.Message, key, v, maxText)
		}
		return nil
	})
}

func eachOf(key []byte, v bson.RawValue, want bson.Type, fn func(bson.RawValue) error) error {
	if v.Type == bson.TypeNull { // an empty slice of the sender
		return nil
	}
	if v.Type != bson.TypeArray {
		return fmt.Errorf("%s is a %s, not an array", key, v.Type)
	}
	return each(v.Value, func(_ []byte, v bson.RawValue) error {
		if v.Type != want {
			return fmt.Errorf("%s holds a %s", key, v.Type)
		}
		return fn(v)
	})
}

func number(v bson.RawValue) (int64, bool) {
	switch v.Type {
	case bson.TypeInt32:
		n, ok := v.Int32OK()
		return int64(n), ok
	case bson.TypeInt64:
		return v.Int64OK()
	}
	return 0, false
}

func setInt(to *int64, key []byte, v bson.RawValue) error {
	n, ok := number(v)
	if !ok {
		return fmt.Errorf("%s is a %s, not an integer", key, v.Type)
	}
	*to = n
	return nil
}

func setBool(to *bool, key []byte, v bson.RawValue) error {
	if v.Type != bson.TypeBoolean {
		return fmt.Errorf("%s is a %s, not a boolean", key, v.Type)
	}
	*to = v.Value[0] == 1
	return nil
}

// setTime keeps times within the years 1970 to 9999, so that nothing behind it has to think about others. A zero time.Time
// of the sender arrives as one of the year 1 and stays zero.
func setTime(to *time.Time, key []byte, v bson.RawValue) error {
	ms, ok := v.DateTimeOK()
	if !ok {
		return fmt.Errorf("%s is a %s, not a date", key, v.Type)
	}
	if ms > 253_402_300_799_999 {
		return fmt.Errorf("%s is after the year 9999", key)
	}
	if ms > 0 {
		*to = time.UnixMilli(ms).UTC()
	}
	return nil
}

func setText(to *string, key []byte, v bson.RawValue, limit int) error {
	s, ok := v.StringValueOK()
	if !ok {
		return fmt.Errorf("%s is a %s, not a string", key, v.Type)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s is not UTF-8", key)
	}
	if len(s) > limit {
		for limit > 0 && !utf8.RuneStart(s[limit]) {
			limit--
		}
		s = s[:limit]
	}
	*to = s
	return nil
}
