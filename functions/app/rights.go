package app

import (
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
)

// allowed says which permission stands behind each right that pages speak of.
func allowed(who auth.Principal, r view.Right, group, org model.ID) bool {
	switch r {
	case view.ReadGroup:
		return who.Can(auth.View, group, org)
	case view.ManageHosts:
		return who.Can(auth.EditHosts, group, org)
	case view.ManageKeys:
		return who.Can(auth.ManageAgentKeys, group, org)
	case view.ManageGroup:
		return who.Can(auth.EditGroup, group, org)
	case view.ManageAPIKeys:
		return who.Can(auth.ManageOrg, "", org)
	case view.CreateGroup:
		return who.Can(auth.AdminServer, "", "") // makes an organization too where there is none
	case view.EditAlerts:
		return who.Can(auth.EditAlerts, group, org)
	case view.EditSiteAlerts:
		return who.Can(auth.AdminMonitoring, "", "")
	case view.OperateBackup:
		return who.Can(auth.OperateBackup, group, org)
	case view.DeleteSnapshots:
		return who.Can(auth.DeleteSnapshots, group, org)
	case view.ReadSite:
		return who.Can(auth.AdminView, "", "")
	}
	return false
}
