package activity

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Whoever adds an event type says here how people read it.
func TestEveryEventTypeHasItsWord(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../../shared/model/event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	known := map[model.EventType]bool{}
	for _, k := range kinds() {
		if known[k.Type] || k.Word == "" {
			t.Errorf("%s is twice in the table, or has no word", k.Type)
		}
		known[k.Type] = true
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for _, v := range spec.Values {
			lit, ok := v.(*ast.BasicLit)
			if !ok {
				continue
			}
			name, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			if found++; !known[model.EventType(name)] {
				t.Errorf("%s (%s) is not in the table of types.go", name, spec.Names[0])
			}
		}
		return true
	})
	if found < 30 || found != len(kinds()) {
		t.Errorf("%d types in the model, %d in the table", found, len(kinds()))
	}
	for _, k := range kinds() {
		if got := typesOf([]string{k.Group}); len(got) == 0 || got[0] == model.EventType(k.Group) {
			t.Errorf("group %s of %s is not offered", k.Group, k.Type)
		}
	}
}

func TestTypesOfOtherVersionsAreReadFromTheirNames(t *testing.T) {
	for name, want := range map[model.EventType]string{"ALERT_ACKNOWLEDGED_AUDIT": "Alert acknowledged", "X": "X", "": "Something", "_AUDIT": "Something"} {
		if got := word(name); got != want {
			t.Errorf("%s reads %q, want %q", name, got, want)
		}
	}
	if got := typesOf([]string{"", "NONE_SUCH"}); len(got) != 1 || got[0] != "NONE_SUCH" {
		t.Errorf("%v", got)
	}
}

func FuzzHarmless(f *testing.F) {
	for _, s := range []string{"", "=1+1", "@x", "-2", "+3", "\t=1", "ann", "\"", "=cmd|' /C calc'!A0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := harmless(s)
		if !strings.HasSuffix(got, s) || got != "" && strings.ContainsRune("=+-@\t\r\n", rune(got[0])) {
			t.Fatalf("%q became %q", s, got)
		}
	})
}
