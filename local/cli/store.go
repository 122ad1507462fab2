package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/blocks"
	"github.com/heartwood-db/heartwood/local/cli/exit"
	"github.com/heartwood-db/heartwood/local/cli/place"
	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/docstore/sqlitedoc"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/seal"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/areas"
	"github.com/heartwood-db/heartwood/shared/store/transfer"
)

const storeHelp = `A LOCATION is a data folder, a file made by "heartwood store backup", or a MongoDB connection string
(mongodb://a,b,c/?replicaSet=rs0; the database is heartwood unless the string names one). Without one the database of the
settings is meant: the one that "heartwood serve" with the same --data and --config would use.

The key file gen.key is not part of a database: keep a copy of it apart from your backups, and give it to every server.

Exit codes: 0 done, 1 failed or problems found, 2 wrong usage.`

func newStoreCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Copy, check and back up the server's database; look at the block stores of backups",
		Long:  "Works on the server's database directly, and on the block stores that it describes.\n\n" + storeHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usagef("heartwood store check", "say what to do with the store: copy, check, backup, stats or groom")
		},
	}
	cmd.AddCommand(newStoreCopyCmd(), newStoreCheckCmd(), newStoreBackupCmd(), blocks.NewStats(&storeFlags{}), blocks.NewGroom(&storeFlags{}))
	return cmd
}

// storeFlags are what the commands share. They open the site for those that look at block stores.
type storeFlags struct {
	server   serverFlags
	mongoURI string
	key      string
	json     bool
}

// Register adds the flags to a command.
func (f *storeFlags) Register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.server.data, "data", "", "data folder (setting heartwood.data)")
	fl.StringVar(&f.server.file, "config", "", "settings file of key=value lines, as conf-mms.properties")
	fl.StringVar(&f.mongoURI, "mongo-uri", "", "connection string of the database (setting mongo.mongoUri)")
	fl.StringVar(&f.key, "key", "", "gen.key of the site (setting mms.keyfile; default: gen.key in the data folder)")
	fl.BoolVar(&f.json, "json", false, "print the outcome as JSON")
}

func (f *storeFlags) settings() (*config.Server, error) {
	if f.mongoURI != "" {
		f.server.set = append(f.server.set, "mongo.mongoUri="+f.mongoURI)
	}
	if f.key != "" {
		f.server.set = append(f.server.set, "mms.keyfile="+f.key)
	}
	loaded, _, err := f.server.load()
	if err != nil {
		return nil, err
	}
	return &loaded.Server, nil
}

// box reads the site's key. It is nil, with a note, when there is no key file: most can be done without.
func (f *storeFlags) box(s *config.Server, note io.Writer) (*seal.Box, error) {
	if key, err := s.GivenKey(); key != nil || err != nil {
		return openBox(key, err)
	}
	path := s.KeyPath()
	key, err := config.ReadKey(path)
	if config.IsMissing(err) && f.key == "" {
		_, _ = fmt.Fprintf(note, "no key file %s: encrypted values are not opened (name the key with --key)\n", path)
		return nil, nil //nolint:nilnil // no box is an answer here
	}
	return openBox(key, err)
}

func openBox(key []byte, err error) (*seal.Box, error) {
	if err != nil {
		return nil, err
	}
	return seal.New(key)
}

func newStoreCopyCmd() *cobra.Command {
	var (
		f                   storeFlags
		from, to            string
		dryRun, again, live bool
	)
	cmd := &cobra.Command{
		Use:   "copy --to LOCATION",
		Short: "Copy a whole site to another database, and verify the copy",
		Long: "Copies everything of a site, reads the copy again and compares counts and digests. An interrupted copy goes on where it\n" +
			"ended when the same command is given again; until it is complete no server opens the target.\n\n" + storeHelp,
		Example: "  heartwood store copy --data /var/lib/heartwood --to 'mongodb://db1,db2,db3/?replicaSet=rs0'\n" +
			"  heartwood store copy --from site.backup --to /var/lib/heartwood",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return usagef("heartwood store copy --to 'mongodb://db1,db2,db3/?replicaSet=rs0'", "--to is missing: where to copy")
			}
			return f.copy(cmd, from, to, copyMode{dryRun: dryRun, again: again, live: live})
		},
	}
	f.Register(cmd)
	cmd.Flags().StringVar(&from, "from", "", "LOCATION to copy from (default: the database of the settings)")
	cmd.Flags().StringVar(&to, "to", "", "LOCATION to copy to")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be copied and change nothing")
	cmd.Flags().BoolVar(&again, "again", false, "make a target that holds a complete copy equal to the source; what was written there since is lost")
	cmd.Flags().BoolVar(&live, "live", false, "copy from a replica set although servers are running on it")
	return cmd
}

