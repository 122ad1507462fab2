package backups

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/ask"
	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/local/cli/public"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

func restoreCommand() *cobra.Command {
	a := newApp()
	const example = "heartwood restore start rs0 --at 10m --output ."
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Plan, start and fetch restores",
		Long: `Plan, start and fetch restores, through the Public API of a running server. A restore is of a snapshot, or of any second that
heartwood backup show lists. What comes out is an archive of data files to start a mongod on, or an archive of BSON files for
mongorestore; or, with --into, the backup agent beside a running replica set writes it there. Nothing of that one is touched before
everything has arrived: then each collection is replaced at one moment.` + about + ask.Codes,
		Example: "  heartwood restore plan rs0 --at 10m\n  " + example + "\n  heartwood restore start rs0 --at 2026-12-24T18:00:00Z --namespace shop.orders --rename shop.orders=shop.orders_old --output .\n  heartwood restore start rs0 --at 10m --into rs0 --namespace shop.orders --drop --wait",
		Args:    ask.None(example),
		RunE: func(*cobra.Command, []string) error {
			return exit.Usagef(example, "what to do with restores is missing")
		},
	}
	a.Flags.Register(cmd)
	cmd.AddCommand(a.plan(), a.startRestore(), a.restores(), a.showRestore(), a.cancel(), a.download())
	return cmd
}

// intoExample is a restore into a running deployment.
const intoExample = "heartwood restore start rs0 --at 10m --into rs1 --drop --wait"

