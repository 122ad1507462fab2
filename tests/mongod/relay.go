package mongod

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// relay carries clients to a member, and may let them wait for what it says.
type relay struct {
	ln     net.Listener
	to     string
	delay  atomic.Int64
	ctx    context.Context //nolint:containedctx // ends with the relay
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newRelay(listen, to string) (*relay, error) {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	r := &relay{ln: ln, to: to}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.carry(c) })
		}
	})
	return r, nil
}

func (r *relay) close() {
	r.cancel()
	_ = r.ln.Close()
	r.wg.Wait()
}

func (r *relay) carry(client net.Conn) {
	defer client.Close()
	far, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(r.ctx, "tcp", r.to)
	if err != nil {
		return
	}
	defer far.Close()
	defer context.AfterFunc(r.ctx, func() {
		_ = client.Close()
		_ = far.Close()
	})()
	done := make(chan struct{}, 2)
	go r.pump(far, client, false, done)
	go r.pump(client, far, true, done)
	<-done
}

func (r *relay) pump(to, from net.Conn, slow bool, done chan<- struct{}) {
	defer func() { done <- struct{}{} }()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			if by := time.Duration(r.delay.Load()); slow && by > 0 {
				select {
				case <-time.After(by):
				case <-r.ctx.Done():
					return
				}
			}
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
