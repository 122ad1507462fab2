package kind

import (
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
)

// daily is how often an expiry is told again.
const daily = 24 * time.Hour

func hostTypes() []Type {
	return append([]Type{
		{
			Name: model.EventHostDown, Label: "Host is down", Category: Host, ClosedBy: model.EventHostUp,
			Help: "The agent could not reach the process three times in a row, or sends nothing about it though the agent is up.",
		},
		{
			Name: model.EventOutsideMetric, Label: "Measurement is above or below", Category: Host, ClosedBy: model.EventInsideMetric, Metric: true,
			Help: "The average of the newest points is beyond a threshold, or the measurement has stopped arriving.",
		},
		{
			Name: model.EventHostRecovering, Label: "Host is recovering", Category: Host, ClosedBy: model.EventHostRecovered,
			Help: "A member is in state RECOVERING, STARTUP2 or ROLLBACK: it serves nothing.",
		},
		{
			Name: model.EventCertificateStale, Label: "Certificate of a host expires soon", Category: Host, ClosedBy: model.EventCertificateCurrent,
			Repeat: daily, Help: "The certificate the process shows to agents ends within 30 days.",
		},
		{
			Name: model.EventHostExposed, Label: "Host is exposed to the internet", Category: Host, ClosedBy: model.EventHostLockedDown,
			Help: "The process lists its databases to anybody who connects to its public address.",
		},
		{
			Name: model.EventSecurityNotMet, Label: "Host runs without authentication or TLS", Category: Host, ClosedBy: model.EventSecurityMet,
			Help: "By its own options the process has access control or TLS switched off.",
		},
		{
			Name: model.EventVersionBehind, Label: "MongoDB version is behind", Category: Host, ClosedBy: model.EventVersionCurrent, Repeat: daily,
			Help: "The process is two or more releases behind the newest of its series.",
		},
		{
			Name: model.EventClockSkew, Label: "Clock of a host is off", Category: Host, ClosedBy: model.EventClockRight,
			Help: "The clock of the host differs by more than two seconds from that of the agent's machine.",
		},
	}, informs(Host,
		row{model.EventHostRestarted, "Host restarted", "The process began anew."},
		row{model.EventHostRollback, "Host rolls back writes", "A member undoes writes that never reached a majority."},
		row{model.EventHostUp, "Host is up again", "The agent reaches the process again."},
		row{model.EventHostRecovered, "Host has recovered", "A member left RECOVERING, STARTUP2 or ROLLBACK."},
		row{model.EventHostNowPrimary, "Host is now primary", "A member became primary."},
		row{model.EventHostNowSecondary, "Host is now secondary", "A member became secondary."},
		row{model.EventVersionChanged, "MongoDB version changed", "The process runs another version than before."},
		row{model.EventHostNowStandalone, "Host is now standalone", "A member runs outside its set."},
		row{model.EventHostUpgraded, "MongoDB upgraded", "The process runs a newer version than before."},
		row{model.EventHostDowngraded, "MongoDB downgraded", "The process runs an older version than before."},
		row{model.EventHostIPChanged, "Address of a host changed", "The name of a host stands for another IP address."},
		row{model.EventParametersChanged, "Server parameters changed", "The process runs with other server parameters."},
		row{model.EventStartupWarningsNew, "Startup warnings changed", "The process warns of something else at its start than before."},
		row{model.EventNewHost, "Host discovered", "A process was found and is monitored from now on."},
		row{model.EventHostAdded, "Host added", "Somebody added a host."},
		row{model.EventHostUpdated, "Host changed", "Somebody changed a host's settings."},
		row{model.EventHostHidden, "Duplicate host hidden", "A process was monitored under two addresses: one of them is hidden."},
		row{model.EventHostDeleted, "Host removed", "Somebody removed a host."},
	)...)
}