// moment are the flags that say what is restored and to where.
type moment struct {
	at, snapshot, oplog, format, into, intoGroup string
	namespaces                                   []string
	rename                                       map[string]string
	drop, plain, users                           bool
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
	fl.StringVar(&m.into, "into", "", "write into this running replica set instead of making an archive: name or id of its cluster")
	fl.StringVar(&m.intoGroup, "into-group", "", "id of the group of that replica set (default: the same)")
	fl.BoolVar(&m.drop, "drop", false, "with --into: replace collections that are there already")
	fl.BoolVar(&m.users, "users", false, "with --into: add the users and roles of the backup that are not there")
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
	switch {
	case m.into == "" && (m.drop || m.users || m.intoGroup != ""):
		return nil, exit.Usagef(intoExample, "--drop, --users and --into-group are for --into")
	case m.into != "" && (m.hours > 0 || m.downloads > 0 || m.plain || m.format != ""):
		return nil, exit.Usagef(intoExample, "--format, --tar, --hours and --downloads are for archives: leave them out with --into")
	case m.into != "":
		delete(body, "format")
		delete(body, "compress")
		body["drop"], body["users"] = m.drop, m.users
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
	}
	if into := p.Object("into"); len(into) > 0 {
		rows = append(rows, []string{"written into", strings.TrimSuffix(fmt.Sprintf("%s, mongod %s", into.Text("name"), into.Text("mongodVersion")), ", mongod ")})
	}
	rows = append(rows, [][]string{
		{"mongod", p.Text("mongodVersion") + ", feature compatibility version " + p.Text("featureCompatibilityVersion")},
		{"bytes to move", size(p.Number("bytes"))},
		{"scratch space of the daemon", size(p.Number("scratchBytes"))},
		{"about", span(p.Number("seconds"))},
	}...)
	if o := p.Object("oplog"); p.Is("replay") {
		rows = append(rows, []string{"oplog to replay", fmt.Sprintf("%.0f entries, %s", o.Number("entries"), size(o.Number("bytes")))})
	}
	if there := p.Texts("overwrites"); len(there) > 0 {
		rows = append(rows, []string{"replaced", someOf(there)})
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
	if contents := p.Objects("contents"); len(contents) > 0 && (p.Is("push") || len(p.Texts("selected")) > 0 || len(p.Object("rename")) > 0) {
		ask.Say(cmd, "\nCollections")
		rows = [][]string{{"NAME THERE", "BYTES"}}
		for _, c := range contents {
			rows = append(rows, []string{c.Text("ns"), size(c.Number("bytes"))})
		}
		return ask.Table(cmd.OutOrStdout(), rows...)
	}
	return nil
}

// someOf shortens a list.
func someOf(names []string) string {
	const most = 10
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
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
		Long: `Start a restore. With --wait follow it to its end, with --output fetch the archive then, checked against its SHA-256. --dry-run
prints the plan.

With --into the backup agent beside that replica set writes what is restored into it, as the user that its own configuration names
(restoreUsername). It writes into collections of other names first and puts them in place when all is there; until then --drop
has dropped nothing. A failure, or a cancellation, is told with what it leaves and what to do.` + ask.Codes,
		Example: "  heartwood restore start rs0 --at 10m --dry-run\n  " + example + "\n  " + intoExample,
		Args:    ask.One(example, "the replica set"),
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
			job, err := s.ask(cmd, body)
			if err != nil {
				return err
			}
			if wait || output != "" {
				ask.Hint(cmd, "restore %s of %s", job.Text("id"), s.name)
				if job, err = a.follow(cmd, s, job.Text("id")); err != nil {
					if asJSON && len(job) > 0 {
						err = errors.Join(err, ask.JSON(cmd, job))
					}
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
			case output != "":
				return nil
			case wait && m.into != "":
				ask.Say(cmd, "restore %s of %s is in place in %s", job.Text("id"), s.name, job.Object("delivery").Text("targetClusterName"))
				return nil
			case wait:
				ask.Say(cmd, "restore %s of %s is ready: heartwood restore download %s %s", job.Text("id"), s.name, args[0], job.Text("id"))
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

// ask asks for a restore.
func (s *set) ask(cmd *cobra.Command, body ask.Object) (ask.Object, error) {
	var made ask.Object
	if err := s.Post(cmd.Context(), s.cluster("restoreJobs"), body, &made); err != nil {
		return nil, err
	}
	jobs := made.Objects("results")
	if len(jobs) != 1 {
		return nil, fmt.Errorf("the server answered %d restore jobs", len(jobs))
	}
	return jobs[0], nil
}

// patience is how often in a row, 2 seconds apart, following a restore may meet a server that does not answer.
const patience = 60

// follow waits for the end of a restore and says on the way how far it is. The restore is answered with the error of one that has
// failed.
func (a app) follow(cmd *cobra.Command, s *set, id string) (ask.Object, error) {
	last, unheard := "", 0
	for {
		var o ask.Object
		if err := s.Get(cmd.Context(), s.cluster("restoreJobs", id), nil, &o); err != nil {
			var refused *public.Error
			if unheard++; unheard > patience || errors.As(err, &refused) && refused.Status < http.StatusInternalServerError || cmd.Context().Err() != nil {
				return nil, err
			}
			ask.Hint(cmd, "the server does not answer (%v), the restore goes on", err)
			if err := a.wait(cmd.Context(), 2*time.Second); err != nil {
				return nil, err
			}
			continue
		}
		unheard = 0
		switch o.Text("statusName") {
		case "FINISHED":
			return o, nil
		case "IN_PROGRESS":
		default:
			err := fmt.Errorf("it is %s: %s", strings.ToLower(o.Text("statusName")), strings.TrimSuffix(o.Text("errorText"), "."))
			return o, opererr.New("restore "+id, err, o.Text("remedy"))
		}
		if now := howFar(o.Object("progress")); now != last {
			ask.Hint(cmd, "%s", now)
			last = now
		}
		if err := a.wait(cmd.Context(), 2*time.Second); err != nil {
			return nil, err
		}
	}
}

// howFar is a restore's progress for people: what is done, of how much, and how long all that follows will take.
func howFar(p ask.Object) string {
	text := progress(p.Text("step"), p.Number("doneBytes"), p.Number("totalBytes"), "bytes")
	if p.Number("doneBytes") == 0 && p.Number("totalBytes") == 0 {
		text = p.Text("step")
	}
	if left, ok := p["secondsLeft"].(float64); ok && left > 0 {
		text += ", about " + span(left) + " left"
	}
	return text
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
					text = howFar(p)
				}
				d := o.Object("delivery")
				rows = append(rows, []string{o.Text("id"), o.When("created"), o.Object("timestamp").When("date"), o.Text("statusName"), delivered(d), text})
			}
			return ask.Table(cmd.OutOrStdout(), rows...)
		},
	}
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

// delivered is how what was restored reaches its target.
func delivered(d ask.Object) string {
	if d.Text("targetClusterId") == "" {
		return d.Text("methodName") + " " + d.Text("statusName")
	}
	name := d.Text("targetClusterName")
	if name == "" {
		name = d.Text("targetClusterId")
	}
	return "into " + name
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
				{"delivery", delivered(d)},
			}
			put := func(name, value string) {
				if value != "" {
					rows = append(rows, []string{name, value})
				}
			}
			if p := o.Object("progress"); len(p) > 0 {
				put("doing", howFar(p))
				for _, step := range p.Objects("steps") {
					put("", strings.ToLower(step.Text("statusName"))+": "+step.Text("text"))
				}
			}
			put("went wrong", o.Text("errorText"))
			put("what to do", o.Text("remedy"))
			put("link", d.Text("url"))
			if d.Text("targetClusterId") == "" {
				put("expires", d.When("expires"))
			}
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
		Use: "cancel SET ID", Short: "Cancel a restore", Long: "Cancel a restore. Of one into a running deployment the backup agent removes what it has written, unless it is putting collections in place already: those that are stay. heartwood restore show says what was left." + ask.Codes,
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
			var o ask.Object
			if err := s.Get(cmd.Context(), s.cluster("restoreJobs", args[1]), nil, &o); err != nil {
				return err
			}
			switch {
			case o.Text("statusName") == "KILLED":
				ask.Say(cmd, "restore %s of %s is cancelled: %s", args[1], s.name, strings.TrimSuffix(o.Text("errorText"), "."))
				return nil
			case o.Text("statusName") == "FINISHED" && o.Object("delivery").Text("targetClusterId") == "":
				ask.Say(cmd, "restore %s of %s was finished; its link ends now", args[1], s.name)
				return nil
			}
			return fmt.Errorf("restore %s of %s is %s already: nothing was undone", args[1], s.name, strings.ToLower(o.Text("statusName")))
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
