package evaluate

import (
	"iter"
	"math/bits"

	"github.com/heartwood-db/heartwood/shared/model"
)

// wants says which measurements of which hosts are needed.
type wants struct {
	hosts   map[model.HostID]int // place in sets
	names   []model.HostID
	metrics []string
	places  map[string]int
	sets    [][]uint64 // by host: a bit for each measurement
}

func newWants(hosts []model.Host) *wants {
	w := &wants{
		hosts: make(map[model.HostID]int, len(hosts)), names: make([]model.HostID, len(hosts)), places: map[string]int{},
		sets: make([][]uint64, len(hosts)),
	}
	for i := range hosts {
		w.hosts[hosts[i].ID], w.names[i] = i, hosts[i].ID
	}
	return w
}

func (w *wants) add(host model.HostID, metric string) {
	at, ok := w.hosts[host]
	if !ok {
		return
	}
	m, ok := w.places[metric]
	if !ok {
		m = len(w.metrics)
		w.places[metric] = m
		w.metrics = append(w.metrics, metric)
	}
	for len(w.sets[at]) <= m/64 {
		w.sets[at] = append(w.sets[at], 0)
	}
	w.sets[at][m/64] |= 1 << (m % 64)
}

func (w *wants) of(set []uint64) []string {
	var names []string
	for i, word := range set {
		for ; word != 0; word &= word - 1 {
			names = append(names, w.metrics[i*64+bits.TrailingZeros64(word)])
		}
	}
	return names
}

// all yields each host of which something is needed, and what.
func (w *wants) all() iter.Seq2[model.HostID, []string] {
	return func(yield func(model.HostID, []string) bool) {
		known := map[string][]string{}
		for i, set := range w.sets {
			if len(set) == 0 {
				continue
			}
			key := keyOf(set)
			names, ok := known[key]
			if !ok {
				names = w.of(set)
				known[key] = names
			}
			if !yield(w.names[i], names) {
				return
			}
		}
	}
}

// each calls f for the hosts of which the same is needed, together. It ends at the first error.
func (w *wants) each(f func(hosts []model.HostID, metrics []string) error) error {
	type group struct {
		set   []uint64
		hosts []model.HostID
	}
	var order []*group
	groups := map[string]*group{}
	for i, set := range w.sets {
		if len(set) == 0 {
			continue
		}
		key := keyOf(set)
		g := groups[key]
		if g == nil {
			g = &group{set: set}
			groups[key] = g
			order = append(order, g)
		}
		g.hosts = append(g.hosts, w.names[i])
	}
	for _, g := range order {
		if err := f(g.hosts, w.of(g.set)); err != nil {
			return err
		}
	}
	return nil
}

func keyOf(set []uint64) string {
	n := len(set)
	for n > 0 && set[n-1] == 0 {
		n--
	}
	key := make([]byte, 0, 8*n)
	for _, word := range set[:n] {
		for range 8 {
			key = append(key, byte(word))
			word >>= 8
		}
	}
	return string(key)
}
