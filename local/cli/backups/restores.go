package backups

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/ask"
	"github.com/heartwood-db/heartwood/local/cli/exit"
)

func restoreCommand() *cobra.Command {
	a := newApp()
	const example = "heartwood restore start rs0 --at 10m --output ."
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Plan, start and fetch restores",
		Long: `Plan, start and fetch restores, through the Public API of a running server. A restore is of a snapshot, or of any second that
heartwood backup show lists. What comes out is an archive of data files to start a mongod on, or an archive of BSON files for
mongorestore. The server does not write into a running replica set (--into) yet: it refuses, and says what to do instead.` + about + ask.Codes,
		Example: "  heartwood restore plan rs0 --at 10m\n  " + example + "\n  heartwood restore start rs0 --at 2026-12-24T18:00:00Z --namespace shop.orders --rename shop.orders=shop.orders_old --output .",
		Args:    ask.None(example),
		RunE: func(*cobra.Command, []string) error {
			return exit.Usagef(example, "what to do with restores is missing")
		},
	}
	a.Flags.Register(cmd)
	cmd.AddCommand(a.plan(), a.startRestore(), a.restores(), a.showRestore(), a.cancel(), a.download())
	return cmd
}

// moment are the flags that say what is restored and to where.
type moment struct {
	at, snapshot, oplog, format, into, intoGroup string
	namespaces                                   []string
	rename                                       map[string]string
	drop, plain                                  bool
	hours, downloads                             int
}

func (m *moment) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&m.at, "at", "", "the second to restore: a time, or how long ago (10m, 2h)")
	fl.StringVar(&m.snapshot, "snapshot", "", "id of a snapshot to restore")
	fl.StringVar(&m.oplog, "oplog", "", "exact position of the oplog to restore to, inclusive: seconds:increment")
	fl.StringVar(&m.format, "format", "", "files (data files, the default) or bson (for mongorestore)")
	fl.StringSliceVar(&m.namespaces, "namespace", nil, "only this database or database.collection (bson or --into); may be repeated")
	fl.StringToStringVar(&m.rename, "rename", nil, "give a database or collection another name: shop.orders=shop.orders_old")
	fl.StringVar(&m.into, "into", "", "write into this running replica set instead of making an archive: name or id")
	fl.StringVar(&m.intoGroup, "into-group", "", "id of the group of that replica set (default: the same)")
	fl.BoolVar(&m.drop, "drop", false, "with --into: drop collections that are in the way")
	fl.BoolVar(&m.plain, "tar", false, "a .tar archive instead of a .tar.gz")
	fl.IntVar(&m.hours, "hours", 0, "how long the link lives (default 48)")
	fl.IntVar(&m.downloads, "downloads", 0, "how often it may be used (default 1)")
}

