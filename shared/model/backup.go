package model

// BackupStatus is a backup configuration's statusName in the Public API.
type BackupStatus string

// The states of a backup. TERMINATING is left only to INACTIVE, when everything of the backup is deleted.
const (
	BackupInactive     BackupStatus = "INACTIVE"
	BackupProvisioning BackupStatus = "PROVISIONING" // asked for, no daemon or agent has taken it yet
	BackupStarted      BackupStatus = "STARTED"
	BackupStopped      BackupStatus = "STOPPED" // snapshots stay and expire
	BackupTerminating  BackupStatus = "TERMINATING"
)

// RestoreStatus is a restore job's statusName in the Public API.
type RestoreStatus string

// The states of a restore job.
const (
	RestoreInProgress RestoreStatus = "IN_PROGRESS"
	RestoreFinished   RestoreStatus = "FINISHED"
	RestoreBroken     RestoreStatus = "BROKEN"
	RestoreKilled     RestoreStatus = "KILLED" // cancelled by a person
)

// DeliveryMethod is how what was restored reaches its target.
type DeliveryMethod string

// The ways of delivery. HTTP is a one-time download link; PUSH writes into a running deployment through the backup agent
// beside it (AUTOMATED_RESTORE in the Public API).
const (
	DeliverHTTP DeliveryMethod = "HTTP"
	DeliverPush DeliveryMethod = "AUTOMATED_RESTORE"
)

// DeliveryStatus is delivery.statusName of a restore job by HTTP.
type DeliveryStatus string

// The states of a download link.
const (
	DeliveryReady        DeliveryStatus = "READY"
	DeliveryTransferring DeliveryStatus = "TRANSFERRING"
	DeliveryFinished     DeliveryStatus = "FINISHED"
	DeliveryExpired      DeliveryStatus = "EXPIRED"
	DeliveryMaxDownloads DeliveryStatus = "MAX_DOWNLOADS_EXCEEDED"
)
