// Package code is the part of `heartwood alerts` in which settings are files: try, export and apply.
package code

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/ask"
	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/local/cli/public"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/rule"
	"github.com/heartwood-db/heartwood/shared/rule/file"
	"github.com/heartwood-db/heartwood/shared/rule/match"
)

// app has the commands.
type app struct{ *ask.App }

// session is a server.
type session struct{ *ask.Session }

func (a app) open(ctx context.Context, global bool) (session, error) {
	s, err := a.Open(ctx, global)
	return session{s}, err
}

// Commands are the commands of this package.
func Commands(shared *ask.App) []*cobra.Command {
	a := app{shared}
	return []*cobra.Command{a.try(), a.export(), a.apply()}
}

// load reads the settings that the server has.
func (s session) load(ctx context.Context) (*file.File, error) {
	f := &file.File{HasConfigs: true, HasWindows: !s.Global}
	configs, _, err := s.List(ctx, s.Configs(), nil, 0)
	if err != nil {
		return nil, err
	}
	for _, o := range configs {
		c, err := file.FromAPI(o, file.Options{Channels: channels{}, Global: s.Global})
		if err != nil {
			return nil, fmt.Errorf("read the server's alert configuration %v: %w", o["id"], err)
		}
		f.Configs = append(f.Configs, c)
	}
	if s.Global {
		return f, nil
	}
	windows, _, err := s.List(ctx, s.In("maintenanceWindows"), nil, 0)
	if err != nil {
		return nil, err
	}
	for _, o := range windows {
		w, err := file.WindowFromAPI(o)
		if err != nil {
			return nil, fmt.Errorf("read the server's maintenance window %v: %w", o["id"], err)
		}
		f.Windows = append(f.Windows, w)
	}
	return f, nil
}

func (a app) export() *cobra.Command {
	var out string
	var global bool
	const example = "heartwood alerts export -o alerts.yaml"
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the alert settings of the group as a file for version control",
		Long: `Write the alert configurations and the maintenance windows of the group (with --global the global configurations) as a YAML file
with the Public API's names. What is usual is left out, and secrets are masked: applying the file keeps them. Maintenance
windows that are over are left out.` + ask.Codes,
		Example: "  " + example + "\n  heartwood alerts export --global -o global-alerts.yaml",
		Args:    ask.None(example),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context(), global)
			if err != nil {
				return err
			}
			f, err := s.load(cmd.Context())
			if err != nil {
				return err
			}
			f.Windows = slices.DeleteFunc(f.Windows, func(w file.Window) bool { return file.Over(&w.MaintenanceWindow, a.Now()) })
			of := fmt.Sprintf("group %q (%s)", s.Group.Name, s.Group.ID)
			apply := "heartwood alerts apply FILE"
			if global {
				of, apply = "the whole site", "heartwood alerts apply FILE --global"
			}
			b, err := file.Encode(f,
				"Heartwood alert settings of "+of+". Names are those of the Public API; what is usual is left out:",
				"enabled: true, no matchers, delayMin: 0, units: RAW.",
				"Show what a change would do: "+apply+" --dry-run    Carry it out: "+apply,
				"An id ties an entry to the one on the server; without it, what it looks for does. New entries have none.",
				"Masked secrets (************abcd) are kept. Give new ones as ${NAME_OF_AN_ENVIRONMENT_VARIABLE}.",
			)
			if err != nil {
				return err
			}
			if out == "" || out == "-" {
				_, err := cmd.OutOrStdout().Write(b)
				return err
			}
			if err := write(out, b); err != nil {
				return opererr.New("write the settings", err, "give another file with -o")
			}
			ask.Hint(cmd, "%s and %s are in %s", ask.Count(len(f.Configs), "alert configuration"), ask.Count(len(f.Windows), "maintenance window"), out)
			return nil
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write (default: standard output)")
	ask.GlobalFlag(cmd, &global, "those")
	return cmd
}

// write replaces a file so that a crash leaves the old one or the new one.
func write(name string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".alerts-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()) //nolint:gosec // holds no secrets, and is for version control
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}

