// Package backups is `heartwood backup`, `heartwood snapshots` and `heartwood restore`: what is backed up and how it does, its
// snapshots, and restores with their plan, progress and download. It works through the Public API alone.
package backups

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/ask"
	"github.com/heartwood-db/heartwood/local/cli/exit"
)

// app has the commands.
type app struct {
	*ask.App
	http *http.Client
	wait func(ctx context.Context, d time.Duration) error
}

func newApp() app {
	return app{App: &ask.App{Getenv: os.Getenv, Now: time.Now}, http: http.DefaultClient, wait: func(ctx context.Context, d time.Duration) error {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
			return nil
		}
	}}
}

const about = `

A replica set is named as on the backup page, or by its cluster's id. Which server, key and group: see heartwood profile --help.`

// Commands are backup, snapshots and restore.
func Commands() []*cobra.Command {
	return []*cobra.Command{backupCommand(), snapshotsCommand(), restoreCommand()}
}

func backupCommand() *cobra.Command {
	a := newApp()
	const example = "heartwood backup list"
	cmd := &cobra.Command{
		Use:     "backup",
		Short:   "Start, stop and look at backups of replica sets",
		Long:    "Start, stop and look at backups of replica sets, through the Public API of a running server." + about + ask.Codes,
		Example: "  " + example + "\n  heartwood backup start rs0\n  heartwood backup show rs0\n  heartwood backup schedule rs0 --interval 6 --days 3",
		Args:    ask.None(example),
		RunE: func(*cobra.Command, []string) error {
			return exit.Usagef(example, "what to do with backups is missing")
		},
	}
	a.Flags.Register(cmd)
	cmd.AddCommand(a.list(), a.show(), a.start(), a.settings(), a.change("stop"), a.change("terminate"), a.resync(), a.schedule())
	return cmd
}

// set is a replica set that a command is about.
type set struct {
	*ask.Session
	id, name string
}

func (s *set) config(more ...string) string {
	return s.In(append([]string{"backupConfigs", s.id}, more...)...)
}

func (s *set) cluster(more ...string) string {
	return s.In(append([]string{"clusters", s.id}, more...)...)
}

// find finds the replica set by name or id.
func (a app) find(ctx context.Context, name string) (*set, error) {
	s, err := a.Open(ctx, false)
	if err != nil {
		return nil, err
	}
	return find(ctx, s, name)
}

func find(ctx context.Context, s *ask.Session, name string) (*set, error) {
	all, _, err := s.List(ctx, s.In("clusters"), nil, 0)
	if err != nil {
		return nil, err
	}
	var match []ask.Object
	var names []string
	for _, c := range all {
		o := ask.Object(c)
		if o.Text("typeName") != "REPLICA_SET" {
			continue
		}
		if o.Text("id") == name || o.Text("clusterName") == name || o.Text("replicaSetName") == name {
			match = append(match, o)
		}
		names = append(names, o.Text("clusterName"))
	}
	switch {
	case len(match) == 1:
		return &set{s, match[0].Text("id"), match[0].Text("clusterName")}, nil
	case len(match) > 1:
		return nil, exit.Usagef("heartwood backup list", "%s is the name of %d replica sets: give the cluster's id", name, len(match))
	case len(names) == 0:
		return nil, exit.Usagef("heartwood backup list", "the group has no replica set that is monitored")
	}
	slices.Sort(names)
	return nil, exit.Usagef("heartwood backup list", "no replica set %s in this group: it has %s", name, strings.Join(names, ", "))
}

func size(n float64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	i := 0
	for n >= 1000 && i < len(units)-1 {
		n /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%.0f %s", n, units[i])
	}
	return fmt.Sprintf("%.1f %s", n, units[i])
}

