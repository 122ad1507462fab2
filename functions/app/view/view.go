// Package view is what every page has in common: who is asking, the frame around the content, forms, the words and
// shapes of states, times and sizes for people, and the pages that say what went wrong. It renders values it is given
// and reads nothing itself; pages (functions/app/page) load them.
package view

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/web"
)

// Visit is one request by one person, with what the frame of a page shows.
type Visit struct {
	Request  *http.Request
	ID       string // the request's id, printed on error pages
	Now      time.Time
	Zone     *time.Location
	User     *model.User // nil before sign-in
	Session  model.Session
	CSRF     string // token for the forms of this page
	Groups   []model.Group
	Group    *model.Group // nil on pages of the site
	Agent    State        // what watches the group, for the top bar
	Allowed  func(right Right, group, org model.ID) bool
	Site     func() State      // of Heartwood itself, for the top bar: asked only when the frame is drawn
	Grantors func() []string   // who can grant rights: asked only when a right is missing
	Alerts   func() AlertCount // of the group at hand, for the menu: asked only when the frame is drawn
	IP       string            // the caller's address
	Secure   bool              // the page travels over https
}

// May reports whether the visitor has a right here.
func (v *Visit) May(r Right) bool {
	if v.User == nil || v.Allowed == nil {
		return false
	}
	if v.Group != nil {
		return v.Allowed(r, v.Group.ID, v.Group.OrgID)
	}
	return v.Allowed(r, "", "")
}

// SiteState is Heartwood's own state.
func (v *Visit) SiteState() State {
	if v.Site == nil {
		return State{Level: Unknown, Word: "unknown"}
	}
	return v.Site()
}

// AlertCount is how many alerts of a group are open, and how many of those somebody has taken on.
type AlertCount struct{ Open, Acknowledged int }

// AlertCount is the menu's number; nothing where it is not known.
func (v *Visit) AlertCount() AlertCount {
	if v.Alerts == nil || v.Group == nil {
		return AlertCount{}
	}
	return v.Alerts()
}

// Need is the error of a visitor without a right, nil when they have it.
func (v *Visit) Need(r Right) error {
	if v.May(r) {
		return nil
	}
	return &Problem{
		Status: http.StatusForbidden, Title: "You cannot do this",
		What: "Your roles here do not allow it: " + r.Reason(), Grant: true,
	}
}

// Query is a parameter of the page's URL.
func (v *Visit) Query(name string) string { return v.Request.URL.Query().Get(name) }

// Link is the page's own path with some query parameters changed ("" removes one), so that everything else the reader
// chose stays.
func (v *Visit) Link(changes ...string) string {
	q := v.Request.URL.Query()
	for i := 0; i+1 < len(changes); i += 2 {
		if changes[i+1] == "" {
			q.Del(changes[i])
		} else {
			q.Set(changes[i], changes[i+1])
		}
	}
	if enc := q.Encode(); enc != "" {
		return v.Request.URL.Path + "?" + enc
	}
	return v.Request.URL.Path
}

// GroupPath is a path below the group's own.
func (v *Visit) GroupPath(rest string) string {
	if v.Group == nil {
		return "/"
	}
	return "/g/" + string(v.Group.ID) + rest
}

// Gone reports whether the browser has given the request up: what fails then is nobody's fault, and nobody reads the answer.
func (v *Visit) Gone() bool { return errors.Is(v.Request.Context().Err(), context.Canceled) }

// Partial reports whether a script asks for parts of the page, which come without the frame.
func (v *Visit) Partial() bool { return v.Request.Header.Get("HX-Request") == "true" }

// Answer is what a page comes to: a template with its data, or another place to go.
type Answer struct {
	Template string
	Title    string
	Nav      string // which entry of the menu is lit
	Plain    bool   // without menu: sign-in and the like
	Status   int    // 200 when zero
	Location string // not empty: go there (303)
	Data     any
	Write    func(w http.ResponseWriter) error // not nil: the page writes itself, as a download does
}

// Handler makes one page.
type Handler func(ctx context.Context, v *Visit) (Answer, error)