func (a app) apply() *cobra.Command {
	var dry, prune, secrets, global, asJSON bool
	const example = "heartwood alerts apply alerts.yaml --dry-run"
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Make the alert settings what a file says",
		Long: `Make the alert settings what a file says: the plan is shown field by field, then carried out. With --dry-run it is only shown. Before
the first change everything is checked, by the server too: where anything is wrong, all of it is listed and nothing is changed.
An apply that was interrupted can be run again.

What the server has and the file has not stays, unless --prune is given; a list that the file does not have at all
(maintenanceWindows) is never pruned. Fields of a channel that are left out stay as they are. Stored secrets cannot be read back:
one whose last four characters are those of the file's counts as the same, unless --secrets writes all of them anew.

Exit ask.Codes: 0 done (or nothing to do), 1 failed or not valid, 2 wrong usage.`,
		Example: "  " + example + "\n  SLACK_TOKEN=xoxb-... heartwood alerts apply alerts.yaml --prune",
		Args:    ask.One(example, "the file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := readFile(cmd, args[0], global)
			if err != nil {
				return err
			}
			s, err := a.open(cmd.Context(), global)
			if err != nil {
				return err
			}
			faults := append(f.Resolve(lookup), f.Check(model.ID(s.Group.ID), lenient)...)
			have, err := s.load(cmd.Context())
			if err != nil {
				return err
			}
			plan, wrong := file.Diff(have, f, file.DiffOptions{Channels: channels{}, Global: global, Prune: prune, Secrets: secrets, Now: a.Now()})
			if faults = append(faults, wrong...); len(faults) > 0 {
				return invalid(args[0], faults)
			}
			if faults, err = s.ask(cmd.Context(), f, plan); err != nil {
				return err
			} else if len(faults) > 0 {
				return invalid(args[0], faults)
			}
			if asJSON {
				err = ask.JSON(cmd, plan)
			} else {
				err = show(cmd, plan, dry)
			}
			if err != nil || dry {
				return err
			}
			return s.carryOut(cmd, plan, asJSON)
		},
	}
	ask.DryFlag(cmd, &dry)
	cmd.Flags().BoolVar(&prune, "prune", false, "remove what the file does not have")
	cmd.Flags().BoolVar(&secrets, "secrets", false, "write all secrets of the file anew")
	ask.GlobalFlag(cmd, &global, "those")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the plan as JSON")
	return cmd
}

func lookup(name string) (string, bool) { return os.LookupEnv(name) }

// lenient is notify.Check for a notification of a file: what is masked or comes from the group's integrations may be on the
// server, which has the last word.
func lenient(n model.Notification, global bool) []rule.Fault {
	c, _ := notify.ChannelOf(n.Channel)
	full := n
	full.Secrets = map[string]model.Secret{}
	for name, s := range n.Secrets {
		if !strings.HasPrefix(s.Reveal(), "****") && !strings.HasPrefix(s.Reveal(), "${") {
			full.Secrets[name] = s
		}
	}
	var faults []rule.Fault
	for _, f := range notify.Check(full, global) {
		field, ok := c.Field(f.Path)
		given := n.Secrets[f.Path] != "" && full.Secrets[f.Path] == ""
		absent := n.Secrets[f.Path] == "" && n.Fields[f.Path] == ""
		if ok && (given || absent && field.Integration != "") {
			continue
		}
		faults = append(faults, f)
	}
	return faults
}

// ask has the server check what would be written, as far as it can without writing: a trial of a group's configuration checks it
// whole. For global ones, whom and what they name is looked up.
func (s session) ask(ctx context.Context, f *file.File, plan *file.Plan) (faults file.Faults, err error) {
	for i := range plan.Steps {
		step := &plan.Steps[i]
		if step.Config == nil || step.Action == file.Remove {
			continue
		}
		place := slices.IndexFunc(f.Configs, func(c file.Config) bool { return c.Line() == step.Line })
		check := s.tried
		if s.Global {
			check = s.lookedUp
		}
		found, err := check(ctx, step.Config)
		if err != nil {
			return nil, err
		}
		for _, x := range found {
			faults = append(faults, step.Config.Place(place, x.Attribute, x.Code, x.Detail))
		}
	}
	return faults, nil
}

// faultsOf are the faults that an answer of the API names; other errors are no faults of the file.
func faultsOf(err error) ([]public.Fault, error) {
	var e *public.Error
	if !errors.As(err, &e) || e.Status != 400 {
		return nil, err
	}
	if len(e.Faults) > 0 {
		return e.Faults, nil
	}
	return []public.Fault{{Code: e.Code, Detail: e.Detail}}, nil
}

// nowhere matches no host, so that the trial reads no history.
var nowhere = model.Matcher{Field: "HOSTNAME", Operator: "EQUALS", Value: "nowhere.invalid"}

