package sqlitedoc

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc/sqlconn"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// Sizes of the write-ahead log, in bytes. Past walSoft it is folded back while writing goes on; past walHard writing and
// reading pause for the moment that takes.
const (
	walSoft = 16 << 20
	walHard = 64 << 20
)

// drainFor is how long readers are waited for when the log is over its bound.
const drainFor = 2 * time.Second

// afterCommit runs in the writer after each group.
func (e *Engine) afterCommit() {
	e.logBytes += e.writer.Written()
	if e.logBytes >= e.foldAt {
		e.foldAlone()
		return
	}
	if e.logBytes >= walSoft {
		select {
		case e.checkpoints <- struct{}{}:
		default:
		}
	}
}

// checkpointLoop copies the log's pages to the file on its own connection, which is most of the work and its sync, and
// then has the writer, between two groups, copy the rest and start the log from the beginning. Without that second step
// a log that is written all the time would never be at rest, and grow for ever.
func (e *Engine) checkpointLoop() {
	defer e.background.Done()
	var c *sqlconn.Conn
	defer func() {
		if c != nil {
			_ = c.Close()
		}
	}()
	said := "" // a disk that is full fails every round with the same words: they are said once
	tell := func(err error) {
		if text := err.Error(); text != said {
			said = text
			e.log.Warn("the write-ahead log cannot be folded back for now", obs.KeyFile, e.path, obs.KeyErr, err)
		}
	}
	for {
		select {
		case <-e.checkpoints:
		case <-e.stop:
			return
		}
		if c == nil {
			var err error
			if c, err = sqlconn.Open(e.path, false, "synchronous=FULL", "wal_autocheckpoint=0"); err != nil {
				tell(err)
				c = nil
				continue
			}
		}
		e.folding.Lock()
		_, err := e.checkpoint(c, "PASSIVE")
		e.folding.Unlock()
		if err != nil {
			tell(err)
			continue
		}
		r := newRequest(context.Background())
		r.outside = true
		r.run = func(w *sqlconn.Conn) error {
			// Readers that are busy now keep it from ending; then the next round tries again.
			done, err := e.checkpoint(w, "RESTART")
			if done {
				e.logBytes, e.foldAt = 0, walHard
			}
			return err
		}
		select {
		case e.queue <- r:
		case <-e.stop:
			return
		}
		select {
		case <-r.done:
			if r.err != nil {
				tell(r.err)
				continue
			}
			said = ""
		case <-e.stop:
			return
		}
	}
}

// foldAlone folds the log back with all readers held off, in the writer.
func (e *Engine) foldAlone() {
	held := make([]*sqlconn.Conn, 0, e.nRead)
	defer func() {
		for _, c := range held {
			e.readers <- c
		}
	}()
	limit := time.NewTimer(drainFor)
	defer limit.Stop()
wait:
	for len(held) < e.nRead {
		select {
		case c := <-e.readers:
			held = append(held, c)
		case <-limit.C:
			break wait
		case <-e.stop:
			return
		}
	}
	e.folding.Lock()
	done, err := e.checkpoint(e.writer, "TRUNCATE")
	e.folding.Unlock()
	if err != nil || !done {
		// Another process reads the file, or the disk is full. Tried again when the log has grown by as much as it may at rest.
		e.foldAt = e.logBytes + walSoft
		e.log.Warn("the write-ahead log is over its bound and cannot be folded back yet",
			obs.KeyFile, e.path, obs.KeyBytes, e.logBytes, obs.KeyErr, err)
		return
	}
	e.logBytes, e.foldAt = 0, walHard
}

// checkpoint runs one and says whether all of the log was folded back. Readers in the way are no error.
func (e *Engine) checkpoint(c *sqlconn.Conn, mode string) (done bool, err error) {
	// With a busy timeout RESTART and TRUNCATE would wait for readers while no write can go on.
	if _, err := c.Exec("PRAGMA busy_timeout=0"); err != nil {
		return false, err
	}
	defer func() {
		_, rerr := c.Exec(busyTimeout)
		err = errors.Join(err, rerr)
	}()
	err = c.Each(context.Background(), "PRAGMA wal_checkpoint("+mode+")", nil, func(v []driver.Value) error {
		busy, _ := v[0].(int64)
		done = busy == 0
		return nil
	})
	if err != nil {
		err = fmt.Errorf("wal_checkpoint(%s): %w", mode, err)
	}
	return done, err
}
