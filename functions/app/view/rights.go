package view

// Right is something a page lets people do. Which roles have it is decided by the authorisation package; here is how
// pages speak of it.
type Right int

// The rights pages ask for.
const (
	ReadGroup       Right = iota // see a group's hosts, charts and agents
	ManageHosts                  // add, hide and remove hosts
	ManageKeys                   // create and delete agent API keys
	ManageGroup                  // change a group's settings
	ManageAPIKeys                // create and delete programmatic API keys of the organization
	CreateGroup                  // create groups
	ReadSite                     // see the admin pages
	EditAlerts                   // a group's alert settings; acknowledge and silence its alerts
	EditSiteAlerts               // global alert settings; acknowledge the site's alerts
	OperateBackup                // start and stop backups, restore, fetch archives
	DeleteSnapshots              // delete snapshots
)

// Reason says who has the right, for the page of those who do not and beside a disabled control.
func (r Right) Reason() string {
	switch r {
	case ReadGroup:
		return "only members of a group see it."
	case ManageHosts:
		return "only Group Owners and Monitoring Admins add and remove hosts."
	case ManageKeys:
		return "only Group Owners create and delete agent API keys."
	case ManageGroup:
		return "only Group Owners change these settings."
	case ManageAPIKeys:
		return "only Organization Owners create and delete programmatic API keys."
	case CreateGroup:
		return "only Global Owners create groups here."
	case ReadSite:
		return "only people with a global role see the site's own pages."
	case EditAlerts:
		return "only Group Owners and Monitoring Admins change alert settings and acknowledge alerts."
	case EditSiteAlerts:
		return "only Global Owners and Global Monitoring Admins change global alert settings and acknowledge the site's alerts."
	case OperateBackup:
		return "only Group Owners and Backup Admins start and stop backups, and restore."
	case DeleteSnapshots:
		return "only Group Owners and Backup Admins delete snapshots."
	}
	return "a role is missing."
}

// SeesSite reports whether the visitor gets the site's own pages in the menu.
func (v *Visit) SeesSite() bool { return v.May(ReadSite) }
