package engine

import "github.com/heartwood-db/heartwood/local/mongosim/engine/refuse"

// The codes of refusals.
const (
	CodeInternalError          = refuse.CodeInternalError
	CodeBadValue               = refuse.CodeBadValue
	CodeUserNotFound           = refuse.CodeUserNotFound
	CodeFailedToParse          = refuse.CodeFailedToParse
	CodeUnauthorized           = refuse.CodeUnauthorized
	CodeTypeMismatch           = refuse.CodeTypeMismatch
	CodeInvalidLength          = refuse.CodeInvalidLength
	CodeIllegalOperation       = refuse.CodeIllegalOperation
	CodeAuthenticationFailed   = refuse.CodeAuthenticationFailed
	CodeNamespaceNotFound      = refuse.CodeNamespaceNotFound
	CodeIndexNotFound          = refuse.CodeIndexNotFound
	CodePathNotViable          = refuse.CodePathNotViable
	CodeConflictingUpdate      = refuse.CodeConflictingUpdate
	CodeCursorNotFound         = refuse.CodeCursorNotFound
	CodeNamespaceExists        = refuse.CodeNamespaceExists
	CodeMaxTimeMSExpired       = refuse.CodeMaxTimeMSExpired
	CodeDollarPrefixed         = refuse.CodeDollarPrefixed
	CodeEmptyFieldName         = refuse.CodeEmptyFieldName
	CodeCommandNotFound        = refuse.CodeCommandNotFound
	CodeWriteConcernFailed     = refuse.CodeWriteConcernFailed
	CodeImmutableField         = refuse.CodeImmutableField
	CodeCannotCreateIndex      = refuse.CodeCannotCreateIndex
	CodeInvalidOptions         = refuse.CodeInvalidOptions
	CodeInvalidNamespace       = refuse.CodeInvalidNamespace
	CodeNoReplicationEnabled   = refuse.CodeNoReplicationEnabled
	CodeIndexOptionsConflict   = refuse.CodeIndexOptionsConflict
	CodeIndexKeySpecsConflict  = refuse.CodeIndexKeySpecsConflict
	CodeShutdownInProgress     = refuse.CodeShutdownInProgress
	CodeWriteConflict          = refuse.CodeWriteConflict
	CodeNotYetInitialized      = refuse.CodeNotYetInitialized
	CodeUnsatisfiableWC        = refuse.CodeUnsatisfiableWC
	CodeDocumentValidation     = refuse.CodeDocumentValidation
	CodeOutOfDiskSpace         = refuse.CodeOutOfDiskSpace
	CodePrimarySteppedDown     = refuse.CodePrimarySteppedDown
	CodeInvalidIndexSpecOption = refuse.CodeInvalidIndexSpecOption
	CodeUpdateOperationFailed  = refuse.CodeUpdateOperationFailed
	CodeNoSuchTransaction      = refuse.CodeNoSuchTransaction
	CodeTransactionCommitted   = refuse.CodeTransactionCommitted
	CodeTransactionTooOld      = refuse.CodeTransactionTooOld
	CodeNotWritablePrimary     = refuse.CodeNotWritablePrimary
	CodeBSONObjectTooLarge     = refuse.CodeBSONObjectTooLarge
	CodeDuplicateKey           = refuse.CodeDuplicateKey
	CodeInterruptedAtShutdown  = refuse.CodeInterruptedAtShutdown
	CodeInterrupted            = refuse.CodeInterrupted
	CodeInterruptedStateChange = refuse.CodeInterruptedStateChange
	CodeNotPrimaryNoSecondary  = refuse.CodeNotPrimaryNoSecondary
	CodeNotPrimaryOrSecondary  = refuse.CodeNotPrimaryOrSecondary
)