func span(seconds float64) string {
	switch d := time.Duration(seconds) * time.Second; {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	default:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
}

func (a app) list() *cobra.Command {
	var asJSON bool
	const example = "heartwood backup list"
	cmd := &cobra.Command{
		Use: "list", Short: "List the replica sets with their backups", Long: "List the replica sets of the group, each with its backup: how far behind it is, and what it stands still for." + ask.Codes,
		Example: "  " + example + "\n  heartwood backup list --json", Args: ask.None(example),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.Open(cmd.Context(), false)
			if err != nil {
				return err
			}
			configs, _, err := s.List(cmd.Context(), s.In("backupConfigs"), nil, 0)
			if err != nil {
				return err
			}
			states := []ask.Object{}
			for _, c := range configs {
				var o ask.Object
				if err := s.Get(cmd.Context(), s.In("backupConfigs", ask.Object(c).Text("clusterId"), "state"), nil, &o); err != nil {
					return err
				}
				states = append(states, o)
			}
			if asJSON {
				return ask.JSON(cmd, states)
			}
			if len(states) == 0 {
				ask.Hint(cmd, "no replica set is monitored in this group: backups are of those")
				return nil
			}
			rows := [][]string{{"SET", "ID", "STATUS", "STAGE", "BEHIND", "LAST SNAPSHOT", "PROBLEM"}}
			for _, o := range states {
				behind := ""
				if _, ok := o["lagSeconds"]; ok {
					behind = span(o.Number("lagSeconds"))
				}
				rows = append(rows, []string{
					o.Text("clusterName"), o.Text("clusterId"), o.Text("statusName"), o.Text("stage"), behind,
					o.Object("lastSnapshot").When("created"), cmp.Or(o.Object("problem").Text("text"), o.Object("agentProblem").Text("text")),
				})
			}
			return ask.Table(cmd.OutOrStdout(), rows...)
		},
	}
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func (a app) show() *cobra.Command {
	var asJSON bool
	const example = "heartwood backup show rs0"
	cmd := &cobra.Command{
		Use: "show SET", Short: "Show a backup: state, settings, schedule and what can be restored",
		Long:    "Show a backup: its state, settings and schedule, the ranges of time that can be restored, and why not what lies between." + ask.Codes,
		Example: "  " + example, Args: ask.One(example, "the replica set"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var state, config, schedule, ranges ask.Object
			if err := s.Get(cmd.Context(), s.config("state"), nil, &state); err != nil {
				return err
			}
			if err := s.Get(cmd.Context(), s.config(), nil, &config); err != nil {
				return err
			}
			if config.Text("statusName") != "INACTIVE" {
				if err := s.Get(cmd.Context(), s.config("snapshotSchedule"), nil, &schedule); err != nil {
					return err
				}
				if err := s.Post(cmd.Context(), s.cluster("restoreJobs", "restorableTimeRanges")+"?holes=true", ask.Object{}, &ranges); err != nil {
					return err
				}
			}
			if asJSON {
				return ask.JSON(cmd, ask.Object{"state": state, "config": config, "schedule": schedule, "restorable": ranges})
			}
			return present(cmd, state, config, schedule, ranges)
		},
	}
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func present(cmd *cobra.Command, state, config, schedule, ranges ask.Object) error {
	rows := [][]string{}
	put := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, value})
		}
	}
	put("replica set", state.Text("clusterName"))
	put("cluster", state.Text("clusterId"))
	put("status", config.Text("statusName"))
	put("stage", strings.TrimSpace(state.Text("stage")+" "+since(state.When("stageSince"))))
	put("now", state.Text("reason"))
	if r := state.Object("read"); len(r) > 0 {
		put("read", fmt.Sprintf("%.0f of %.0f collections, %s of %s", r.Number("collectionsDone"), r.Number("collections"), size(r.Number("bytesDone")), size(r.Number("bytes"))))
	}
	if act := state.Object("activity"); len(act) > 0 {
		put("doing", progress(act.Text("what"), act.Number("done"), act.Number("total"), act.Text("unit")))
	}
	if p := state.Object("problem"); len(p) > 0 {
		put("problem", p.Text("text")+" "+since(p.When("since")))
		put("what to do", p.Text("remedy"))
	}
	if p := state.Object("agentProblem"); len(p) > 0 {
		put("the agent reports", p.Text("text")+" "+since(p.When("since")))
	}
	put("newest oplog", state.When("newestOplog"))
	if _, ok := state["lagSeconds"]; ok {
		put("behind", span(state.Number("lagSeconds")))
	}
	put("source", state.Text("source"))
	put("agent", state.Text("agent"))
	put("daemon", state.Text("daemon"))
	put("excluded", strings.Join(config.Texts("excludedNamespaces"), ", "))
	put("included", strings.Join(config.Texts("includedNamespaces"), ", "))
	if len(schedule) > 0 {
		put("schedule", fmt.Sprintf("every %s h, kept %s days; daily %s days, weekly %s weeks, monthly %s months; any second of the last %s h",
			schedule.Text("snapshotIntervalHours"), schedule.Text("snapshotRetentionDays"), schedule.Text("dailySnapshotRetentionDays"),
			schedule.Text("weeklySnapshotRetentionWeeks"), schedule.Text("monthlySnapshotRetentionMonths"), schedule.Text("pointInTimeWindowHours")))
	}
	put("next snapshot", state.When("nextSnapshot"))
	if l := state.Object("lastSnapshot"); len(l) > 0 {
		put("last snapshot", l.When("created")+", "+size(l.Number("fileSizeBytes")))
	}
	if err := ask.Table(cmd.OutOrStdout(), rows...); err != nil {
		return err
	}
	if len(ranges.Objects("ranges")) == 0 {
		ask.Hint(cmd, "nothing can be restored yet")
		return nil
	}
	ask.Say(cmd, "\nWhat can be restored")
	rows = [][]string{{"FROM", "TO", ""}}
	for _, r := range ranges.Objects("ranges") {
		rows = append(rows, []string{r.Object("start").When("date"), r.Object("end").When("date"), "any second"})
	}
	for _, h := range ranges.Objects("holes") {
		rows = append(rows, []string{h.Object("start").When("date"), h.Object("end").When("date"), "not: " + h.Text("reason")})
	}
	slices.SortStableFunc(rows[1:], func(x, y []string) int { return strings.Compare(x[0], y[0]) })
	return ask.Table(cmd.OutOrStdout(), rows...)
}

