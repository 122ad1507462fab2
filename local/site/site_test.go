package site

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// TestAFullDisk: what the operator is told when the database has no room at the start.
func TestAFullDisk(t *testing.T) {
	dir := t.TempDir()
	err := outOfSpace(fmt.Errorf("declare: %w", docstore.ErrFull), &config.Server{DataDir: dir})
	if !errors.Is(err, docstore.ErrFull) || !strings.Contains(opererr.HintOf(err), "df -h "+dir) {
		t.Errorf("%v, hint %q", err, opererr.HintOf(err))
	}
	other := errors.New("something else")
	if got := outOfSpace(other, &config.Server{}); !errors.Is(got, other) || opererr.HintOf(got) != "" {
		t.Error(got)
	}
}

// TestADatabaseThatIsAwayIsOpenedLater: what was prepared while no member answered opens once they do, with the key from the
// settings and no file.
func TestADatabaseThatIsAwayIsOpenedLater(t *testing.T) {
	set, err := mongosim.Start(t.Context(), mongosim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = set.Stop(context.WithoutCancel(t.Context())) })
	for i := range set.Len() {
		if err := set.Kill(i); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	p, err := Prepare(Options{Log: obs.Discard(), Pool: 3, Sources: config.Sources{Flags: map[string]string{
		"mongo.mongoUri": set.URI(), "heartwood.data": dir, "heartwood.gen.key": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3",
	}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	short, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	if _, err := p.Open(short); err == nil || !strings.Contains(err.Error(), "reach mongo.mongoUri") {
		t.Fatalf("without a server: %v", err)
	}
	for i := range set.Len() {
		if err := set.Restart(i); err != nil {
			t.Fatal(err)
		}
	}
	s, err := p.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.Access.CountUsers(t.Context()); n != 0 || err != nil {
		t.Errorf("%d users, %v", n, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files in the data folder: %v, %v", left, err)
	}
}
