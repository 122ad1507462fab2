package code

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/ask"
	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/rule/file"
)

// channels is the table of channels as files need it.
type channels struct{}

// Fields are a channel's own fields.
func (channels) Fields(channel string) (string, map[string]bool, bool) {
	c, ok := notify.ChannelOf(channel)
	if !ok {
		return channel, nil, false
	}
	fields := map[string]bool{}
	for _, f := range c.Fields {
		fields[f.Name] = f.Secret
	}
	return c.Name, fields, true
}

// Mask shows of a secret what may be seen of it.
func (channels) Mask(s model.Secret) string { return notify.Mask(s) }

// readFile reads settings from a file; - is standard input.
func readFile(cmd *cobra.Command, name string, global bool) (*file.File, error) {
	in := cmd.InOrStdin()
	if name != "-" {
		f, err := os.Open(name) //nolint:gosec // the user names it
		if err != nil {
			return nil, opererr.New("read the settings", err, "give the path of an existing file, or - for standard input")
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, file.MaxBytes+1))
	if err != nil {
		return nil, opererr.New("read the settings", err, "give the path of a readable file")
	}
	f, faults := file.Decode(b, file.Options{Channels: channels{}, Global: global})
	if len(faults) > 0 {
		return nil, invalid(name, faults)
	}
	return f, nil
}

// invalid is the error that lists everything wrong with a file.
func invalid(name string, faults file.Faults) error {
	slices.SortStableFunc(faults, func(a, b file.Fault) int { return a.Line - b.Line })
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = ask.Clean(f.String())
	}
	return fmt.Errorf("%s is not valid, nothing was changed:\n  %s", name, strings.Join(lines, "\n  "))
}

func (a app) try() *cobra.Command {
	var days int
	var asJSON bool
	const example = "heartwood alerts try alerts.yaml --days 7"
	cmd := &cobra.Command{
		Use:   "try FILE|CONFIG",
		Short: "Try settings on history: when they would have opened and closed, and whom they would have told",
		Long: `Try settings on the last days' history: when alerts would have opened and closed, and whom they would have told. FILE is in
the format of heartwood alerts export, or JSON as the Public API has it (- is standard input); CONFIG is the id of an alert
configuration. Nothing is changed and nothing is sent. With --json the answer is the API's; of a file with several
configurations it is a list.` + ask.Codes,
		Example: "  " + example + "\n  heartwood alerts try 65f0c0ffee0000000000a1e7 --days 30 --json",
		Args:    ask.One(example, "a file or the configuration's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if days < 1 || days > 30 {
				return exit.Usagef(example, "--days %d: it is from 1 to 30", days)
			}
			var f *file.File
			stored := model.ID(args[0]).Valid()
			if !stored {
				var err error
				if f, err = readFile(cmd, args[0], false); err != nil {
					return err
				}
			}
			s, err := a.open(cmd.Context(), false)
			if err != nil {
				return err
			}
			var bodies []any
			if stored {
				var o ask.Object
				if err := s.Get(cmd.Context(), s.Configs(args[0]), nil, &o); err != nil {
					return err
				}
				bodies = append(bodies, o)
			} else {
				for i := range f.Configs {
					bodies = append(bodies, trial(&f.Configs[i]))
				}
			}
			if len(bodies) == 0 {
				return exit.Usagef(example, "%s has no alert configurations", args[0])
			}
			answers := []ask.Object{}
			for i, b := range bodies {
				o, err := s.try(cmd.Context(), b, days)
				if err != nil {
					if f != nil {
						return fmt.Errorf("%s, line %d, %s: %w", args[0], f.Configs[i].Line(), file.Label(&f.Configs[i].AlertConfig), err)
					}
					return err
				}
				answers = append(answers, o)
			}
			if asJSON {
				if len(answers) == 1 {
					return ask.JSON(cmd, answers[0])
				}
				return ask.JSON(cmd, answers)
			}
			for i, o := range answers {
				if i > 0 {
					ask.Say(cmd, "")
				}
				if f != nil {
					ask.Say(cmd, "%s", file.Label(&f.Configs[i].AlertConfig))
				} else if b, ok := bodies[i].(ask.Object); ok {
					ask.Say(cmd, "%s", ask.RuleText(b))
				}
				if err := sayTrial(cmd, o); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&days, "days", 7, "how many days, 1 to 30")
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func (s session) try(ctx context.Context, body any, days int) (ask.Object, error) {
	var o ask.Object
	err := s.Post(ctx, s.Configs("try")+"?"+url.Values{"days": {strconv.Itoa(days)}}.Encode(), body, &o)
	return o, err
}

// trial is the body for a trial: nothing is sent, so secrets need not be known.
func trial(c *file.Config) map[string]any {
	next := *c
	next.Notifications = slices.Clone(c.Notifications)
	for i := range next.Notifications {
		n := &next.Notifications[i]
		n.Secrets = maps.Clone(n.Secrets)
		for name, s := range n.Secrets {
			if strings.HasPrefix(s.Reveal(), "${") {
				n.Secrets[name] = unknownSecret
			}
		}
	}
	return next.Body(false)
}

// unknownSecret is a secret of which nothing may be seen: a trial takes it for any.
const unknownSecret = "************" //nolint:gosec // stands for one

func sayTrial(cmd *cobra.Command, o ask.Object) error {
	ask.Say(cmd, "%s to %s: %s, %s", o.When("start"), o.When("end"), ask.Count(int(o.Number("alertsOpened")), "alert")+" would have opened", ask.Count(int(o.Number("notificationCount")), "notification")+" would have been sent")
	ask.Say(cmd, "%s", o.Text("basis"))
	if n := int(o.Number("alertsEndedEarly")); n > 0 {
		ask.Say(cmd, "%s would have ended before anybody was told", ask.Count(n, "condition"))
	}
	for _, key := range []string{"warnings", "unknown", "notes"} {
		for _, text := range o.Texts(key) {
			ask.Say(cmd, "%s", text)
		}
	}
	rows := [][]string{{"ABOUT", "SINCE", "OPENED", "CLOSED", "WORST", "TOLD", "TEXT"}}
	told := map[string]int{}
	for _, t := range o.Objects("targets") {
		for _, s := range t.Objects("alerts") {
			planned := s.Objects("notifications")
			for _, p := range planned {
				told[p.Text("typeName")+" "+p.Text("recipient")]++
			}
			closed := s.When("closed")
			if closed == "" {
				closed = "still holds"
			}
			text := s.Text("text")
			if m := s.Text("muted"); m != "" {
				text += " (muted: " + m + ")"
			}
			rows = append(rows, []string{ask.Target(t), s.When("since"), s.When("opened"), closed, s.Reading("worst"), strconv.Itoa(len(planned) + int(s.Number("moreNotifications"))), text})
		}
	}
	if len(rows) > 1 {
		ask.Say(cmd, "")
		if err := ask.Table(cmd.OutOrStdout(), rows...); err != nil {
			return err
		}
	}
	if len(told) > 0 {
		rows := [][]string{{"WOULD HAVE TOLD", "TIMES"}}
		for _, who := range slices.Sorted(maps.Keys(told)) {
			rows = append(rows, []string{who, strconv.Itoa(told[who])})
		}
		ask.Say(cmd, "")
		return ask.Table(cmd.OutOrStdout(), rows...)
	}
	return nil
}
