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
}
