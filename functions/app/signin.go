package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/manage"
	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
)

type signInPage struct {
	Form *view.Form
	Next string
}

func (a *app) loginPage(w http.ResponseWriter, r *http.Request) {
	v, err := a.visit(w, r)
	if err != nil {
		a.render.Render(w, v, view.Answer{}, err)
		return
	}
	next := view.SafePath(r.URL.Query().Get("next"))
	if v.User != nil {
		a.render.Render(w, v, view.Redirect(next), nil)
		return
	}
	n, err := a.opt.Access.CountUsers(r.Context())
	if err == nil && n == 0 {
		a.render.Render(w, v, view.Redirect("/register"), nil)
		return
	}
	a.formToken(w, v)
	a.render.Render(w, v, signInAnswer(view.NewForm(nil), next, 0), err)
}

func signInAnswer(f *view.Form, next string, status int) view.Answer {
	return view.Answer{Template: "login.html", Title: "Sign in", Plain: true, Status: status, Data: signInPage{f, next}}
}

// login counts the attempt before it looks at the password, so that attempts side by side cannot outrun the limit. All
// refusals look alike and take alike: they tell nobody which names exist.
func (a *app) login(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	v, err := a.visit(w, r)
	if err == nil {
		v.User = nil // the form's own token counts, also over an old session
		err = a.checkForm(v)
	}
	if err != nil {
		a.render.Render(w, v, view.Answer{}, err)
		return
	}
	form := view.NewForm(r, "username")
	next := view.SafePath(r.PostFormValue("next"))
	u, ok, err := a.attempt(ctx, v, form.Value("username"), r.PostFormValue("password"))
	if err != nil {
		a.render.Render(w, v, view.Answer{}, err)
		return
	}
	if !ok {
		a.note(ctx, v, model.EventLoginFailed, "Sign-in refused for "+cut(form.Value("username"), 100))
		form.Fail("password", fmt.Sprintf("User name or password is wrong. After %d failed attempts an account is locked for %s.",
			a.opt.LoginAttempts, view.Duration(a.opt.LoginLock)))
		a.formToken(w, v)
		a.render.Render(w, v, signInAnswer(form, next, http.StatusUnauthorized), nil)
		return
	}
	if err := a.startSession(ctx, w, v, &u); err != nil {
		a.render.Render(w, v, view.Answer{}, err)
		return
	}
	a.note(ctx, v, model.EventLogin, "Signed in")
	a.render.Render(w, v, view.Redirect(next), nil)
}

var errLocked = errors.New("account locked")

func (a *app) attempt(ctx context.Context, v *view.Visit, name, password string) (model.User, bool, error) {
	u, err := a.opt.Access.UserByName(ctx, name)
	if err != nil && !errors.Is(err, docstore.ErrNotFound) {
		return u, false, fmt.Errorf("find the user: %w", err)
	}
	known := err == nil
	locks := false // this attempt is the last one, unless the password is right
	hash := ""     // takes as long to refuse as any other
	if known {
		err := a.opt.Access.UpdateUser(ctx, u.ID, func(u *model.User) error {
			if v.Now.Before(u.LockedUntil) {
				return errLocked
			}
			u.Failed++
			if u.Failed >= a.opt.LoginAttempts {
				u.Failed, u.LockedUntil, locks = 0, v.Now.Add(a.opt.LoginLock), true
			}
			return nil
		})
		switch {
		case errors.Is(err, errLocked):
			known = false
		case err != nil:
			return u, false, fmt.Errorf("count the attempt: %w", err)
		case u.PasswordHash != "":
			hash = u.PasswordHash
		}
	}
	ok, rehash, err := a.checkPassword(ctx, hash, password)
	if err == nil && !ok && locks {
		a.note(ctx, v, model.EventAccountLocked, "Account "+u.Username+" locked for "+view.Duration(a.opt.LoginLock)+" after too many wrong passwords")
	}
	if err != nil || !ok || !known {
		return u, false, err
	}
	err = a.opt.Access.UpdateUser(ctx, u.ID, func(u *model.User) error {
		u.Failed, u.LockedUntil, u.LastLogin = 0, time.Time{}, v.Now
		if rehash {
			if h, err := a.opt.Passwords.Hash(password); err == nil {
				u.PasswordHash = h
			}
		}
		return nil
	})
	if err != nil {
		return u, false, fmt.Errorf("note the sign-in: %w", err)
	}
	return u, true, nil
}

