// Package ask is what the commands share that work through the Public API: finding the server, reading its answers, times and
// arguments as people write them, and tables. It has no command.
package ask

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/local/cli/profile"
	"github.com/heartwood-db/heartwood/local/cli/public"
	"github.com/heartwood-db/heartwood/shared/model"
)

// App is what the commands share.
type App struct {
	Flags  profile.Flags
	Getenv func(string) string
	Now    func() time.Time
}

// Session is a server, called as somebody about a group or about the site.
type Session struct {
	*public.Client
	Group  profile.Group
	Global bool
}

// Open finds the server, and unless it is about the site, the group.
func (a *App) Open(ctx context.Context, global bool) (*Session, error) {
	p, err := a.Flags.Resolve(a.Getenv)
	if err != nil {
		return nil, err
	}
	c, err := p.Client()
	if err != nil {
		return nil, err
	}
	s := &Session{Client: c, Global: global}
	if !global {
		if s.Group, err = p.FindGroup(ctx, c); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// In is a path below the group.
func (s *Session) In(segments ...string) string {
	return join(append([]string{"groups", s.Group.ID}, segments...))
}

// Alerts is a path below the alerts.
func (s *Session) Alerts(segments ...string) string {
	if s.Global {
		return join(append([]string{"globalAlerts"}, segments...))
	}
	return s.In(append([]string{"alerts"}, segments...)...)
}

// Configs is a path below the configurations.
func (s *Session) Configs(segments ...string) string {
	if s.Global {
		return join(append([]string{"globalAlertConfigs"}, segments...))
	}
	return s.In(append([]string{"alertConfigs"}, segments...)...)
}

func join(segments []string) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteString("/" + url.PathEscape(s))
	}
	return b.String()
}

// Object is an answer of the API.
type Object map[string]any

// Text is a field of the answer; an absent one is zero.
func (o Object) Text(key string) string {
	switch v := o[key].(type) {
	case string:
		return v
	case float64:
		return amount(v)
	case bool:
		return strconv.FormatBool(v)
	}
	return ""
}

// Is is a field of the answer; an absent one is zero.
func (o Object) Is(key string) bool { b, _ := o[key].(bool); return b }

// Number is a field of the answer; an absent one is zero.
func (o Object) Number(key string) float64 { f, _ := o[key].(float64); return f }

// Object is a field of the answer; an absent one is zero.
func (o Object) Object(key string) Object { m, _ := o[key].(map[string]any); return m }

