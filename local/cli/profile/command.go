package profile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// Command is `heartwood profile`.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "profile",
		Short: "Keep addresses and API keys of servers",
		Long: `Keep addresses and API keys of servers, for the commands that work through the Public API.

The profiles are in ~/.config/heartwood/profiles.yaml (` + EnvFile + ` names another file), which only its owner can
read. A command uses the profile that --profile or ` + EnvProfile + ` names, else the default one, else the only one.
Flags go before the environment (` + EnvURL + `, ` + EnvPublic + `, ` + EnvPrivate + `, ` + EnvGroup + `,
` + EnvCAFile + `), that before the profile: with the first three set no profile is needed.

Exit codes: 0 done, 1 failed, 2 wrong usage.`,
		Example: "  heartwood profile set prod --url https://heartwood.example.com --public-key abcdefgh --group Production\n  heartwood profile check prod",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return exit.Usagef("heartwood profile list", "%q is none of set, list, remove and check", args[0])
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error {
			return exit.Usagef("heartwood profile list", "one of set, list, remove and check is missing")
		},
	}
	cmd.AddCommand(setCommand(), listCommand(), removeCommand(), checkCommand())
	return cmd
}

// open reads the file of profiles and says where it is.
func open() (*File, string, error) {
	path, err := Path()
	if err != nil {
		return nil, "", err
	}
	f, err := Load(path)
	return f, path, err
}

func setCommand() *cobra.Command {
	var p Profile
	var keyFile string
	var makeDefault bool
	const example = "heartwood profile set prod --url https://heartwood.example.com --public-key abcdefgh --group Production"
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Make a profile, or change what flags name of one",
		Long: `Make a profile, or change what flags name of one. The private key is never given on the command line, where others can
read it: it comes from ` + EnvPrivate + `, from --private-key-file (- is standard input), or is asked for on a terminal.`,
		Example: "  " + example + "\n  heartwood profile set prod --private-key-file - < key.txt",
		Args:    one(example, "the profile's name is missing"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if strings.TrimSpace(name) != name || name == "" {
				return exit.Usagef(example, "%q is no name of a profile", name)
			}
			f, path, err := open()
			if err != nil {
				return err
			}
			next := f.Profiles[name]
			for flag, set := range map[string]func(){
				"url": func() { next.URL = strings.TrimSuffix(p.URL, "/") }, "public-key": func() { next.PublicKey = p.PublicKey }, "group": func() { next.Group = p.Group },
				"ca-file": func() { next.CAFile = p.CAFile }, "insecure": func() { next.Insecure = p.Insecure },
			} {
				if cmd.Flags().Changed(flag) {
					set()
				}
			}
			if next.PrivateKey, err = privateKey(cmd, keyFile, next.PrivateKey); err != nil {
				return err
			}
			switch {
			case next.URL == "":
				return exit.Usagef(example, "--url is missing")
			case next.PublicKey == "":
				return exit.Usagef(example, "--public-key is missing")
			case next.PrivateKey == "":
				return exit.Usagef("heartwood profile set "+name+" --private-key-file -", "the private key is missing: set %s or give --private-key-file", EnvPrivate)
			}
			if _, err := next.Client(); err != nil { // an address that cannot be one
				return err
			}
			if f.Profiles[name] = next; makeDefault {
				f.Default = name
			}
			if err := f.Save(path); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "profile %s is in %s; try it: heartwood profile check %s\n", name, path, name)
			return err
		},
	}
	cmd.Flags().StringVar(&p.URL, "url", "", "address of the server, such as https://heartwood.example.com")
	cmd.Flags().StringVar(&p.PublicKey, "public-key", "", "public part of the API key")
	cmd.Flags().StringVar(&keyFile, "private-key-file", "", "file with the private part of the API key; - is standard input")
	cmd.Flags().StringVar(&p.Group, "group", "", "group, by id or name")
	cmd.Flags().StringVar(&p.CAFile, "ca-file", "", "PEM file of certificates to trust")
	cmd.Flags().BoolVar(&p.Insecure, "insecure", false, "do not check the server's certificate")
	cmd.Flags().BoolVar(&makeDefault, "default", false, "use this profile where none is named")
	return cmd
}

// maxKey bounds what is read as a key.
const maxKey = 4096

