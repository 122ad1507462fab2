package wasmhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/heartwood-db/heartwood/shared/httpx/guesthttp"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// call is the import of that name. A guest that passes what is no memory of its own breaks the protocol: the panic ends it, and
// wazero turns it into the error of the guest's call.
func call(ctx context.Context, module api.Module, namePtr, nameLen, inPtr, inLen uint32) uint32 {
	in := instanceOf(ctx)
	if nameLen > maxName || inLen > maxMessage {
		panic(fmt.Errorf("%w: a call of %d bytes", errProtocol, inLen))
	}
	name, ok := module.Memory().Read(namePtr, nameLen)
	if !ok {
		panic(fmt.Errorf("%w: a name outside of its memory", errProtocol))
	}
	message, ok := module.Memory().Read(inPtr, inLen)
	if !ok {
		panic(fmt.Errorf("%w: a message outside of its memory", errProtocol))
	}
	out, err := in.do(ctx, string(name), message)
	switch {
	case err != nil:
		in.result = append([]byte{1}, err.Error()...)
	case len(out) > maxMessage:
		in.result = append([]byte{1}, "the answer is too large"...)
	default:
		in.result = append(make([]byte, 1, 1+len(out)), out...)
	}
	return uint32(len(in.result)) //nolint:gosec // bounded above
}

// fetch is the import of that name.
func fetch(ctx context.Context, module api.Module, ptr uint32) {
	in := instanceOf(ctx)
	if in.result == nil || !module.Memory().Write(ptr, in.result) {
		panic(fmt.Errorf("%w: it fetches what there is not, or to where it has no memory", errProtocol))
	}
	in.result = nil
}

func instanceOf(ctx context.Context) *instance {
	in, ok := ctx.Value(instanceKey{}).(*instance)
	if !ok {
		panic(fmt.Errorf("%w: a call outside of a request", errProtocol))
	}
	return in
}

// do answers one capability.
func (in *instance) do(ctx context.Context, name string, message []byte) ([]byte, error) {
	switch name {
	case guesthttp.CapRequest:
		if in.request == nil {
			return nil, errors.New("there is no request")
		}
		request := in.request
		in.request = nil
		return request, nil
	case guesthttp.CapAnswer:
		in.answer = append([]byte(nil), message...)
		if in.answer == nil {
			in.answer = []byte{}
		}
		return nil, nil
	case guesthttp.CapBody:
		return guesthttp.Piece(in.body, message)
	case guesthttp.CapConfig:
		return in.host.o.Config, nil
	case guesthttp.CapLog:
		in.host.log(ctx, message)
		return nil, nil
	}
	do, ok := in.host.o.Capabilities[name]
	if !ok {
		return nil, fmt.Errorf("the host offers no %q", name)
	}
	began := time.Now()
	out, err := do(ctx, message)
	in.host.m.calls.WithLabelValues(name).Observe(time.Since(began).Seconds())
	return out, err
}

// log writes a guest's line to the host's log: its level and its message, and its attributes in one.
func (h *Host) log(ctx context.Context, line []byte) {
	var fields map[string]any
	if err := json.Unmarshal(line, &fields); err != nil {
		h.o.Log.WarnContext(ctx, "a guest's log line cannot be read", obs.KeyComponent, h.o.Name, obs.KeyErr, err)
		return
	}
	level := slog.LevelInfo
	if text, ok := fields[slog.LevelKey].(string); ok {
		_ = level.UnmarshalText([]byte(text)) // an unknown one stays INFO
	}
	message, _ := fields[slog.MessageKey].(string)
	attrs := make([]slog.Attr, 0, len(fields))
	for key, value := range fields {
		if key != slog.LevelKey && key != slog.MessageKey && key != slog.TimeKey {
			attrs = append(attrs, slog.Any(key, value))
		}
	}
	h.o.Log.LogAttrs(ctx, level, message, attrs...) //nolint:sloglint // the message is the guest's
}