func setTypes() []Type {
	return append([]Type{
		{
			Name: model.EventNoPrimary, Label: "Replica set has no primary", Category: ReplicaSet, ClosedBy: model.EventOnePrimary, MinDelay: 1,
			Help: "No member reports to be primary. Elections look like this for some seconds: a delay is wise.",
		},
		{
			Name: model.EventMultiplePrimaries, Label: "Replica set has several primaries", Category: ReplicaSet, ClosedBy: model.EventOnePrimary, MinDelay: 1,
			Help: "More than one member reports to be primary at the same time.",
		},
		{
			Name: model.EventTooFewHealthy, Label: "Too few healthy members", Category: ReplicaSet, ClosedBy: model.EventEnoughHealthy,
			Threshold: model.LessThan, Default: 2, Help: "Members that are primary or secondary; hidden ones and arbiters are not counted.",
		},
		{
			Name: model.EventTooManyUnhealthy, Label: "Too many unhealthy members", Category: ReplicaSet, ClosedBy: model.EventEnoughHealthy,
			Threshold: model.GreaterThan, Help: "Members that are neither primary nor secondary; hidden ones and arbiters are not counted.",
		},
		{
			Name: model.EventTooManyElections, Label: "Too many elections", Category: ReplicaSet, Threshold: model.GreaterThan, Optional: true, Default: 3,
			Help: "Elections in the last hour.",
		},
		{
			Name: model.EventMongosMissing, Label: "Cluster has no mongos", Category: Cluster, ClosedBy: model.EventMongosPresent,
			Help: "No mongos of a sharded cluster answers.",
		},
	}, informs(ReplicaSet,
		row{model.EventPrimaryElected, "Primary elected", "The primary differs from the last one known."},
		row{model.EventConfigChanged, "Replica set configuration changed", "The set runs with another configuration."},
		row{model.EventMemberAdded, "Member added", "The set's configuration has a member more."},
		row{model.EventMemberRemoved, "Member removed", "The set's configuration has a member less."},
		row{model.EventClusterRenamed, "Cluster renamed", "Somebody gave a cluster another name."},
	)...)
}

func agentTypes() []Type {
	return append([]Type{
		{
			Name: model.EventAgentDown, Label: "Monitoring agent is down", Category: Agent, ClosedBy: model.EventAgentUp,
			Help: "No monitoring agent of a group with hosts has sent a ping for seven minutes. Until one does nothing is known of the hosts, and no other alert of theirs opens or closes.",
		},
		{
			Name: model.EventAgentVersionBehind, Label: "Monitoring agent is behind", Category: Agent, ClosedBy: model.EventAgentVersionCurrent, Repeat: daily,
			Help: "An agent is of an older version than this server.",
		},
		{
			Name: model.EventBackupAgentDown, Label: "Backup agent is down", Category: Agent, ClosedBy: model.EventBackupAgentUp,
			Help: "Backups are started and no backup agent of the group has called for an hour.",
		},
		{
			Name: model.EventBackupAgentBehind, Label: "Backup agent is behind", Category: Agent, ClosedBy: model.EventBackupAgentCurrent, Repeat: daily,
			Help: "A backup agent is of an older version than this server.",
		},
	}, informs(Agent,
		row{model.EventNewAgent, "New agent", "An agent made contact for the first time."},
		row{model.EventAgentTookOver, "Agent took over", "A standby agent became active."},
		row{model.EventAgentKeyRefused, "Agent refused", "An agent called with a key that is not the group's."},
	)...)
}

