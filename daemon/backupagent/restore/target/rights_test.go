package target

import "testing"

func TestMissing(t *testing.T) {
	everywhere := func(actions ...string) privilege { return privilege{everywhere: true, actions: actions} }
	all := everywhere("find", "insert", "update", "remove", "createCollection", "createIndex", "dropCollection", "renameCollectionSameDB", "bypassDocumentValidation", "listCollections")
	cluster := privilege{cluster: true, actions: []string{"listDatabases", "getParameter"}}
	for name, c := range map[string]struct {
		have  []privilege
		users bool
		want  int
	}{
		"everything":             {[]privilege{{any: true, actions: []string{"anyAction"}}}, true, 0},
		"the roles":              {[]privilege{all, cluster}, false, 0},
		"users too":              {[]privilege{all, cluster}, true, 3},
		"one database":           {[]privilege{{actions: all.actions}, cluster}, false, len(needs) - 2},
		"without the cluster's":  {[]privilege{all}, false, 2},
		"cluster actions in one": {[]privilege{all, everywhere("listDatabases", "getParameter")}, false, 2},
	} {
		if got := missing(c.have, c.users); len(got) != c.want {
			t.Errorf("%s: lacks %q", name, got)
		}
	}
}
