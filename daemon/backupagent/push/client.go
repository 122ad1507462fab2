// Package push is what a backup agent says to the server: the messages of its protocol, and the slices of the oplog, which
// wait on disk until the server has them.
package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/daemon/agent/call"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Client is what a backup agent calls the server for.
type Client struct {
	*call.Client
	objects *http.Client // for uploads past the server
	now     func() time.Time
}

// NewClient returns a client that measures the server's clock by now. Uploads past the server go through objects, with no
// credential of the group's.
func NewClient(c *call.Client, objects *http.Client, now func() time.Time) *Client {
	return &Client{Client: c, objects: objects, now: now}
}

// Refused reports whether an error is the server's refusal with one of the codes.
func Refused(err error, codes ...string) bool {
	var r *call.Refusal
	return errors.As(err, &r) && slices.Contains(codes, r.Code)
}

// Conf fetches the agent's configuration. The offset is what to add to this machine's clock to get the server's, to half a
// round trip. With check the server is asked to answer without taking note of the agent.
func (c *Client) Conf(ctx context.Context, info wire.AgentInfo, check bool) (conf wire.BackupConf, offset time.Duration, err error) {
	q := wire.ConfQuery(info, nil)
	if check {
		q.Set(wire.ParamCheck, "1")
	}
	sent := c.now()
	body, err := c.Do(ctx, http.MethodGet, wire.PathBackupConf, q, wire.ContentType, nil)
	if err != nil {
		return conf, 0, err
	}
	took := c.now().Sub(sent)
	if conf, err = wire.Decode[wire.BackupConf](body); err != nil {
		return conf, 0, fmt.Errorf("read the configuration: %w", err)
	}
	return conf, conf.Time.Sub(sent.Add(took / 2)), nil
}

// post sends a message that is acknowledged when it is durable.
func post[T wire.BackupMessage](ctx context.Context, c *Client, path string, m T) error {
	_, err := exchange[T, wire.BackupAck](ctx, c, path, m)
	return err
}

func exchange[T, A wire.BackupMessage](ctx context.Context, c *Client, path string, m T) (answer A, err error) {
	body, err := wire.Encode(m)
	if err != nil {
		return answer, err
	}
	b, err := c.Do(ctx, http.MethodPost, path, nil, wire.ContentType, body)
	if err != nil {
		return answer, err
	}
	if answer, err = wire.Decode[A](b); err != nil {
		return answer, fmt.Errorf("read the server's answer: %w", err)
	}
	return answer, nil
}

// Report tells how the jobs are.
func (c *Client) Report(ctx context.Context, r wire.BackupReport) error {
	return post(ctx, c, wire.PathBackupReport, r)
}

// Begin begins an epoch. Sending it again changes nothing.
func (c *Client) Begin(ctx context.Context, b wire.BeginEpoch) error {
	return post(ctx, c, wire.PathBackupEpoch, b)
}

// End ends one.
func (c *Client) End(ctx context.Context, e wire.EndEpoch) error {
	return post(ctx, c, wire.PathBackupEnd, e)
}

// Scanned tells that every collection was read.
func (c *Client) Scanned(ctx context.Context, s wire.Scanned) error {
	return post(ctx, c, wire.PathBackupScanned, s)
}

// Found answers a wish for missing documents.
func (c *Client) Found(ctx context.Context, f wire.FoundDocs) error {
	return post(ctx, c, wire.PathBackupMissing, f)
}

