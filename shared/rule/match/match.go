// Package match decides which hosts and clusters the matchers of configurations and silences mean.
//
// It may import shared/model and shared/rule/kind only.
package match

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/rule/kind"
)

// Limits: a matcher is evaluated for every host in every pass. Regular expressions are RE2: their time is linear.
const (
	MaxMatchers = 50
	MaxValue    = 500
)

// The operators.
const (
	Equals      = "EQUALS"
	NotEquals   = "NOT_EQUALS"
	Contains    = "CONTAINS"
	NotContains = "NOT_CONTAINS"
	StartsWith  = "STARTS_WITH"
	EndsWith    = "ENDS_WITH"
	Regex       = "REGEX"
)

// Operators lists the operators in the Public API's order.
func Operators() []string {
	return []string{Equals, NotEquals, Contains, NotContains, StartsWith, EndsWith, Regex}
}

// TypeNames lists what a matcher of TYPE_NAME may name.
func TypeNames() []string {
	return []string{"STANDALONE", "PRIMARY", "SECONDARY", "ARBITER", "MONGOS", "CONFIG"}
}

// TypeNameOf is the TYPE_NAME of a process: "" when nothing is known of it yet. A member that recovers is a secondary.
func TypeNameOf(t model.ProcessType) string {
	switch t {
	case model.TypeStandalone, model.TypeShardStandalone:
		return "STANDALONE"
	case model.TypeReplicaPrimary, model.TypeShardPrimary:
		return "PRIMARY"
	case model.TypeReplicaSecondary, model.TypeShardSecondary, model.TypeRecovering:
		return "SECONDARY"
	case model.TypeReplicaArbiter:
		return "ARBITER"
	case model.TypeShardMongos:
		return "MONGOS"
	case model.TypeShardConfig:
		return "CONFIG"
	}
	return ""
}

// Subject is what is matched: a host with its clusters, or a cluster.
type Subject struct {
	Host        *model.Host // nil: no host
	Address     string      // of the host
	ReplicaSet  string
	ShardName   string
	ClusterName string
}

func (s *Subject) field(name string) string {
	switch name {
	case kind.ReplicaSetName:
		return s.ReplicaSet
	case kind.ShardName:
		return s.ShardName
	case kind.ClusterName:
		return s.ClusterName
	}
	if s.Host == nil {
		return ""
	}
	switch name {
	case kind.TypeName:
		return TypeNameOf(s.Host.Type)
	case kind.Hostname:
		return s.Host.Hostname
	case kind.Port:
		return strconv.Itoa(s.Host.Port)
	case kind.HostnameAndPort:
		return s.Address
	}
	return ""
}

// Has reports whether the subject has a field at all: clusters have none of hosts' own.
func (s *Subject) Has(field string) bool {
	switch field {
	case kind.ReplicaSetName, kind.ShardName, kind.ClusterName:
		return s.field(field) != ""
	}
	return s.Host != nil
}

// Set is the compiled matchers of a configuration: all must hold. A nil or empty set holds for everything.
type Set []one

type one struct {
	field string
	holds func(have string) bool
}

// Compile prepares matchers.
func Compile(matchers []model.Matcher) (Set, error) {
	set := make(Set, 0, len(matchers))
	for i, m := range matchers {
		holds, err := compile(m)
		if err != nil {
			return nil, fmt.Errorf("matcher %d: %w", i+1, err)
		}
		set = append(set, one{m.Field, holds})
	}
	return set, nil
}

// Check says what is wrong with one matcher.
func Check(m model.Matcher) error {
	_, err := compile(m)
	return err
}

// compile prepares one matcher. Names of hosts are told apart without regard to case, as they are in DNS.
func compile(m model.Matcher) (func(string) bool, error) {
	if !slices.Contains(kind.Fields(), m.Field) {
		return nil, fmt.Errorf("there is no field %s", strconv.Quote(m.Field))
	}
	if m.Value == "" {
		return nil, fmt.Errorf("the value is empty")
	}
	if len(m.Value) > MaxValue {
		return nil, fmt.Errorf("the value is longer than %d bytes", MaxValue)
	}
	fold := m.Field == kind.Hostname || m.Field == kind.HostnameAndPort
	want := m.Value
	if m.Operator == Regex {
		if fold {
			want = "(?i)" + want
		}
		re, err := regexp.Compile(want)
		if err != nil {
			return nil, fmt.Errorf("the regular expression cannot be used: %w", err)
		}
		return re.MatchString, nil
	}
	lower := func(s string) string { return s }
	if fold {
		lower, want = strings.ToLower, strings.ToLower(want)
	}
	switch m.Operator {
	case Equals:
		return func(s string) bool { return lower(s) == want }, nil
	case NotEquals:
		return func(s string) bool { return lower(s) != want }, nil
	case Contains:
		return func(s string) bool { return strings.Contains(lower(s), want) }, nil
	case NotContains:
		return func(s string) bool { return !strings.Contains(lower(s), want) }, nil
	case StartsWith:
		return func(s string) bool { return strings.HasPrefix(lower(s), want) }, nil
	case EndsWith:
		return func(s string) bool { return strings.HasSuffix(lower(s), want) }, nil
	}
	return nil, fmt.Errorf("there is no operator %s", strconv.Quote(m.Operator))
}

// Holds reports whether all matchers hold.
func (s Set) Holds(subject *Subject) bool {
	for i := range s {
		if !s[i].holds(subject.field(s[i].field)) {
			return false
		}
	}
	return true
}
