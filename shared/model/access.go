package model

import "time"

// Role names are those of the Public API (public-api.md 1.13).
type Role string

// The roles. A global role of a kind includes the same group role in every group. Those of automation and of access to data
// stand for what Ops Manager does and we do not; here they include reading and nothing else.
const (
	GlobalOwner           Role = "GLOBAL_OWNER"
	GlobalReadOnly        Role = "GLOBAL_READ_ONLY"
	GlobalUserAdmin       Role = "GLOBAL_USER_ADMIN"
	GlobalMonitoringAdmin Role = "GLOBAL_MONITORING_ADMIN"
	GlobalBackupAdmin     Role = "GLOBAL_BACKUP_ADMIN"
	GlobalAutomationAdmin Role = "GLOBAL_AUTOMATION_ADMIN"
	OrgOwner              Role = "ORG_OWNER"
	OrgMember             Role = "ORG_MEMBER"
	OrgGroupCreator       Role = "ORG_GROUP_CREATOR"
	OrgReadOnly           Role = "ORG_READ_ONLY"
	GroupOwner            Role = "GROUP_OWNER"
	GroupReadOnly         Role = "GROUP_READ_ONLY"
	GroupUserAdmin        Role = "GROUP_USER_ADMIN"
	GroupMonitoringAdmin  Role = "GROUP_MONITORING_ADMIN"
	GroupBackupAdmin      Role = "GROUP_BACKUP_ADMIN"
	GroupAutomationAdmin  Role = "GROUP_AUTOMATION_ADMIN"
	GroupDataAccessAdmin  Role = "GROUP_DATA_ACCESS_ADMIN"
	GroupDataAccessWrite  Role = "GROUP_DATA_ACCESS_READ_WRITE"
	GroupDataAccessRead   Role = "GROUP_DATA_ACCESS_READ_ONLY"
)

// Grant is a role and what it is about: a group, an organization, or (neither set) the whole site.
type Grant struct {
	Role    Role `bson:"role"`
	GroupID ID   `bson:"groupId,omitempty"`
	OrgID   ID   `bson:"orgId,omitempty"`
}

// User is a person who may sign in.
type User struct {
	ID           ID        `bson:"id"`
	Username     string    `bson:"username"` // lower case; usually an email address; unique
	Email        string    `bson:"email,omitempty"`
	FirstName    string    `bson:"firstName,omitempty"`
	LastName     string    `bson:"lastName,omitempty"`
	Mobile       string    `bson:"mobile,omitempty"`
	Country      string    `bson:"country,omitempty"`
	PasswordHash string    `bson:"passwordHash,omitempty"` // argon2id in PHC form
	Grants       []Grant   `bson:"grants,omitempty"`
	Created      time.Time `bson:"created"`
	LastLogin    time.Time `bson:"lastLogin,omitempty"`
	Failed       int       `bson:"failed,omitempty"` // failed attempts in a row
	LockedUntil  time.Time `bson:"lockedUntil,omitempty"`
	Prefs        UserPrefs `bson:"prefs"`
}

// UserPrefs are how a person likes pages.
type UserPrefs struct {
	Theme    string              `bson:"theme,omitempty"`    // "light", "dark" or "" for the system's
	TimeZone string              `bson:"timeZone,omitempty"` // IANA name, "" for the browser's
	Charts   map[string][]string `bson:"charts,omitempty"`   // chart ids remembered by page kind ("host", "cluster")
}

// Session is a signed-in browser. Its id in the store is the SHA-256 of the cookie's token.
type Session struct {
	Key     string    `bson:"key"` // hex of the token's SHA-256
	UserID  ID        `bson:"userId"`
	CSRF    string    `bson:"csrf"`
	Created time.Time `bson:"created"`
	Seen    time.Time `bson:"seen"`
	Expires time.Time `bson:"expires"`
	IP      string    `bson:"ip,omitempty"`
	Agent   string    `bson:"agent,omitempty"` // the browser's User-Agent
}

// APIKey is a programmatic key for the Public API. The private key is not kept: HA1, the digest secret, is, because the
// realm is constant.
type APIKey struct {
	ID         ID            `bson:"id"`
	OrgID      ID            `bson:"orgId,omitempty"` // empty for a global key
	Desc       string        `bson:"desc"`
	PublicKey  string        `bson:"publicKey"`  // eight lower-case letters; unique
	HA1        Secret        `bson:"-"`          // MD5(publicKey:realm:privateKey), sealed by the store
	MaskedTail string        `bson:"maskedTail"` // last block of the private key
	Grants     []Grant       `bson:"grants,omitempty"`
	AccessList []AccessEntry `bson:"accessList,omitempty"`
	Created    time.Time     `bson:"created"`
}

// AccessEntry admits callers from a network.
type AccessEntry struct {
	CIDR     string    `bson:"cidr"`           // always with a prefix length
	Desc     string    `bson:"desc,omitempty"` // of global entries
	Created  time.Time `bson:"created"`
	Updated  time.Time `bson:"updated,omitempty"` // of global entries
	LastUsed time.Time `bson:"lastUsed,omitempty"`
	LastIP   string    `bson:"lastIp,omitempty"` // who used it last
	Count    int64     `bson:"count,omitempty"`
}