type copyMode struct{ dryRun, again, live bool }

func (f *storeFlags) source(from string) (place.Place, error) {
	if from != "" {
		return place.Parse(from)
	}
	s, err := f.settings()
	if err != nil {
		return place.Place{}, err
	}
	return place.OfSettings(s), nil
}

func (f *storeFlags) copy(cmd *cobra.Command, from, to string, mode copyMode) error {
	ctx, out, note := cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	src, err := f.source(from)
	if err != nil {
		return err
	}
	dst, err := place.Parse(to)
	if err != nil {
		return err
	}
	if src == dst || src.String() == dst.String() {
		return usagef("heartwood store copy --to OTHER", "%s is the source and the target", src)
	}
	source, err := src.OpenSource(false, note)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	if err := src.NoneRunning(ctx, source, mode.live); err != nil {
		return err
	}
	plan, err := transfer.NewPlan(ctx, source, areas.Collections())
	if err != nil {
		return err
	}
	if mode.dryRun {
		return f.print(out, plan, func(w io.Writer) { printPlan(w, src, dst, plan) })
	}
	target, err := dst.Open()
	if err != nil {
		return err
	}
	defer func() { _ = target.Close() }()
	report, err := transfer.Copy(ctx, transfer.CopyOptions{From: source, To: target, Plan: plan, Again: mode.again, Progress: printProgress(note)})
	if err != nil {
		return err
	}
	if err := target.Close(); err != nil {
		return fmt.Errorf("close %s: %w", dst, err)
	}
	return f.print(out, report, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "copied %d documents from %s to %s (%d written) in %s; counts and digests are equal\n",
			report.Documents, src, dst, report.Written, report.Took.Round(time.Millisecond))
		_, _ = fmt.Fprintf(w, "start servers on the new database with the same gen.key (fingerprint %s)\n", report.Site.Fingerprint)
	})
}

func printPlan(w io.Writer, src, dst place.Place, plan transfer.Plan) {
	_, _ = fmt.Fprintf(w, "would copy site %s from %s to %s:\n", plan.Site.ID, src, dst)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, item := range plan.Items {
		_, _ = fmt.Fprintf(tw, "%d\t %s\t\n", item.Documents, item.Collection)
	}
	_, _ = fmt.Fprintf(tw, "%d\t documents\t\n", plan.Total)
	_ = tw.Flush() // its writer's errors are the command's own
}

func newStoreCheckCmd() *cobra.Command {
	var (
		f     storeFlags
		bulks blocks.Check
	)
	cmd := &cobra.Command{
		Use:   "check [LOCATION]",
		Short: "Read a whole database and say what is wrong with it",
		Long: "Reads every document: it must decode, carry the id that belongs to it, and open with gen.key where it is encrypted; what it\n" +
			"refers to must exist, and every index must lead to all documents of its collection. Changes nothing.\n\n" +
			"With --blocks, what backups have in the block stores is checked instead: the maps of every snapshot, that each block is where they\n" +
			"say, that all slices of oplog are there, and of a sample of the data that it is what was written.\n\n" + storeHelp,
		Example: "  heartwood store check --data /var/lib/heartwood\n  heartwood store check site.backup --key /etc/heartwood/gen.key --json\n" +
			"  heartwood store check --blocks --sample 1",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case !bulks.On:
				return f.check(cmd, args)
			case len(args) > 0:
				return usagef("heartwood store check --blocks", "--blocks looks where the database of the settings says: it takes no LOCATION")
			}
			return bulks.Run(cmd, &f)
		},
	}
	f.Register(cmd)
	bulks.Register(cmd)
	return cmd
}