func backupTypes() []Type {
	return append([]Type{
		{
			Name: model.EventOplogBehind, Label: "Backup is behind", Category: Backup, ClosedBy: model.EventOplogCurrent,
			Help: "The newest stored oplog is older than 75 minutes: what came after it cannot be restored.",
		},
		{
			Name: model.EventResyncRequired, Label: "Backup needs a full read", Category: Backup, ClosedBy: model.EventResyncPerformed,
			Help: "The history of the source is broken, or the copy is not what it should be, and no new full read has begun.",
		},
		{
			Name: model.EventBackupWindowShort, Label: "Source's oplog may overrun the backup", Category: Backup, ClosedBy: model.EventBackupWindowEnough,
			Threshold: model.LessThan, Optional: true, Default: 3, Help: "Hours that the source's oplog reaches back behind what is stored.",
		},
	}, informs(Backup,
		row{model.EventBackupState, "Backup started, stopped or terminated", "Somebody changed the state of a backup."},
		row{model.EventSyncRequired, "Full read is wanted", "A backup has to read everything anew."},
		row{model.EventSyncStarted, "Full read began", "An agent began to read everything."},
		row{model.EventSyncFinished, "Full read is done", "Everything was read, and the first snapshot can be taken."},
		row{model.EventSnapshotTaken, "Snapshot taken", "A snapshot is complete."},
		row{model.EventSnapshotDeleted, "Snapshot deleted", "Somebody deleted a snapshot."},
		row{model.EventSnapshotExpiry, "Expiry of a snapshot changed", "Somebody changed how long a snapshot is kept."},
		row{model.EventBackupSchedule, "Snapshot schedule changed", "Somebody changed when snapshots are taken, or how long they are kept."},
		row{model.EventBackupFilter, "Namespaces of a backup changed", "Somebody changed which namespaces a backup holds."},
		row{model.EventBackupCredential, "Credentials of a backup changed", "Somebody changed as whom the agent reads."},
		row{model.EventRestoreRequested, "Restore asked for", "Somebody asked for a restore."},
		row{model.EventRestoreReady, "Restore is ready", "An archive can be fetched, or what was pushed is in place."},
		row{model.EventRestoreStored, "Restore is stored for its agent", "What is to be pushed is stored; the backup agent beside the target writes it next."},
		row{model.EventRestoreFailed, "Restore failed", "A restore ended without success."},
		row{model.EventRestoreDownloaded, "Restore downloaded", "Somebody fetched the archive of a restore."},
		row{model.EventRestoreCancelled, "Restore cancelled", "Somebody cancelled a restore."},
		row{model.EventBackupMoved, "Backup moved", "Another daemon took a backup over."},
		row{model.EventOplogKept, "Oplog is kept for longer", "A head lags: the oplog it needs does not expire."},
	)...)
}

func groupTypes() []Type {
	return informs(Group,
		row{model.EventUserJoined, "User joined the group", "Somebody became a member of the group."},
		row{model.EventUserRemoved, "User left the group", "Somebody is no longer a member of the group."},
		row{model.EventUserChanged, "Roles of a user changed", "Somebody has other roles than before."},
		row{model.EventAgentKeyCreated, "Agent key created", "Somebody made an agent API key."},
		row{model.EventAgentKeyDeleted, "Agent key deleted", "Somebody deleted an agent API key."},
		row{model.EventGroupUpdated, "Group settings changed", "Somebody changed the group."},
	)
}

