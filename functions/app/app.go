// Package app is the web application: the pages people see and the doors around them (registration, sign-in, sessions,
// forms that cannot be forged), the static files, and, mounted beside the pages, the Public API and the health answer.
// It keeps nothing between requests: sessions and failed sign-ins are in the store. It must not import daemon, local or
// any adapter.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/activity"
	"github.com/heartwood-db/heartwood/functions/app/alert"
	"github.com/heartwood-db/heartwood/functions/app/alert/standing"
	"github.com/heartwood-db/heartwood/functions/app/alertedit"
	"github.com/heartwood-db/heartwood/functions/app/alertedit/beside"
	"github.com/heartwood-db/heartwood/functions/app/backup"
	"github.com/heartwood-db/heartwood/functions/app/chart"
	"github.com/heartwood-db/heartwood/functions/app/manage"
	"github.com/heartwood-db/heartwood/functions/app/page"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/functions/app/watch"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/web"
)

// Inventory is what the application needs of the inventory area.
type Inventory interface {
	page.Inventory
	manage.Inventory
	chart.Inventory
	activity.Inventory
	alert.Inventory
	alertedit.Inventory
	Groups(ctx context.Context) ([]model.Group, error)
}

// Events is what the application needs of the alerting area.
type Events interface {
	manage.Events
	chart.Events
	activity.Events
}

// Alerting is what the application needs of alerts and their settings.
type Alerting interface {
	standing.Alerts
	chart.Rules
	alert.Alerting
	alertedit.Alerting
	beside.Alerting
	watch.Alerting
	CountOpen(ctx context.Context, group model.ID, now time.Time) (open, acknowledged int, err error)
}

// Trial says what a setting would have done on history, and why somebody was not told.
type Trial interface {
	alert.Trial
	alertedit.Trial
}

// Access is what the application needs of the access area.
type Access interface {
	page.Access
	manage.Access
	User(ctx context.Context, id model.ID) (model.User, error)
	UserByName(ctx context.Context, name string) (model.User, error)
	CountUsers(ctx context.Context) (int, error)
	CreateFirstUser(ctx context.Context, u model.User, grants ...model.Grant) error
	CreateSession(ctx context.Context, se model.Session) error
	Session(ctx context.Context, key string) (model.Session, error)
	TouchSession(ctx context.Context, key string, seen, expires time.Time) error
}

// Options are what the application needs from outside.
type Options struct {
	Inventory Inventory
	Access    Access
	Events    Events
	Alerting  Alerting
	Trial     Trial
	Backups   backup.Service
	Daemons   backup.Daemons
	PullURL   string           // where archives of restores are fetched; empty: this server
	Sender    alertedit.Sender // of test messages
	AdminMail []string         // the operator's mailbox (mms.adminEmailAddr)
	Passwords auth.Passwords   // nil: hashed and checked in this process
	Series    chart.Series
	Site      manage.Site
	API       http.Handler // the Public API, mounted at /api/; nil: not offered
	Health    http.Handler // mounted at /monitor/health; nil: not offered
	Log       *slog.Logger
	Now       func() time.Time // nil: time.Now

	PublicURL string // as people reach this server; empty: taken from the request
	AgentURL  string // as agents reach it; empty: as people do, on AgentPort when PublicURL is empty too
	AgentPort string // of the listener that is for agents only; empty: the same port
	Version   string
	Server    string // this server's name, for the footer
	Embedded  string // the embedded database's file; empty when the store is a replica set

	SessionHours  int           // life of a session that is used (mms.session.maxHours); 0: 12
	LoginAttempts int           // failed sign-ins until the account is locked (mms.login.ratelimit.attemptsAllowed); 0: 10
	LoginLock     time.Duration // for how long (mms.login.ratelimit.lockedPeriodMinutes); 0: 5 min

	// HSTSMaxAge is Strict-Transport-Security's max-age in seconds (mms.security.hstsMaxAgeSeconds); 0: the header is not sent.
	HSTSMaxAge int

	// Chain is what goes around everything: log, metrics registry, trusted proxies. Component and Security are set here.
	Chain httpx.ChainOptions
}