func (m *moment) body(a app, example string) (ask.Object, error) {
	body := ask.Object{}
	given := 0
	if m.at != "" {
		t, err := ask.Moment(m.at, a.Now(), -1)
		if err != nil {
			return nil, exit.Usagef(example, "--at: %w", err)
		}
		given++
		body["pointInTimeUTCMillis"] = t.Truncate(time.Second).UnixMilli()
	}
	if m.snapshot != "" {
		if err := ask.IDs(example, []string{m.snapshot}); err != nil {
			return nil, err
		}
		given++
		body["snapshotId"] = m.snapshot
	}
	if m.oplog != "" {
		var sec, inc uint32
		if n, err := fmt.Sscanf(m.oplog, "%d:%d", &sec, &inc); err != nil || n != 2 {
			return nil, exit.Usagef(example, "--oplog %s: it is seconds:increment, as 1772330400:3", m.oplog)
		}
		given++
		body["oplogTs"], body["oplogInc"] = sec, inc
	}
	if given != 1 {
		return nil, exit.Usagef(example, "say what to restore with one of --at, --snapshot and --oplog")
	}
	switch strings.ToLower(m.format) {
	case "":
		if len(m.namespaces)+len(m.rename) > 0 {
			body["format"] = "BSON"
		}
	case "files", "bson":
		body["format"] = strings.ToUpper(m.format)
	default:
		return nil, exit.Usagef(example, "--format %s: it is files or bson", m.format)
	}
	if len(m.namespaces) > 0 {
		body["namespaces"] = m.namespaces
	}
	if len(m.rename) > 0 {
		body["rename"] = m.rename
	}
	body["compress"] = !m.plain
	delivery := ask.Object{"methodName": "HTTP"}
	if m.hours > 0 {
		delivery["expirationHours"] = m.hours
	}
	if m.downloads > 0 {
		delivery["maxDownloads"] = m.downloads
	}
	if m.drop && m.into == "" {
		return nil, exit.Usagef(example, "--drop is for --into")
	}
	if m.into != "" {
		body["drop"] = m.drop
		delivery = ask.Object{"methodName": "AUTOMATED_RESTORE", "targetClusterName": m.into}
		if ask.IDs(example, []string{m.into}) == nil {
			delivery = ask.Object{"methodName": "AUTOMATED_RESTORE", "targetClusterId": m.into}
		}
		if m.intoGroup != "" {
			delivery["targetGroupId"] = m.intoGroup
		}
	}
	body["delivery"] = delivery
	return body, nil
}

// sayPlan prints what a restore would do.
func sayPlan(cmd *cobra.Command, p ask.Object) error {
	rows := [][]string{
		{"from the snapshot of", p.When("snapshotAt")},
		{"restored to", p.Object("targetTimestamp").When("date")},
		{"mongod", p.Text("mongodVersion") + ", feature compatibility version " + p.Text("featureCompatibilityVersion")},
		{"bytes to move", size(p.Number("bytes"))},
		{"scratch space of the daemon", size(p.Number("scratchBytes"))},
		{"about", span(p.Number("seconds"))},
	}
	if o := p.Object("oplog"); p.Is("replay") {
		rows = append(rows, []string{"oplog to replay", fmt.Sprintf("%.0f entries, %s", o.Number("entries"), size(o.Number("bytes")))})
	}
	for _, w := range p.Texts("warnings") {
		rows = append(rows, []string{"mind", w})
	}
	if err := ask.Table(cmd.OutOrStdout(), rows...); err != nil {
		return err
	}
	ask.Say(cmd, "\nSteps")
	rows = [][]string{{"WHAT", "BYTES", "ABOUT"}}
	for _, s := range p.Objects("steps") {
		rows = append(rows, []string{s.Text("text"), size(s.Number("bytes")), span(s.Number("seconds"))})
	}
	if err := ask.Table(cmd.OutOrStdout(), rows...); err != nil {
		return err
	}
	if contents := p.Objects("contents"); len(contents) > 0 && (len(p.Texts("selected")) > 0 || len(p.Object("rename")) > 0) {
		ask.Say(cmd, "\nCollections")
		rows = [][]string{{"NAME THERE", "BYTES"}}
		for _, c := range contents {
			rows = append(rows, []string{c.Text("ns"), size(c.Number("bytes"))})
		}
		return ask.Table(cmd.OutOrStdout(), rows...)
	}
	return nil
}

