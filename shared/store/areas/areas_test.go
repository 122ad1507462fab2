package areas_test

import (
	"testing"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

func TestEveryAreaCanBeOpened(t *testing.T) {
	s, err := areas.Open(t.Context(), store.Options{Engine: storetest.Engine(t), Box: storetest.Box(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range areas.Collections() {
		if _, err := s.Engine().Scan(t.Context(), docstore.Query{Collection: c.Name}); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}

// TestEveryCollectionIsChecked: what `heartwood store check` passes over is noticed here, not by an operator.
func TestEveryCollectionIsChecked(t *testing.T) {
	checks := areas.Checks()
	for _, c := range append(store.Collections(), areas.Collections()...) {
		if checks[c.Name] == nil {
			t.Errorf("no check looks at %s", c.Name)
		}
	}
}

func TestNoTwoAreasShareACollection(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range append(store.Collections(), areas.Collections()...) {
		if seen[c.Name] {
			t.Errorf("%s is declared twice", c.Name)
		}
		seen[c.Name] = true
	}
	for name := range areas.Checks() {
		if !seen[name] {
			t.Errorf("a check is for %s, which nobody declares", name)
		}
	}
}

func TestMigrationsFollowEachOther(t *testing.T) {
	for i, m := range areas.Migrations() {
		if m.Version != store.BaseSchema+1+i || m.Name == "" || m.Run == nil {
			t.Errorf("migration %d: %+v", i, m)
		}
	}
}