func siteTypes() []Type {
	all := append([]Type{
		{
			Name: model.EventCronJobFailed, Label: "Periodic duty fails or is late", Category: Site, ClosedBy: model.EventCronJobCompleted,
			Help: "A duty of this site failed three times in a row, or should have run ten minutes ago.",
		},
		{
			Name: model.EventDeliveriesFailing, Label: "Notifications cannot be delivered", Category: Site, ClosedBy: model.EventDeliveriesWorking,
			Help: "A notification was given up in the last hour, or one waits for ten minutes.",
		},
		{
			Name: model.EventServerCertStale, Label: "Certificate of this site expires soon", Category: Site, ClosedBy: model.EventServerCertCurrent,
			Repeat: daily, Help: "The certificate this site serves with ends within 30 days.",
		},
		{
			Name: model.EventLateSnapshot, Label: "Snapshot is late", Category: Site,
			Help: "The newest snapshot of a backup is older than one and a half intervals of its schedule.",
		},
		{
			Name: model.EventBackupUnexpected, Label: "Backup stands still", Category: Site,
			Help: "A backup stopped and waits for a person.",
		},
		{
			Name: model.EventBackupRetries, Label: "Backup fails again and again", Category: Site,
			Help: "A step of a backup was tried five times.",
		},
		{
			Name: model.EventBindError, Label: "No daemon takes a backup", Category: Site,
			Help: "A backup that was started waits for a daemon for a quarter of an hour.",
		},
		{
			Name: model.EventDaemonDown, Label: "Backup daemon is down", Category: Site, ClosedBy: model.EventDaemonUp,
			Help: "A backup daemon has given no sign of life for 15 minutes.",
		},
		{
			Name: model.EventLowHeadSpacePercent, Label: "Disk of heads is filling", Category: Site, ClosedBy: model.EventSufficientHeadSpace,
			Help: "Less than 10 percent of the disk of a daemon's heads is left.",
		},
		{
			Name: model.EventLowHeadSpace, Label: "Disk of heads is full", Category: Site, ClosedBy: model.EventSufficientHeadSpace,
			Help: "Less than 1 GB of the disk of a daemon's heads is left.",
		},
	}, informs(Site,
		row{model.EventGroupCreated, "Group created", "Somebody created a group."},
		row{model.EventGroupDeleted, "Group deleted", "Somebody deleted a group."},
		row{model.EventOrgCreated, "Organization created", "Somebody created an organization."},
		row{model.EventOrgRenamed, "Organization renamed", "Somebody renamed an organization."},
		row{model.EventOrgDeleted, "Organization deleted", "Somebody deleted an organization."},
		row{model.EventUserCreated, "User created", "Somebody created a user."},
		row{model.EventUserDeleted, "User deleted", "Somebody deleted a user."},
		row{model.EventAccountLocked, "Account locked", "Somebody failed to sign in too often."},
		row{model.EventAPIKeyCreated, "API key created", "Somebody made a key for the Public API."},
		row{model.EventAPIKeyChanged, "API key changed", "Somebody changed a key for the Public API."},
		row{model.EventAPIKeyDeleted, "API key deleted", "Somebody deleted a key for the Public API."},
		row{model.EventAccessListChanged, "Access list of an API key changed", "Somebody changed from where an API key may be used."},
		row{model.EventBackupStoreChanged, "Block store changed", "Somebody added, changed or removed a store of backups."},
		row{model.EventBackupDaemonChanged, "Backup daemon changed", "Somebody changed what a backup daemon may do."},
		row{model.EventGlobalListChanged, "Global access list changed", "Somebody changed from where API keys may be used."},
	)...)
	for i := range all {
		all[i].Global = true
	}
	return all
}

type row struct {
	name        model.EventType
	label, help string
}

func informs(c Category, rows ...row) []Type {
	all := make([]Type, 0, len(rows))
	for _, r := range rows {
		all = append(all, Type{Name: r.name, Label: r.label, Help: r.help, Category: c, Inform: true})
	}
	return all
}

