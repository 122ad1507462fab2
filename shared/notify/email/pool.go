package email

import (
	"context"
	"net"
	"sync"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

const (
	maxIdle    = 4   // connections that wait for a message
	maxPerLink = 100 // messages on one connection: servers count too
)

// link is a connection to the server, used by one message at a time.
type link struct {
	client *gomail.Client
	smtp   *smtp.Client
	conn   net.Conn
	sent   int
	timer  *time.Timer // while it waits
}

// send sends a message, and stops when ctx ends.
func (l *link) send(ctx context.Context, msg *gomail.Msg) error {
	unwatch := context.AfterFunc(ctx, func() { _ = l.conn.Close() })
	defer unwatch()
	l.sent++
	return l.client.SendWithSMTPClient(l.smtp, msg)
}

// drop closes a connection without taking leave: what state it is in is not known.
func (l *link) drop() { _ = l.conn.Close() }

// quit takes leave, without waiting long.
func (l *link) quit() {
	_ = l.smtp.UpdateDeadline(time.Second)
	if l.smtp.Quit() != nil {
		l.drop()
	}
}

// pool keeps connections for the next message.
type pool struct {
	mu     sync.Mutex
	idle   []*link
	closed bool
}

// take returns a connection that waits, or nil.
func (p *pool) take() *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 {
		l := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if l.timer.Stop() {
			return l
		}
	}
	return nil
}

// give keeps a connection for a while.
func (p *pool) give(l *link, wait time.Duration) {
	if !p.keep(l, wait) {
		l.quit()
	}
}

func (p *pool) keep(l *link, wait time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) == maxIdle || l.sent >= maxPerLink {
		return false
	}
	l.timer = time.AfterFunc(wait, func() {
		p.remove(l)
		l.quit()
	})
	p.idle = append(p.idle, l)
	return true
}

func (p *pool) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.idle {
		if p.idle[i] == l {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			return
		}
	}
}

// close ends the connections that wait, and those that come back.
func (p *pool) close() {
	for l := p.take(); l != nil; l = p.take() {
		l.quit()
	}
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
}
