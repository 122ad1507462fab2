package collect

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/auth"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/heartwood-db/heartwood/shared/wire"
)

// Kind says what to do about a command that failed.
type Kind uint8

// The kinds of failure.
const (
	Unreachable  Kind = iota // no answer at all: the visit ends
	TimedOut                 // the process did not answer this command in time
	Unauthorized             // up, but the user may not do this: remembered for a while
	BadAuth                  // the credentials were refused: back off, because servers lock accounts
	Unsupported              // this process does not know the command: not asked again until its version changes
	Absent                   // nothing there to report: not a failure
	Slow                     // the server stopped it by maxTimeMS: ask less often
	Transient                // changing state or shutting down: what else was collected stays good
	Failed                   // anything else
)

// Error codes of the server that the agent knows.
const (
	codeHostUnreachable   = 6
	codeHostNotFound      = 7
	codeUnauthorized      = 13
	codeAuthFailed        = 18
	codeNamespaceNotFound = 26
	codeMaxTimeExpired    = 50
	codeCommandNotFound   = 59
	codeNoReplication     = 76
	codeNetworkTimeout    = 89
	codeNotSupported      = 115
	codeSocketException   = 9001
	codeKeyNotFound       = 211
	codeOplogUnreadable   = 17347 // serverStatus with oplog: 1 could not read the oldest entry
	codeMechanismMissing  = 334   // MechanismUnavailable
	codeNoFCVYet          = 258
)

var kindOfCode = map[int32]Kind{
	codeHostUnreachable: Unreachable, codeHostNotFound: Unreachable, codeNetworkTimeout: TimedOut, codeSocketException: Unreachable,
	codeUnauthorized: Unauthorized, codeAuthFailed: BadAuth, codeMechanismMissing: BadAuth,
	codeNamespaceNotFound: Absent, codeNoReplication: Absent, codeNoFCVYet: Absent, // the last: getParameter on an arbiter
	codeMaxTimeExpired: Slow, codeCommandNotFound: Unsupported, codeNotSupported: Unsupported,
	91: Transient, 11600: Transient, // ShutdownInProgress, InterruptedAtShutdown
	189: Transient, 10107: Transient, 11602: Transient, 13435: Transient, 13436: Transient, // changing state, or no reads here
	codeKeyNotFound: Transient,
}

// Classify turns a command's error into what the ping reports and what the agent does about it.
func Classify(command string, err error) (wire.Failure, Kind) {
	f := wire.Failure{Command: command, Message: trim(err.Error())}
	var (
		server    mongo.CommandError
		sign      *auth.Error
		selection topology.ServerSelectionError
	)
	isServer := errors.As(err, &server) && server.Code != 0
	if isServer {
		f.Code, f.CodeName, f.Message = server.Code, server.Name, trim(server.Message)
	}
	switch {
	case errors.As(err, &sign):
		return classifySignIn(f, err, sign, isServer)
	case isServer:
		kind, known := kindOfCode[f.Code]
		if !known {
			kind = Failed
		}
		if kind == BadAuth {
			f.Command = "authenticate"
		}
		return f, kind
	case errors.As(err, &selection):
		f.Command, f.Code, f.CodeName = "connect", codeHostUnreachable, "HostUnreachable"
		f.Message = trim(selectionCause(selection))
		return f, Unreachable
	case errors.Is(err, context.DeadlineExceeded) || mongo.IsTimeout(err):
		f.Code, f.CodeName, f.Message = codeNetworkTimeout, "NetworkTimeout", "no answer within the time limit"
		return f, TimedOut
	case mongo.IsNetworkError(err):
		f.Code, f.CodeName, f.Message = codeHostUnreachable, "HostUnreachable", trim(lost(err))
		return f, Unreachable
	case errors.Is(err, context.Canceled):
		return f, Unreachable
	}
	var (
		conn    topology.ConnectionError
		cleared driver.RetryablePoolError // another command found the process gone
	)
	if errors.As(err, &conn) || errors.As(err, &cleared) {
		f.Code, f.CodeName = codeHostUnreachable, "HostUnreachable"
		return f, Unreachable
	}
	return f, Failed
}

// classifySignIn tells credentials that were refused from a sign-in that something else kept from ending: a process that is
// going down or changing state, a connection that was lost, a directory service that does not answer the server.
func classifySignIn(f wire.Failure, err error, sign *auth.Error, isServer bool) (wire.Failure, Kind) {
	f.Command, f.Message = "authenticate", trim(sign.Error())
	kind := kindOfCode[f.Code]
	switch {
	case isServer && (kind == Transient || kind == TimedOut || kind == Slow):
		return f, Transient
	case isServer:
	case mongo.IsTimeout(err) || errors.Is(err, context.DeadlineExceeded):
		f.Code, f.CodeName = codeNetworkTimeout, "NetworkTimeout"
		return f, Transient
	case mongo.IsNetworkError(err) || errors.As(err, new(topology.ConnectionError)) || errors.Is(err, context.Canceled):
		f.Code, f.CodeName = codeHostUnreachable, "HostUnreachable"
		return f, Unreachable
	}
	if f.Code == 0 || f.CodeName == "" {
		f.Code, f.CodeName = codeAuthFailed, "AuthenticationFailed"
	}
	return f, BadAuth
}

// selectionCause is why no server was selected: the error of the last attempt to reach it, without the driver's dump of what
// it knows.
func selectionCause(err topology.ServerSelectionError) string {
	for _, s := range err.Desc.Servers {
		if s.LastError != nil {
			return lost(s.LastError)
		}
	}
	if err.Wrapped != nil {
		return lost(err.Wrapped)
	}
	return err.Error()
}

// lost says why there is no connection, the same words for the same reason: the driver's texts carry numbers of connections.
func lost(err error) string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "the connection was closed before an answer came: the process may require TLS, or take no more connections"
	case errors.Is(err, context.DeadlineExceeded), mongo.IsTimeout(err):
		return "no answer within the time limit"
	}
	for {
		switch err.(type) { //nolint:errorlint // going down the chain one by one
		case *net.OpError, *tls.CertificateVerificationError:
			return err.Error()
		}
		cause := errors.Unwrap(err)
		if cause == nil {
			return strings.TrimSpace(err.Error())
		}
		err = cause
	}
}

// maxMessage bounds what a ping says about a failure; some servers repeat the whole command.
const maxMessage = 500

func trim(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "..."
	}
	return s
}
