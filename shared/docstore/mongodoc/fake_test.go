package mongodoc

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// drop, returned by a fake server's script, closes the connection instead of answering.
var drop = bson.D{{Key: "drop", Value: true}}

// fake is a server that answers by a script: for the outcomes that no real server gives on demand. It says it is the
// primary of a set of one, so that the driver retries as it would in production.
type fake struct {
	t        *testing.T
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	script func(command string, cmd bson.Raw) bson.D
	log    []string
	conns  []net.Conn
	batch  int // documents a command may carry; 0: as many as a real server takes
}

func newFake(t *testing.T, script func(command string, cmd bson.Raw) bson.D) *fake {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, listener: l, script: script}
	f.wg.Go(f.accept)
	t.Cleanup(f.stop)
	return f
}

func (f *fake) uri() string {
	return "mongodb://" + f.listener.Addr().String() + "/?replicaSet=rs0"
}

func (f *fake) stop() {
	_ = f.listener.Close()
	f.mu.Lock()
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// commands lists what was asked, handshakes aside.
func (f *fake) commands() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.log...)
}

func (f *fake) accept() {
	for {
		c, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.conns = append(f.conns, c)
		f.mu.Unlock()
		f.wg.Go(func() {
			defer func() { _ = c.Close() }()
			if err := f.serve(c); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				f.t.Logf("fake server: %v", err)
			}
		})
	}
}

const (
	opReply = 1
	opQuery = 2004
	opMsg   = 2013
)

func (f *fake) serve(c net.Conn) error {
	for {
		head := make([]byte, 16)
		if _, err := io.ReadFull(c, head); err != nil {
			return io.EOF
		}
		rest := make([]byte, binary.LittleEndian.Uint32(head)-16)
		if _, err := io.ReadFull(c, rest); err != nil {
			return err
		}
		op := binary.LittleEndian.Uint32(head[12:])
		var cmd bson.Raw
		switch op {
		case opQuery: // flags, name, skip, limit, document
			cmd = bson.Raw(rest[4+bytes.IndexByte(rest[4:], 0)+1+8:])
		case opMsg: // flags, then sections; the first one is the command
			cmd = bson.Raw(rest[5:])
			cmd = cmd[:binary.LittleEndian.Uint32(cmd)]
		}
		reply := f.answer(cmd)
		if len(reply) > 0 && reply[0].Key == "drop" {
			return nil
		}
		body, err := bson.Marshal(reply)
		if err != nil {
			return err
		}
		var b []byte
		put := func(v uint32) { b = binary.LittleEndian.AppendUint32(b, v) }
		put(0)
		put(1)
		put(binary.LittleEndian.Uint32(head[4:]))
		if op == opQuery {
			for _, v := range []uint32{opReply, 8, 0, 0, 0, 1} {
				put(v)
			}
		} else {
			put(opMsg)
			put(0)
			b = append(b, 0)
		}
		b = append(b, body...)
		binary.LittleEndian.PutUint32(b, uint32(len(b)))
		if _, err := c.Write(b); err != nil {
			return err
		}
	}
}

func (f *fake) answer(cmd bson.Raw) bson.D {
	elements, err := cmd.Elements()
	if err != nil || len(elements) == 0 {
		return drop
	}
	name := elements[0].Key()
	// The driver's own go to admin; those of the engine to its database.
	db, _ := cmd.Lookup("$db").StringValueOK()
	if db != "test" || name == "isMaster" {
		return f.hello()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, name)
	if reply := f.script(name, cmd); reply != nil {
		return reply
	}
	return bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 1}, {Key: "nModified", Value: 1}}
}

func (f *fake) hello() bson.D {
	addr := f.listener.Addr().String()
	return bson.D{
		{Key: "ok", Value: 1},
		{Key: "helloOk", Value: true},
		{Key: "isWritablePrimary", Value: true},
		{Key: "ismaster", Value: true},
		{Key: "setName", Value: "rs0"},
		{Key: "setVersion", Value: 1},
		{Key: "hosts", Value: bson.A{addr}},
		{Key: "primary", Value: addr},
		{Key: "me", Value: addr},
		{Key: "maxBsonObjectSize", Value: 16 << 20},
		{Key: "maxMessageSizeBytes", Value: 48_000_000},
		{Key: "maxWriteBatchSize", Value: cmp.Or(f.batch, 100_000)},
		{Key: "localTime", Value: time.UnixMilli(1_763_700_000_123)},
		{Key: "logicalSessionTimeoutMinutes", Value: 30},
		{Key: "minWireVersion", Value: 0},
		{Key: "maxWireVersion", Value: 21},
	}
}
