package backups

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/ask"
	"github.com/heartwood-db/heartwood/local/cli/exit"
)

func snapshotsCommand() *cobra.Command {
	a := newApp()
	const example = "heartwood snapshots list rs0"
	cmd := &cobra.Command{
		Use:     "snapshots",
		Short:   "List, take, keep and delete snapshots of a backup",
		Long:    "List, take, keep and delete snapshots of a backup, through the Public API of a running server." + about + ask.Codes,
		Example: "  " + example + "\n  heartwood snapshots take rs0 --days 7\n  heartwood snapshots keep rs0 65f0c0ffee0000000000a1e7 --forever",
		Args:    ask.None(example),
		RunE: func(*cobra.Command, []string) error {
			return exit.Usagef(example, "what to do with snapshots is missing")
		},
	}
	a.Flags.Register(cmd)
	cmd.AddCommand(a.snapshots(), a.take(), a.keep(), a.remove())
	return cmd
}

func (a app) snapshots() *cobra.Command {
	var asJSON, all bool
	const example = "heartwood snapshots list rs0"
	cmd := &cobra.Command{
		Use: "list SET", Short: "List the snapshots of a backup, oldest first", Long: "List the snapshots of a backup, oldest first." + ask.Codes,
		Example: "  " + example + "\n  heartwood snapshots list rs0 --all --json", Args: ask.One(example, "the replica set"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			completed := "true"
			if all {
				completed = "all"
			}
			found, _, err := s.List(cmd.Context(), s.cluster("snapshots"), query("completed", completed), 0)
			if err != nil {
				return err
			}
			if asJSON {
				return ask.JSON(cmd, found)
			}
			if len(found) == 0 {
				ask.Hint(cmd, "no snapshots: the first is taken as soon as a backup has read everything (heartwood backup show %s)", args[0])
				return nil
			}
			rows := [][]string{{"ID", "HOLDS", "EXPIRES", "FILES", "ADDED", "MONGOD", "VERIFIED"}}
			for _, f := range found {
				o := ask.Object(f)
				part := ask.Object{}
				if parts := o.Objects("parts"); len(parts) > 0 {
					part = parts[0]
				}
				expires := o.When("expires")
				if o.Is("doNotDelete") {
					expires = "never"
				}
				if !o.Is("complete") {
					expires = "incomplete"
				}
				verified := o.When("verified")
				if e := o.Text("verifyError"); e != "" {
					verified = "DAMAGED: " + e
				}
				rows = append(rows, []string{
					o.Text("id"), o.Object("lastOplogAppliedTimestamp").When("date"), expires, size(part.Number("fileSizeBytes")),
					size(part.Number("storageSizeBytes")), part.Text("mongodVersion"), verified,
				})
			}
			return ask.Table(cmd.OutOrStdout(), rows...)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "incomplete ones too")
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func (a app) take() *cobra.Command {
	var days int
	var dry, asJSON bool
	const example = "heartwood snapshots take rs0 --days 7"
	cmd := &cobra.Command{
		Use: "take SET", Short: "Ask for a snapshot now", Long: "Ask for a snapshot now. A daemon takes it as soon as the head has reached the present." + ask.Codes,
		Example: "  " + example, Args: ask.One(example, "the replica set"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if days < 0 {
				return exit.Usagef(example, "--days %d is negative", days)
			}
			s, err := a.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if dry {
				ask.Say(cmd, "a snapshot of %s would be taken", s.name)
				return nil
			}
			path := s.cluster("snapshots", "onDemandSnapshot")
			if days > 0 {
				path += fmt.Sprintf("?retentionDays=%d", days)
			}
			var o ask.Object
			if err := s.Post(cmd.Context(), path, ask.Object{}, &o); err != nil {
				return err
			}
			if asJSON {
				return ask.JSON(cmd, o)
			}
			ask.Say(cmd, "snapshot %s of %s will be taken", o.Text("id"), s.name)
			return nil
		},
	}
	cmd.Flags().IntVar(&days, "days", 0, "days it is kept (default: as long as others)")
	ask.DryFlag(cmd, &dry)
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

// two wants the replica set and an id.
func two(example string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 2 {
			return exit.Usagef(example, "the replica set and the snapshot's id are needed")
		}
		return ask.IDs(example, args[1:])
	}
}

func (a app) keep() *cobra.Command {
	var until string
	var forever, scheduled, dry, asJSON bool
	const example = "heartwood snapshots keep rs0 65f0c0ffee0000000000a1e7 --until 30d"
	cmd := &cobra.Command{
		Use: "keep SET ID", Short: "Change how long a snapshot is kept", Long: "Change how long a snapshot is kept: until a time, for ever, or as the schedule says." + ask.Codes,
		Example: "  " + example, Args: two(example),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := ask.Object{}
			switch {
			case forever && until == "" && !scheduled:
				body["doNotDelete"] = true
			case scheduled && until == "" && !forever:
				body["doNotDelete"] = false
			case until != "" && !forever && !scheduled:
				t, err := ask.Moment(until, a.Now(), 1)
				if err != nil {
					return exit.Usagef(example, "--until: %w", err)
				}
				body["expires"] = ask.Stamp(t)
			default:
				return exit.Usagef(example, "say one of --until, --forever and --scheduled")
			}
			s, err := a.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if dry {
				return ask.JSON(cmd, body)
			}
			var o ask.Object
			if err := s.Patch(cmd.Context(), s.cluster("snapshots", args[1]), body, &o); err != nil {
				return err
			}
			if asJSON {
				return ask.JSON(cmd, o)
			}
			kept := "until " + o.When("expires")
			if o.Is("doNotDelete") {
				kept = "for ever"
			}
			ask.Say(cmd, "snapshot %s is kept %s", args[1], kept)
			return nil
		},
	}
	cmd.Flags().StringVar(&until, "until", "", "a time, or how long from now: 7d, 2026-12-24")
	cmd.Flags().BoolVar(&forever, "forever", false, "never delete it")
	cmd.Flags().BoolVar(&scheduled, "scheduled", false, "as the schedule says")
	ask.DryFlag(cmd, &dry)
	ask.JSONFlag(cmd, &asJSON)
	return cmd
}

func (a app) remove() *cobra.Command {
	var yes, dry bool
	const example = "heartwood snapshots delete rs0 65f0c0ffee0000000000a1e7 --yes"
	cmd := &cobra.Command{
		Use: "delete SET ID", Short: "Delete a snapshot",
		Long:    "Delete a snapshot. The last one of a running backup stays; one within the window of restorable seconds only administrators of backup may delete." + ask.Codes,
		Example: "  " + example, Args: two(example),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var o ask.Object
			if err := s.Get(cmd.Context(), s.cluster("snapshots", args[1]), nil, &o); err != nil {
				return err
			}
			what := strings.TrimSpace("snapshot " + args[1] + " of " + s.name + " " + o.Object("lastOplogAppliedTimestamp").When("date"))
			if dry {
				ask.Say(cmd, "%s would be deleted", what)
				return nil
			}
			if !yes {
				return exit.Usagef(example, "%s would be deleted for ever: say --yes", what)
			}
			if err := s.Delete(cmd.Context(), s.cluster("snapshots", args[1])); err != nil {
				return err
			}
			ask.Say(cmd, "%s is being deleted", what)
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "delete it")
	ask.DryFlag(cmd, &dry)
	return cmd
}
