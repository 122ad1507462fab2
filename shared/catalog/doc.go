// Package catalog knows what can be measured: the raw columns that are picked out of command replies (with every place a
// value has been found at by server version), the measurements computed from them (names, units and rules of the Public
// API), and the charts that show them. All of it is data; tests hold the rows to each other.
//
// It owns the numbers of columns, which are part of the stored form of series (shared/store/series/FORMAT.md): a number is
// never given to another column. It is pure and may import shared/model, its own packages column and raw, and BSON only.
package catalog