func (f *storeFlags) check(cmd *cobra.Command, args []string) error {
	ctx, out, note := cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	settings, err := f.settings()
	if err != nil {
		return err
	}
	at := place.OfSettings(settings)
	if len(args) == 1 {
		at, err = place.Parse(args[0])
	}
	if err != nil {
		return err
	}
	e, err := at.OpenSource(true, note)
	if err != nil {
		return err
	}
	defer func() { _ = e.Close() }()
	box, err := f.box(settings, note)
	if err != nil {
		return err
	}
	report, err := transfer.Check(ctx, transfer.CheckOptions{
		Engine: e, Box: box, Collections: areas.Collections(), Checks: areas.Checks(), Progress: printProgress(note),
	})
	if err != nil {
		return err
	}
	err = f.print(out, report, func(w io.Writer) {
		for _, p := range report.Problems {
			kind := "error"
			if p.Warning {
				kind = "warning"
			}
			_, _ = fmt.Fprintf(w, "%s: %s\n", kind, p)
		}
		_, _ = fmt.Fprintf(w, "%s: %d documents, %d errors, %d warnings\n", at, report.Documents, report.Errors, report.Warnings)
	})
	if err == nil && report.Errors > 0 {
		return &exit.Error{Code: exit.Failed}
	}
	return err
}

func newStoreBackupCmd() *cobra.Command {
	var (
		f    storeFlags
		live bool
	)
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write the whole database to one file, and verify it",
		Long: "Writes one new file that \"heartwood store copy --from FILE\" reads. The embedded database is backed up while the server\n" +
			"runs, too, as of one moment; a replica set only while no server is running on it, unless --live is given.\n\n" + storeHelp,
		Example: "  heartwood store backup --data /var/lib/heartwood /backup/heartwood-2026-11-21.db",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("heartwood store backup /backup/heartwood.db", "name the one file to write")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.backup(cmd, args[0], live) },
	}
	f.Register(cmd)
	cmd.Flags().BoolVar(&live, "live", false, "back up a replica set although servers are running on it")
	return cmd
}

// backupReport is what a backup came to.
type backupReport struct {
	File      string   `json:"file"`
	Bytes     int64    `json:"bytes"`
	Site      model.ID `json:"site"`
	Key       string   `json:"keyFingerprint"`
	Documents int      `json:"documents"`
	Errors    int      `json:"errors"`
	Warnings  int      `json:"warnings"`
}

func (f *storeFlags) backup(cmd *cobra.Command, file string, live bool) error {
	ctx, out, note := cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	settings, err := f.settings()
	if err != nil {
		return err
	}
	src := place.OfSettings(settings)
	if _, err := os.Lstat(file); err == nil {
		return opererr.New("back up to "+file, os.ErrExist, "Name a file that does not exist yet.")
	}
	source, err := src.OpenSource(true, note)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	if err := src.NoneRunning(ctx, source, live); err != nil {
		return err
	}
	if _, _, err := store.ReadSite(ctx, source); err != nil {
		return opererr.New("back up "+src.String(), err, "There is nothing to back up before a server ran on it.")
	}
	if e, ok := source.(*sqlitedoc.Engine); ok {
		err = e.Backup(ctx, file, pageProgress(note))
	} else {
		err = backupByCopy(ctx, source, file, note)
	}
	if err != nil {
		return err
	}
	return f.verifyBackup(ctx, settings, file, out, note)
}

// backupByCopy copies a replica set into a database file beside the target, and that into one file.
func backupByCopy(ctx context.Context, source docstore.Engine, file string, note io.Writer) error {
	work, err := os.MkdirTemp(filepath.Dir(file), ".heartwood-backup-*")
	if err != nil {
		return opererr.New("back up to "+file, err, "Check the folder's owner and mode.")
	}
	defer func() { _ = os.RemoveAll(work) }()
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: filepath.Join(work, config.DatabaseFile)})
	if err != nil {
		return err
	}
	defer func() { _ = e.Close() }()
	plan, err := transfer.NewPlan(ctx, source, areas.Collections())
	if err != nil {
		return err
	}
	if _, err := transfer.Copy(ctx, transfer.CopyOptions{From: source, To: e, Plan: plan, Progress: printProgress(note)}); err != nil {
		return err
	}
	return e.Backup(ctx, file, nil)
}

