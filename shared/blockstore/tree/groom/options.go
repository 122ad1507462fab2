// Package groom counts what of a job's objects is alive, and frees the rest in two phases.
package groom

import "time"

// Usage is how much of a job's space is in use.
type Usage struct {
	Snapshots      int64 `json:"snapshots"`
	Objects        int64 `json:"objects"`
	Stored         int64 `json:"stored"`     // bytes of all objects of the job
	Live           int64 `json:"live"`       // bytes that snapshots need
	Dead           int64 `json:"dead"`       // the rest: what Groom could free
	LiveBlocks     int64 `json:"liveBlocks"` // distinct blocks
	Condemned      int64 `json:"condemned"`  // objects that wait for their grace to pass
	CondemnedBytes int64 `json:"condemnedBytes"`
}

// Options of Groom.
type Options struct {
	// MinLive is the share of a pack's bytes below which its living frames are rewritten; 0 means 0.5.
	MinLive float64
	// Grace is how long an object must have been unreferenced before it is deleted. It must be longer than any read of a snapshot
	// takes, and than the clocks of servers differ; 0 means a day. Negative means none (tests).
	Grace  time.Duration
	DryRun bool      // says what would be done
	Now    time.Time // required
	Token  int64     // of the job's lease: writers with a smaller one are known to be dead
	// Terminate allows an empty keep: everything of the job goes, after the grace.
	Terminate bool
}

// Report is what Groom did, or would do.
type Report struct {
	Usage         Usage    `json:"usage"` // before
	Condemned     []string `json:"condemned"`
	Deleted       []string `json:"deleted"`
	Freed         int64    `json:"freed"` // bytes of the deleted
	Rewritten     []string `json:"rewritten"`
	RewrittenFrom int64    `json:"rewrittenFrom"` // bytes
	RewrittenTo   int64    `json:"rewrittenTo"`
}