// Route is a page's place. A pattern that names {group} is only reached by people who may read that group.
type Route struct {
	Pattern string
	Handler Handler
}

// Redirect answers with another place. Only paths of this site are taken: anything else leads to the start page.
func Redirect(path string) Answer { return Answer{Location: SafePath(path)} }

// SafePath returns path when it leads to this very site, else "/": targets that come from outside ("next" of the sign-in
// page) must not send people elsewhere.
func SafePath(path string) string {
	if len(path) == 0 || path[0] != '/' || len(path) > 1 && (path[1] == '/' || path[1] == '\\') {
		return "/"
	}
	for _, c := range []byte(path) {
		if c < 0x20 || c == 0x7f || c == '\\' {
			return "/"
		}
	}
	if u, err := url.Parse(path); err != nil || u.Host != "" || u.Scheme != "" {
		return "/"
	}
	return path
}

// Problem is an error with a page: what happened, and what to do about it.
type Problem struct {
	Status int
	Title  string
	What   string
	Do     string
	Grant  bool // say who can grant rights
	Err    error
}

// Error is for logs.
func (p *Problem) Error() string {
	if p.Err != nil {
		return p.Title + ": " + p.Err.Error()
	}
	return p.Title + ": " + p.What
}

// Unwrap gives the cause.
func (p *Problem) Unwrap() error { return p.Err }

// NotFound says that a thing of a kind is not here.
func NotFound(kind string) error {
	return &Problem{
		Status: http.StatusNotFound, Title: "There is no such " + kind,
		What: "It may have been removed, or the address is incomplete.",
		Do:   "Use the search at the top, or go back to the deployment.",
	}
}

// Missing turns the store's "not found" into a page that names the kind.
func Missing(err error, kind string) error {
	if errors.Is(err, docstore.ErrNotFound) {
		return NotFound(kind)
	}
	return fmt.Errorf("read the %s: %w", kind, err)
}

// BadRequest says that the address or form cannot be understood.
func BadRequest(what string) error {
	return &Problem{Status: http.StatusBadRequest, Title: "This address cannot be understood", What: what}
}

// problemOf finds the page for an error.
func problemOf(err error) *Problem {
	var p *Problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, docstore.ErrNotFound):
		return problemOf(NotFound("page"))
	case errors.Is(err, docstore.ErrUnavailable), errors.Is(err, docstore.ErrOutcomeUnknown):
		return &Problem{
			Status: http.StatusServiceUnavailable, Title: "The database does not answer", Err: err,
			What: "Heartwood cannot reach its own database, so nothing can be shown. Agents keep what they collect and send it later.",
			Do:   "Try again in a moment. If it lasts, look at the database named by mongo.mongoUri and at the server's log.",
		}
	case errors.Is(err, docstore.ErrFull):
		return &Problem{
			Status: http.StatusInsufficientStorage, Title: "The disk is full", Err: err,
			What: "Heartwood's database cannot be written. What is stored is intact and can be read.",
			Do:   "Free space on the volume of the data folder; work goes on by itself.",
		}
	case errors.Is(err, docstore.ErrConflict):
		return &Problem{
			Status: http.StatusConflict, Title: "Somebody else changed this meanwhile", Err: err,
			What: "Your change was not saved.", Do: "Go back, look at the new values, and repeat the change.",
		}
	}
	do := opererr.HintOf(err)
	if do == "" {
		do = "Try again. If it happens again, search the server's log for the request id below."
	}
	return &Problem{Status: http.StatusInternalServerError, Title: "Something went wrong", What: "The page could not be made.", Do: do, Err: err}
}

// Options are what a Renderer needs.
type Options struct {
	Templates fs.FS
	Assets    *web.Assets
	Log       *slog.Logger
	Version   string // of this build, for the footer
	Server    string // which server answered, for the footer
}

// Renderer turns answers into pages. It is safe for concurrent use.
type Renderer struct {
	opt   Options
	pages map[string]*template.Template
}

