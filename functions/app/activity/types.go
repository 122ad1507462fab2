package activity

import (
	"strings"

	"github.com/heartwood-db/heartwood/shared/model"
)

// kind is an event type as people read it. A type that says "agent" or the like in its group is filtered with that group.
type kind struct {
	Type  model.EventType
	Group string // name in addresses
	Word  string // what happened, in a word or two
}

// group is a heading of the filter by type.
type group struct{ Name, Label string }

func groups() []group {
	return []group{
		{"hosts", "Hosts"},
		{"clusters", "Replica sets and clusters"},
		{"agents", "Agents"},
		{"alerts", "Alerts"},
		{"backup", "Backup"},
		{"signin", "Sign-ins and accounts"},
		{"keys", "Keys and access lists"},
		{"groups", "Groups and settings"},
	}
}

// kinds is the table of every event type; a test holds it against the types that exist.
func kinds() []kind {
	return []kind{
		{model.EventHostDown, "hosts", "Host down"},
		{model.EventHostUp, "hosts", "Host up"},
		{model.EventHostRestarted, "hosts", "Restarted"},
		{model.EventNewHost, "hosts", "Host discovered"},
		{model.EventHostAdded, "hosts", "Host added"},
		{model.EventHostUpdated, "hosts", "Host changed"},
		{model.EventHostHidden, "hosts", "Host hidden"},
		{model.EventHostDeleted, "hosts", "Host removed"},
		{model.EventHostNowPrimary, "hosts", "Now primary"},
		{model.EventHostNowSecondary, "hosts", "Now secondary"},
		{model.EventHostRecovering, "hosts", "Recovering"},
		{model.EventHostRecovered, "hosts", "Recovered"},
		{model.EventHostRollback, "hosts", "Rollback"},
		{model.EventVersionChanged, "hosts", "Version changed"},
		{model.EventHostUpgraded, "hosts", "Upgraded"},
		{model.EventHostDowngraded, "hosts", "Downgraded"},
		{model.EventHostNowStandalone, "hosts", "Now standalone"},
		{model.EventHostIPChanged, "hosts", "Address changed"},
		{model.EventParametersChanged, "hosts", "Parameters changed"},
		{model.EventStartupWarningsNew, "hosts", "Startup warnings"},
		{model.EventPrimaryElected, "clusters", "Primary elected"},
		{model.EventConfigChanged, "clusters", "Configuration changed"},
		{model.EventMemberAdded, "clusters", "Member added"},
		{model.EventMemberRemoved, "clusters", "Member removed"},
		{model.EventClusterRenamed, "clusters", "Cluster renamed"},
		{model.EventNewAgent, "agents", "New agent"},
		{model.EventAgentTookOver, "agents", "Agent took over"},
		{model.EventAgentKeyRefused, "agents", "Agent refused"},
		{model.EventNoPrimary, "clusters", "No primary"},
		{model.EventOnePrimary, "clusters", "Has a primary"},
		{model.EventMultiplePrimaries, "clusters", "Several primaries"},
		{model.EventTooFewHealthy, "clusters", "Too few healthy"},
		{model.EventEnoughHealthy, "clusters", "Enough healthy"},
		{model.EventTooManyUnhealthy, "clusters", "Too many unhealthy"},
		{model.EventTooManyElections, "clusters", "Too many elections"},
		{model.EventMongosMissing, "clusters", "No mongos"},
		{model.EventMongosPresent, "clusters", "Mongos present"},
		{model.EventHostExposed, "hosts", "Exposed"},
		{model.EventHostLockedDown, "hosts", "No longer exposed"},
		{model.EventCertificateStale, "hosts", "Certificate ends soon"},
		{model.EventCertificateCurrent, "hosts", "Certificate current"},
		{model.EventSecurityNotMet, "hosts", "Security check failed"},
		{model.EventSecurityMet, "hosts", "Security check passed"},
		{model.EventClockSkew, "hosts", "Clock is off"},
		{model.EventClockRight, "hosts", "Clock is right"},
		{model.EventVersionBehind, "hosts", "Version behind"},
		{model.EventVersionCurrent, "hosts", "Version current"},
		{model.EventAgentDown, "agents", "Agent down"},
		{model.EventAgentUp, "agents", "Agent up"},
		{model.EventAgentVersionBehind, "agents", "Agent version behind"},
		{model.EventAgentVersionCurrent, "agents", "Agent version current"},
		{model.EventOutsideMetric, "alerts", "Metric outside"},
		{model.EventInsideMetric, "alerts", "Metric inside"},
		{model.EventAlertAcknowledged, "alerts", "Alert acknowledged"},
		{model.EventAlertUnacknowledged, "alerts", "Acknowledgement ended"},
		{model.EventAlertConfigAdded, "alerts", "Alert added"},
		{model.EventAlertConfigChanged, "alerts", "Alert changed"},
		{model.EventAlertConfigEnabled, "alerts", "Alert enabled"},
		{model.EventAlertConfigDisabled, "alerts", "Alert disabled"},
		{model.EventAlertConfigTested, "alerts", "Alert tested"},
		{model.EventAlertConfigDeleted, "alerts", "Alert deleted"},
		{model.EventMaintenanceAdded, "alerts", "Maintenance planned"},
		{model.EventMaintenanceChanged, "alerts", "Maintenance changed"},
		{model.EventMaintenanceDeleted, "alerts", "Maintenance removed"},
		{model.EventSilenceAdded, "alerts", "Silenced"},
		{model.EventSilenceEnded, "alerts", "Silence ended"},
		{model.EventIntegrationChanged, "alerts", "Integration changed"},
		{model.EventCronJobFailed, "alerts", "Duty failing"},
		{model.EventCronJobCompleted, "alerts", "Duty working"},
		{model.EventDeliveriesFailing, "alerts", "Deliveries failing"},
		{model.EventDeliveriesWorking, "alerts", "Deliveries working"},
		{model.EventServerCertStale, "alerts", "Server certificate ends"},
		{model.EventServerCertCurrent, "alerts", "Server certificate current"},
		{model.EventSyncRequired, "backup", "Full read wanted"},
		{model.EventSyncStarted, "backup", "Full read began"},
		{model.EventSyncFinished, "backup", "Full read done"},
		{model.EventBackupState, "backup", "State changed"},
		{model.EventBackupFilter, "backup", "Filter changed"},
		{model.EventBackupCredential, "backup", "Credentials changed"},
		{model.EventBackupSchedule, "backup", "Schedule changed"},
		{model.EventSnapshotTaken, "backup", "Snapshot taken"},
		{model.EventSnapshotDeleted, "backup", "Snapshot deleted"},
		{model.EventSnapshotExpiry, "backup", "Snapshot's expiry changed"},
		{model.EventRestoreRequested, "backup", "Restore requested"},
		{model.EventRestoreReady, "backup", "Restore ready"},
		{model.EventRestoreStored, "backup", "Restore stored for its agent"},
		{model.EventRestoreFailed, "backup", "Restore failed"},
		{model.EventRestoreDownloaded, "backup", "Restore downloaded"},
		{model.EventRestoreCancelled, "backup", "Restore cancelled"},
		{model.EventBackupMoved, "backup", "Moved to another daemon"},
		{model.EventOplogKept, "backup", "Oplog kept longer"},
		{model.EventBackupAgentDown, "backup", "Backup agent down"},
		{model.EventBackupAgentUp, "backup", "Backup agent up"},
		{model.EventBackupAgentBehind, "backup", "Backup agent behind"},
		{model.EventBackupAgentCurrent, "backup", "Backup agent current"},
		{model.EventOplogBehind, "backup", "Oplog behind"},
		{model.EventOplogCurrent, "backup", "Oplog current"},
		{model.EventResyncRequired, "backup", "Resync required"},
		{model.EventResyncPerformed, "backup", "Resync performed"},
		{model.EventBackupWindowShort, "backup", "Oplog window short"},
		{model.EventBackupWindowEnough, "backup", "Oplog window enough"},
		{model.EventLateSnapshot, "backup", "Snapshot late"},
		{model.EventBackupUnexpected, "backup", "Backup stands still"},
		{model.EventBackupRetries, "backup", "Too many retries"},
		{model.EventBindError, "backup", "No daemon takes it"},
		{model.EventDaemonDown, "backup", "Daemon down"},
		{model.EventDaemonUp, "backup", "Daemon up"},
		{model.EventLowHeadSpace, "backup", "Head disk full"},
		{model.EventLowHeadSpacePercent, "backup", "Head disk filling"},
		{model.EventSufficientHeadSpace, "backup", "Head disk has room"},
		{model.EventBackupStoreChanged, "backup", "Store changed"},
		{model.EventBackupDaemonChanged, "backup", "Daemon changed"},
		{model.EventLogin, "signin", "Signed in"},
		{model.EventLoginFailed, "signin", "Sign-in refused"},
		{model.EventAccountLocked, "signin", "Account locked"},
		{model.EventLogout, "signin", "Signed out"},
		{model.EventUserCreated, "signin", "User created"},
		{model.EventUserChanged, "signin", "User changed"},
		{model.EventUserDeleted, "signin", "User deleted"},
		{model.EventUserJoined, "signin", "User joined group"},
		{model.EventUserRemoved, "signin", "User removed from group"},
		{model.EventPasswordChanged, "signin", "Password changed"},
		{model.EventAgentKeyCreated, "keys", "Agent key created"},
		{model.EventAgentKeyDeleted, "keys", "Agent key deleted"},
		{model.EventAPIKeyCreated, "keys", "API key created"},
		{model.EventAPIKeyChanged, "keys", "API key changed"},
		{model.EventAPIKeyDeleted, "keys", "API key deleted"},
		{model.EventAccessListChanged, "keys", "Access list changed"},
		{model.EventGlobalListChanged, "keys", "Global access list changed"},
		{model.EventGroupCreated, "groups", "Group created"},
		{model.EventGroupUpdated, "groups", "Settings changed"},
		{model.EventGroupDeleted, "groups", "Group deleted"},
		{model.EventOrgCreated, "groups", "Organization created"},
		{model.EventOrgRenamed, "groups", "Organization renamed"},
		{model.EventOrgDeleted, "groups", "Organization deleted"},
	}
}

// word is what a type is called. A type from a newer version than this one is read from its name.
func word(t model.EventType) string {
	for _, k := range kinds() {
		if k.Type == t {
			return k.Word
		}
	}
	s := strings.ToLower(strings.ReplaceAll(strings.TrimSuffix(string(t), "_AUDIT"), "_", " "))
	if s == "" {
		return "Something"
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// typesOf turns what an address asks for, types and groups of types, into types. Unknown names are taken as types: an
// address of a newer version then finds nothing instead of everything.
func typesOf(names []string) (out []model.EventType) {
	for _, n := range names {
		if n == "" {
			continue
		}
		found := false
		for _, k := range kinds() {
			if k.Group == n {
				out, found = append(out, k.Type), true
			}
		}
		if !found {
			out = append(out, model.EventType(n))
		}
	}
	return out
}
