package source

import (
	"errors"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/daemon/monitoragent/mongotest"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/wire"
)

type plain struct{}

// Options are those of a direct connection.
func (plain) Options(host wire.Host, _ bool) *options.ClientOptions {
	return options.Client().SetHosts([]string{model.Address(host.Hostname, int(host.Port))}).SetDirect(true)
}

func at(i uint32) bson.Timestamp { return bson.Timestamp{T: 1000 + i, I: 1} }

func none() bson.D { return bson.D{{Key: "ts", Value: bson.Timestamp{}}, {Key: "t", Value: int64(-1)}} }

func entry(i uint32, op string, o bson.D, more ...bson.E) bson.Raw {
	return mongotest.Doc(append(bson.D{
		{Key: "ts", Value: at(i)}, {Key: "t", Value: int64(1)}, {Key: "v", Value: int64(2)}, {Key: "op", Value: op}, {Key: "ns", Value: "admin.$cmd"}, {Key: "o", Value: o},
	}, more...))
}

// part is an entry of a transaction; before is the one before it, 0 for the first.
func part(i, before uint32, o bson.D) bson.Raw {
	prev := none()
	if before > 0 {
		prev = bson.D{{Key: "ts", Value: at(before)}, {Key: "t", Value: int64(1)}}
	}
	return entry(i, "c", o, bson.E{Key: "lsid", Value: bson.D{{Key: "id", Value: "s"}}}, bson.E{Key: "txnNumber", Value: int64(7)}, bson.E{Key: "prevOpTime", Value: prev})
}

// TestStart lets transactions be open, or end between the looks that Start takes.
func TestStart(t *testing.T) {
	noop := func(i uint32) bson.Raw { return entry(i, "n", bson.D{{Key: "msg", Value: "periodic noop"}}) }
	applyOps := func(more ...bson.E) bson.D { return append(bson.D{{Key: "applyOps", Value: bson.A{}}}, more...) }
	partial := bson.E{Key: "partialTxn", Value: true}
	for name, c := range map[string]struct {
		oplog []bson.Raw
		first int // how many entries are there at the first look
		open  uint32
		floor uint32
		want  uint32
		err   error
	}{
		"nothing is open":                                {[]bson.Raw{noop(1), noop(2), noop(3)}, 3, 0, 0, 3, nil},
		"a transaction is open":                          {[]bson.Raw{noop(1), part(2, 0, applyOps(partial)), noop(3)}, 3, 2, 0, 2, nil},
		"one began after the look":                       {[]bson.Raw{noop(1), noop(2), part(3, 0, applyOps(partial))}, 2, 3, 0, 2, nil},
		"one ended between the looks":                    {[]bson.Raw{noop(1), part(2, 0, applyOps(partial)), part(3, 2, applyOps(partial)), noop(4), part(5, 3, applyOps())}, 4, 0, 0, 2, nil},
		"a prepared one was committed between the looks": {[]bson.Raw{noop(1), part(2, 0, applyOps(bson.E{Key: "prepare", Value: true})), noop(3), part(4, 2, bson.D{{Key: "commitTransaction", Value: 1}, {Key: "commitTimestamp", Value: at(3)}})}, 3, 0, 0, 2, nil},
		"one whose beginning is gone":                    {[]bson.Raw{noop(5), noop(6)}, 2, 2, 0, 0, ErrStartGone},
		"the history before ended later":                 {[]bson.Raw{noop(1), noop(2)}, 2, 0, 3, 0, errors.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			p := mongotest.Start(t, "secondary")
			looked := false
			p.Handle("find-local.oplog.rs", func(cmd bson.Raw) bson.Raw {
				found := c.oplog
				if v, err := cmd.LookupErr("sort", "$natural"); err == nil && v.AsInt64() < 0 {
					if !looked {
						found = c.oplog[:c.first]
					}
					looked, found = true, found[len(found)-1:]
				}
				docs := bson.A{}
				for _, raw := range found {
					ts := position(raw).TS
					keep := true
					if v, err := cmd.LookupErr("filter", "ts", "$gte"); err == nil {
						s, i := v.Timestamp()
						keep = !ts.Before(bson.Timestamp{T: s, I: i})
					}
					if v, err := cmd.LookupErr("filter", "ts", "$gt"); err == nil {
						s, i := v.Timestamp()
						keep = ts.After(bson.Timestamp{T: s, I: i}) && raw.Lookup("op").StringValue() == "c"
					}
					if keep {
						docs = append(docs, raw)
					}
				}
				if _, err := cmd.LookupErr("limit"); err == nil && len(docs) > 1 {
					docs = docs[:1]
				}
				return mongotest.Doc(bson.D{{Key: "cursor", Value: bson.D{{Key: "firstBatch", Value: docs}, {Key: "id", Value: int64(0)}, {Key: "ns", Value: "local.oplog.rs"}}}, {Key: "ok", Value: 1.0}})
			})
			p.Handle("find-config.transactions", func(bson.Raw) bson.Raw {
				docs := bson.A{}
				if c.open > 0 {
					docs = append(docs, bson.D{{Key: "state", Value: "inProgress"}, {Key: "startOpTime", Value: bson.D{{Key: "ts", Value: at(c.open)}, {Key: "t", Value: int64(1)}}}})
				}
				return mongotest.Doc(bson.D{{Key: "cursor", Value: bson.D{{Key: "firstBatch", Value: docs}, {Key: "id", Value: int64(0)}, {Key: "ns", Value: "config.transactions"}}}, {Key: "ok", Value: 1.0}})
			})
			host, port, err := model.SplitAddress(p.Addr)
			if err != nil {
				t.Fatal(err)
			}
			h := wire.Host{Hostname: host, Port: int32(port)} //nolint:gosec // a port
			set := NewSet("rs0", []wire.Host{h}, plain{})
			defer set.Close()
			m, err := set.Member(h)
			if err != nil {
				t.Fatal(err)
			}
			var floor oplog.OpTime
			if c.floor > 0 {
				floor = oplog.OpTime{TS: at(c.floor), Term: 1}
			}
			raw, err := m.Start(t.Context(), floor)
			switch {
			case c.err == nil && err != nil, c.err != nil && err == nil, errors.Is(c.err, ErrStartGone) && !errors.Is(err, ErrStartGone):
				t.Fatalf("error %v, want %v", err, c.err)
			case err == nil && position(raw).TS != at(c.want):
				t.Errorf("it begins at %s, want %v", position(raw), at(c.want))
			}
		})
	}
}
