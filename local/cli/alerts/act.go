package alerts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/ask"
	"github.com/heartwood-db/heartwood/local/cli/exit"
)

func (a app) ack() *cobra.Command {
	var forSpan, until, comment string
	var global, dry, asJSON bool
	const example = "heartwood alerts ack 65f0c0ffee0000000000a1e7 --for 2h --comment \"disk is on its way\""
	cmd := &cobra.Command{
		Use:   "ack ID...",
		Short: "Acknowledge alerts: nobody is told again until the end",
		Long: `Acknowledge alerts: those who were told learn of it once, and nobody is told again until the end, or until the condition ends.
Without --for and --until the end is in 8 hours.` + ask.Codes,
		Example: "  " + example, Args: ask.Some(example, "the alert's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := ask.IDs(example, args); err != nil {
				return err
			}
			if forSpan == "" && until == "" {
				forSpan = "8h"
			}
			to, err := ask.End(example, forSpan, until, a.Now())
			if err != nil {
				return err
			}
			return a.acknowledge(cmd, args, global, dry, asJSON, map[string]any{"acknowledgedUntil": ask.Stamp(to), "acknowledgementComment": comment}, "acknowledged until "+ask.Stamp(to))
		},
	}
	cmd.Flags().StringVar(&forSpan, "for", "", "for how long: 90m, 24h, 7d (default 8h)")
	cmd.Flags().StringVar(&until, "until", "", "until when")
	cmd.Flags().StringVar(&comment, "comment", "", "for the others: who does what about it")
	ask.GlobalFlag(cmd, &global, "alerts")
	ask.DryFlag(cmd, &dry)
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func (a app) unack() *cobra.Command {
	var global, dry, asJSON bool
	const example = "heartwood alerts unack 65f0c0ffee0000000000a1e7"
	cmd := &cobra.Command{
		Use: "unack ID...", Short: "End acknowledgements: people are told again", Long: "End acknowledgements: people are told again." + ask.Codes,
		Example: "  " + example, Args: ask.Some(example, "the alert's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := ask.IDs(example, args); err != nil {
				return err
			}
			return a.acknowledge(cmd, args, global, dry, asJSON, map[string]any{"acknowledgedUntil": "", "acknowledgementComment": ""}, "no longer acknowledged")
		},
	}
	ask.GlobalFlag(cmd, &global, "alerts")
	ask.DryFlag(cmd, &dry)
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

// acknowledge reads all alerts before it changes the first: a wrong id changes nothing.
func (a app) acknowledge(cmd *cobra.Command, args []string, global, dry, asJSON bool, body map[string]any, done string) error {
	s, err := a.Open(cmd.Context(), global)
	if err != nil {
		return err
	}
	all := make([]ask.Object, len(args))
	for i, id := range args {
		if err := s.Get(cmd.Context(), s.Alerts(id), nil, &all[i]); err != nil {
			return err
		}
	}
	for i, id := range args {
		if dry {
			ask.Say(cmd, "%s would be %s: %s", id, done, all[i].Text("text"))
			continue
		}
		var next ask.Object
		if err := s.Patch(cmd.Context(), s.Alerts(id), body, &next); err != nil {
			return err
		}
		if all[i] = next; !asJSON {
			ask.Say(cmd, "%s is %s: %s", id, done, next.Text("text"))
		}
	}
	if asJSON && !dry {
		return ask.JSON(cmd, all)
	}
	return nil
}

func (a app) enable(on bool) *cobra.Command {
	var global, dry bool
	word, effect := "enable", "Switch alert configurations on."
	if !on {
		word, effect = "disable", "Switch alert configurations off: their open alerts are cancelled."
	}
	example := "heartwood alerts " + word + " 65f0c0ffee0000000000a1e7"
	cmd := &cobra.Command{
		Use: word + " ID...", Short: strings.TrimSuffix(effect, "."), Long: effect + ask.Codes,
		Example: "  " + example, Args: ask.Some(example, "the configuration's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := ask.IDs(example, args); err != nil {
				return err
			}
			s, err := a.Open(cmd.Context(), global)
			if err != nil {
				return err
			}
			for _, id := range args { // all of them are there before the first is changed
				var o ask.Object
				if err := s.Get(cmd.Context(), s.Configs(id), nil, &o); err != nil {
					return err
				}
				if dry {
					ask.Say(cmd, "%s would be %sd: %s", id, word, ask.RuleText(o))
				}
			}
			for _, id := range args {
				if dry {
					break
				}
				var o ask.Object
				if err := s.Patch(cmd.Context(), s.Configs(id), map[string]bool{"enabled": on}, &o); err != nil {
					return err
				}
				ask.Say(cmd, "%s is %sd: %s", id, word, ask.RuleText(o))
			}
			return nil
		},
	}
	ask.GlobalFlag(cmd, &global, "those")
	ask.DryFlag(cmd, &dry)
	return cmd
}

