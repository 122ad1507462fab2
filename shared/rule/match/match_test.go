package match

import (
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/kind"
)

func TestOperators(t *testing.T) {
	subject := &Subject{
		Host: &model.Host{Hostname: "db1.example.com", Port: 27018, Type: model.TypeShardSecondary}, Address: "db1.example.com:27018",
		ReplicaSet: "rs0", ShardName: "shard0", ClusterName: "Shop",
	}
	for _, c := range []struct {
		field, operator, value string
		want                   bool
	}{
		{"HOSTNAME", "EQUALS", "DB1.EXAMPLE.COM", true},
		{"HOSTNAME", "EQUALS", "db1", false},
		{"HOSTNAME", "NOT_EQUALS", "db1", true},
		{"HOSTNAME", "CONTAINS", "Example", true},
		{"HOSTNAME", "NOT_CONTAINS", "example", false},
		{"HOSTNAME", "STARTS_WITH", "db1.", true},
		{"HOSTNAME_AND_PORT", "ENDS_WITH", ":27018", true},
		{"HOSTNAME", "REGEX", `^DB\d\.`, true},
		{"PORT", "EQUALS", "27018", true},
		{"PORT", "REGEX", "^2701[0-7]$", false},
		{"TYPE_NAME", "EQUALS", "SECONDARY", true},
		{"REPLICA_SET_NAME", "EQUALS", "RS0", false},
		{"SHARD_NAME", "EQUALS", "shard0", true},
		{"CLUSTER_NAME", "STARTS_WITH", "Sh", true},
	} {
		set, err := Compile([]model.Matcher{{Field: c.field, Operator: c.operator, Value: c.value}})
		if err != nil || set.Holds(subject) != c.want {
			t.Errorf("%s %s %s: %v %v", c.field, c.operator, c.value, !c.want, err)
		}
	}
	if !Set(nil).Holds(subject) {
		t.Error("no matchers match nothing")
	}
}

func TestBadMatchersAreRefused(t *testing.T) {
	for name, m := range map[string]model.Matcher{
		"an unknown field":        {Field: "COLOUR", Operator: Equals, Value: "red"},
		"an unknown operator":     {Field: kind.Hostname, Operator: "LIKE", Value: "x"},
		"an empty value":          {Field: kind.Hostname, Operator: Equals},
		"a long value":            {Field: kind.Hostname, Operator: Contains, Value: strings.Repeat("x", MaxValue+1)},
		"a broken expression":     {Field: kind.Hostname, Operator: Regex, Value: "("},
		"a backreference":         {Field: kind.Hostname, Operator: Regex, Value: `(a)\1`},
		"an exploding repetition": {Field: kind.Hostname, Operator: Regex, Value: "((a{1000}){1000}){1000}"},
	} {
		if Check(m) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestEveryTypeHasAName(t *testing.T) {
	for _, p := range []model.ProcessType{
		model.TypeStandalone, model.TypeReplicaPrimary, model.TypeReplicaSecondary, model.TypeReplicaArbiter, model.TypeRecovering, model.TypeShardMongos,
		model.TypeShardConfig, model.TypeShardStandalone, model.TypeShardPrimary, model.TypeShardSecondary,
	} {
		if TypeNameOf(p) == "" {
			t.Errorf("%s has none", p)
		}
	}
	if TypeNameOf(model.TypeNoData) != "" {
		t.Error("nothing is known of it, yet it has one")
	}
}

// FuzzCompile: whatever a matcher is, preparing it ends, and so does applying it to a long name.
func FuzzCompile(f *testing.F) {
	f.Add("HOSTNAME", "REGEX", `^(a+)+$`, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab")
	f.Add("PORT", "EQUALS", "27017", "x")
	f.Fuzz(func(t *testing.T, field, operator, value, name string) {
		set, err := Compile([]model.Matcher{{Field: field, Operator: operator, Value: value}})
		if err != nil {
			return
		}
		if len(name) > 300 {
			name = name[:300]
		}
		began := time.Now()
		set.Holds(&Subject{Host: &model.Host{Hostname: name, Port: 1}, Address: name, ReplicaSet: name, ShardName: name, ClusterName: name})
		if took := time.Since(began); took > time.Second {
			t.Errorf("took %s", took)
		}
	})
}
