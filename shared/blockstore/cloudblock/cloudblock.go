// Package cloudblock keeps objects in a bucket of Amazon S3, or of a server that speaks its protocol, through gocloud.dev/blob.
//
// An object is uploaded in parts (small ones at once) and becomes visible with the request that ends the upload. That request
// is conditional (If-None-Match: *), so that of two writers of one key one wins. Before its first write the store finds out
// whether the service honours the condition; where it does not, the store looks whether the key is taken right before it ends an
// upload: two writers that end within that moment may both succeed, and the later one's object stays. Keys that only one process
// can choose, which is what all ours are made of (digests, fencing tokens, random ids), are safe there too.
//
// A killed writer leaves the parts of its upload, which cost money and are seen by nobody; Clean aborts old ones.
package cloudblock

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// S3 says which bucket, and how to reach it.
type S3 struct {
	Bucket         string
	Prefix         string // keys in the bucket begin with it: "" or segments that end in "/"
	Endpoint       string // URL of the service; "" is Amazon's
	Region         string // "" is us-east-1
	PathStyle      bool   // the bucket in the path, not in the host name
	AccessKey      string // "" is whatever the environment says: variables, files, the machine's role
	SecretKey      model.Secret
	CAFile         string // PEM file of further authorities for the endpoint
	MaxConnections int    // 0 is 50
}

const (
	// partSize is the least an upload is cut into; an upload has at most 10,000 parts. Expect makes them larger.
	partSize = 8 << 20
	maxParts = 10_000
	// partsAtOnce bounds memory: an open writer holds this many parts and one more.
	partsAtOnce = 2

	dialWithin   = 10 * time.Second
	answerWithin = 2 * time.Minute // a service that puts many parts together may be slow to answer
	sdkTries     = 3               // of one request; whole objects are retryblock's
)

// Store is a bucket.
type Store struct {
	o      S3
	bucket *blob.Bucket
	client *s3.Client

	mu          sync.Mutex
	probed      bool
	conditional bool // the service honours If-None-Match
}

var (
	_ blockstore.Store   = (*Store)(nil)
	_ blockstore.Signer  = (*Store)(nil)
	_ blockstore.Cleaner = (*Store)(nil)
)

// Open prepares the use of a bucket; no request is sent yet.
func Open(ctx context.Context, o S3) (*Store, error) {
	if o.Bucket == "" {
		return nil, opererr.New("open the block store", errors.New("no bucket is named"), "Name the bucket (s3BucketName).")
	}
	if o.Prefix != "" && (!strings.HasSuffix(o.Prefix, "/") || blockstore.ValidKey(strings.TrimSuffix(o.Prefix, "/")) != nil) {
		return nil, opererr.New("open the block store "+o.Bucket, fmt.Errorf("%w: the prefix %q", blockstore.ErrInvalid, o.Prefix),
			"A prefix is made of a-z 0-9 . _ - and ends in a slash, such as heartwood/.")
	}
	transport, err := transport(o)
	if err != nil {
		return nil, err
	}
	load := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithRegion(orDefault(o.Region, "us-east-1")), awsconfig.WithHTTPClient(transport), awsconfig.WithRetryMaxAttempts(sdkTries),
	}
	if o.AccessKey != "" {
		load = append(load, awsconfig.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(o.AccessKey, o.SecretKey.Reveal(), "")))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, opererr.New("open the block store "+o.Bucket, err, "See that AWS_PROFILE and the files in ~/.aws are right, or give an access key.")
	}
	if o.Endpoint != "" { // servers other than Amazon's know the checksums of old
		cfg.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		cfg.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	}
	client := s3.NewFromConfig(cfg, func(so *s3.Options) {
		so.UsePathStyle = o.PathStyle
		if o.Endpoint != "" {
			so.BaseEndpoint = aws.String(o.Endpoint)
		}
	})
	bucket, err := s3blob.OpenBucket(ctx, client, o.Bucket, &s3blob.Options{RequestChecksumCalculation: cfg.RequestChecksumCalculation})
	if err != nil {
		return nil, fmt.Errorf("open the bucket %s: %w", o.Bucket, err)
	}
	return &Store{o: o, bucket: bucket, client: client}, nil
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func transport(o S3) (*awshttp.BuildableClient, error) {
	var roots *x509.CertPool
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, opererr.New("read the authorities for "+o.Endpoint, err, "")
		}
		if roots, err = x509.SystemCertPool(); err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, opererr.New("read the authorities for "+o.Endpoint, fmt.Errorf("%s has no certificate", o.CAFile), "Name a file with certificates in PEM.")
		}
	}
	connections := o.MaxConnections
	if connections <= 0 {
		connections = 50
	}
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxConnsPerHost = connections
		t.MaxIdleConnsPerHost = connections
		t.TLSHandshakeTimeout = dialWithin
		t.ResponseHeaderTimeout = answerWithin
		t.DisableCompression = true
		if roots != nil {
			t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		}
	}), nil
}