// New parses all templates, so that a broken one is found at the start and not by a reader.
func New(o Options) (*Renderer, error) {
	if o.Templates == nil || o.Assets == nil || o.Log == nil {
		return nil, errors.New("view options: Templates, Assets and Log are needed")
	}
	r := &Renderer{opt: o, pages: map[string]*template.Template{}}
	base, err := template.New("layout.html").Funcs(funcs(o.Assets)).ParseFS(o.Templates, "layout.html", "parts.html")
	if err != nil {
		return nil, fmt.Errorf("parse the frame: %w", err)
	}
	names, err := fs.Glob(o.Templates, "*.html")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if name == "layout.html" || name == "parts.html" {
			continue
		}
		t, err := base.Clone()
		if err != nil {
			return nil, err
		}
		if r.pages[name], err = t.ParseFS(o.Templates, name); err != nil {
			return nil, fmt.Errorf("parse %s: %w", name, err)
		}
	}
	return r, nil
}

// Shell is what templates see: the visit, the answer's own data under Data, and the frame's facts.
type Shell struct {
	*Visit
	Title   string
	Nav     string
	Plain   bool
	Data    any
	Version string
	Server  string
}

// Render writes an answer, or the page of err when it is not nil.
func (r *Renderer) Render(w http.ResponseWriter, v *Visit, a Answer, err error) {
	if err == nil && a.Write != nil {
		if err := a.Write(w); err != nil {
			r.opt.Log.Warn("download cut short", obs.KeyErr, err, obs.KeyRequest, v.ID)
		}
		return
	}
	if err != nil {
		a = r.failed(v, err)
	}
	if a.Location != "" {
		http.Redirect(w, v.Request, a.Location, http.StatusSeeOther)
		return
	}
	body, err := r.body(v, a)
	if err != nil {
		r.opt.Log.Error("page not rendered", obs.KeyErr, err, obs.KeyRequest, v.ID, obs.KeyPath, v.Request.URL.Path)
		http.Error(w, "The page could not be made. Request id "+v.ID, http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Vary", "HX-Request")
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	if a.Status != 0 {
		w.WriteHeader(a.Status)
	}
	if v.Request.Method != http.MethodHead {
		_, _ = body.WriteTo(w) // the browser went away: nobody is left to tell
	}
}

// body renders into memory first, so that an error in the middle still gets a whole error page. A refresh of live parts
// gets the content without the frame.
func (r *Renderer) body(v *Visit, a Answer) (*bytes.Buffer, error) {
	t, ok := r.pages[a.Template]
	if !ok {
		return nil, fmt.Errorf("no template %q", a.Template)
	}
	name := "layout.html"
	if v.Partial() {
		name = "content"
	}
	var buf bytes.Buffer
	shell := &Shell{Visit: v, Title: a.Title, Nav: a.Nav, Plain: a.Plain, Data: a.Data, Version: r.opt.Version, Server: r.opt.Server}
	if err := t.ExecuteTemplate(&buf, name, shell); err != nil {
		return nil, fmt.Errorf("render %s: %w", a.Template, err)
	}
	return &buf, nil
}

// statusGone is what logs and metrics show of requests that browsers cut off; the shared table of httpx says the same.
const statusGone = 499

type failure struct {
	*Problem
	Grantors []string
}

func (r *Renderer) failed(v *Visit, err error) Answer {
	p := problemOf(err)
	switch {
	case v.Gone():
		p = &Problem{Status: statusGone, Title: "The request was given up", Err: err}
		r.opt.Log.Debug("page given up by the browser", obs.KeyErr, err, obs.KeyRequest, v.ID, obs.KeyPath, v.Request.URL.Path)
	case p.Status >= http.StatusInternalServerError:
		r.opt.Log.Error("page failed", obs.KeyErr, err, obs.KeyRequest, v.ID, obs.KeyPath, v.Request.URL.Path)
	}
	f := failure{Problem: p}
	if p.Grant && v.Grantors != nil {
		f.Grantors = v.Grantors()
	}
	return Answer{Template: "error.html", Title: p.Title, Status: p.Status, Plain: v.User == nil, Data: f}
}
