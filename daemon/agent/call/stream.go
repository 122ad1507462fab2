package call

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Stream begins to read an object of the server's, from a byte on; the server may send the request on to a store of its own. from is
// the byte that body begins with: offset, or 0 where only the whole is given. An answer other than success is a *Refusal.
func (c *Client) Stream(ctx context.Context, path string, offset int64) (body io.ReadCloser, from int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, 0, err
	}
	req.SetBasicAuth(c.group, c.key.Reveal()) // not sent on to another host
	if offset > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	res, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error // its text repeats the URL, which may carry a permission
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, 0, fmt.Errorf("fetch from the server at %s: %w", c.base, err)
	}
	switch {
	case res.StatusCode == http.StatusOK:
		return res.Body, 0, nil
	case res.StatusCode == http.StatusPartialContent && strings.HasPrefix(res.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(offset, 10)+"-"):
		return res.Body, offset, nil
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return nil, 0, fmt.Errorf("read the server's answer: %w", err)
	}
	return nil, 0, refusal(res, answer)
}