// Close lets go of the bucket.
func (s *Store) Close() error { return s.bucket.Close() }

func (s *Store) name(key string) string { return s.o.Prefix + key }

// Create implements blockstore.Store.
func (s *Store) Create(ctx context.Context, key string) (blockstore.Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := blockstore.ValidKey(key); err != nil {
		return nil, err
	}
	conditional, err := s.honours(ctx)
	if err != nil {
		return nil, err
	}
	return s.create(ctx, key, conditional)
}

func (s *Store) create(ctx context.Context, key string, conditional bool) (*writer, error) {
	size := int64(partSize)
	if expected := blockstore.Expected(ctx); expected > 0 {
		size = max(size, (expected/(maxParts-1000)+1<<20)>>20<<20)
	}
	wctx, cancel := context.WithCancel(ctx)
	w, err := s.bucket.NewWriter(wctx, s.name(key), &blob.WriterOptions{
		BufferSize: int(size), MaxConcurrency: partsAtOnce, ContentType: "application/octet-stream", IfNotExist: conditional,
	})
	if err != nil {
		cancel()
		return nil, s.fail("write", key, err)
	}
	return &writer{ctx: ctx, s: s, key: key, next: w, cancel: cancel, look: !conditional}, nil
}

// honours finds out, once, whether the service refuses to overwrite when it is asked to. Two small objects under "probe/" do.
func (s *Store) honours(ctx context.Context) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.probed {
		return s.conditional, nil
	}
	key := "probe/" + strings.ToLower(rand.Text())
	try := func() error {
		w, err := s.create(ctx, key, true)
		if err != nil {
			return err
		}
		defer w.Abort()
		if _, err := w.Write([]byte("Does this service honour If-None-Match?")); err != nil {
			return err
		}
		return w.Commit(ctx)
	}
	err := try()
	if err == nil {
		err = try()
	}
	switch {
	case errors.Is(err, blockstore.ErrExists):
		s.conditional = true
	case err == nil, notImplemented(err):
	default:
		return false, err
	}
	if err := s.Delete(ctx, key); err != nil && !errors.Is(err, blockstore.ErrDenied) { // who may not delete may still write
		return false, err
	}
	s.probed = true
	return s.conditional, nil
}

// Conditional reports whether the service refuses to overwrite objects when it is asked to: what makes two writers of one key
// safe. It may write two small objects to find out.
func (s *Store) Conditional(ctx context.Context) (bool, error) { return s.honours(ctx) }

type writer struct {
	ctx    context.Context //nolint:containedctx // the writer's life is the call's, as the contract says
	s      *Store
	key    string
	next   *blob.Writer
	cancel context.CancelFunc
	look   bool  // the service knows no conditions: look before the end
	n      int64 // bytes written
	err    error // why the writer is done
}

// lookAbove is from how many bytes on it is asked whether the key is taken before the object is sent. A service that refuses a
// large body by its condition may close the connection while the body is on its way, which looks like a broken network.
const lookAbove = 1 << 20

var errDone = errors.New("cloudblock: the writer is closed")

// Write implements io.Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.next.Write(p)
	w.n += int64(n)
	if err != nil {
		return n, w.fail(err)
	}
	return n, nil
}

// fail ends the upload; the error of the context it ran under comes first.
func (w *writer) fail(err error) error {
	if cerr := w.ctx.Err(); cerr != nil {
		err = cerr
	}
	w.Abort()
	w.err = w.s.fail("write", w.key, err)
	return w.err
}

// Commit implements blockstore.Writer.
func (w *writer) Commit(ctx context.Context) error {
	if w.err != nil {
		return w.err
	}
	if err := ctx.Err(); err != nil {
		w.Abort()
		return err
	}
	if w.look || w.n > lookAbove {
		_, err := w.s.Stat(ctx, w.key)
		if err == nil {
			err = fmt.Errorf("%w: %s", blockstore.ErrExists, w.key)
		}
		if !errors.Is(err, blockstore.ErrNotFound) {
			w.Abort()
			w.err = err
			return err
		}
	}
	stop := context.AfterFunc(ctx, w.cancel)
	err := w.next.Close()
	stop()
	if err != nil {
		w.cancel()
		if cerr := ctx.Err(); cerr != nil {
			err = cerr
		}
		w.err = w.s.fail("write", w.key, err)
		return w.err
	}
	w.cancel()
	w.err = errDone
	return nil
}

