package model

import "time"

// EventType names what happened, spelled as eventTypeName in the Public API (operations.md 4.4 and 5.4).
type EventType string

// The event types this build raises.
const (
	EventHostDown           EventType = "HOST_DOWN"
	EventHostUp             EventType = "HOST_UP"
	EventHostRestarted      EventType = "HOST_RESTARTED"
	EventNewHost            EventType = "NEW_HOST"
	EventHostAdded          EventType = "ADD_HOST_AUDIT"
	EventHostDeleted        EventType = "DELETE_HOST_AUDIT"
	EventHostHidden         EventType = "HIDE_AND_DISABLE_HOST_AUDIT"
	EventHostNowPrimary     EventType = "HOST_NOW_PRIMARY"
	EventHostNowSecondary   EventType = "HOST_NOW_SECONDARY"
	EventHostRecovering     EventType = "HOST_RECOVERING"
	EventHostRecovered      EventType = "HOST_RECOVERED"
	EventHostRollback       EventType = "HOST_ROLLBACK"
	EventVersionChanged     EventType = "VERSION_CHANGED"
	EventHostUpgraded       EventType = "HOST_UPGRADED" // beside VERSION_CHANGED
	EventHostDowngraded     EventType = "HOST_DOWNGRADED"
	EventHostNowStandalone  EventType = "HOST_NOW_STANDALONE" // formerly a member of a replica set
	EventHostIPChanged      EventType = "HOST_IP_CHANGED_AUDIT"
	EventPrimaryElected     EventType = "PRIMARY_ELECTED"
	EventConfigChanged      EventType = "CONFIGURATION_CHANGED"
	EventMemberAdded        EventType = "MEMBER_ADDED"
	EventMemberRemoved      EventType = "MEMBER_REMOVED"
	EventNewAgent           EventType = "NEW_AGENT"
	EventAgentKeyRefused    EventType = "AGENT_API_KEY_REFUSED" // ours: a ping or conf call with a wrong key
	EventAgentKeyCreated    EventType = "AGENT_API_KEY_CREATED"
	EventAgentKeyDeleted    EventType = "AGENT_API_KEY_DELETED"
	EventAPIKeyCreated      EventType = "ORG_API_KEY_ADDED"
	EventAPIKeyDeleted      EventType = "ORG_API_KEY_DELETED"
	EventUserCreated        EventType = "USER_CREATED_AUDIT"
	EventUserChanged        EventType = "USER_ROLES_CHANGED_AUDIT"
	EventUserDeleted        EventType = "USER_DELETED_AUDIT" // ours
	EventUserJoined         EventType = "JOINED_GROUP"
	EventUserRemoved        EventType = "REMOVED_FROM_GROUP"
	EventLogin              EventType = "SUCCESSFUL_LOGIN_AUDIT"
	EventLoginFailed        EventType = "UNSUCCESSFUL_LOGIN_AUDIT"
	EventLogout             EventType = "LOGOUT_AUDIT"
	EventGroupCreated       EventType = "GROUP_CREATED"
	EventGroupDeleted       EventType = "GROUP_DELETED"
	EventGroupUpdated       EventType = "GROUP_UPDATED"
	EventPasswordChanged    EventType = "PASSWORD_UPDATED_AUDIT"
	EventHostUpdated        EventType = "HOST_UPDATED_AUDIT"
	EventAgentTookOver      EventType = "AGENT_TOOK_OVER" // ours: a standby agent became active
	EventClusterRenamed     EventType = "CLUSTER_RENAMED"
	EventParametersChanged  EventType = "SERVER_PARAMETERS_CHANGED" // ours: a change row was written
	EventStartupWarningsNew EventType = "STARTUP_WARNINGS_CHANGED"  // ours
	EventAccountLocked      EventType = "ACCOUNT_LOCKED_AUDIT"
	EventAPIKeyChanged      EventType = "ORG_API_KEY_CHANGED"         // ours: its description or its roles
	EventAccessListChanged  EventType = "API_KEY_ACCESS_LIST_CHANGED" // ours: of one key
	EventGlobalListChanged  EventType = "GLOBAL_ACCESS_LIST_CHANGED"  // ours: of the site
	EventOrgCreated         EventType = "ORG_CREATED"
	EventOrgRenamed         EventType = "ORG_RENAMED"
	EventOrgDeleted         EventType = "ORG_DELETED" // ours
)