// PutCollections tells of collections, in as many messages as it takes.
func (c *Client) PutCollections(ctx context.Context, job string, epoch int64, list []wire.CollectionInfo) error {
	for len(list) > 0 {
		n, size := 0, 0
		for n < len(list) && n < wire.MaxCollections && (n == 0 || size < 4<<20) {
			size += len(list[n].Options) + len(list[n].IDIndex) + len(list[n].View) + 200
			for _, x := range list[n].Indexes {
				size += len(x)
			}
			n++
		}
		if err := post(ctx, c, wire.PathBackupCollections, wire.PutCollections{Job: job, Epoch: epoch, Collections: list[:n]}); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// Collections fetches what the server knows of an epoch's collections.
func (c *Client) Collections(ctx context.Context, job string, epoch int64) ([]wire.CollectionInfo, error) {
	var out []wire.CollectionInfo
	q := url.Values{"job": {job}, "epoch": {strconv.FormatInt(epoch, 10)}}
	for {
		b, err := c.Do(ctx, http.MethodGet, wire.PathBackupCollections, q, wire.ContentType, nil)
		if err != nil {
			return nil, err
		}
		page, err := wire.Decode[wire.CollectionsPage](b)
		if err != nil {
			return nil, fmt.Errorf("read the server's answer: %w", err)
		}
		out = append(out, page.Collections...)
		if page.After == "" || page.After == q.Get("after") {
			return out, nil
		}
		q.Set("after", page.After)
	}
}

// Seed sends a slice of a collection: its header, with Uploaded and Stored not set, and its compressed documents.
func (c *Client) Seed(ctx context.Context, h wire.SeedHeader, content []byte, direct bool) error {
	b, err := c.slice(ctx, wire.PathBackupSeed, wire.UploadSeed, content, direct, func(stored int64) (bson.Raw, error) {
		h.Uploaded, h.Stored = stored > 0, stored
		return h.Encode()
	})
	if err != nil {
		return err
	}
	if _, err := wire.Decode[wire.BackupAck](b); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return nil
}

// Oplog sends a slice of the oplog and gives the head that the server has then.
func (c *Client) Oplog(ctx context.Context, h wire.OplogHeader, content []byte, direct bool) (wire.Head, error) {
	b, err := c.slice(ctx, wire.PathBackupOplog, wire.UploadOplog, content, direct, func(stored int64) (bson.Raw, error) {
		h.Uploaded, h.Stored = stored > 0, stored
		return h.Encode()
	})
	if err != nil {
		return wire.Head{}, err
	}
	ack, err := wire.Decode[wire.OplogAck](b)
	if err != nil {
		return wire.Head{}, fmt.Errorf("read the server's answer: %w", err)
	}
	return ack.Head, nil
}

// slice sends a slice, or first its content past the server and then its header. The header says how many bytes were uploaded:
// none where the content goes with it.
func (c *Client) slice(ctx context.Context, path, kind string, content []byte, direct bool, encode func(stored int64) (bson.Raw, error)) ([]byte, error) {
	header, err := encode(0)
	if err != nil {
		return nil, err
	}
	if !direct {
		past, err := c.upload(ctx, kind, header, content)
		if err != nil {
			return nil, err
		}
		if past {
			if header, err = encode(int64(len(content))); err != nil {
				return nil, err
			}
			content = nil
		}
	}
	return c.Do(ctx, http.MethodPost, path, nil, wire.ContentTypeSlice, wire.Frame(header, content))
}

// upload puts content where the server says, past the server. It says false when the server wants it itself.
func (c *Client) upload(ctx context.Context, kind string, header bson.Raw, content []byte) (past bool, err error) {
	u, err := exchange[wire.UploadWish, wire.Upload](ctx, c, wire.PathBackupUpload, wire.UploadWish{Kind: kind, Header: header, Stored: int64(len(content))})
	switch {
	case Refused(err, wire.CodeNotOffered):
		return false, nil
	case err != nil:
		return false, err
	case u.Direct:
		return false, nil
	case u.There:
		return true, nil
	}
	method := u.Method
	if method == "" {
		method = http.MethodPut
	}
	req, err := http.NewRequestWithContext(ctx, method, u.URL, bytes.NewReader(content))
	if err != nil {
		return false, errors.New("the server's permission to upload is no request") // the URL is a secret
	}
	for k, v := range u.Header {
		req.Header.Set(k, v)
	}
	res, err := c.objects.Do(req)
	if err != nil {
		var ue *url.Error // its text repeats the URL
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return false, fmt.Errorf("upload to the object store: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection can be used again
	switch {
	case res.StatusCode < 300:
		return true, nil
	case res.StatusCode == http.StatusPreconditionFailed || res.StatusCode == http.StatusConflict: // it is there already: the server compares
		return true, nil
	}
	return false, &call.Refusal{Status: res.StatusCode, Reason: "the object store refused the upload"}
}

// Push asks what a restore holds that is to be written into a deployment.
func (c *Client) Push(ctx context.Context, restore string) (wire.Push, error) {
	b, err := c.Do(ctx, http.MethodGet, wire.PathBackupRestores+restore, nil, wire.ContentType, nil)
	if err != nil {
		return wire.Push{}, err
	}
	p, err := wire.Decode[wire.Push](b)
	if err != nil {
		return p, fmt.Errorf("read the server's answer: %w", err)
	}
	return p, nil
}

// Object begins to read an object of a restore, from a byte on; from is the byte that body begins with.
func (c *Client) Object(ctx context.Context, restore string, n int, offset int64) (body io.ReadCloser, from int64, err error) {
	return c.Stream(ctx, wire.PathBackupRestores+restore+"/objects/"+strconv.Itoa(n), offset)
}

// Progress tells how far the writing of a restore is.
func (c *Client) Progress(ctx context.Context, restore string, p wire.PushProgress) error {
	return post(ctx, c, wire.PathBackupRestores+restore+"/progress", p)
}

// HeadOf is what the server tells of its head, as the chain knows it.
func HeadOf(job string, epoch int64, h wire.Head) chain.Head {
	return chain.Head{Job: job, Epoch: epoch, Last: h.Last, Sum: h.Sum, Entry: h.Entry}
}

// Missing is the answer to a wish, before it is known what there is.
func Missing(job string, epoch int64, at oplog.OpTime) wire.FoundDocs {
	return wire.FoundDocs{Job: job, Epoch: epoch, OperationTime: at}
}
