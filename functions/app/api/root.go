package api

import (
	"net/http"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/auth"
)

// appName is what existing clients expect of the identity resource.
const appName = "MongoDB Ops Manager"

func rootRoutes() []rest.Route {
	return []rest.Route{
		{Method: http.MethodGet, Path: "/", Do: root},
		{Method: http.MethodGet, Path: "/softwareComponents/versions", Scope: rest.OnSite, Perm: auth.AdminMonitoring, Do: componentVersions},
	}
}

func root(c *rest.Call) (any, error) {
	return rest.Object{
		"appName": appName, "build": c.Revision, "throttling": false,
		"links": c.Self(c.Href(), rest.Rel("groups", c.Href("groups")), rest.Rel("orgs", c.Href("orgs"))),
	}, nil
}

// componentVersions tells the versions of what this server would have others run: of the documented components it has only its
// own agent, which carries the server's version.
func componentVersions(c *rest.Call) (any, error) {
	return rest.Object{
		"automationVersion": c.Version, "automationMinimumVersion": c.Version, "links": c.Self(c.Href("softwareComponents", "versions")),
	}, nil
}
