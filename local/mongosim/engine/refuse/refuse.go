// Package refuse is how the simulator says no: the error that all packages of the engine return for what a server would
// refuse, with the server's codes and their names, and the reply a client gets. It owns no state.
package refuse

import (
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/engine/bsonval"
)

// Error is a refusal as a client sees it.
type Error struct {
	Code   int32
	Msg    string
	Labels []string
	Extra  bson.Raw // more fields of the reply, as keyPattern and keyValue of a duplicate
}

// Error gives the message.
func (e *Error) Error() string { return e.Msg }

// Errf makes a refusal.
func Errf(code int32, format string, args ...any) *Error {
	return &Error{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// Codes used here and by deployments.
const (
	CodeInternalError          = 1
	CodeBadValue               = 2
	CodeUserNotFound           = 11
	CodeGraphContainsCycle     = 5
	CodeViewDepthLimitExceeded = 165
	CodeFailedToParse          = 9
	CodeUnauthorized           = 13
	CodeTypeMismatch           = 14
	CodeInvalidLength          = 16
	CodeIllegalOperation       = 20
	CodeAuthenticationFailed   = 18
	CodeNamespaceNotFound      = 26
	CodeIndexNotFound          = 27
	CodePathNotViable          = 28
	CodeConflictingUpdate      = 40
	CodeCursorNotFound         = 43
	CodeNamespaceExists        = 48
	CodeMaxTimeMSExpired       = 50
	CodeDollarPrefixed         = 52
	CodeEmptyFieldName         = 56
	CodeCommandNotFound        = 59
	CodeWriteConcernFailed     = 64
	CodeImmutableField         = 66
	CodeCannotCreateIndex      = 67
	CodeInvalidOptions         = 72
	CodeInvalidNamespace       = 73
	CodeNoReplicationEnabled   = 76
	CodeIndexOptionsConflict   = 85
	CodeIndexKeySpecsConflict  = 86
	CodeShutdownInProgress     = 91
	CodeWriteConflict          = 112
	CodeNotYetInitialized      = 94
	CodeUnsatisfiableWC        = 100
	CodeDocumentValidation     = 121
	CodeOutOfDiskSpace         = 14031
	CodePrimarySteppedDown     = 189
	CodeInvalidIndexSpecOption = 197
	CodeUpdateOperationFailed  = 218
	CodeNoSuchTransaction      = 251
	CodeTransactionCommitted   = 256
	CodeTransactionTooOld      = 225
	CodePreparedInProgress     = 267
	CodeQueryPlanKilled        = 175
	CodeCappedPositionLost     = 136
	CodeCursorKilled           = 237
	CodeNotWritablePrimary     = 10107
	CodeBSONObjectTooLarge     = 10334
	CodeDuplicateKey           = 11000
	CodeInterruptedAtShutdown  = 11600
	CodeInterrupted            = 11601
	CodeInterruptedStateChange = 11602
	CodeNotPrimaryNoSecondary  = 13435
	CodeNotPrimaryOrSecondary  = 13436
)

// CodeName is the server's name of a code.
func CodeName(code int32) string {
	switch code {
	case CodeInternalError:
		return "InternalError"
	case CodeBadValue:
		return "BadValue"
	case CodeGraphContainsCycle:
		return "GraphContainsCycle"
	case CodeViewDepthLimitExceeded:
		return "ViewDepthLimitExceeded"
	case CodeFailedToParse:
		return "FailedToParse"
	case CodeUserNotFound:
		return "UserNotFound"
	case CodeUnauthorized:
		return "Unauthorized"
	case CodeTypeMismatch:
		return "TypeMismatch"
	case 15:
		return "Overflow"
	case CodeInvalidLength:
		return "InvalidLength"
	case CodeAuthenticationFailed:
		return "AuthenticationFailed"
	case CodeIllegalOperation:
		return "IllegalOperation"
	case CodeNamespaceNotFound:
		return "NamespaceNotFound"
	case CodeIndexNotFound:
		return "IndexNotFound"
	case CodePathNotViable:
		return "PathNotViable"
	case CodeConflictingUpdate:
		return "ConflictingUpdateOperators"
	case CodePreparedInProgress:
		return "PreparedTransactionInProgress"
	case CodeQueryPlanKilled:
		return "QueryPlanKilled"
	case CodeCappedPositionLost:
		return "CappedPositionLost"
	case CodeCursorKilled:
		return "CursorKilled"
	case CodeCursorNotFound:
		return "CursorNotFound"
	case CodeNamespaceExists:
		return "NamespaceExists"
	case CodeMaxTimeMSExpired:
		return "MaxTimeMSExpired"
	case CodeDollarPrefixed:
		return "DollarPrefixedFieldName"
	case 53:
		return "InvalidIdField"
	case CodeEmptyFieldName:
		return "EmptyFieldName"
	case CodeCommandNotFound:
		return "CommandNotFound"
	case CodeWriteConcernFailed:
		return "WriteConcernFailed"
	case CodeImmutableField:
		return "ImmutableField"
	case CodeCannotCreateIndex:
		return "CannotCreateIndex"
	case CodeInvalidOptions:
		return "InvalidOptions"
	case CodeInvalidNamespace:
		return "InvalidNamespace"
	case CodeNoReplicationEnabled:
		return "NoReplicationEnabled"
	case CodeIndexOptionsConflict:
		return "IndexOptionsConflict"
	case CodeIndexKeySpecsConflict:
		return "IndexKeySpecsConflict"
	case CodeShutdownInProgress:
		return "ShutdownInProgress"
	case CodeNotYetInitialized:
		return "NotYetInitialized"
	case CodeUnsatisfiableWC:
		return "UnsatisfiableWriteConcern"
	case CodeWriteConflict:
		return "WriteConflict"
	case CodeDocumentValidation:
		return "DocumentValidationFailure"
	case 166:
		return "CommandNotSupportedOnView"
	case 171:
		return "CannotIndexParallelArrays"
	case CodePrimarySteppedDown:
		return "PrimarySteppedDown"
	case CodeInvalidIndexSpecOption:
		return "InvalidIndexSpecificationOption"
	case 211:
		return "KeyNotFound"
	case CodeUpdateOperationFailed:
		return "UpdateOperationFailed"
	case CodeTransactionTooOld:
		return "TransactionTooOld"
	case CodeNoSuchTransaction:
		return "NoSuchTransaction"
	case CodeTransactionCommitted:
		return "TransactionCommitted"
	case 263:
		return "OperationNotSupportedInTransaction"
	case CodeNotWritablePrimary:
		return "NotWritablePrimary"
	case CodeBSONObjectTooLarge:
		return "BSONObjectTooLarge"
	case CodeDuplicateKey:
		return "DuplicateKey"
	case CodeInterruptedAtShutdown:
		return "InterruptedAtShutdown"
	case CodeInterrupted:
		return "Interrupted"
	case CodeInterruptedStateChange:
		return "InterruptedDueToReplStateChange"
	case CodeNotPrimaryNoSecondary:
		return "NotPrimaryNoSecondaryOk"
	case CodeNotPrimaryOrSecondary:
		return "NotPrimaryOrSecondary"
	case CodeOutOfDiskSpace:
		return "OutOfDiskSpace"
	}
	return fmt.Sprintf("Location%d", code)
}

// Reply is the reply of a refused command.
func Reply(err *Error) bson.Raw {
	var b bsonval.Builder
	if len(err.Labels) > 0 {
		b.Value("errorLabels", LabelArray(err.Labels))
	}
	b.Double("ok", 0).String("errmsg", err.Msg).Int32("code", err.Code).String("codeName", CodeName(err.Code)).All(err.Extra)
	return b.Raw()
}

// LabelArray makes the errorLabels of a reply.
func LabelArray(labels []string) bson.RawValue {
	vs := make([]bson.RawValue, len(labels))
	for i, l := range labels {
		vs[i] = bsonval.String(l)
	}
	return bsonval.Array(vs)
}