// The event types of alerting: what alerts are about beyond the events above, what closes them, and what people do to them.
// The alerts function adds an event when an alert of one of these types opens, and one of the type that closes it.
const (
	EventAgentDown           EventType = "MONITORING_AGENT_DOWN"
	EventAgentUp             EventType = "MONITORING_AGENT_UP"
	EventAgentVersionBehind  EventType = "MONITORING_AGENT_VERSION_BEHIND"
	EventAgentVersionCurrent EventType = "MONITORING_AGENT_VERSION_CURRENT"
	EventHostExposed         EventType = "HOST_EXPOSED"
	EventHostLockedDown      EventType = "HOST_LOCKED_DOWN"
	EventCertificateStale    EventType = "HOST_SSL_CERTIFICATE_STALE"
	EventCertificateCurrent  EventType = "HOST_SSL_CERTIFICATE_CURRENT"
	EventSecurityNotMet      EventType = "HOST_SECURITY_CHECKUP_NOT_MET"
	EventSecurityMet         EventType = "HOST_SECURITY_CHECKUP_MET" // ours: what closes it
	EventClockSkew           EventType = "HOST_CLOCK_SKEW"           // ours: a host's clock is off by more than 2 s
	EventClockRight          EventType = "HOST_CLOCK_RIGHT"          // ours
	EventVersionBehind       EventType = "VERSION_BEHIND"
	EventVersionCurrent      EventType = "VERSION_CURRENT"
	EventOutsideMetric       EventType = "OUTSIDE_METRIC_THRESHOLD"
	EventInsideMetric        EventType = "INSIDE_METRIC_THRESHOLD"
	EventNoPrimary           EventType = "NO_PRIMARY"
	EventOnePrimary          EventType = "ONE_PRIMARY"
	EventMultiplePrimaries   EventType = "MULTIPLE_PRIMARIES"
	EventTooFewHealthy       EventType = "TOO_FEW_HEALTHY_MEMBERS"
	EventEnoughHealthy       EventType = "ENOUGH_HEALTHY_MEMBERS"
	EventTooManyUnhealthy    EventType = "TOO_MANY_UNHEALTHY_MEMBERS"
	EventTooManyElections    EventType = "TOO_MANY_ELECTIONS"
	EventMongosMissing       EventType = "CLUSTER_MONGOS_IS_MISSING"
	EventMongosPresent       EventType = "CLUSTER_MONGOS_IS_PRESENT"
	EventAlertAcknowledged   EventType = "ALERT_ACKNOWLEDGED_AUDIT"
	EventAlertUnacknowledged EventType = "ALERT_UNACKNOWLEDGED_AUDIT"
	EventAlertConfigAdded    EventType = "ALERT_CONFIG_ADDED_AUDIT"
	EventAlertConfigDeleted  EventType = "ALERT_CONFIG_DELETED_AUDIT"
	EventAlertConfigChanged  EventType = "ALERT_CONFIG_CHANGED_AUDIT"
	EventAlertConfigEnabled  EventType = "ALERT_CONFIG_ENABLED_AUDIT"
	EventAlertConfigDisabled EventType = "ALERT_CONFIG_DISABLED_AUDIT"
	EventAlertConfigTested   EventType = "ALERT_CONFIG_TESTED_AUDIT"      // ours: a test message was sent
	EventMaintenanceAdded    EventType = "MAINTENANCE_WINDOW_ADDED_AUDIT" // ours, as the next five
	EventMaintenanceChanged  EventType = "MAINTENANCE_WINDOW_CHANGED_AUDIT"
	EventMaintenanceDeleted  EventType = "MAINTENANCE_WINDOW_DELETED_AUDIT"
	EventSilenceAdded        EventType = "SILENCE_ADDED_AUDIT"
	EventSilenceEnded        EventType = "SILENCE_ENDED_AUDIT"
	EventIntegrationChanged  EventType = "INTEGRATION_CHANGED_AUDIT"
	EventCronJobFailed       EventType = "CRON_JOB_FAILED" // a periodic duty of this site keeps failing or is late
	EventCronJobCompleted    EventType = "CRON_JOB_COMPLETED"
	EventDeliveriesFailing   EventType = "DELIVERIES_FAILING"       // ours: notifications cannot be delivered
	EventDeliveriesWorking   EventType = "DELIVERIES_WORKING"       // ours
	EventServerCertStale     EventType = "SERVER_CERTIFICATE_STALE" // ours: the certificate this site serves with expires soon
	EventServerCertCurrent   EventType = "SERVER_CERTIFICATE_CURRENT"
)