func since(when string) string {
	if when == "" {
		return ""
	}
	return "(since " + when + ")"
}

func progress(what string, done, total float64, unit string) string {
	if unit == "" || unit == "bytes" {
		if total <= 0 {
			return what + ", " + size(done)
		}
		return fmt.Sprintf("%s, %s of %s (%.0f %%)", what, size(done), size(total), 100*done/total)
	}
	if total <= 0 {
		return fmt.Sprintf("%s, %.0f %s", what, done, unit)
	}
	return fmt.Sprintf("%s, %.0f of %.0f %s (%.0f %%)", what, done, total, unit, 100*done/total)
}

// wishes are the settings of a backup that flags name.
type wishes struct {
	source, user, mechanism, passwordFile, store string
	exclude, include                             []string
	all, tls                                     bool
}

func (w *wishes) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&w.source, "source", "", "who is read: PRIMARY, SECONDARY or a member's host:port")
	fl.StringSliceVar(&w.exclude, "exclude", nil, "leave out this database or database.collection; may be repeated")
	fl.StringSliceVar(&w.include, "include", nil, "hold only this database or database.collection; may be repeated")
	fl.BoolVar(&w.all, "all", false, "hold everything: take the lists away")
	fl.StringVar(&w.user, "user", "", "user that the agent connects as, where it has none of its own")
	fl.StringVar(&w.mechanism, "mechanism", "", "how it authenticates: SCRAM_SHA_256, MONGODB_X509, PLAIN, NONE, ...")
	fl.StringVar(&w.passwordFile, "password-file", "", "file with that user's password")
	fl.BoolVar(&w.tls, "tls", false, "connect with TLS")
	fl.StringVar(&w.store, "store", "", "id of the block store")
}

func (w *wishes) body(cmd *cobra.Command, example string) (ask.Object, error) {
	if len(w.exclude) > 0 && len(w.include) > 0 || w.all && len(w.exclude)+len(w.include) > 0 {
		return nil, exit.Usagef(example, "--exclude, --include and --all exclude each other")
	}
	body := ask.Object{}
	put := func(key, value string) {
		if value != "" {
			body[key] = value
		}
	}
	put("syncSource", w.source)
	put("username", w.user)
	put("authMechanismName", strings.ToUpper(strings.ReplaceAll(w.mechanism, "-", "_")))
	if cmd.Flags().Changed("tls") {
		body["sslEnabled"] = w.tls
	}
	if w.passwordFile != "" {
		b, err := os.ReadFile(w.passwordFile)
		if err != nil {
			return nil, exit.Usagef(example, "--password-file: %w", err)
		}
		body["password"] = strings.TrimRight(string(b), "\r\n")
	}
	switch {
	case len(w.exclude) > 0:
		body["excludedNamespaces"] = w.exclude
	case len(w.include) > 0:
		body["includedNamespaces"] = w.include
	case w.all:
		body["excludedNamespaces"] = []string{}
	}
	if w.store != "" {
		body["snapshotStore"] = ask.Object{"snapshotStoreId": w.store}
	}
	return body, nil
}