func (o *Options) validate() error {
	if o.Access == nil || o.Inventory == nil || o.Events == nil || o.Alerting == nil || o.Trial == nil || o.Backups == nil || o.Daemons == nil || o.Sender == nil || o.Series == nil || o.Site == nil || o.Log == nil {
		return errors.New("the application needs Inventory, Access, Events, Alerting, Trial, Backups, Daemons, Sender, Series, Site and Log")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Passwords == nil {
		o.Passwords = auth.Argon2{}
	}
	if o.SessionHours <= 0 {
		o.SessionHours = 12
	}
	if o.LoginAttempts <= 0 {
		o.LoginAttempts = 10
	}
	if o.LoginLock <= 0 {
		o.LoginLock = 5 * time.Minute
	}
	return nil
}

// maxForm bounds the body of every posted form.
const maxForm = 64 << 10

type app struct {
	opt    Options
	mux    *http.ServeMux
	render *view.Renderer
	manage *manage.Manage
	turns  chan struct{} // bounds the password hashes computed at once: each takes much memory
}

// New returns the application as a handler.
func New(o Options) (http.Handler, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("app options: %w", err)
	}
	assets, err := web.New()
	if err != nil {
		return nil, err
	}
	render, err := view.New(view.Options{Templates: web.Templates(), Assets: assets, Log: o.Log, Version: o.Version, Server: o.Server})
	if err != nil {
		return nil, err
	}
	pages, err := page.New(page.Options{Inventory: o.Inventory, Access: o.Access, Events: o.Events, Series: o.Series, Alerts: o.Alerting})
	if err != nil {
		return nil, err
	}
	managed, err := manage.New(manage.Options{
		Inventory: o.Inventory, Access: o.Access, Events: o.Events, Site: o.Site, Log: o.Log, PublicURL: o.PublicURL, AgentURL: o.AgentURL, AgentPort: o.AgentPort,
		Embedded: o.Embedded, Passwords: o.Passwords,
	})
	if err != nil {
		return nil, err
	}
	charts, err := chart.New(chart.Options{Inventory: o.Inventory, Events: o.Events, Series: o.Series, Rules: o.Alerting})
	if err != nil {
		return nil, err
	}
	feeds, err := activity.New(activity.Options{Inventory: o.Inventory, Events: o.Events})
	if err != nil {
		return nil, err
	}
	alerts, err := alert.New(alert.Options{
		Inventory: o.Inventory, Alerting: o.Alerting, Access: o.Access, Trial: o.Trial, Sender: o.Sender, Admin: o.AdminMail, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	settings, err := alertedit.New(alertedit.Options{
		Inventory: o.Inventory, Access: o.Access, Alerting: o.Alerting, Trial: o.Trial, Sender: o.Sender, Admin: o.AdminMail, PublicURL: o.PublicURL, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	around, err := beside.New(beside.Options{Alerting: o.Alerting, Sender: o.Sender, Log: o.Log})
	if err != nil {
		return nil, err
	}
	self, err := watch.New(watch.Options{Alerting: o.Alerting, Site: o.Site, Sender: o.Sender})
	if err != nil {
		return nil, err
	}
	saved, err := backup.New(backup.Options{Service: o.Backups, Inventory: o.Inventory, Daemons: o.Daemons, Events: o.Alerting, PullURL: o.PullURL, Log: o.Log})
	if err != nil {
		return nil, err
	}
	a := &app{opt: o, mux: http.NewServeMux(), render: render, manage: managed, turns: make(chan struct{}, 2)}
	a.routes(slices.Concat(pages.Routes(), managed.Routes(), feeds.Routes(), alerts.Routes(), settings.Routes(), around.Routes(), self.Routes(), saved.Routes()), charts)

	root := http.NewServeMux()
	root.Handle("GET "+web.Prefix, assets)
	if o.Health != nil {
		root.Handle("/monitor/health", o.Health)
	}
	root.Handle("/", httpx.Gzip(noStore(a.mux)))
	chain := o.Chain
	chain.Component, chain.Security = "app", &httpx.SecurityHeaders{HSTSMaxAge: o.HSTSMaxAge}
	if chain.Log == nil {
		chain.Log = o.Log
	}
	chain.Now = o.Now
	return httpx.Chain(besideAPI(o.API, root), chain), nil
}

// besideAPI serves the Public API past the mux: it would redirect a path with two slashes in a row, as clients write mount points,
// and a redirect breaks the signature.
func besideAPI(api, other http.Handler) http.Handler {
	if api == nil {
		return other
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			api.ServeHTTP(w, r)
			return
		}
		other.ServeHTTP(w, r)
	})
}

func (a *app) routes(pages []view.Route, charts *chart.Charts) {
	a.mux.HandleFunc("GET /login", a.loginPage)
	a.mux.HandleFunc("POST /login", a.login)
	a.mux.HandleFunc("GET /register", a.registerPage)
	a.mux.HandleFunc("POST /register", a.register)
	a.page("POST /logout", a.logout)
	for _, r := range pages {
		a.page(r.Pattern, r.Handler)
	}
	a.data("GET /g/{group}/hosts/{id}/series", charts.Host)
	a.data("GET /g/{group}/clusters/{id}/series", charts.Cluster)
	a.page("/", func(context.Context, *view.Visit) (view.Answer, error) { return view.Answer{}, view.NotFound("page") })
}

// page mounts a page for people who are signed in.
func (a *app) page(pattern string, h view.Handler) {
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		v, err := a.visit(w, r)
		if err != nil {
			a.render.Render(w, v, view.Answer{}, err)
			return
		}
		if v.User == nil {
			a.toSignIn(w, r)
			return
		}
		if err := a.admit(v); err != nil {
			a.render.Render(w, v, view.Answer{}, err)
			return
		}
		answer, err := h(r.Context(), v)
		a.render.Render(w, v, answer, err)
	})
}

