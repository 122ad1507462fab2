package alerts

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/ask"
	"github.com/heartwood-db/heartwood/local/cli/exit"
)

func (a app) list() *cobra.Command {
	var statuses, types []string
	var all, global, asJSON bool
	var host, config, from, to string
	var limit int
	const example = "heartwood alerts list --status OPEN --host db1.example.com:27017"
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List alerts, newest first",
		Long: `List alerts, newest first: those that are open or being watched, unless --status, --all, --from or --to ask for others.` +
			ask.Codes,
		Example: "  heartwood alerts list\n  " + example + "\n  heartwood alerts list --all --from 7d --json",
		Args:    ask.None(example),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			for _, s := range statuses {
				s = strings.ToUpper(s)
				if s != "OPEN" && s != "TRACKING" && s != "CLOSED" && s != "CANCELLED" {
					return exit.Usagef(example, "--status %s: it is one of OPEN, TRACKING, CLOSED and CANCELLED", s)
				}
				q.Add("status", s)
			}
			if len(statuses) == 0 && !all && from == "" && to == "" {
				q["status"] = []string{"OPEN", "TRACKING"}
			}
			for _, t := range types {
				q.Add("eventType", strings.ToUpper(t))
			}
			if config != "" {
				if err := ask.IDs("heartwood alerts list --config 65f0c0ffee0000000000a1e7", []string{config}); err != nil {
					return err
				}
				q.Set("alertConfigId", config)
			}
			if limit < 0 {
				return exit.Usagef("heartwood alerts list --limit 500", "--limit %d is negative", limit)
			}
			for name, s := range map[string]string{"createdOnOrAfter": from, "createdOnOrBefore": to} {
				if s == "" {
					continue
				}
				t, err := ask.Moment(s, a.Now(), -1)
				if err != nil {
					return exit.Usagef("heartwood alerts list --from 24h", "%w", err)
				}
				q.Set(name, ask.Stamp(t))
			}
			s, err := a.Open(cmd.Context(), global)
			if err != nil {
				return err
			}
			if host != "" {
				if global {
					return exit.Usagef(example, "--host is of a group: leave --global out")
				}
				var h ask.Object
				if err := s.Get(cmd.Context(), s.In("hosts", "byName", host), nil, &h); err != nil {
					return err
				}
				q.Set("hostId", h.Text("id"))
			}
			found, more, err := s.List(cmd.Context(), s.Alerts(), q, limit)
			if err != nil {
				return err
			}
			if more {
				ask.Hint(cmd, "there are more: --limit 0 lists all")
			}
			if asJSON {
				return ask.JSON(cmd, found)
			}
			if len(found) == 0 {
				ask.Hint(cmd, "no alerts")
				return nil
			}
			rows := [][]string{{"ID", "STATUS", "CREATED", "EVENT", "ABOUT", "TEXT"}}
			for _, f := range found {
				o := ask.Object(f)
				status := o.Text("status")
				if o.Text("acknowledgedUntil") != "" {
					status += ", acknowledged"
				}
				if o.Text("muted") != "" {
					status += ", muted"
				}
				rows = append(rows, []string{o.Text("id"), status, o.When("created"), o.Text("eventTypeName"), ask.Target(o), o.Text("text")})
			}
			return ask.Table(cmd.OutOrStdout(), rows...)
		},
	}
	cmd.Flags().StringSliceVar(&statuses, "status", nil, "OPEN, TRACKING, CLOSED or CANCELLED; may be repeated")
	cmd.Flags().BoolVar(&all, "all", false, "ended ones too")
	cmd.Flags().StringSliceVar(&types, "event-type", nil, "only alerts of this event type; may be repeated")
	cmd.Flags().StringVar(&host, "host", "", "only alerts about this host:port")
	cmd.Flags().StringVar(&config, "config", "", "only alerts of the configuration with this id")
	cmd.Flags().StringVar(&from, "from", "", "created at this time or later: a time, or how long ago")
	cmd.Flags().StringVar(&to, "to", "", "created at this time or before")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many to list; 0 is all")
	ask.GlobalFlag(cmd, &global, "alerts")
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func (a app) show() *cobra.Command {
	var global, asJSON bool
	const example = "heartwood alerts show 65f0c0ffee0000000000a1e7"
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Explain an alert: the rule, the samples, what happened, what was sent",
		Long:    `Explain an alert: the rule as it was, the samples that the newest decision rests on, each change of state, and each message with its result.` + ask.Codes,
		Example: "  " + example, Args: ask.One(example, "the alert's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := ask.IDs(example, args); err != nil {
				return err
			}
			s, err := a.Open(cmd.Context(), global)
			if err != nil {
				return err
			}
			var o ask.Object
			if err := s.Get(cmd.Context(), s.Alerts(args[0], "why"), nil, &o); err != nil {
				return err
			}
			if asJSON {
				return ask.JSON(cmd, o)
			}
			return explain(cmd, o)
		},
	}
	ask.GlobalFlag(cmd, &global, "an alert")
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