// patch sends a change of a backup, or says what it would send.
func (a app) patch(cmd *cobra.Command, name string, body ask.Object, dry, asJSON bool, done string) error {
	s, err := a.find(cmd.Context(), name)
	if err != nil {
		return err
	}
	if dry {
		if _, secret := body["password"]; secret {
			body["password"] = "(not shown)"
		}
		ask.Say(cmd, "the backup of %s would be changed:", s.name)
		return ask.JSON(cmd, body)
	}
	var o ask.Object
	if err := s.Patch(cmd.Context(), s.config(), body, &o); err != nil {
		return err
	}
	if asJSON {
		return ask.JSON(cmd, o)
	}
	ask.Say(cmd, "the backup of %s is %s: %s", s.name, o.Text("statusName"), done)
	return nil
}

func (a app) start() *cobra.Command {
	var w wishes
	var dry, asJSON bool
	const example = "heartwood backup start rs0 --exclude scratch"
	cmd := &cobra.Command{
		Use: "start SET", Short: "Start the backup of a replica set, or start it again",
		Long: `Start the backup of a replica set, or start one again that was stopped. A backup agent of the group reads everything once, from
a secondary unless --source says another, and follows the oplog from then on. Its privileges: heartwood backup-agent --check says
what is missing.` + ask.Codes,
		Example: "  heartwood backup start rs0\n  " + example, Args: ask.One(example, "the replica set"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := w.body(cmd, example)
			if err != nil {
				return err
			}
			body["statusName"] = "STARTED"
			if w.source == "" {
				body["syncSource"] = "SECONDARY"
			}
			return a.patch(cmd, args[0], body, dry, asJSON, "heartwood backup show "+args[0]+" follows it")
		},
	}
	w.register(cmd)
	ask.DryFlag(cmd, &dry)
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func (a app) settings() *cobra.Command {
	var w wishes
	var dry, asJSON bool
	const example = "heartwood backup set rs0 --exclude scratch --exclude shop.sessions"
	cmd := &cobra.Command{
		Use: "set SET", Short: "Change what a backup holds and how it is read",
		Long: `Change what a backup holds and how it is read. What lets in what was never read needs everything to be read anew: say from where
with --source to allow it.` + ask.Codes,
		Example: "  " + example, Args: ask.One(example, "the replica set"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := w.body(cmd, example)
			if err != nil {
				return err
			}
			if len(body) == 0 {
				return exit.Usagef(example, "what to change is missing")
			}
			return a.patch(cmd, args[0], body, dry, asJSON, "changed")
		},
	}
	w.register(cmd)
	ask.DryFlag(cmd, &dry)
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func (a app) change(verb string) *cobra.Command {
	var dry, asJSON, yes bool
	example := "heartwood backup " + verb + " rs0"
	status, short, done := "STOPPED", "Stop a backup: its snapshots stay and expire", "snapshots stay until they expire"
	if verb == "terminate" {
		example += " --yes"
		status, short, done = "TERMINATING", "Delete a stopped backup with all its snapshots", "everything of it is being deleted"
	}
	cmd := &cobra.Command{
		Use: verb + " SET", Short: short, Long: short + "." + ask.Codes, Example: "  " + example, Args: ask.One(example, "the replica set"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if verb == "terminate" && !yes && !dry {
				return exit.Usagef(example, "every snapshot and all oplog of %s would be deleted for ever: say --yes", args[0])
			}
			return a.patch(cmd, args[0], ask.Object{"statusName": status}, dry, asJSON, done)
		},
	}
	if verb == "terminate" {
		cmd.Flags().BoolVar(&yes, "yes", false, "delete it")
	}
	ask.DryFlag(cmd, &dry)
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func (a app) resync() *cobra.Command {
	var dry bool
	const example = "heartwood backup resync rs0"
	cmd := &cobra.Command{
		Use: "resync SET", Short: "Read everything of a replica set anew",
		Long:    "Ask for a new full read of a replica set. What was stored before stays restorable until it expires." + ask.Codes,
		Example: "  " + example, Args: ask.One(example, "the replica set"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if dry {
				ask.Say(cmd, "everything of %s would be read anew", s.name)
				return nil
			}
			if err := s.Post(cmd.Context(), s.config("resync"), ask.Object{}, nil); err != nil {
				return err
			}
			ask.Say(cmd, "everything of %s will be read anew; what was stored before stays restorable", s.name)
			return nil
		},
	}
	ask.DryFlag(cmd, &dry)
	return cmd
}

func (a app) schedule() *cobra.Command {
	var interval, days, daily, weekly, monthly, window, hour, minute int
	var zone string
	var dry, asJSON bool
	const example = "heartwood backup schedule rs0 --interval 6 --days 3 --window 48"
	cmd := &cobra.Command{
		Use: "schedule SET", Short: "Show or change when snapshots are taken and how long they are kept",
		Long: "Show or change when snapshots are taken and how long they are kept. Snapshots that are there already keep their expiry." + ask.Codes, Example: "  heartwood backup schedule rs0\n  " + example,
		Args: ask.One(example, "the replica set"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := ask.Object{}
			for flag, f := range map[string]struct {
				key   string
				value any
			}{
				"interval": {"snapshotIntervalHours", interval}, "days": {"snapshotRetentionDays", days}, "daily": {"dailySnapshotRetentionDays", daily},
				"weekly": {"weeklySnapshotRetentionWeeks", weekly}, "monthly": {"monthlySnapshotRetentionMonths", monthly},
				"window": {"pointInTimeWindowHours", window}, "hour": {"referenceHourOfDay", hour}, "minute": {"referenceMinuteOfHour", minute},
				"zone": {"referenceTimeZoneOffset", zone},
			} {
				if cmd.Flags().Changed(flag) {
					body[f.key] = f.value
				}
			}
			s, err := a.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var o ask.Object
			switch {
			case dry && len(body) > 0:
				ask.Say(cmd, "the schedule of %s would be changed:", s.name)
				return ask.JSON(cmd, body)
			case len(body) > 0:
				err = s.Patch(cmd.Context(), s.config("snapshotSchedule"), body, &o)
			default:
				err = s.Get(cmd.Context(), s.config("snapshotSchedule"), nil, &o)
			}
			if err != nil {
				return err
			}
			if asJSON {
				return ask.JSON(cmd, o)
			}
			return ask.Table(cmd.OutOrStdout(), []string{"snapshot every", o.Text("snapshotIntervalHours") + " h"},
				[]string{"counted from", fmt.Sprintf("%02.0f:%02.0f %s", o.Number("referenceHourOfDay"), o.Number("referenceMinuteOfHour"), o.Text("referenceTimeZoneOffset"))},
				[]string{"kept", o.Text("snapshotRetentionDays") + " days"}, []string{"daily ones", o.Text("dailySnapshotRetentionDays") + " days"},
				[]string{"weekly ones", o.Text("weeklySnapshotRetentionWeeks") + " weeks"}, []string{"monthly ones", o.Text("monthlySnapshotRetentionMonths") + " months"},
				[]string{"any second of the last", o.Text("pointInTimeWindowHours") + " h"})
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&interval, "interval", 0, "hours between snapshots: 6, 8, 12 or 24")
	fl.IntVar(&days, "days", 0, "days a snapshot is kept")
	fl.IntVar(&daily, "daily", 0, "days the first snapshot of a day is kept; 0: none is")
	fl.IntVar(&weekly, "weekly", 0, "weeks the first snapshot of a week is kept")
	fl.IntVar(&monthly, "monthly", 0, "months the first snapshot of a month is kept")
	fl.IntVar(&window, "window", 0, "hours back from now of which any second can be restored")
	fl.IntVar(&hour, "hour", 0, "hour of the day that snapshots are counted from")
	fl.IntVar(&minute, "minute", 0, "minute of that hour")
	fl.StringVar(&zone, "zone", "", "offset of that hour, as +0130")
	ask.DryFlag(cmd, &dry)
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func query(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return q
}