// data mounts an answer for scripts: errors are JSON, and nobody is sent to the sign-in page.
func (a *app) data(pattern string, h func(context.Context, *view.Visit, http.ResponseWriter) error) {
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		v, err := a.visit(w, r)
		if err == nil && v.User == nil {
			err = &view.Problem{Status: http.StatusUnauthorized, Title: "signed out: sign in again"}
		}
		if err == nil {
			err = a.admit(v)
		}
		if err == nil {
			err = h(r.Context(), v, w)
		}
		if err == nil {
			return
		}
		status := httpx.Status(err)
		text := "the numbers cannot be read now, request " + v.ID
		var p *view.Problem
		if errors.As(err, &p) {
			status, text = p.Status, p.Title
		} else {
			a.logFailure(v, err)
		}
		httpx.WriteJSON(w, status, map[string]string{"error": text})
	})
}

// admit checks what holds for every page: the right to see the group its address names, and the form's token.
func (a *app) admit(v *view.Visit) error {
	if v.Request.Method != http.MethodGet && v.Request.Method != http.MethodHead {
		if err := a.checkForm(v); err != nil {
			return err
		}
	}
	id := model.ID(v.Request.PathValue("group"))
	if id == "" {
		return nil
	}
	for i := range v.Groups {
		if v.Groups[i].ID == id {
			v.Group = &v.Groups[i]
		}
	}
	if v.Group == nil {
		// One answer for groups that do not exist and those of others: addresses do not tell which groups there are.
		return &view.Problem{
			Status: http.StatusForbidden, Title: "You cannot see this group", Grant: true,
			What: "You have no role in it, or there is no group at this address.",
		}
	}
	if v.Request.Header.Get("HX-Request") == "" && v.Request.Method == http.MethodGet {
		agents, err := a.opt.Inventory.Agents(v.Request.Context(), id)
		if err != nil {
			return fmt.Errorf("read the agents: %w", err)
		}
		v.Agent = view.AgentState(agents, v.Now, view.StaleAfter(v.Group.Settings.PingSeconds))
	}
	return nil
}

// noStore keeps pages out of every cache: they show what only their reader may see, as of this second.
func noStore(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})
}
