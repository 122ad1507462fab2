package mongosim

import "github.com/heartwood-db/heartwood/local/mongosim/status"

// logRing keeps the last lines of a member's log, as many as getLog gives.
type logRing struct {
	lines   []status.LogLine
	written int64
}

const logLines = 1024

func (r *logRing) add(l status.LogLine) {
	if len(r.lines) == logLines {
		r.lines = append(r.lines[:0:0], r.lines[logLines/4:]...)
	}
	r.lines = append(r.lines, l)
	r.written++
}
