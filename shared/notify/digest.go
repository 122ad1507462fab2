package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Each sends a digest's alerts one by one, for services that keep an incident for each. An alert that is refused for good does
// not keep the others back; any other failure ends it, and the whole digest is to be sent again: such services know what
// they have by the alert's id.
func Each(ctx context.Context, m Message, send func(ctx context.Context, one Message) (Result, error)) (Result, error) {
	all := m.All()
	var first Result
	var refused error
	count := 0
	for i, one := range all {
		r, err := send(ctx, one)
		switch {
		case err == nil && first == (Result{}):
			first = r
		case errors.Is(err, ErrPermanent):
			refused, count = err, count+1
		case err != nil:
			return Result{}, err
		}
		if ctx.Err() != nil && i < len(all)-1 {
			return Result{}, &Failure{Text: fmt.Sprintf("%d of %d alerts were sent in time", i+1, len(all)), cause: ctx.Err()}
		}
	}
	switch {
	case refused == nil && len(all) > 1:
		return Result{Text: fmt.Sprintf("%d alerts: %s", len(all), first.Text)}, nil
	case refused == nil:
		return first, nil
	case len(all) == 1:
		return Result{}, refused
	}
	return Result{}, Refused("%d of %d alerts were refused, the last one so: %v", count, len(all), refused)
}

// JSON encodes a body. It must be able to.
func JSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("notify: a body that is not JSON: %v", err)) // a type without a form in JSON: a mistake of ours
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Severity is how bad an alert is.
type Severity string

// The severities.
const (
	Critical Severity = "critical"
	Warning  Severity = "warning"
	Info     Severity = "info"
)

// SeverityOf says how bad what a message tells of is: what keeps a deployment from serving or us from watching is critical.
func SeverityOf(m Message) Severity {
	a := m.alert()
	if a.Inform || m.Kind == model.DeliverTest || m.Kind == model.DeliverInform || Over(m.Kind) {
		return Info
	}
	switch a.EventType {
	case model.EventHostDown, model.EventNoPrimary, model.EventMultiplePrimaries, model.EventTooFewHealthy, model.EventTooManyUnhealthy,
		model.EventMongosMissing, model.EventAgentDown, model.EventHostExposed, model.EventDeliveriesFailing:
		return Critical
	}
	return Warning
}