// explain prints an alert whole.
func explain(cmd *cobra.Command, o ask.Object) error {
	alert, rule := o.Object("alert"), o.Object("rule")
	ask.Say(cmd, "%s", alert.Text("text"))
	rows := [][]string{}
	put := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, value})
		}
	}
	put("alert", alert.Text("id"))
	put("status", alert.Text("status"))
	put("event", alert.Text("eventTypeName"))
	put("about", ask.Target(alert))
	put("configuration", alert.Text("alertConfigId"))
	put("rule", ask.RuleText(rule))
	put("holds since", alert.When("since"))
	put("opened", o.When("opened"))
	put("resolved", alert.When("resolved"))
	put("value", alert.Reading("currentValue"))
	put("worst", o.Reading("worst"))
	if until := alert.When("acknowledgedUntil"); until != "" {
		put("acknowledged", strings.TrimSuffix(fmt.Sprintf("until %s by %s: %s", until, alert.Text("acknowledgingUsername"), alert.Text("acknowledgementComment")), ": "))
	}
	put("muted", alert.Text("muted"))
	put("no data", strings.TrimSpace(alert.When("noDataSince")+" "+alert.Text("noDataReason")))
	put("note", alert.Text("note"))
	if err := ask.Table(cmd.OutOrStdout(), rows...); err != nil {
		return err
	}
	section := func(title string, header []string, list []ask.Object, row func(ask.Object) []string) error {
		if len(list) == 0 {
			return nil
		}
		ask.Say(cmd, "\n%s", title)
		rows := [][]string{header}
		for _, e := range list {
			rows = append(rows, row(e))
		}
		return ask.Table(cmd.OutOrStdout(), rows...)
	}
	if err := section("What happened", []string{"AT", "WHAT", "VALUE", "TEXT"}, o.Objects("history"), func(e ask.Object) []string {
		return []string{e.When("at"), e.Text("kind"), e.Reading("value"), e.Text("text")}
	}); err != nil {
		return err
	}
	if err := section("Samples of the newest decision", []string{"AT", "VALUE"}, o.Objects("samples"), func(e ask.Object) []string {
		return []string{e.When("timestamp"), e.Text("value")}
	}); err != nil {
		return err
	}
	return section("Messages", []string{"CREATED", "KIND", "BY", "TO", "STATE", "RESULT"}, o.Objects("deliveries"), func(e ask.Object) []string {
		result := e.Text("result")
		if result == "" || e.Text("status") != "DELIVERED" {
			result = e.Text("lastError")
		}
		return []string{e.When("created"), e.Text("kind"), e.Text("typeName"), e.Text("destination"), e.Text("status"), result}
	})
}

