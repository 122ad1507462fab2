package cloudblock

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/heartwood-db/heartwood/shared/blockstore"
)

// maxSigned is the longest that a signature may live, by the protocol.
const maxSigned = 7 * 24 * time.Hour

// maxPut is the largest object of one upload request, by the protocol.
const maxPut = 5 << 30

// SignPut implements blockstore.Signer.
func (s *Store) SignPut(ctx context.Context, key string, size int64, ttl time.Duration) (blockstore.Signed, error) {
	if err := blockstore.ValidKey(key); err != nil {
		return blockstore.Signed{}, err
	}
	if size < 0 || size > maxPut {
		return blockstore.Signed{}, fmt.Errorf("%w: an upload of %d bytes", blockstore.ErrInvalid, size)
	}
	conditional, err := s.honours(ctx)
	if err != nil {
		return blockstore.Signed{}, err
	}
	in := &s3.PutObjectInput{Bucket: aws.String(s.o.Bucket), Key: aws.String(s.name(key)), ContentLength: aws.Int64(size)}
	if conditional {
		in.IfNoneMatch = aws.String("*")
	}
	p, err := s3.NewPresignClient(s.client).PresignPutObject(ctx, in, s3.WithPresignExpires(min(ttl, maxSigned)))
	if err != nil {
		return blockstore.Signed{}, s.fail("sign an upload of", key, err)
	}
	return signed(p), nil
}

// SignGet implements blockstore.Signer.
func (s *Store) SignGet(ctx context.Context, key string, ttl time.Duration) (blockstore.Signed, error) {
	if err := blockstore.ValidKey(key); err != nil {
		return blockstore.Signed{}, err
	}
	in := &s3.GetObjectInput{Bucket: aws.String(s.o.Bucket), Key: aws.String(s.name(key))}
	p, err := s3.NewPresignClient(s.client).PresignGetObject(ctx, in, s3.WithPresignExpires(min(ttl, maxSigned)))
	if err != nil {
		return blockstore.Signed{}, s.fail("sign a read of", key, err)
	}
	return signed(p), nil
}

// signed keeps of the signed headers those that a client does not send by itself.
func signed(p *v4.PresignedHTTPRequest) blockstore.Signed {
	out := blockstore.Signed{Method: p.Method, URL: p.URL, Header: map[string]string{}}
	for name := range p.SignedHeader {
		if canonical := http.CanonicalHeaderKey(name); canonical != "Host" {
			out.Header[canonical] = p.SignedHeader.Get(name)
		}
	}
	return out
}