// The event types of backup: what the daemon and agents tell, what people do, and what alerts of the backup are about.
const (
	EventSyncRequired        EventType = "SYNC_REQUIRED_AUDIT"         // a full read is wanted: why is in the text
	EventSyncStarted         EventType = "INITIAL_SYNC_STARTED_AUDIT"  // an epoch began
	EventSyncFinished        EventType = "INITIAL_SYNC_FINISHED_AUDIT" // the head passed the fuzzy window
	EventBackupState         EventType = "RS_STATE_CHANGED_AUDIT"      // started, stopped, terminated
	EventBackupFilter        EventType = "RS_DENYLIST_UPDATED_AUDIT"
	EventBackupCredential    EventType = "RS_CREDENTIAL_UPDATED_AUDIT"
	EventBackupSchedule      EventType = "RS_SNAPSHOT_SCHEDULE_UPDATED_AUDIT"
	EventSnapshotTaken       EventType = "SNAPSHOT_COMPLETED" // ours
	EventSnapshotDeleted     EventType = "SNAPSHOT_DELETED_AUDIT"
	EventSnapshotExpiry      EventType = "SNAPSHOT_EXPIRY_UPDATED_AUDIT"
	EventRestoreRequested    EventType = "RESTORE_REQUESTED_AUDIT"
	EventRestoreReady        EventType = "RESTORE_READY"            // ours: the archive can be fetched, or the push is done
	EventRestoreStored       EventType = "RESTORE_STORED"           // ours: the parts of a push wait for the agent beside its target
	EventRestoreFailed       EventType = "RESTORE_FAILED"           // ours
	EventRestoreDownloaded   EventType = "RESTORE_DOWNLOADED_AUDIT" // ours: from where
	EventRestoreCancelled    EventType = "RESTORE_CANCELLED_AUDIT"  // ours: and what that leaves
	EventBackupMoved         EventType = "BACKUP_MOVED"             // ours: another daemon took a backup over
	EventOplogKept           EventType = "OPLOG_TTL_RESIZE"         // the head lags: oplog is kept for longer
	EventBackupAgentDown     EventType = "BACKUP_AGENT_DOWN"
	EventBackupAgentUp       EventType = "BACKUP_AGENT_UP"
	EventBackupAgentBehind   EventType = "BACKUP_AGENT_VERSION_BEHIND"
	EventBackupAgentCurrent  EventType = "BACKUP_AGENT_VERSION_CURRENT"
	EventOplogBehind         EventType = "OPLOG_BEHIND"
	EventOplogCurrent        EventType = "OPLOG_CURRENT"
	EventResyncRequired      EventType = "RESYNC_REQUIRED"
	EventResyncPerformed     EventType = "RESYNC_PERFORMED"
	EventBackupWindowShort   EventType = "BACKUP_OPLOG_WINDOW_SHORT"  // ours: the source's oplog will soon overrun the backup
	EventBackupWindowEnough  EventType = "BACKUP_OPLOG_WINDOW_ENOUGH" // ours
	EventLateSnapshot        EventType = "LATE_SNAPSHOT"
	EventBackupUnexpected    EventType = "BACKUP_IN_UNEXPECTED_STATE"
	EventBackupRetries       EventType = "BACKUP_TOO_MANY_RETRIES"
	EventBindError           EventType = "RS_BIND_ERROR"
	EventDaemonDown          EventType = "DAEMON_DOWN"
	EventDaemonUp            EventType = "DAEMON_UP"
	EventLowHeadSpace        EventType = "LOW_HEAD_FREE_SPACE"
	EventLowHeadSpacePercent EventType = "LOW_HEAD_FREE_SPACE_PERCENT"
	EventSufficientHeadSpace EventType = "SUFFICIENT_HEAD_FREE_SPACE"
	EventBackupStoreChanged  EventType = "BACKUP_STORE_CHANGED_AUDIT"  // ours: an administrator changed a store
	EventBackupDaemonChanged EventType = "BACKUP_DAEMON_CHANGED_AUDIT" // ours
)

// Event is one thing that happened. Events are only ever added.
type Event struct {
	ID        ID        `bson:"id"`
	GroupID   ID        `bson:"groupId,omitempty"` // empty: of the whole site
	OrgID     ID        `bson:"orgId,omitempty"`   // of an organization, when not of one of its groups
	Type      EventType `bson:"type"`
	At        time.Time `bson:"at"`
	HostID    HostID    `bson:"hostId,omitempty"`
	HostName  string    `bson:"hostName,omitempty"` // host:port
	ClusterID ID        `bson:"clusterId,omitempty"`
	UserID    ID        `bson:"userId,omitempty"`
	Username  string    `bson:"username,omitempty"`
	APIKey    string    `bson:"apiKey,omitempty"` // public key
	APIKeyID  ID        `bson:"apiKeyId,omitempty"`
	Global    bool      `bson:"global,omitempty"` // whoever acted has a role on the whole site
	IP        string    `bson:"ip,omitempty"`
	AgentID   string    `bson:"agentId,omitempty"`
	Text      string    `bson:"text,omitempty"` // a sentence for people

	// Whom and what an action concerned, where that is a person, an API key or an entry of an access list.
	TargetUser  string `bson:"targetUser,omitempty"`
	TargetKey   string `bson:"targetKey,omitempty"` // public key
	AccessEntry string `bson:"accessEntry,omitempty"`

	// Of alerts, configurations and maintenance windows.
	AlertID  ID       `bson:"alertId,omitempty"`
	ConfigID ID       `bson:"configId,omitempty"`
	WindowID ID       `bson:"windowId,omitempty"`
	Metric   string   `bson:"metric,omitempty"`
	Value    *Reading `bson:"value,omitempty"`
}