// silentTypes are the rest of what the Public API knows (public-api.md 2.13, operations.md 4.4).
func silentTypes() []Type {
	var all []Type
	for _, s := range []struct {
		c     Category
		names string
	}{
		{Agent, `MONITORING_AGENT_UP MONITORING_AGENT_VERSION_CURRENT BACKUP_AGENT_UP
			BACKUP_AGENT_VERSION_CURRENT BACKUP_AGENT_CONF_CALL_FAILURE AUTOMATION_AGENT_DOWN AUTOMATION_AGENT_UP`},
		{Host, `HOST_LOCKED_DOWN HOST_NOW_CONFIG HOST_SSL_CERTIFICATE_CURRENT
			INSIDE_METRIC_THRESHOLD VERSION_CURRENT ATTEMPT_KILLOP_AUDIT ATTEMPT_KILLSESSION_AUDIT DB_PROFILER_ENABLE_AUDIT
			DB_PROFILER_DISABLE_AUDIT DISABLE_HOST_AUDIT HIDE_HOST_AUDIT PAUSE_HOST_AUDIT RESUME_HOST_AUDIT UNDELETE_HOST_AUDIT
			ADD_HOST_TO_REPLICA_SET_AUDIT REMOVE_HOST_FROM_REPLICA_SET_AUDIT`},
		{ReplicaSet, `ONE_PRIMARY ENOUGH_HEALTHY_MEMBERS`},
		{Cluster, `CLUSTER_MONGOS_IS_PRESENT SHARD_ADDED SHARD_REMOVED`},
		{Backup, `OPLOG_CURRENT RESYNC_PERFORMED BAD_CLUSTERSHOTS GOOD_CLUSTERSHOT
			INCONSISTENT_BACKUP_CONFIGURATION CONSISTENT_BACKUP_CONFIGURATION 
			SYNC_PENDING_AUDIT 
			CLUSTERSHOT_DELETED_AUDIT CLUSTERSHOT_EXPIRY_UPDATED_AUDIT RS_BLACKLIST_UPDATED_AUDIT
			CLUSTER_DENYLIST_UPDATED_AUDIT RS_ROTATE_MASTER_KEY_AUDIT
			RS_STORAGE_ENGINE_UPDATED_AUDIT CLUSTER_STATE_CHANGED_AUDIT CLUSTER_BLACKLIST_UPDATED_AUDIT
			CLUSTER_CHECKKPOINT_UPDATED_AUDIT CLUSTER_CREDENTIAL_UPDATED_AUDIT CLUSTER_SNAPSHOT_SCHEDULE_UPDATED_AUDIT
			CLUSTER_STORAGE_ENGINE_UPDATED_AUDIT`},
		{Group, `USERS_WITHOUT_MULTI_FACTOR_AUTH ALL_USERS_HAVE_MULTI_FACTOR_AUTH INVITED_TO_GROUP INVITED_TO_ORG REMOVED_FROM_TEAM
			JOINED_TEAM REQUESTED_TO_JOIN_GROUP JOIN_GROUP_REQUEST_APPROVED_AUDIT JOIN_GROUP_REQUEST_DENIED_AUDIT TEAM_CREATED
			TEAM_DELETED TEAM_UPDATED TEAM_NAME_CHANGED TEAM_ADDED_TO_GROUP TEAM_REMOVED_FROM_GROUP TEAM_ROLES_MODIFIED
			USER_ADDED_TO_TEAM ORG_PUBLIC_API_ACCESS_LIST_REQUIRED ORG_PUBLIC_API_ACCESS_LIST_NOT_REQUIRED
			ORG_TWO_FACTOR_AUTH_REQUIRED ORG_TWO_FACTOR_AUTH_OPTIONAL ALL_ORG_USERS_HAVE_MFA ORG_USERS_WITHOUT_MFA
			ORG_EMPLOYEE_ACCESS_RESTRICTED ORG_EMPLOYEE_ACCESS_UNRESTRICTED AUTOMATION_CONFIG_PUBLISHED_AUDIT BI_CONNECTOR_DOWN
			BI_CONNECTOR_UP DATA_EXPLORER DATA_EXPLORER_CRUD WEBHOOK_TEMPLATE_RENDER_FAILED`},
		{Site, `SYNC_SLICE_HAS_NOT_PROGRESSED
			BACKING_DATABASE_PROCESS_DOWN BACKING_DATABASE_PROCESS_UP BACKING_DATABASE_PROCESS_STARTUP_WARNINGS
			BACKING_DATABASE_PROCESS_NO_STARTUP_WARNINGS BACKINGDB_DEFAULTRW_CONCERN_VERIFICATION_FAILED DAEMON_UP
			SUFFICIENT_HEAD_FREE_SPACE OUTSIDE_SPACE_USED_THRESHOLD
			INSIDE_SPACE_USED_THRESHOLD THEFT_FAILED BALANCER_ON BALANCER_OFF CRON_JOB_COMPLETED CRON_JOB_DISABLED
			CRON_JOB_ENABLED ORDINARY_ALERT_PROCESSING_DISABLED ORDINARY_ALERT_PROCESSING_ENABLED LOG_DEBUG_OVERRIDE_ACTIVE`},
	} {
		all = append(all, silent(s.c, s.names)...)
	}
	for i := range all {
		if all[i].Name == "BAD_CLUSTERSHOTS" {
			all[i].Threshold, all[i].Optional, all[i].Default = model.GreaterThan, true, 1
		}
	}
	return all
}