func (a app) test() *cobra.Command {
	var only string
	var global, dry, asJSON bool
	const example = "heartwood alerts test 65f0c0ffee0000000000a1e7"
	cmd := &cobra.Command{
		Use:   "test CONFIG",
		Short: "Send a test message to where a configuration's notifications go",
		Long: `Send a test message to where each of a configuration's notifications goes, and say what became of it.

Exit ask.Codes: 0 all were taken, 1 at least one was not, 2 wrong usage.`,
		Example: "  " + example + "\n  heartwood alerts test 65f0c0ffee0000000000a1e7 --notification 65f0c0ffee0000000000a1e8",
		Args:    ask.One(example, "the configuration's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := ask.IDs(example, args); err != nil {
				return err
			}
			s, err := a.Open(cmd.Context(), global)
			if err != nil {
				return err
			}
			var config ask.Object
			if err := s.Get(cmd.Context(), s.Configs(args[0]), nil, &config); err != nil {
				return err
			}
			results := []map[string]any{}
			failed := 0
			for _, n := range config.Objects("notifications") {
				id := n.Text("id")
				if only != "" && only != id {
					continue
				}
				if dry {
					ask.Say(cmd, "would test %s %s: %s", id, n.Text("typeName"), where(n))
					results = append(results, nil)
					continue
				}
				var r ask.Object
				if err := s.Post(cmd.Context(), s.Configs(args[0], id, "test"), map[string]any{}, &r); err != nil {
					return err
				}
				r["notifierId"] = id
				if results = append(results, r); !r.Is("success") {
					failed++
				}
				if !asJSON {
					word := "sent"
					if !r.Is("success") {
						word = "FAILED"
					}
					ask.Say(cmd, "%s  %s to %s: %s", word, n.Text("typeName"), r.Object("details").Text("destination"), r.Text("message"))
					for _, f := range r.Object("details").Texts("failures") {
						ask.Say(cmd, "        %s", f)
					}
				}
			}
			switch {
			case len(results) == 0 && only != "":
				return exit.Usagef(example, "the configuration has no notification %s", only)
			case len(results) == 0:
				return errors.New("the configuration has no notifications")
			case dry:
				return nil
			}
			if asJSON {
				if err := ask.JSON(cmd, results); err != nil {
					return err
				}
			}
			if failed > 0 {
				return &exit.Error{Code: exit.Failed, Err: fmt.Errorf("%d of %d tests failed", failed, len(results))}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&only, "notification", "", "only the notification with this id")
	ask.GlobalFlag(cmd, &global, "one")
	ask.DryFlag(cmd, &dry)
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func (a app) silence() *cobra.Command {
	var config, eventType, host, replicaSet, forSpan, until, start, comment string
	var match []string
	var dry, asJSON bool
	const example = "heartwood alerts silence --host db1.example.com:27017 --for 2h --comment \"new disk\""
	cmd := &cobra.Command{
		Use:   "silence",
		Short: "Keep some alerts from telling anybody until an end",
		Long: `Keep some alerts from telling anybody until an end. Alerts open and close all the same; what is still open when the silence
ends is told then. At least one of --config, --event-type, --host, --replica-set and --match says which alerts; all that are
given must hold.` + ask.Codes,
		Example: "  " + example + "\n  heartwood alerts silence --match 'HOSTNAME REGEX ^db[0-9]+' --until 2026-12-24T18:00:00Z\n  heartwood alerts silence end 65f0c0ffee0000000000a1e7",
		Args:    ask.None(example),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if forSpan == "" && until == "" {
				return exit.Usagef(example, "every silence has an end: give --for or --until")
			}
			to, err := ask.End(example, forSpan, until, a.Now())
			if err != nil {
				return err
			}
			body := map[string]any{"endDate": ask.Stamp(to), "comment": comment}
			if start != "" {
				t, err := ask.Moment(start, a.Now(), 1)
				if err != nil {
					return exit.Usagef(example, "--start: %w", err)
				}
				body["startDate"] = ask.Stamp(t)
				if forSpan != "" {
					to = to.Add(t.Sub(a.Now()))
					body["endDate"] = ask.Stamp(to)
				}
			}
			if config != "" {
				body["alertConfigId"] = config
			}
			if eventType != "" {
				body["eventTypeName"] = strings.ToUpper(eventType)
			}
			matchers := []map[string]string{}
			if host != "" {
				matchers = append(matchers, map[string]string{"fieldName": "HOSTNAME_AND_PORT", "operator": "EQUALS", "value": host})
			}
			if replicaSet != "" {
				matchers = append(matchers, map[string]string{"fieldName": "REPLICA_SET_NAME", "operator": "EQUALS", "value": replicaSet})
			}
			for _, m := range match {
				parts := strings.SplitN(m, " ", 3)
				if len(parts) < 3 {
					return exit.Usagef("heartwood alerts silence --match 'HOSTNAME REGEX ^db[0-9]+' --for 2h", "--match %q has not the form FIELD OPERATOR VALUE", m)
				}
				matchers = append(matchers, map[string]string{"fieldName": parts[0], "operator": parts[1], "value": parts[2]})
			}
			body["matchers"] = matchers
			if config == "" && eventType == "" && len(matchers) == 0 {
				return exit.Usagef(example, "nothing silences everything: give --config, --event-type, --host, --replica-set or --match")
			}
			if dry {
				return ask.JSON(cmd, body)
			}
			s, err := a.Open(cmd.Context(), false)
			if err != nil {
				return err
			}
			var o ask.Object
			if err := s.Post(cmd.Context(), s.In("silences"), body, &o); err != nil {
				return err
			}
			if asJSON {
				return ask.JSON(cmd, o)
			}
			ask.Say(cmd, "silence %s until %s: %s", o.Text("id"), o.Text("endDate"), about(o))
			return nil
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "alerts of the configuration with this id")
	cmd.Flags().StringVar(&eventType, "event-type", "", "alerts of this event type")
	cmd.Flags().StringVar(&host, "host", "", "alerts about this host:port")
	cmd.Flags().StringVar(&replicaSet, "replica-set", "", "alerts about this replica set and its hosts")
	cmd.Flags().StringArrayVar(&match, "match", nil, "alerts that a matcher 'FIELD OPERATOR VALUE' is about; may be repeated")
	cmd.Flags().StringVar(&forSpan, "for", "", "for how long: 90m, 24h, 7d")
	cmd.Flags().StringVar(&until, "until", "", "until when")
	cmd.Flags().StringVar(&start, "start", "", "begin: a time, or in how long (default now)")
	cmd.Flags().StringVar(&comment, "comment", "", "why")
	ask.DryFlag(cmd, &dry)
	ask.JSONFlag(cmd, &asJSON)
	cmd.AddCommand(a.endSilence())
	return cmd
}

// about says which alerts a silence is about.
func about(o ask.Object) string {
	var parts []string
	if s := o.Text("alertConfigId"); s != "" {
		parts = append(parts, "configuration "+s)
	}
	if s := o.Text("eventTypeName"); s != "" {
		parts = append(parts, s)
	}
	for _, m := range o.Objects("matchers") {
		parts = append(parts, m.Text("fieldName")+" "+m.Text("operator")+" "+m.Text("value"))
	}
	return strings.Join(parts, " and ")
}

func (a app) endSilence() *cobra.Command {
	var dry bool
	const example = "heartwood alerts silence end 65f0c0ffee0000000000a1e7"
	cmd := &cobra.Command{
		Use: "end ID", Short: "End a silence now", Long: "End a silence now. What is open is told." + ask.Codes, Example: "  " + example, Args: ask.One(example, "the silence's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := ask.IDs(example, args); err != nil {
				return err
			}
			s, err := a.Open(cmd.Context(), false)
			if err != nil {
				return err
			}
			var o ask.Object
			if err := s.Get(cmd.Context(), s.In("silences", args[0]), nil, &o); err != nil {
				return err
			}
			if dry {
				ask.Say(cmd, "%s would be ended: %s", args[0], about(o))
				return nil
			}
			if err := s.Delete(cmd.Context(), s.In("silences", args[0])); err != nil {
				return err
			}
			ask.Say(cmd, "%s is ended: %s", args[0], about(o))
			return nil
		},
	}
	ask.DryFlag(cmd, &dry)
	return cmd
}

func (a app) silences() *cobra.Command {
	var all, asJSON bool
	const example = "heartwood alerts silences --all"
	cmd := &cobra.Command{
		Use: "silences", Short: "List the silences that are on or to come", Long: "List the silences that are on or to come." + ask.Codes, Example: "  heartwood alerts silences\n  " + example, Args: ask.None(example),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.Open(cmd.Context(), false)
			if err != nil {
				return err
			}
			found, _, err := s.List(cmd.Context(), s.In("silences"), nil, 0)
			if err != nil {
				return err
			}
			if !all {
				found = slices.DeleteFunc(found, func(f map[string]any) bool {
					t, err := time.Parse(time.RFC3339, ask.Object(f).Text("endDate"))
					return err == nil && !t.After(a.Now())
				})
			}
			if asJSON {
				return ask.JSON(cmd, found)
			}
			if len(found) == 0 {
				ask.Hint(cmd, "no silences")
				return nil
			}
			rows := [][]string{{"ID", "ON", "FROM", "TO", "ABOUT", "BY", "COMMENT"}}
			for _, f := range found {
				o := ask.Object(f)
				rows = append(rows, []string{o.Text("id"), ask.Yes(o.Is("active")), o.When("startDate"), o.When("endDate"), about(o), o.Text("createdBy"), o.Text("comment")})
			}
			return ask.Table(cmd.OutOrStdout(), rows...)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also those that have ended")
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func (a app) windows() *cobra.Command {
	var asJSON bool
	const example = "heartwood alerts windows"
	cmd := &cobra.Command{
		Use: "windows", Short: "List, add and remove maintenance windows",
		Long:    "List the maintenance windows of the group; add and remove them. While one is on, alerts of its kinds tell nobody." + ask.Codes,
		Example: "  " + example + "\n  heartwood alerts windows add --start 2026-12-24T02:00:00Z --for 2h --types HOST,REPLICA_SET --description upgrade",
		Args:    ask.None(example),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.Open(cmd.Context(), false)
			if err != nil {
				return err
			}
			found, _, err := s.List(cmd.Context(), s.In("maintenanceWindows"), nil, 0)
			if err != nil {
				return err
			}
			if asJSON {
				return ask.JSON(cmd, found)
			}
			if len(found) == 0 {
				ask.Hint(cmd, "no maintenance windows")
				return nil
			}
			rows := [][]string{{"ID", "FROM", "TO", "AGAIN", "KINDS", "DESCRIPTION"}}
			for _, f := range found {
				o := ask.Object(f)
				from, to := o.When("startDate"), o.When("endDate")
				again := ""
				if r := o.Object("recurrence"); r != nil {
					again = strings.Join(r.Texts("weekdays"), " ") + " " + r.Text("timeZone")
					if next := o.When("nextStartDate"); next != "" {
						from, to = next, o.When("nextEndDate")
					}
				}
				rows = append(rows, []string{o.Text("id"), from, to, again, strings.Join(o.Texts("alertTypeNames"), ", "), o.Text("description")})
			}
			return ask.Table(cmd.OutOrStdout(), rows...)
		},
	}
	ask.JSONFlag(cmd, &asJSON)
	cmd.AddCommand(a.addWindow(), a.removeWindow())
	return cmd
}

func (a app) addWindow() *cobra.Command {
	var start, forSpan, until, description, zone string
	var types, weekdays []string
	var dry, asJSON bool
	const example = "heartwood alerts windows add --start 2026-12-24T02:00:00Z --for 2h --types HOST,REPLICA_SET --description upgrade"
	cmd := &cobra.Command{
		Use: "add", Short: "Add a maintenance window, once or on some weekdays",
		Long:    "Add a maintenance window, once or on some weekdays. Of one that comes again, --start is the first time." + ask.Codes,
		Example: "  " + example + "\n  heartwood alerts windows add --start 2026-12-06T01:00:00Z --for 90m --types BACKUP --weekdays SUNDAY --time-zone Europe/Berlin",
		Args:    ask.None(example),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if start == "" {
				start = "now"
			}
			from, err := ask.Moment(start, a.Now(), 1)
			if err != nil {
				return exit.Usagef(example, "--start: %w", err)
			}
			if forSpan == "" && until == "" {
				return exit.Usagef(example, "give --for or --until")
			}
			var to time.Time
			if until != "" && forSpan == "" {
				if to, err = ask.Moment(until, from, 1); err != nil {
					return exit.Usagef(example, "--until: %w", err)
				}
			} else if to, err = ask.End(example, forSpan, until, from); err != nil {
				return err
			}
			if len(types) == 0 {
				return exit.Usagef(example, "--types is missing: some of HOST, REPLICA_SET, CLUSTER, AGENT, BACKUP")
			}
			body := map[string]any{"startDate": ask.Stamp(from), "endDate": ask.Stamp(to), "alertTypeNames": upper(types), "description": description}
			switch {
			case len(weekdays) > 0:
				body["recurrence"] = map[string]any{"weekdays": upper(weekdays), "timeZone": zone}
			case cmd.Flags().Changed("time-zone"):
				return exit.Usagef(example, "--time-zone goes with --weekdays: --start has its own")
			}
			if dry {
				return ask.JSON(cmd, body)
			}
			s, err := a.Open(cmd.Context(), false)
			if err != nil {
				return err
			}
			var o ask.Object
			if err := s.Post(cmd.Context(), s.In("maintenanceWindows"), body, &o); err != nil {
				return err
			}
			if asJSON {
				return ask.JSON(cmd, o)
			}
			ask.Say(cmd, "maintenance window %s from %s to %s", o.Text("id"), o.Text("startDate"), o.Text("endDate"))
			return nil
		},
	}
	cmd.Flags().StringVar(&start, "start", "", "begin: a time, or in how long (default now)")
	cmd.Flags().StringVar(&forSpan, "for", "", "how long: 90m, 24h")
	cmd.Flags().StringVar(&until, "until", "", "end")
	cmd.Flags().StringSliceVar(&types, "types", nil, "kinds of alerts: HOST, REPLICA_SET, CLUSTER, AGENT, BACKUP")
	cmd.Flags().StringVar(&description, "description", "", "what for")
	cmd.Flags().StringSliceVar(&weekdays, "weekdays", nil, "again on these days: MONDAY, TUESDAY, ...")
	cmd.Flags().StringVar(&zone, "time-zone", "UTC", "whose wall clock the weekdays are of: Europe/Berlin")
	ask.DryFlag(cmd, &dry)
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func upper(all []string) []string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = strings.ToUpper(strings.TrimSpace(s))
	}
	return out
}

func (a app) removeWindow() *cobra.Command {
	var dry bool
	const example = "heartwood alerts windows remove 65f0c0ffee0000000000a1e7"
	cmd := &cobra.Command{
		Use: "remove ID", Short: "Remove a maintenance window; one that is on ends", Long: "Remove a maintenance window; one that is on ends." + ask.Codes, Example: "  " + example,
		Args: ask.One(example, "the window's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := ask.IDs(example, args); err != nil {
				return err
			}
			s, err := a.Open(cmd.Context(), false)
			if err != nil {
				return err
			}
			var o ask.Object
			if err := s.Get(cmd.Context(), s.In("maintenanceWindows", args[0]), nil, &o); err != nil {
				return err
			}
			if dry {
				ask.Say(cmd, "%s would be removed: %s to %s %s", args[0], o.Text("startDate"), o.Text("endDate"), o.Text("description"))
				return nil
			}
			if err := s.Delete(cmd.Context(), s.In("maintenanceWindows", args[0])); err != nil {
				return err
			}
			ask.Say(cmd, "%s is removed", args[0])
			return nil
		},
	}
	ask.DryFlag(cmd, &dry)
	return cmd
}
