package place_test

import (
	"path/filepath"
	"testing"

	"github.com/heartwood-db/heartwood/local/cli/place"
	"github.com/heartwood-db/heartwood/shared/config"
)

func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	for location, want := range map[string]string{
		dir:                                    filepath.Join(dir, config.DatabaseFile),
		filepath.Join(dir, "new"):              filepath.Join(dir, "new", config.DatabaseFile),
		filepath.Join(dir, "site.backup"):      filepath.Join(dir, "site.backup"),
		"mongodb://u:secret@a,b/?replicaSet=x": "mongodb://a,b/heartwood",
		"mongodb://a/mms":                      "mongodb://a/mms",
		"mongodb+srv://u:secret@a.example.com": "mongodb+srv://a.example.com/heartwood",
	} {
		p, err := place.Parse(location)
		if err != nil || p.String() != want {
			t.Errorf("%s is %s (%v), want %s", location, p, err, want)
		}
	}
}