func (s session) tried(ctx context.Context, c *file.Config) ([]public.Fault, error) {
	whole := *c
	if whole.Metric != nil && len(whole.Matchers) < match.MaxMatchers {
		whole.Matchers = append(slices.Clone(whole.Matchers), nowhere)
	}
	_, err := s.try(ctx, whole.Body(false), 1)
	return faultsOf(err)
}

func (s session) lookedUp(ctx context.Context, c *file.Config) (faults []public.Fault, err error) {
	missing := func(path, attribute, code, text string) error {
		var e *public.Error
		err := s.Get(ctx, path, nil, nil)
		if errors.As(err, &e) && (e.Status == 404 || e.Status == 400) {
			faults = append(faults, public.Fault{Attribute: attribute, Code: code, Detail: text})
			return nil
		}
		return err
	}
	for i, n := range c.Notifications {
		if name := n.Fields["username"]; n.Channel == notify.User && name != "" {
			if err := missing("/users/byName/"+url.PathEscape(name), fmt.Sprintf("notifications[%d].username", i), "BAD_USERNAME_REF", fmt.Sprintf("No user with username %s exists.", name)); err != nil {
				return nil, err
			}
		}
	}
	for i, id := range c.GroupIDs {
		if err := missing("/groups/"+url.PathEscape(string(id)), fmt.Sprintf("groupIds[%d]", i), "GROUP_NOT_FOUND", fmt.Sprintf("No group with ID %s exists.", id)); err != nil {
			return nil, err
		}
	}
	return faults, nil
}

// signs are how actions are drawn.
var signs = map[string]string{file.Add: "+", file.Change: "~", file.Replace: "~", file.Remove: "-"}

// show prints a plan.
func show(cmd *cobra.Command, plan *file.Plan, dry bool) error {
	counts := map[string]int{}
	for _, step := range plan.Steps {
		counts[step.Action]++
		id := string(step.ID)
		if id != "" {
			id = " (" + id + ")"
		}
		ask.Say(cmd, "%s %s %s: %s%s", signs[step.Action], step.Action, strings.TrimSuffix(step.Kind, "s"), step.Label, id)
		for _, f := range step.Fields {
			ask.Say(cmd, "    %s: %s -> %s", f.Field, quoted(f.Old), quoted(f.New))
		}
	}
	for _, n := range plan.Notes {
		ask.Hint(cmd, "%s", ask.Clean(n))
	}
	if n := len(plan.Left); n > 0 {
		ask.Hint(cmd, "%s not in the file, left as %s (--prune removes):", ask.Count(n, "setting"), map[bool]string{true: "it is", false: "they are"}[n == 1])
		for _, l := range plan.Left {
			ask.Hint(cmd, "  %s", ask.Clean(l))
		}
	}
	word := ""
	if dry {
		word = " (dry run: nothing was changed)"
	}
	ask.Say(cmd, "%d to add, %d to change, %d to remove, %d unchanged%s", counts[file.Add], counts[file.Change]+counts[file.Replace], counts[file.Remove], plan.Same, word)
	return nil
}

func quoted(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// carryOut does what the plan says, step by step. What is done stays done: run again, the plan is what is left.
func (s session) carryOut(cmd *cobra.Command, plan *file.Plan, quiet bool) error {
	for i := range plan.Steps {
		step := &plan.Steps[i]
		if err := s.carry(cmd.Context(), step); err != nil {
			return &exit.Error{Code: exit.Failed, Err: fmt.Errorf("%s %s: %w\n%d of %d steps are done; the same command goes on with the rest", step.Action, step.Label, err, i, len(plan.Steps))}
		}
	}
	if !quiet && len(plan.Steps) > 0 {
		ask.Say(cmd, "done")
	}
	return nil
}

func (s session) carry(ctx context.Context, step *file.Step) error {
	base := s.Configs
	var body map[string]any
	if step.Kind == file.Windows {
		base = func(segments ...string) string { return s.In(append([]string{"maintenanceWindows"}, segments...)...) }
		if step.Window != nil {
			body = step.Window.Body()
		}
	} else if step.Config != nil {
		body = step.Config.Body(s.Global)
	}
	id := string(step.ID)
	switch step.Action {
	case file.Add:
		return s.Post(ctx, base(), body, nil)
	case file.Change:
		if step.Kind == file.Windows {
			return s.Patch(ctx, base(id), body, nil)
		}
		return s.Put(ctx, base(id), body, nil)
	case file.Replace:
		if err := s.Post(ctx, base(), body, nil); err != nil {
			return err
		}
		return s.Delete(ctx, base(id))
	}
	return s.Delete(ctx, base(id))
}
