// Package model holds Heartwood's domain types and their invariants: groups, hosts, clusters, agents, people, keys,
// events. It owns no behaviour beyond what keeps a value valid, and imports nothing but the standard library, so that
// every program, pure or not, native or guest, can share it.
//
// The bson tags are the stored form (see shared/store); the Public API has its own shapes in functions/app/api.
package model
