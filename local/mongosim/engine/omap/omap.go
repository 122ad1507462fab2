// Package omap is an ordered map that is cheap to copy: what a store keeps its documents and index entries in. It knows
// nothing of either, and takes no locks.
package omap

import (
	"cmp"
	"iter"
	"slices"
	"sort"
)

// maxChunk is the most entries of one chunk; a full one is split in two.
const maxChunk = 256

// Map is an ordered map. Clone is cheap: chunks are shared until one side writes to them. It is not safe for concurrent
// writes; any number may read.
type Map[K cmp.Ordered, V any] struct {
	chunks []*chunk[K, V]
	owner  *byte
	n      int
}

type chunk[K cmp.Ordered, V any] struct {
	owner *byte
	keys  []K
	vals  []V
}

// New makes an empty map.
func New[K cmp.Ordered, V any]() *Map[K, V] { return &Map[K, V]{owner: new(byte)} }

// Len is the number of entries.
func (m *Map[K, V]) Len() int { return m.n }

// Clone gives an independent copy.
func (m *Map[K, V]) Clone() *Map[K, V] {
	m.owner = new(byte) // neither side owns the chunks any more
	return &Map[K, V]{chunks: slices.Clone(m.chunks), owner: new(byte), n: m.n}
}

// at finds the chunk that holds k or would.
func (m *Map[K, V]) at(k K) int {
	i := sort.Search(len(m.chunks), func(i int) bool {
		c := m.chunks[i]
		return c.keys[len(c.keys)-1] >= k
	})
	if i == len(m.chunks) && i > 0 {
		i--
	}
	return i
}

// own makes chunk i writable.
func (m *Map[K, V]) own(i int) *chunk[K, V] {
	c := m.chunks[i]
	if c.owner != m.owner {
		c = &chunk[K, V]{
			owner: m.owner,
			keys:  append(make([]K, 0, maxChunk), c.keys...),
			vals:  append(make([]V, 0, maxChunk), c.vals...),
		}
		m.chunks[i] = c
	}
	return c
}

// Get finds an entry.
func (m *Map[K, V]) Get(k K) (V, bool) {
	var zero V
	if len(m.chunks) == 0 {
		return zero, false
	}
	c := m.chunks[m.at(k)]
	j, ok := slices.BinarySearch(c.keys, k)
	if !ok {
		return zero, false
	}
	return c.vals[j], true
}

// Set inserts or replaces an entry.
func (m *Map[K, V]) Set(k K, v V) {
	if len(m.chunks) == 0 {
		m.chunks = []*chunk[K, V]{{owner: m.owner, keys: append(make([]K, 0, maxChunk), k), vals: append(make([]V, 0, maxChunk), v)}}
		m.n = 1
		return
	}
	i := m.at(k)
	c := m.own(i)
	j, ok := slices.BinarySearch(c.keys, k)
	if ok {
		c.vals[j] = v
		return
	}
	m.n++
	if len(c.keys) == maxChunk {
		// Appending in order is the common case: leave full chunks behind instead of half-empty ones.
		cut := maxChunk / 2
		if j == maxChunk {
			cut = maxChunk
		}
		next := &chunk[K, V]{
			owner: m.owner,
			keys:  append(make([]K, 0, maxChunk), c.keys[cut:]...),
			vals:  append(make([]V, 0, maxChunk), c.vals[cut:]...),
		}
		clear(c.keys[cut:])
		clear(c.vals[cut:])
		c.keys, c.vals = c.keys[:cut], c.vals[:cut]
		m.chunks = slices.Insert(m.chunks, i+1, next)
		if j >= cut {
			c, j = next, j-cut
		}
	}
	c.keys = slices.Insert(c.keys, j, k)
	c.vals = slices.Insert(c.vals, j, v)
}

// Delete removes an entry.
func (m *Map[K, V]) Delete(k K) bool {
	if len(m.chunks) == 0 {
		return false
	}
	i := m.at(k)
	if _, ok := slices.BinarySearch(m.chunks[i].keys, k); !ok {
		return false
	}
	c := m.own(i)
	j, _ := slices.BinarySearch(c.keys, k)
	c.keys = slices.Delete(c.keys, j, j+1)
	c.vals = slices.Delete(c.vals, j, j+1)
	m.n--
	if len(c.keys) == 0 {
		m.chunks = slices.Delete(m.chunks, i, i+1)
	}
	return true
}

// Ascend walks the entries with keys >= from in order.
func (m *Map[K, V]) Ascend(from K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if len(m.chunks) == 0 {
			return
		}
		i := m.at(from)
		j, _ := slices.BinarySearch(m.chunks[i].keys, from)
		for ; i < len(m.chunks); i++ {
			c := m.chunks[i]
			for ; j < len(c.keys); j++ {
				if !yield(c.keys[j], c.vals[j]) {
					return
				}
			}
			j = 0
		}
	}
}

// Descend walks the entries with keys < below, backwards.
func (m *Map[K, V]) Descend(below K) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if len(m.chunks) == 0 {
			return
		}
		i := m.at(below)
		j, _ := slices.BinarySearch(m.chunks[i].keys, below)
		for j--; ; j-- {
			for j < 0 {
				if i--; i < 0 {
					return
				}
				j = len(m.chunks[i].keys) - 1
			}
			if !yield(m.chunks[i].keys[j], m.chunks[i].vals[j]) {
				return
			}
		}
	}
}

// First is the least entry.
func (m *Map[K, V]) First() (k K, v V, ok bool) {
	if len(m.chunks) == 0 {
		return k, v, false
	}
	c := m.chunks[0]
	return c.keys[0], c.vals[0], true
}

// Last is the greatest entry.
func (m *Map[K, V]) Last() (k K, v V, ok bool) {
	if len(m.chunks) == 0 {
		return k, v, false
	}
	c := m.chunks[len(m.chunks)-1]
	return c.keys[len(c.keys)-1], c.vals[len(c.keys)-1], true
}
