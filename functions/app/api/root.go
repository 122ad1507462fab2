package api

import (
	"net/http"

	"github.com/heartwood-db/heartwood/shared/auth"
)

// appName is what existing clients expect of the identity resource.
const appName = "MongoDB Ops Manager"

func (s *server) rootRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/", do: (*call).root},
		{method: http.MethodGet, path: "/softwareComponents/versions", scope: onSite, perm: auth.AdminMonitoring, do: (*call).componentVersions},
	}
}

func (c *call) root() (any, error) {
	return object{
		"appName": appName, "build": c.Revision, "throttling": false,
		"links": c.self(c.href(), rel("groups", c.href("groups")), rel("orgs", c.href("orgs"))),
	}, nil
}

// componentVersions tells the versions of what this server would have others run: of the documented components it has only its
// own agent, which carries the server's version.
func (c *call) componentVersions() (any, error) {
	return object{
		"automationVersion": c.Version, "automationMinimumVersion": c.Version, "links": c.self(c.href("softwareComponents", "versions")),
	}, nil
}
