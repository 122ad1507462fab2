package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/local/site"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

func newConfigCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show, check and set the server's settings",
		Long: `Show, check and set the server's settings.

A value comes from the first of: flag, environment, file (--config), database, default.`,
	}
	cmd.AddCommand(newConfigShowCmd(), newConfigCheckCmd(), newConfigSetCmd())
	return cmd
}

func newConfigShowCmd() *cobra.Command {
	var f serverFlags
	var asJSON, help bool
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Print every setting, its effective value and where it came from; secrets are redacted",
		Example: "  heartwood config show --config conf-mms.properties\n  heartwood config show --describe",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			src, err := f.sources()
			if err != nil {
				return err
			}
			l, err := config.Load(src)
			if err != nil {
				return fmt.Errorf("settings:\n%w", err)
			}
			if withDB, err := loadWithDatabase(cmd.Context(), src, &l.Server); err != nil {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "without the values kept in the database: %v\n", err)
			} else if withDB != nil {
				l = withDB
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(l.Redacted())
			}
			return printRows(cmd.OutOrStdout(), l.Redacted(), help)
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&help, "describe", false, "add each setting's environment variable and meaning")
	return cmd
}

func printRows(w io.Writer, rows []config.Row, describe bool) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		if _, err := fmt.Fprintf(tw, "%s\t%s\t%s\n", r.Key, r.Value, r.Origin); err != nil {
			return err
		}
		if describe {
			if _, err := fmt.Fprintf(tw, "  %s; environment %s\t\t\n", r.Help, r.Env); err != nil {
				return err
			}
		}
	}
	return tw.Flush()
}

// loadWithDatabase adds the database's layer. A site that does not exist yet is not made: the answer is nil then.
func loadWithDatabase(ctx context.Context, src config.Sources, c *config.Server) (*config.Loaded, error) {
	exists, err := site.Exists(ctx, c)
	if err != nil || !exists {
		return nil, err
	}
	if c.Embedded() {
		if err := openable(c.DataDir); err != nil {
			return nil, err
		}
	}
	site, err := site.Open(ctx, src, obs.Discard(), nil)
	if err != nil {
		return nil, err
	}
	return site.Config, site.Close()
}

func newConfigCheckCmd() *cobra.Command {
	var f serverFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the settings and the database they name, and say what to mend",
		Long: `Check the settings and the database they name, and say what to mend.

Exit codes: 0 good, perhaps with warnings; 1 faults.`,
		Example: "  heartwood config check --config conf-mms.properties",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			src, err := f.sources()
			if err != nil {
				return err
			}
			l, err := config.Load(src)
			faults := flatten(err)
			warnings := l.Warnings
			if len(faults) == 0 {
				err := site.CheckDatabase(cmd.Context(), &l.Server)
				faults = append(faults, flatten(err)...)
			}
			return printCheck(cmd, asJSON, faults, warnings)
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printCheck(cmd *cobra.Command, asJSON bool, faults, warnings []string) error {
	w := cmd.OutOrStdout()
	var err error
	if asJSON {
		err = json.NewEncoder(w).Encode(map[string]any{"faults": orEmpty(faults), "warnings": orEmpty(warnings)})
	} else {
		for _, s := range faults {
			_, _ = fmt.Fprintln(w, "fault: "+s)
		}
		for _, s := range warnings {
			_, _ = fmt.Fprintln(w, "warning: "+s)
		}
		if len(faults)+len(warnings) == 0 {
			_, err = fmt.Fprintln(w, "the settings are good")
		}
	}
	if err == nil && len(faults) > 0 {
		return &exit.Error{Code: exit.Failed}
	}
	return err
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// flatten lists the errors that were joined into one, each with its hint. An error that merely has several causes is one.
func flatten(err error) []string {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // only the outermost
		var all []string
		for _, e := range joined.Unwrap() {
			all = append(all, flatten(e)...)
		}
		return all
	}
	if hint := opererr.HintOf(err); hint != "" {
		return []string{err.Error() + ": " + hint}
	}
	return []string{err.Error()}
}

func newConfigSetCmd() *cobra.Command {
	var f serverFlags
	var unset bool
	cmd := &cobra.Command{
		Use:   "set KEY [VALUE]",
		Short: "Keep a setting's value in the database, for all servers of the site; --unset removes it",
		Example: `  heartwood config set mms.centralUrl https://heartwood.example.com
  heartwood config set mms.centralUrl --unset`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if unset == (len(args) == 2) {
				return usagef("heartwood config set mms.centralUrl https://heartwood.example.com", "give either a value or --unset")
			}
			src, err := f.sources()
			if err != nil {
				return err
			}
			value := ""
			if !unset {
				value = args[1]
				// Judged as if it were in the database already, so that a bad value never gets there.
				trial := config.Sources{Database: map[string]string{args[0]: value}}
				if _, err := config.Load(trial); err != nil {
					return err
				}
			}
			return setSetting(cmd.Context(), src, args[0], value, unset)
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&unset, "unset", false, "remove the value from the database")
	return cmd
}

func setSetting(ctx context.Context, src config.Sources, key, value string, unset bool) error {
	site, err := site.Open(ctx, src, obs.Discard(), nil)
	if err != nil {
		return err
	}
	if unset {
		err = site.Store.DeleteSetting(ctx, key)
	} else {
		err = site.Store.SetSetting(ctx, key, value)
	}
	return errors.Join(err, site.Close())
}
