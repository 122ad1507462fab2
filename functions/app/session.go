package app

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store/alerting"
)

const (
	sessionCookie = "heartwood_session"
	formCookie    = "heartwood_form" // before sign-in: what the token of a form must equal
	zoneCookie    = "hw_tz"          // set by the page's script
)

// touchEvery limits how often the use of a session is written down.
const touchEvery = time.Minute

// visit finds out who is asking. It never returns a nil visit: error pages need one too.
func (a *app) visit(w http.ResponseWriter, r *http.Request) (*view.Visit, error) {
	ctx := r.Context()
	v := &view.Visit{
		Request: r, ID: httpx.RequestID(ctx), Now: a.opt.Now().UTC(), Zone: time.UTC,
		Secure: httpx.Proto(r) == "https",
	}
	if ip := httpx.ClientIP(ctx); ip.IsValid() {
		v.IP = ip.String()
	}
	if c, err := r.Cookie(zoneCookie); err == nil {
		if name, err := url.QueryUnescape(c.Value); err == nil {
			setZone(v, name)
		}
	}
	v.Grantors = func() []string { return a.grantors(ctx, v) }
	v.Site = func() view.State { return a.siteState(ctx, v) }
	v.Alerts = func() view.AlertCount { return a.openAlerts(ctx, v) }
	c, err := r.Cookie(sessionCookie)
	if err != nil || c.Value == "" {
		return v, nil
	}
	key := auth.TokenKey(c.Value)
	se, err := a.opt.Access.Session(ctx, key)
	if errors.Is(err, docstore.ErrNotFound) || err == nil && !v.Now.Before(se.Expires) {
		a.dropCookie(w, v)
		return v, nil
	}
	if err != nil {
		return v, fmt.Errorf("read the session: %w", err)
	}
	u, err := a.opt.Access.User(ctx, se.UserID)
	if errors.Is(err, docstore.ErrNotFound) {
		a.dropCookie(w, v)
		return v, nil
	}
	if err != nil {
		return v, fmt.Errorf("read the user: %w", err)
	}
	if v.Now.Sub(se.Seen) > touchEvery {
		// A session that cannot be touched is used as it is: this request must not fail for it.
		if err := a.opt.Access.TouchSession(ctx, key, v.Now, v.Now.Add(a.sessionLife())); err == nil {
			a.setSession(w, v, c.Value)
		}
	}
	v.User, v.Session, v.CSRF = &u, se, se.CSRF
	if u.Prefs.TimeZone != "" {
		setZone(v, u.Prefs.TimeZone)
	}
	who := auth.UserPrincipal(&u)
	v.Allowed = func(r view.Right, group, org model.ID) bool { return allowed(who, r, group, org) }
	groups, err := a.opt.Inventory.Groups(ctx)
	if err != nil {
		return v, fmt.Errorf("read the groups: %w", err)
	}
	for _, g := range groups {
		if allowed(who, view.ReadGroup, g.ID, g.OrgID) {
			v.Groups = append(v.Groups, g)
		}
	}
	return v, nil
}

func setZone(v *view.Visit, name string) {
	if name == "" || name == "Local" {
		return
	}
	if loc, err := time.LoadLocation(name); err == nil {
		v.Zone = loc
	}
}

func (a *app) sessionLife() time.Duration { return time.Duration(a.opt.SessionHours) * time.Hour }

// startSession signs a person in on this browser. A session that was there before is ended, so that nobody can plant one.
func (a *app) startSession(ctx context.Context, w http.ResponseWriter, v *view.Visit, u *model.User) error {
	token, key := auth.NewToken()
	csrf := randomText()
	se := model.Session{
		Key: key, UserID: u.ID, CSRF: csrf, Created: v.Now, Seen: v.Now, Expires: v.Now.Add(a.sessionLife()),
		IP: v.IP, Agent: cut(v.Request.UserAgent(), 200),
	}
	if old, err := v.Request.Cookie(sessionCookie); err == nil && old.Value != "" {
		if err := a.opt.Access.DeleteSession(ctx, auth.TokenKey(old.Value)); err != nil {
			return fmt.Errorf("end the session before: %w", err)
		}
	}
	if err := a.opt.Access.CreateSession(ctx, se); err != nil {
		return fmt.Errorf("keep the session: %w", err)
	}
	a.setSession(w, v, token)
	v.User, v.Session, v.CSRF = u, se, csrf
	return nil
}

func (a *app) setSession(w http.ResponseWriter, v *view.Visit, token string) {
	http.SetCookie(w, &http.Cookie{
		Name: sessionCookie, Value: token, Path: "/", MaxAge: int(a.sessionLife().Seconds()),
		HttpOnly: true, Secure: v.Secure, SameSite: http.SameSiteLaxMode,
	})
}

func (a *app) dropCookie(w http.ResponseWriter, v *view.Visit) {
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1, HttpOnly: true, Secure: v.Secure, SameSite: http.SameSiteLaxMode})
}