// checkPassword waits for its turn: a hash takes tens of megabytes, and a flood of sign-ins must not take them all.
func (a *app) checkPassword(ctx context.Context, hash, password string) (ok, rehash bool, err error) {
	select {
	case a.turns <- struct{}{}:
		defer func() { <-a.turns }()
	case <-ctx.Done():
		return false, false, ctx.Err()
	}
	ok, rehash = a.opt.Passwords.Check(hash, password)
	return ok, rehash, nil
}

func (a *app) registerPage(w http.ResponseWriter, r *http.Request) {
	v, err := a.visit(w, r)
	if err == nil {
		err = a.registrationOpen(r.Context())
	}
	a.formToken(w, v)
	a.render.Render(w, v, registerAnswer(view.NewForm(nil).Set("group", "My deployment"), 0), err)
}

func registerAnswer(f *view.Form, status int) view.Answer {
	return view.Answer{Template: "register.html", Title: "Set up", Plain: true, Status: status, Data: signInPage{Form: f}}
}

func (a *app) registrationOpen(ctx context.Context) error {
	n, err := a.opt.Access.CountUsers(ctx)
	if err != nil {
		return fmt.Errorf("count the users: %w", err)
	}
	if n > 0 {
		return closedError()
	}
	return nil
}

func closedError() error {
	return &view.Problem{
		Status: http.StatusForbidden, Title: "Registration is closed",
		What: "This site has its first user already.", Do: "Sign in, or ask a Global Owner of the site for an account.",
	}
}

// register makes the first user, who owns the site, then an organization, a group and its first agent key. The user is
// one atomic write that succeeds for one caller only; the rest can be made later from the start page, so a failure
// between leaves nothing that needs repair.
func (a *app) register(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	v, err := a.visit(w, r)
	if err == nil {
		v.User = nil
		err = a.checkForm(v)
	}
	if err == nil {
		err = a.registrationOpen(ctx)
	}
	if err != nil {
		a.render.Render(w, v, view.Answer{}, err)
		return
	}
	form := view.NewForm(r, "username", "first", "last", "group")
	name := strings.ToLower(strings.TrimSpace(form.Value("username")))
	password := r.PostFormValue("password")
	if name == "" || len(name) > 200 || strings.ContainsAny(name, " \t/") {
		form.Fail("username", "Give a user name without spaces, such as an email address.")
	}
	if err := auth.CheckPolicy(password, name); err != nil {
		form.Fail("password", sentence(err.Error()))
	}
	var bad *manage.NameError
	if _, err := manage.CheckGroupName(form.Value("group")); errors.As(err, &bad) {
		form.Fail("group", bad.Why)
	}
	if !form.OK() {
		a.formToken(w, v)
		a.render.Render(w, v, registerAnswer(form, http.StatusUnprocessableEntity), nil)
		return
	}
	answer, err := a.firstUser(ctx, w, v, form, name, password)
	a.render.Render(w, v, answer, err)
}

func (a *app) firstUser(ctx context.Context, w http.ResponseWriter, v *view.Visit, form *view.Form, name, password string) (view.Answer, error) {
	hash, err := a.opt.Passwords.Hash(password)
	if err != nil {
		return view.Answer{}, fmt.Errorf("hash the password: %w", err)
	}
	u := model.User{
		ID: model.NewID(), Username: name, FirstName: strings.TrimSpace(form.Value("first")), LastName: strings.TrimSpace(form.Value("last")),
		PasswordHash: hash, Created: v.Now, LastLogin: v.Now, Grants: []model.Grant{{Role: model.GlobalOwner}},
	}
	if strings.Contains(name, "@") {
		u.Email = name
	}
	if err := a.opt.Access.CreateFirstUser(ctx, u); errors.Is(err, docstore.ErrExists) {
		return view.Answer{}, closedError()
	} else if err != nil {
		return view.Answer{}, fmt.Errorf("create the first user: %w", err)
	}
	if err := a.startSession(ctx, w, v, &u); err != nil {
		return view.Answer{}, err
	}
	who := auth.UserPrincipal(&u)
	v.Allowed = func(r view.Right, group, org model.ID) bool { return allowed(who, r, group, org) }
	a.note(ctx, v, model.EventUserCreated, "First user registered: Global Owner")
	g, err := a.manage.NewGroup(ctx, v, form.Value("group"))
	if err != nil {
		return view.Answer{}, err
	}
	v.Groups, v.Group = []model.Group{g}, &g
	v.Agent = view.AgentState(nil, v.Now, 0)
	return a.manage.FirstKey(ctx, v)
}

func sentence(s string) string {
	if s == "" {
		return s
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}
