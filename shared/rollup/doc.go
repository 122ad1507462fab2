// Package rollup turns rows of raw values into measurements: counters into rates with the rules for restarts, resets and
// gaps, quotients, and buckets that roll up without losing what a coarser tier needs. Every rule is a pure function of
// rows and times.
//
// It may import shared/model and shared/catalog only.
package rollup