func (a *app) logout(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := a.opt.Access.DeleteSession(ctx, v.Session.Key); err != nil {
		return view.Answer{}, fmt.Errorf("end the session: %w", err)
	}
	a.note(ctx, v, model.EventLogout, "Signed out")
	return view.Answer{Write: func(w http.ResponseWriter) error {
		a.dropCookie(w, v)
		http.Redirect(w, v.Request, "/login", http.StatusSeeOther)
		return nil
	}}, nil
}

// checkForm refuses posted forms that did not come from a page of ours.
func (a *app) checkForm(v *view.Visit) error {
	v.Request.Body = http.MaxBytesReader(nil, v.Request.Body, maxForm)
	if err := v.Request.ParseForm(); err != nil {
		return &view.Problem{Status: http.StatusRequestEntityTooLarge, Title: "The form cannot be read", What: "It is too large or cut short.", Err: err}
	}
	want := v.CSRF
	if v.User == nil {
		want = ""
		if c, err := v.Request.Cookie(formCookie); err == nil {
			want = c.Value
		}
	}
	got := v.Request.PostFormValue("csrf")
	if want == "" || subtle.ConstantTimeCompare([]byte(want), []byte(got)) != 1 {
		return &view.Problem{
			Status: http.StatusForbidden, Title: "This form is out of date",
			What: "It was opened in another session, or did not come from a page of this site. Nothing was changed.",
			Do:   "Go back, reload the page, and send it again.",
		}
	}
	return nil
}

// formToken gives a visitor without a session the token of the sign-in and registration forms.
func (a *app) formToken(w http.ResponseWriter, v *view.Visit) {
	if c, err := v.Request.Cookie(formCookie); err == nil && len(c.Value) == 32 {
		v.CSRF = c.Value
		return
	}
	v.CSRF = randomText()
	http.SetCookie(w, &http.Cookie{
		Name: formCookie, Value: v.CSRF, Path: "/", HttpOnly: true, Secure: v.Secure, SameSite: http.SameSiteLaxMode,
	})
}

// toSignIn leads to the sign-in page and back afterwards.
func (a *app) toSignIn(w http.ResponseWriter, r *http.Request) {
	to := "/login"
	if r.Method == http.MethodGet && r.URL.Path != "/" && r.Header.Get("HX-Request") == "" {
		to += "?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	if r.Header.Get("HX-Request") != "" {
		w.Header().Set("HX-Redirect", to) // a part of a page that lost its session: the whole page must go
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// grantors names the people who can grant roles: owners of the group at hand, else of the site.
func (a *app) grantors(ctx context.Context, v *view.Visit) []string {
	users, err := a.opt.Access.Users(ctx)
	if err != nil {
		a.logFailure(v, err)
		return nil
	}
	var owners, site []string
	for _, u := range users {
		for _, g := range u.Grants {
			switch {
			case g.Role == model.GlobalOwner:
				site = append(site, u.Username)
			case v.Group != nil && g.Role == model.GroupOwner && g.GroupID == v.Group.ID:
				owners = append(owners, u.Username)
			}
		}
	}
	if len(owners) > 0 {
		return owners
	}
	return site
}

// siteState is for the frame of pages, also of those that say what failed: it must not fail itself.
func (a *app) siteState(ctx context.Context, v *view.Visit) view.State {
	s, err := a.manage.SiteState(ctx, v.Now)
	if err != nil {
		return view.State{Level: view.Unknown, Word: "Heartwood unknown", Why: "Its database does not answer."}
	}
	return s
}

// openAlerts is for the menu of pages: where it cannot be read, no number is shown.
func (a *app) openAlerts(ctx context.Context, v *view.Visit) view.AlertCount {
	open, acked, err := a.opt.Alerting.CountOpen(ctx, v.Group.ID, v.Now)
	if err != nil {
		a.logFailure(v, fmt.Errorf("count the open alerts: %w", err))
		return view.AlertCount{}
	}
	return view.AlertCount{Open: open, Acknowledged: acked}
}

func (a *app) logFailure(v *view.Visit, err error) {
	if v.Gone() {
		a.opt.Log.Debug("request given up by the browser", obs.KeyErr, err, obs.KeyRequest, v.ID, obs.KeyPath, v.Request.URL.Path)
		return
	}
	a.opt.Log.Error("request failed", obs.KeyErr, err, obs.KeyRequest, v.ID, obs.KeyPath, v.Request.URL.Path)
}

func (a *app) note(ctx context.Context, v *view.Visit, t model.EventType, text string) {
	e := model.Event{ID: alerting.EventID(v.Now, string(t), randomText()), Type: t, At: v.Now, IP: v.IP, Text: text}
	if v.User != nil {
		e.UserID, e.Username = v.User.ID, v.User.Username
	}
	if err := a.opt.Events.AddEvents(ctx, e); err != nil {
		a.logFailure(v, fmt.Errorf("keep the event %s: %w", t, err))
	}
}

func randomText() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