// Abort cancels the upload, which aborts it at the service, and waits until that is done.
func (w *writer) Abort() {
	if w.err != nil {
		return
	}
	w.err = errDone
	w.cancel()
	_ = w.next.Close()
}

// Open implements blockstore.Store.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := blockstore.ValidKey(key); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, fmt.Errorf("%w: the offset %d", blockstore.ErrInvalid, offset)
	}
	if length < 0 {
		length = -1
	}
	r, err := s.bucket.NewRangeReader(ctx, s.name(key), offset, length, nil)
	switch {
	case beyondEnd(err):
		return http.NoBody, nil // the service looked: the object is there
	case err != nil:
		return nil, s.fail("read", key, err)
	}
	return &reader{ctx: ctx, s: s, key: key, next: r}, nil
}

type reader struct {
	ctx  context.Context //nolint:containedctx // the reader ends with the call's context, as the contract says
	s    *Store
	key  string
	next *blob.Reader
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.next.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		if cerr := r.ctx.Err(); cerr != nil {
			err = cerr
		}
		err = r.s.fail("read", r.key, err)
	}
	return n, err //nolint:wrapcheck // io.EOF must stay what it is
}

// Close implements io.Closer.
func (r *reader) Close() error { return r.next.Close() }

// Stat implements blockstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (blockstore.Object, error) {
	if err := blockstore.ValidKey(key); err != nil {
		return blockstore.Object{}, err
	}
	a, err := s.bucket.Attributes(ctx, s.name(key))
	if err != nil {
		return blockstore.Object{}, s.fail("look at", key, err)
	}
	return blockstore.Object{Key: key, Size: a.Size, Modified: a.ModTime.UTC()}, nil
}

// List implements blockstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]blockstore.Object, error) {
	if err := errors.Join(blockstore.ValidPrefix(prefix), blockstore.ValidPrefix(after)); err != nil {
		return nil, err
	}
	var found []blockstore.Object
	token := blob.FirstPageToken
	for len(found) == 0 && token != nil { // a page may be empty and not the last
		page, next, err := s.bucket.ListPage(ctx, token, blockstore.Limit(limit), &blob.ListOptions{
			Prefix: s.name(prefix),
			BeforeList: func(as func(any) bool) error {
				var in *s3.ListObjectsV2Input
				if after != "" && as(&in) && in.ContinuationToken == nil {
					in.StartAfter = aws.String(s.name(after))
				}
				return nil
			},
		})
		if err != nil {
			return nil, s.fail("list", prefix, err)
		}
		for _, o := range page {
			key := strings.TrimPrefix(o.Key, s.o.Prefix)
			if blockstore.ValidKey(key) == nil && key > after { // what is no object of ours is passed over
				found = append(found, blockstore.Object{Key: key, Size: o.Size, Modified: o.ModTime.UTC()})
			}
		}
		token = next
	}
	return found, nil
}

// Delete implements blockstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := blockstore.ValidKey(key); err != nil {
		return err
	}
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(s.o.Bucket), Key: aws.String(s.name(key))})
	if err = s.fail("delete", key, err); errors.Is(err, blockstore.ErrNotFound) {
		return nil
	}
	return err
}

// Clean implements blockstore.Cleaner.
func (s *Store) Clean(ctx context.Context, before time.Time) (done blockstore.Cleaned, err error) {
	pages := s3.NewListMultipartUploadsPaginator(s.client, &s3.ListMultipartUploadsInput{Bucket: aws.String(s.o.Bucket), Prefix: aws.String(s.o.Prefix)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return done, s.fail("clean", "", err)
		}
		for _, u := range page.Uploads {
			if !strings.HasPrefix(aws.ToString(u.Key), s.o.Prefix) || u.Initiated == nil || !u.Initiated.Before(before) {
				continue
			}
			_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: aws.String(s.o.Bucket), Key: u.Key, UploadId: u.UploadId})
			if err = s.fail("clean", aws.ToString(u.Key), err); err != nil && !errors.Is(err, blockstore.ErrNotFound) {
				return done, err
			}
			done.Leftovers++
		}
	}
	return done, nil
}