func (f *storeFlags) verifyBackup(ctx context.Context, settings *config.Server, file string, out, note io.Writer) error {
	box, err := f.box(settings, note)
	if err != nil {
		return err
	}
	e, err := sqlitedoc.Open(sqlitedoc.Options{Path: file, ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = e.Close() }()
	report, err := transfer.Check(ctx, transfer.CheckOptions{
		Engine: e, Box: box, Collections: areas.Collections(), Checks: areas.Checks(), Progress: printProgress(note),
	})
	if err != nil {
		return fmt.Errorf("verify %s: %w", file, err)
	}
	for _, p := range report.Problems {
		if !p.Warning {
			_, _ = fmt.Fprintf(note, "error: %s\n", p)
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("verify the backup: %w", err)
	}
	b := backupReport{
		File: file, Bytes: info.Size(), Site: report.Site.ID, Key: report.Site.Fingerprint,
		Documents: report.Documents, Errors: report.Errors, Warnings: report.Warnings,
	}
	err = f.print(out, b, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "wrote %s: %d documents, %d bytes, read again: %d errors\n", file, b.Documents, b.Bytes, b.Errors)
		_, _ = fmt.Fprintf(w, "keep %s (fingerprint %s) in another safe place: without it the passwords in the backup cannot be read\n", settings.KeyPath(), b.Key)
	})
	if err == nil && report.Errors > 0 {
		return &exit.Error{Code: exit.Failed, Err: opererr.New("verify "+file, fmt.Errorf("%d documents have errors", report.Errors),
			"The file is a faithful copy; the errors are in the database too: run heartwood store check.")}
	}
	return err
}

// JSON reports whether the outcome is to be JSON.
func (f *storeFlags) JSON() bool { return f.json }

// Open opens the site of the settings, for reading only while a server runs on its file.
func (f *storeFlags) Open(cmd *cobra.Command) (*blocks.Site, error) {
	ctx, note := cmd.Context(), cmd.ErrOrStderr()
	settings, err := f.settings()
	if err != nil {
		return nil, err
	}
	box, err := f.box(settings, io.Discard)
	if err != nil {
		return nil, err
	}
	if box == nil {
		return nil, opererr.New("read the key file "+settings.KeyPath(), os.ErrNotExist, "Name the site's gen.key with --key: how block stores are reached is encrypted with it.")
	}
	at := place.OfSettings(settings)
	e, err := at.OpenSource(false, note)
	running := errors.Is(err, sqlitedoc.ErrLocked)
	if running {
		e, err = at.OpenSource(true, note)
	}
	if err != nil {
		return nil, err
	}
	if _, _, err = store.ReadSite(ctx, e); err != nil {
		err = opererr.New("open "+at.String(), err, "There are no block stores before a server ran on it.")
	}
	var st *store.Store
	if err == nil {
		st, err = areas.Open(ctx, store.Options{Engine: e, Box: box, Version: obs.Build().Version})
	}
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return &blocks.Site{Store: st, Box: box, ReadOnly: running, Close: func() { _ = e.Close() }}, nil
}

// print writes the outcome to standard output, as JSON or for people.
func (f *storeFlags) print(out io.Writer, v any, people func(io.Writer)) error {
	if !f.json {
		people(out)
		return nil
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print the outcome: %w", err)
	}
	return nil
}

// progressPause is the least time between two lines of progress about one collection.
const progressPause = time.Second

// printProgress returns a function that prints a line when a collection is done and now and then before.
func printProgress(w io.Writer) func(transfer.Progress) {
	var last time.Time
	return func(p transfer.Progress) {
		done := p.Done >= p.Total
		if p.Total == 0 || !done && time.Since(last) < progressPause {
			return
		}
		last = time.Now()
		_, _ = fmt.Fprintf(w, "%s %s: %d of %d\n", p.Step, p.Collection, p.Done, p.Total)
	}
}

func pageProgress(w io.Writer) sqlitedoc.Progress {
	last := time.Now()
	return func(done, total int) {
		if time.Since(last) < progressPause && done < total {
			return
		}
		last = time.Now()
		_, _ = fmt.Fprintf(w, "backup: %d of %d pages\n", done, total)
	}
}
