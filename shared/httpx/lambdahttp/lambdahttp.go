// Package lambdahttp runs an http.Handler, and the periodic duties beside it, as an AWS Lambda function: it turns the events of an
// Application Load Balancer, of API Gateway (payload 2.0), of a function URL and of a schedule into calls, and answers in the form
// each of them wants. Answers that are larger than the front takes are replaced by one that says so: a front would make a 502 of
// them. It knows nothing of what the handler does.
//
// Requests are rebuilt here and not by a library because the Public API's digest signature covers the exact path and query, which
// adapters decode and encode again in another order (see requestURI).
package lambdahttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
)

// Limits of what a front passes on, in bytes of the whole JSON answer.
const (
	limitALB     = 1 << 20
	limitGateway = 6 << 20
	limitSlack   = 4 << 10 // what the headers' JSON and the front's own may add
)

// Options are what a function is made of.
type Options struct {
	Handler http.Handler
	Passes  func() []store.Pass // its periodic duties; nil: none
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now
}

// Function answers events. It implements lambda.Handler of aws-lambda-go.
type Function struct{ o Options }

// New returns the function.
func New(o Options) (*Function, error) {
	if o.Handler == nil || o.Log == nil {
		return nil, errors.New("lambdahttp: a function needs a Handler and a Log")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Passes == nil {
		o.Passes = func() []store.Pass { return nil }
	}
	return &Function{o: o}, nil
}

// event is as much of any event as tells its kind.
type event struct {
	Version        string `json:"version"`
	RequestContext struct {
		ELB  *struct{} `json:"elb"`
		HTTP *struct{} `json:"http"`
	} `json:"requestContext"`

	// Of schedules: the input that template.yaml gives them, or EventBridge's own event, which names no pass.
	Passes     []string `json:"passes"`
	Source     string   `json:"source"`
	DetailType string   `json:"detail-type"`
}

// Invoke answers one event.
func (f *Function) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	var e event
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, fmt.Errorf("the event is no JSON object: %w", err)
	}
	switch {
	case e.RequestContext.ELB != nil:
		return f.balancer(ctx, payload)
	case e.Version == "2.0" && e.RequestContext.HTTP != nil:
		return f.gateway(ctx, payload)
	case len(e.Passes) > 0:
		return f.passes(ctx, e.Passes)
	case e.Source == "aws.events" || e.DetailType == "Scheduled Event":
		return f.passes(ctx, nil)
	}
	return nil, errors.New("the event is of no known kind: it is none of a load balancer, of API Gateway with payload format 2.0, of a function URL or of a schedule")
}

// Pass is what a scheduled pass came to, for whoever reads the invocation's answer.
type Pass struct {
	Name  string `json:"name"`
	Error string `json:"error,omitempty"`
}

// passes runs the named duties as far as they are due, or all of them. One that fails does not keep the others from running; the
// invocation fails then, so that the alarm on errors sees it.
func (f *Function) passes(ctx context.Context, names []string) ([]byte, error) {
	all := f.o.Passes()
	var failed []error
	done := []Pass{}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(p store.Pass) bool { return p.Name == name }) {
			failed = append(failed, fmt.Errorf("there is no pass %q here", name))
		}
	}
	for _, p := range all {
		if len(names) > 0 && !slices.Contains(names, p.Name) {
			continue
		}
		result := Pass{Name: p.Name}
		if err := p.Run(ctx, f.o.Now().UTC()); err != nil {
			f.o.Log.WarnContext(ctx, "periodic duty failed", obs.KeyPass, p.Name, obs.KeyErr, err)
			result.Error = err.Error()
			failed = append(failed, err)
		}
		done = append(done, result)
	}
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		Passes []Pass `json:"passes"`
	}{done})
}

// tooLarge is the answer in place of one that the front would not pass on.
func tooLarge(r *http.Request, size, limit int) *answer {
	text := fmt.Sprintf("The answer has %d kB, more than the %d kB that may pass here. Ask for less: a shorter time range, fewer metrics, or pages (itemsPerPage).",
		size>>10, limit>>10)
	a := newAnswer()
	a.header.Set("Cache-Control", "no-store")
	if strings.HasPrefix(r.URL.Path, "/api/") || strings.Contains(r.Header.Get("Accept"), "application/json") {
		a.header.Set("Content-Type", "application/json")
		a.WriteHeader(http.StatusRequestEntityTooLarge)
		_ = json.NewEncoder(a).Encode(struct {
			Detail    string `json:"detail"`
			Error     int    `json:"error"`
			ErrorCode string `json:"errorCode"`
			Reason    string `json:"reason"`
		}{text, http.StatusRequestEntityTooLarge, "RESPONSE_TOO_LARGE", http.StatusText(http.StatusRequestEntityTooLarge)})
		return a
	}
	a.header.Set("Content-Type", "text/plain; charset=utf-8")
	a.WriteHeader(http.StatusRequestEntityTooLarge)
	_, _ = a.Write([]byte(text + "\n"))
	return a
}