// Objects is a field of the answer; an absent one is zero.
func (o Object) Objects(key string) []Object {
	l, _ := o[key].([]any)
	out := make([]Object, 0, len(l))
	for _, v := range l {
		if m, ok := v.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// Texts is a field of the answer; an absent one is zero.
func (o Object) Texts(key string) []string {
	l, _ := o[key].([]any)
	out := make([]string, 0, len(l))
	for _, v := range l {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// When is a time of an answer for people.
func (o Object) When(key string) string {
	t, err := time.Parse(time.RFC3339, o.Text(key))
	if err != nil {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// Reading is a value with its unit.
func (o Object) Reading(key string) string {
	r := o.Object(key)
	if r == nil || r["number"] == nil {
		return ""
	}
	return strings.TrimSpace(r.Text("number") + " " + strings.TrimPrefix(r.Text("units"), "RAW"))
}

func amount(f float64) string {
	if f != math.Trunc(f) && math.Abs(f) >= 0.01 {
		return strings.TrimRight(strings.TrimRight(strconv.FormatFloat(f, 'f', 2, 64), "0"), ".")
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// Target says what an alert is about.
func Target(o Object) string {
	for _, key := range []string{"hostnameAndPort", "replicaSetName", "shardName", "clusterName"} {
		if s := o.Text(key); s != "" {
			return s
		}
	}
	return ""
}

// Clean takes out what would steer a terminal: texts may come from anywhere.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r) || r == utf8.RuneError || unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, s)
}

// Table prints rows below a header. On a terminal lines are cut where it ends.
func Table(w io.Writer, rows ...[]string) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		for i := range row {
			row[i] = Clean(row[i])
		}
		_, _ = fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	width := 0
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		width, _, _ = term.GetSize(int(f.Fd()))
	}
	for line := range strings.Lines(b.String()) {
		line = strings.TrimRight(line, " \n")
		if runes := []rune(line); width > 20 && len(runes) > width {
			line = string(runes[:width-1]) + "…"
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// JSON prints what the API answered.
func JSON(cmd *cobra.Command, v any) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// Say prints a line of the answer; texts in it are cleaned.
func Say(cmd *cobra.Command, format string, args ...any) {
	for i := range args {
		if s, ok := args[i].(string); ok {
			args[i] = Clean(s)
		}
	}
	_, _ = fmt.Fprintf(cmd.OutOrStdout(), format+"\n", args...)
}

// Hint tells the user something that is no part of the answer.
func Hint(cmd *cobra.Command, format string, args ...any) {
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...)
}

// None refuses arguments.
func None(example string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return exit.Usagef(example, "there is no use for %q here", args[0])
		}
		return nil
	}
}

// One wants exactly one argument.
func One(example, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return exit.Usagef(example, "%s is missing", what)
		case len(args) > 1:
			return exit.Usagef(example, "there is no use for %q here", args[1])
		}
		return nil
	}
}

// Some wants at least one argument.
func Some(example, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return exit.Usagef(example, "%s is missing", what)
		}
		return nil
	}
}

// IDs refuses arguments that cannot be ids, before anything is done to the first of them.
func IDs(example string, args []string) error {
	for _, s := range args {
		if !model.ID(s).Valid() {
			return exit.Usagef(example, "%q is no id: ids have 24 hexadecimal digits", s)
		}
	}
	return nil
}

var layouts = []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"}

// Moment reads a time, or a distance from now, which sign turns into the past (-1) or the future (1).
func Moment(s string, now time.Time, sign int) (time.Time, error) {
	if s == "now" {
		return now, nil
	}
	for _, l := range layouts {
		if t, err := time.Parse(l, s); err == nil {
			return t.UTC(), nil
		}
	}
	d, err := Span(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither a time such as 2026-12-24T18:00:00Z nor a span such as 90m, 24h or 7d", s)
	}
	return now.Add(time.Duration(sign) * d), nil
}

// maxSpan bounds spans: ten years.
const maxSpan = 10 * 366 * 24 * time.Hour

// Span reads a duration, which may also be in days and weeks.
func Span(s string) (time.Duration, error) {
	unit := map[byte]time.Duration{'d': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	var d time.Duration
	var err error
	if n := len(s); n > 1 && unit[s[n-1]] > 0 {
		var f float64
		f, err = strconv.ParseFloat(s[:n-1], 64)
		if err == nil && (math.IsNaN(f) || f > float64(maxSpan/unit[s[n-1]])) {
			err = errors.New("too long")
		}
		d = time.Duration(f * float64(unit[s[n-1]]))
	} else {
		d, err = time.ParseDuration(s)
	}
	if err != nil || d <= 0 || d > maxSpan {
		return 0, fmt.Errorf("%q is no span such as 90m, 24h or 7d", s)
	}
	return d, nil
}

// End is the end that --for or --until name.
func End(example, forSpan, until string, now time.Time) (time.Time, error) {
	switch {
	case forSpan != "" && until != "":
		return time.Time{}, exit.Usagef(example, "--for and --until exclude each other")
	case until != "":
		t, err := Moment(until, now, 1)
		if err == nil && !t.After(now) {
			err = fmt.Errorf("--until %s is past", until)
		}
		if err != nil {
			return t, exit.Usagef(example, "%w", err)
		}
		return t, nil
	}
	d, err := Span(forSpan)
	if err != nil {
		return time.Time{}, exit.Usagef(example, "--for: %w", err)
	}
	return now.Add(d), nil
}

// Stamp is a time as the API takes it.
func Stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Count is "1 alert", "2 alerts".
func Count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// Codes ends the help of every command.
const Codes = "\n\nExit codes: 0 done, 1 failed, 2 wrong usage."

// GlobalFlag adds --global.
func GlobalFlag(cmd *cobra.Command, into *bool, what string) {
	cmd.Flags().BoolVar(into, "global", false, what+" of global configurations; needs a global key")
}

// JSONFlag adds --json.
func JSONFlag(cmd *cobra.Command, into *bool) {
	cmd.Flags().BoolVar(into, "json", false, "print what the API answers as JSON")
}

// RuleText is what a configuration looks for, for people.
func RuleText(o Object) string {
	s := o.Text("eventTypeName")
	threshold := func(t Object) string {
		return strings.TrimSpace(t.Text("operator") + " " + t.Text("threshold") + " " + strings.TrimPrefix(t.Text("units"), "RAW"))
	}
	if m := o.Object("metricThreshold"); m != nil {
		s = m.Text("metricName") + " " + threshold(m)
	} else if t := o.Object("threshold"); t != nil {
		s += " " + threshold(t)
	}
	where := []string{}
	for _, m := range o.Objects("matchers") {
		where = append(where, m.Text("fieldName")+" "+m.Text("operator")+" "+m.Text("value"))
	}
	if len(where) > 0 {
		s += " where " + strings.Join(where, " and ")
	}
	return s
}

// DryFlag adds --dry-run.
func DryFlag(cmd *cobra.Command, into *bool) {
	cmd.Flags().BoolVar(into, "dry-run", false, "only say what would be done")
}

// Yes is a bool for people.
func Yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