func (a app) why() *cobra.Command {
	var from, to, host, who, config string
	var asJSON bool
	const example = "heartwood alerts why --from 24h --who ann@example.com --host db1.example.com:27017"
	cmd := &cobra.Command{
		Use:   "why",
		Short: "Say why somebody was told, or was not",
		Long: `Say for every configuration of the group why it told somebody in a window of time, or did not: the threshold was not
crossed, the delay had not passed, a maintenance window or silence was on, a message failed, nothing was measured, ...
The window is the last 24 hours unless --from and --to say another; it is at most 31 days long.` + ask.Codes,
		Example: "  heartwood alerts why\n  " + example,
		Args:    ask.None(example),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			for name, s := range map[string]string{"from": from, "to": to} {
				if s == "" {
					continue
				}
				t, err := ask.Moment(s, a.Now(), -1)
				if err != nil {
					return exit.Usagef(example, "--%s: %w", name, err)
				}
				q.Set(name, ask.Stamp(t))
			}
			for name, s := range map[string]string{"host": host, "username": who, "alertConfigId": config} {
				if s != "" {
					q.Set(name, s)
				}
			}
			s, err := a.Open(cmd.Context(), false)
			if err != nil {
				return err
			}
			reasons, _, err := s.List(cmd.Context(), s.Alerts("why"), q, 0)
			if err != nil {
				return err
			}
			if asJSON {
				return ask.JSON(cmd, reasons)
			}
			if len(reasons) == 0 {
				ask.Hint(cmd, "no configuration of this group is about that")
			}
			for i, r := range reasons {
				if i > 0 {
					ask.Say(cmd, "")
				}
				sayReason(cmd, r)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "begin of the window: a time, or how long ago (default 24h before the end)")
	cmd.Flags().StringVar(&to, "to", "", "end of the window (default now)")
	cmd.Flags().StringVar(&host, "host", "", "only what is about this host:port")
	cmd.Flags().StringVar(&who, "who", "", "only what this user would have got, by username")
	cmd.Flags().StringVar(&config, "config", "", "only the configuration with this id")
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func sayReason(cmd *cobra.Command, o ask.Object) {
	head := o.Text("label")
	if head == "" {
		head = o.Text("eventTypeName")
	}
	if t := ask.Target(o); t != "" {
		head = strings.TrimPrefix(head+", "+t, ", ")
	}
	if head == "" {
		head = "The whole group"
	}
	if id := o.Text("alertConfigId"); id != "" {
		head += " (configuration " + id + ")"
	}
	ask.Say(cmd, "%s", head)
	at := o.When("at")
	if at != "" {
		at = " at " + at
	}
	ask.Say(cmd, "  %s%s: %s", o.Text("verdict"), at, o.Text("text"))
	if near := o.Reading("nearest"); near != "" {
		ask.Say(cmd, "  nearest value %s, threshold %s", near, o.Reading("threshold"))
	}
	if id := o.Text("alertId"); id != "" {
		ask.Say(cmd, "  more: heartwood alerts show %s", id)
	}
	for _, d := range o.Texts("details") {
		ask.Say(cmd, "  %s", d)
	}
}

func (a app) configs() *cobra.Command {
	var global, asJSON bool
	const example = "heartwood alerts configs"
	cmd := &cobra.Command{
		Use:     "configs [ID]",
		Short:   "List the alert configurations, or show one with its warnings",
		Long:    "List the alert configurations, or show one with its notifications and with what is odd about it." + ask.Codes,
		Example: "  " + example + "\n  heartwood alerts configs 65f0c0ffee0000000000a1e7 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				if err := ask.One(example, "")(cmd, args); err != nil {
					return err
				}
				if err := ask.IDs("heartwood alerts configs 65f0c0ffee0000000000a1e7", args); err != nil {
					return err
				}
			}
			s, err := a.Open(cmd.Context(), global)
			if err != nil {
				return err
			}
			if len(args) > 0 {
				return a.oneConfig(cmd, s, args[0], asJSON)
			}
			found, _, err := s.List(cmd.Context(), s.Configs(), nil, 0)
			if err != nil {
				return err
			}
			if asJSON {
				return ask.JSON(cmd, found)
			}
			if len(found) == 0 {
				ask.Hint(cmd, "no alert configurations")
				return nil
			}
			rows := [][]string{{"ID", "ENABLED", "LOOKS FOR", "TELLS"}}
			for _, f := range found {
				o := ask.Object(f)
				var tells []string
				for _, n := range o.Objects("notifications") {
					tells = append(tells, n.Text("typeName"))
				}
				rows = append(rows, []string{o.Text("id"), ask.Yes(o.Is("enabled")), ask.RuleText(o), strings.Join(tells, ", ")})
			}
			return ask.Table(cmd.OutOrStdout(), rows...)
		},
	}
	ask.GlobalFlag(cmd, &global, "those")
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func (a app) oneConfig(cmd *cobra.Command, s *ask.Session, id string, asJSON bool) error {
	var o ask.Object
	if err := s.Get(cmd.Context(), s.Configs(id), nil, &o); err != nil {
		return err
	}
	if asJSON {
		return ask.JSON(cmd, o)
	}
	rows := [][]string{{"configuration", o.Text("id")}, {"looks for", ask.RuleText(o)}, {"enabled", ask.Yes(o.Is("enabled"))}, {"changed", o.When("updated")}}
	if note := o.Text("note"); note != "" {
		rows = append(rows, []string{"note", note})
	}
	for _, w := range o.Texts("warnings") {
		rows = append(rows, []string{"warning", w})
	}
	if err := ask.Table(cmd.OutOrStdout(), rows...); err != nil {
		return err
	}
	ask.Say(cmd, "")
	rows = [][]string{{"NOTIFICATION", "TELLS", "WHERE", "AFTER", "EVERY"}}
	for _, n := range o.Objects("notifications") {
		rows = append(rows, []string{n.Text("id"), n.Text("typeName"), where(n), n.Text("delayMin") + " min", n.Text("intervalMin") + " min"})
	}
	return ask.Table(cmd.OutOrStdout(), rows...)
}

// where lists a notification's own fields.
func where(n ask.Object) string {
	var parts []string
	for _, key := range sorted(n) {
		switch key {
		case "id", "notifierId", "typeName", "delayMin", "intervalMin", "links", "emailEnabled", "smsEnabled", "roles":
			continue
		}
		parts = append(parts, key+" "+n.Text(key))
	}
	if n.Is("emailEnabled") {
		parts = append(parts, "by mail")
	}
	if n.Is("smsEnabled") {
		parts = append(parts, "by SMS")
	}
	if r := n.Texts("roles"); len(r) > 0 {
		parts = append(parts, "roles "+strings.Join(r, ", "))
	}
	return strings.Join(parts, ", ")
}