func (a app) plan() *cobra.Command {
	var m moment
	var asJSON bool
	const example = "heartwood restore plan rs0 --at 10m"
	cmd := &cobra.Command{
		Use: "plan SET", Short: "Say what a restore would do, and do nothing",
		Long:    "Say what a restore would do, step by step with bytes and time, and do nothing. What is impossible is refused here, with every reason." + ask.Codes,
		Example: "  " + example, Args: ask.One(example, "the replica set"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runPlan(cmd, args[0], &m, example, asJSON)
		},
	}
	m.register(cmd)
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func (a app) runPlan(cmd *cobra.Command, name string, m *moment, example string, asJSON bool) error {
	body, err := m.body(a, example)
	if err != nil {
		return err
	}
	s, err := a.find(cmd.Context(), name)
	if err != nil {
		return err
	}
	var p ask.Object
	if err := s.Post(cmd.Context(), s.cluster("restoreJobs", "plan"), body, &p); err != nil {
		return err
	}
	if asJSON {
		return ask.JSON(cmd, p)
	}
	return sayPlan(cmd, p)
}

func (a app) startRestore() *cobra.Command {
	var m moment
	var dry, asJSON, wait bool
	var output string
	const example = "heartwood restore start rs0 --at 10m --output ."
	cmd := &cobra.Command{
		Use: "start SET", Short: "Start a restore; with --output wait for it and fetch the archive",
		Long: "Start a restore. With --wait follow it to its end, with --output fetch the archive then, checked against its SHA-256. --dry-run prints the plan." + ask.Codes, Example: "  heartwood restore start rs0 --at 10m --dry-run\n  " + example,
		Args: ask.One(example, "the replica set"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dry {
				return a.runPlan(cmd, args[0], &m, example, asJSON)
			}
			if output != "" && m.into != "" {
				return exit.Usagef(example, "--output is for archives: leave --into out")
			}
			body, err := m.body(a, example)
			if err != nil {
				return err
			}
			s, err := a.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var made ask.Object
			if err := s.Post(cmd.Context(), s.cluster("restoreJobs"), body, &made); err != nil {
				return err
			}
			jobs := made.Objects("results")
			if len(jobs) != 1 {
				return fmt.Errorf("the server answered %d restore jobs", len(jobs))
			}
			job := jobs[0]
			if wait || output != "" {
				ask.Hint(cmd, "restore %s of %s", job.Text("id"), s.name)
				if job, err = a.follow(cmd, s, job.Text("id")); err != nil {
					return err
				}
			}
			if output != "" {
				if err := a.fetch(cmd, job, output); err != nil {
					return err
				}
			}
			switch {
			case asJSON:
				return ask.JSON(cmd, job)
			case wait || output != "":
				return nil
			}
			ask.Say(cmd, "restore %s of %s has begun: heartwood restore show %s %s", job.Text("id"), s.name, args[0], job.Text("id"))
			return nil
		},
	}
	m.register(cmd)
	cmd.Flags().BoolVar(&wait, "wait", false, "follow it to its end")
	cmd.Flags().StringVarP(&output, "output", "o", "", "wait, and fetch the archive into this folder")
	ask.DryFlag(cmd, &dry)
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

// follow waits for the end of a restore and says on the way how far it is.
func (a app) follow(cmd *cobra.Command, s *set, id string) (ask.Object, error) {
	last := ""
	for {
		var o ask.Object
		if err := s.Get(cmd.Context(), s.cluster("restoreJobs", id), nil, &o); err != nil {
			return nil, err
		}
		switch o.Text("statusName") {
		case "FINISHED":
			return o, nil
		case "IN_PROGRESS":
		default:
			return nil, fmt.Errorf("restore %s is %s: %s. %s", id, strings.ToLower(o.Text("statusName")), strings.TrimSuffix(o.Text("errorText"), "."), o.Text("remedy"))
		}
		p := o.Object("progress")
		if now := progress(p.Text("step"), p.Number("doneBytes"), p.Number("totalBytes"), "bytes"); now != last {
			ask.Hint(cmd, "%s", now)
			last = now
		}
		if err := a.wait(cmd.Context(), 2*time.Second); err != nil {
			return nil, err
		}
	}
}

func (a app) restores() *cobra.Command {
	var asJSON bool
	const example = "heartwood restore list rs0"
	cmd := &cobra.Command{
		Use: "list SET", Short: "List restores, newest first", Long: "List the restores of a backup, newest first." + ask.Codes, Example: "  " + example,
		Args: ask.One(example, "the replica set"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			found, _, err := s.List(cmd.Context(), s.cluster("restoreJobs"), nil, 0)
			if err != nil {
				return err
			}
			if asJSON {
				return ask.JSON(cmd, found)
			}
			if len(found) == 0 {
				ask.Hint(cmd, "no restores: heartwood restore start %s --at 10m", args[0])
				return nil
			}
			rows := [][]string{{"ID", "CREATED", "RESTORED TO", "STATUS", "DELIVERY", "TEXT"}}
			for _, f := range found {
				o := ask.Object(f)
				text := o.Text("errorText")
				if p := o.Object("progress"); len(p) > 0 {
					text = progress(p.Text("step"), p.Number("doneBytes"), p.Number("totalBytes"), "bytes")
				}
				d := o.Object("delivery")
				rows = append(rows, []string{o.Text("id"), o.When("created"), o.Object("timestamp").When("date"), o.Text("statusName"), d.Text("methodName") + " " + d.Text("statusName"), text})
			}
			return ask.Table(cmd.OutOrStdout(), rows...)
		},
	}
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func (a app) showRestore() *cobra.Command {
	var asJSON bool
	const example = "heartwood restore show rs0 65f0c0ffee0000000000a1e7"
	cmd := &cobra.Command{
		Use: "show SET ID", Short: "Show a restore: how far it is, where to fetch it", Long: "Show a restore: how far it is, what went wrong, where to fetch the archive." + ask.Codes,
		Example: "  " + example, Args: two(example),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var o ask.Object
			if err := s.Get(cmd.Context(), s.cluster("restoreJobs", args[1]), nil, &o); err != nil {
				return err
			}
			if asJSON {
				return ask.JSON(cmd, o)
			}
			d := o.Object("delivery")
			rows := [][]string{
				{"restore", o.Text("id")},
				{"of", s.name},
				{"to", o.Object("timestamp").When("date")},
				{"status", o.Text("statusName")},
				{"delivery", d.Text("methodName") + " " + d.Text("statusName")},
			}
			put := func(name, value string) {
				if value != "" {
					rows = append(rows, []string{name, value})
				}
			}
			if p := o.Object("progress"); len(p) > 0 {
				put("doing", progress(p.Text("step"), p.Number("doneBytes"), p.Number("totalBytes"), "bytes"))
			}
			put("went wrong", o.Text("errorText"))
			put("what to do", o.Text("remedy"))
			put("link", d.Text("url"))
			put("expires", d.When("expires"))
			for _, h := range o.Objects("hashes") {
				put("SHA-256 of "+h.Text("fileName"), h.Text("hash"))
			}
			return ask.Table(cmd.OutOrStdout(), rows...)
		},
	}
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func (a app) cancel() *cobra.Command {
	var dry bool
	const example = "heartwood restore cancel rs0 65f0c0ffee0000000000a1e7"
	cmd := &cobra.Command{
		Use: "cancel SET ID", Short: "Cancel a restore", Long: "Cancel a restore. Collections that were pushed already stay in the target." + ask.Codes,
		Example: "  " + example, Args: two(example),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if dry {
				ask.Say(cmd, "restore %s of %s would be cancelled", args[1], s.name)
				return nil
			}
			if err := s.Delete(cmd.Context(), s.cluster("restoreJobs", args[1])); err != nil {
				return err
			}
			ask.Say(cmd, "restore %s of %s is cancelled", args[1], s.name)
			return nil
		},
	}
	ask.DryFlag(cmd, &dry)
	return cmd
}

func (a app) download() *cobra.Command {
	var output string
	const example = "heartwood restore download rs0 65f0c0ffee0000000000a1e7 --output ."
	cmd := &cobra.Command{
		Use: "download SET ID", Short: "Fetch the archive of a restore, and check it",
		Long:    "Fetch the archive of a restore into a folder, going on where an earlier attempt ended, and check it against its SHA-256." + ask.Codes,
		Example: "  " + example, Args: two(example),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			o, err := a.follow(cmd, s, args[1])
			if err != nil {
				return err
			}
			return a.fetch(cmd, o, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", ".", "folder to put it in")
	return cmd
}
