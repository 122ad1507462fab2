package archive

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/gzip"
)

// part is how many bytes become one gzip member. A file of several members is one gzip file (RFC 1952, 2.2): any tool
// reads it. So parts can be compressed at the same time, and the bytes do not depend on how many are.
const part = 4 << 20

// gzipWriter compresses parts at the same time and writes them in order.
type gzipWriter struct {
	level int
	buf   []byte
	queue chan chan member // in order; its capacity bounds what is under way
	done  chan struct{}    // closed when the last member is written
	err   error            // of the writer behind; read after done
	ctx   context.Context  // of the one Write this belongs to
	quit  context.CancelCauseFunc
}

type member struct {
	b   []byte
	err error
}

func newGzip(ctx context.Context, w io.Writer, o Options) *gzipWriter {
	workers := o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	g := &gzipWriter{level: o.Level, queue: make(chan chan member, workers), done: make(chan struct{})}
	if g.level <= 0 || g.level > gzip.BestCompression {
		g.level = gzip.BestSpeed
	}
	g.ctx, g.quit = context.WithCancelCause(ctx)
	go g.drain(w)
	return g
}

// drain writes members in order. After an error it goes on taking them, so that nobody waits for ever.
func (g *gzipWriter) drain(w io.Writer) {
	defer close(g.done)
	for c := range g.queue {
		m := <-c
		if g.err == nil && m.err == nil {
			_, m.err = w.Write(m.b)
		}
		if g.err == nil && m.err != nil {
			g.err = m.err
			g.quit(m.err)
		}
	}
}

func (g *gzipWriter) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		if g.buf == nil {
			g.buf = make([]byte, 0, part)
		}
		n := min(len(p), part-len(g.buf))
		g.buf = append(g.buf, p[:n]...)
		p = p[n:]
		if len(g.buf) == part {
			if err := g.send(); err != nil {
				return 0, err
			}
		}
	}
	return total, nil
}

func (g *gzipWriter) send() error {
	b := g.buf
	g.buf = nil
	c := make(chan member, 1)
	select {
	case g.queue <- c:
	case <-g.ctx.Done():
		return context.Cause(g.ctx)
	}
	go func() {
		var out bytes.Buffer
		out.Grow(len(b)/2 + 1024)
		w, err := gzip.NewWriterLevel(&out, g.level)
		if err == nil {
			_, err = w.Write(b)
		}
		if err == nil {
			err = w.Close()
		}
		c <- member{out.Bytes(), err}
	}()
	return nil
}

// Close writes what is left. An empty stream is one empty member.
func (g *gzipWriter) Close() error {
	if err := g.send(); err != nil {
		return err
	}
	g.stop()
	if g.err != nil {
		return fmt.Errorf("gzip: %w", g.err)
	}
	return nil
}

// stop ends the goroutines. It may be called again.
func (g *gzipWriter) stop() {
	if g.queue != nil {
		close(g.queue)
		<-g.done
		g.queue = nil
	}
	g.quit(nil)
}
