package backups

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/heartwood-db/heartwood/local/cli/ask"
)

// attempts is how often a download goes on by itself after the connection broke.
const attempts = 20

// fetch downloads the archive of a finished restore into a folder. The bytes go into a file with .part behind its name, which
// another attempt goes on with; the name is given when the SHA-256 is right.
func (a app) fetch(cmd *cobra.Command, o ask.Object, folder string) error {
	url := o.Object("delivery").Text("url")
	if url == "" {
		return fmt.Errorf("restore %s has no archive to fetch: its link is %s", o.Text("id"), strings.ToLower(o.Object("delivery").Text("statusName")))
	}
	name := filepath.Base(url)
	if name == "." || name == "/" || name == ".." {
		return fmt.Errorf("the link %s names no file", url)
	}
	want := ""
	for _, h := range o.Objects("hashes") {
		if h.Text("fileName") == name {
			want = h.Text("hash")
		}
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	path := filepath.Join(folder, name)
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("%s is there already: move it away, or choose another folder with --output", path)
	}
	part := path + ".part"
	var err error
	for range attempts {
		var again bool
		if again, err = a.get(cmd.Context(), url, part); err == nil || !again {
			break
		}
		ask.Hint(cmd, "the download broke off (%v), going on", err)
		if err := a.wait(cmd.Context(), 2*time.Second); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	sum, n, err := digest(part)
	if err != nil {
		return err
	}
	if want != "" && sum != want {
		return fmt.Errorf("the SHA-256 of %s is %s, it should be %s: delete it and fetch again", part, sum, want)
	}
	if err := os.Rename(part, path); err != nil {
		return err
	}
	ask.Say(cmd, "%s, %s, SHA-256 %s", path, size(float64(n)), sum)
	return nil
}

// get fetches what is missing of a file. again says that another attempt may go on.
func (a app) get(ctx context.Context, url, part string) (again bool, err error) {
	f, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	res, err := a.http.Do(req)
	if err != nil {
		return ctx.Err() == nil, err
	}
	defer func() { _ = res.Body.Close() }()
	switch {
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable && have > 0:
		return false, nil // it is whole: the digest decides
	case res.StatusCode == http.StatusOK && have > 0: // the server begins anew
		if err := f.Truncate(0); err != nil {
			return false, err
		}
	case res.StatusCode != http.StatusOK && res.StatusCode != http.StatusPartialContent:
		text, _ := io.ReadAll(io.LimitReader(res.Body, 512))
		return res.StatusCode >= http.StatusInternalServerError, fmt.Errorf("the server answered %s: %s", res.Status, strings.TrimSpace(ask.Clean(string(text))))
	}
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind == "text/html" {
		return false, fmt.Errorf("%s answers with a page instead of the archive: set mms.backupCentralUrl to where the agents' port is reached", req.URL.Host)
	}
	if _, err := io.Copy(f, res.Body); err != nil {
		return ctx.Err() == nil, err
	}
	return false, f.Sync()
}

func digest(path string) (sum string, n int64, err error) {
	f, err := os.Open(path) //nolint:gosec // the file just written
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if n, err = io.Copy(h, f); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(h.Sum(nil)), n, nil
}
