package cloudblock

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"gocloud.dev/gcerrors"

	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// codeOf is the service's name for an error and the HTTP status it came with; "" and 0 when it is not the service's.
func codeOf(err error) (code string, status int) {
	var api smithy.APIError
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	return code, status
}

func beyondEnd(err error) bool {
	code, status := codeOf(err)
	return code == "InvalidRange" || status == http.StatusRequestedRangeNotSatisfiable
}

func notImplemented(err error) bool {
	code, status := codeOf(err)
	return code == "NotImplemented" || status == http.StatusNotImplemented
}

// fail gives an error its meaning for the caller and, where a person must act, says what to do. nil stays nil.
func (s *Store) fail(what, key string, err error) error {
	if err == nil {
		return nil
	}
	op := what + " " + key + " in the bucket " + s.o.Bucket
	code, status := codeOf(err)
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", op, context.Canceled)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", op, context.DeadlineExceeded)
	case code == "NoSuchBucket":
		return opererr.New(op, fmt.Errorf("%w: %w", blockstore.ErrDenied, err), "Create the bucket, or correct its name, the region or the endpoint.")
	case code == "PreconditionFailed", status == http.StatusPreconditionFailed:
		return fmt.Errorf("%w: %s", blockstore.ErrExists, op)
	case code == "NoSuchKey", code == "NotFound", code == "NoSuchUpload", gcerrors.Code(err) == gcerrors.NotFound:
		return fmt.Errorf("%w: %s", blockstore.ErrNotFound, op)
	case code == "RequestTimeTooSkewed":
		return opererr.New(op, fmt.Errorf("%w: %w", blockstore.ErrDenied, err), "Set this machine's clock right (NTP): it is too far from the service's.")
	case code == "ExpiredToken", code == "XAdminUserNotFound", status == http.StatusUnauthorized, status == http.StatusForbidden && code != "QuotaExceeded":
		return opererr.New(op, fmt.Errorf("%w: %w", blockstore.ErrDenied, err),
			"Check the access key and its secret, and that they permit s3:GetObject, PutObject, DeleteObject, ListBucket, ListBucketMultipartUploads and AbortMultipartUpload on the bucket.")
	case status == http.StatusInsufficientStorage, code == "QuotaExceeded", code == "XMinioStorageFull", code == "InsufficientCapacity", code == "EntityTooLarge" && what == "write":
		return opererr.New(op, fmt.Errorf("%w: %w", blockstore.ErrNoSpace, err),
			"Enlarge the service's disks or the bucket's quota, or shorten the retention and groom; nothing that is stored is lost, and writers go on when there is room.")
	case notImplemented(err):
		return fmt.Errorf("%s: the service does not know this request: %w", op, err)
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusConflict && status != http.StatusTooManyRequests:
		return fmt.Errorf("%s: %w", op, err) // asking again would not help
	}
	return fmt.Errorf("%w: %s: %w", blockstore.ErrUnavailable, op, err)
}