// privateKey finds the private key: from the file, the environment, what is stored, or by asking.
func privateKey(cmd *cobra.Command, file string, stored model.Secret) (model.Secret, error) {
	read := func(r io.Reader) (model.Secret, error) {
		b, err := io.ReadAll(io.LimitReader(r, maxKey))
		return model.Secret(strings.TrimSpace(string(b))), err
	}
	switch env := os.Getenv(EnvPrivate); {
	case file == "-":
		return read(cmd.InOrStdin())
	case file != "":
		f, err := os.Open(file) //nolint:gosec // the user names it
		if err != nil {
			return "", opererr.New("read the private key", err, "give a readable file with --private-key-file")
		}
		defer f.Close()
		return read(f)
	case env != "":
		return model.Secret(env), nil
	case stored != "":
		return stored, nil
	}
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", nil
	}
	_, _ = fmt.Fprint(cmd.ErrOrStderr(), "private key: ")
	b, err := term.ReadPassword(int(in.Fd()))
	_, _ = fmt.Fprintln(cmd.ErrOrStderr())
	return model.Secret(strings.TrimSpace(string(b))), err
}

// one demands exactly one argument.
func one(example, missing string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return exit.Usagef(example, "%s", missing)
		case len(args) > 1:
			return exit.Usagef(example, "there is more than one argument: %s", strings.Join(args, " "))
		}
		return nil
	}
}

func listCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the profiles, without their private keys", Example: "  heartwood profile list", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, path, err := open()
			if err != nil {
				return err
			}
			names := slices.Sorted(maps.Keys(f.Profiles))
			if asJSON {
				type entry struct {
					Name      string `json:"name"`
					URL       string `json:"url"`
					PublicKey string `json:"publicKey"`
					Group     string `json:"group"`
					Default   bool   `json:"default"`
				}
				all := []entry{}
				for _, n := range names {
					p := f.Profiles[n]
					all = append(all, entry{n, p.URL, p.PublicKey, p.Group, n == f.Default || len(names) == 1})
				}
				return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
			}
			if len(names) == 0 {
				_, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s has no profiles; make one: heartwood profile set NAME --url URL --public-key KEY --group GROUP\n", path)
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "NAME\tURL\tPUBLIC KEY\tGROUP\tDEFAULT")
			for _, n := range names {
				p, mark := f.Profiles[n], ""
				if n == f.Default || len(names) == 1 {
					mark = "yes"
				}
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", n, p.URL, p.PublicKey, p.Group, mark)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func removeCommand() *cobra.Command {
	const example = "heartwood profile remove old"
	return &cobra.Command{
		Use: "remove NAME", Short: "Forget a profile; its key stays valid on the server", Example: "  " + example, Args: one(example, "the profile's name is missing"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, path, err := open()
			if err != nil {
				return err
			}
			if _, err := f.pick(args[0], path); err != nil {
				return err
			}
			delete(f.Profiles, args[0])
			if f.Default == args[0] {
				f.Default = ""
			}
			return f.Save(path)
		},
	}
}

func checkCommand() *cobra.Command {
	var f Flags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [NAME]",
		Short: "Call the server of a profile, and say what its key sees",
		Long: `Call the server of a profile (or of flags and environment), and say what its key sees.

Exit codes: 0 the server answers, the key is accepted and the group is there; 1 not; 2 wrong usage.`,
		Example: "  heartwood profile check\n  heartwood profile check prod",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				f.Profile = args[0]
			}
			p, err := f.Resolve(os.Getenv)
			if err != nil {
				return err
			}
			c, err := p.Client()
			if err != nil {
				return err
			}
			groups, err := Groups(cmd.Context(), c)
			if err != nil {
				return err
			}
			g, groupErr := p.FindGroup(cmd.Context(), c)
			var unclear *exit.Error
			if p.Group == "" && errors.As(groupErr, &unclear) {
				groupErr = nil // none is named, and that is fine here
			}
			if asJSON {
				seen := []map[string]string{}
				for _, x := range groups {
					seen = append(seen, map[string]string{"id": x.ID, "name": x.Name})
				}
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"url": p.URL, "publicKey": p.PublicKey, "groups": seen, "group": g.ID})
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s accepts the key %s\n", p.URL, p.PublicKey)
				for _, x := range groups {
					mark := ""
					if x.ID == g.ID {
						mark = "  (used)"
					}
					_, _ = fmt.Fprintf(cmd.OutOrStdout(), "group %s  %s%s\n", x.ID, x.Name, mark)
				}
			}
			return errors.Join(err, groupErr)
		},
	}
	f.Register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
