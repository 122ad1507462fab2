package manage

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
)

type accountPage struct {
	Form     *view.Form
	Prefs    *view.Form
	Said     string
	Sessions []model.Session
	Grants   []string
}

func (m *Manage) account(ctx context.Context, v *view.Visit) (view.Answer, error) {
	return m.accountPage(ctx, v, view.NewForm(nil), nil)
}

func (m *Manage) accountPage(ctx context.Context, v *view.Visit, password, prefs *view.Form) (view.Answer, error) {
	if prefs == nil {
		prefs = view.NewForm(nil).Set("theme", v.User.Prefs.Theme).Set("timeZone", v.User.Prefs.TimeZone)
	}
	d := accountPage{Form: password, Prefs: prefs, Said: doneText(v.Query("done"))}
	var err error
	if d.Sessions, err = m.opt.Access.SessionsOf(ctx, v.User.ID); err != nil {
		return view.Answer{}, fmt.Errorf("read the sessions: %w", err)
	}
	d.Sessions = slices.DeleteFunc(d.Sessions, func(s model.Session) bool { return !v.Now.Before(s.Expires) })
	slices.SortFunc(d.Sessions, func(a, b model.Session) int { return b.Seen.Compare(a.Seen) })
	names := map[model.ID]string{}
	for _, g := range v.Groups {
		names[g.ID] = g.Name
	}
	for _, g := range v.User.Grants {
		where := "the whole site"
		switch {
		case g.GroupID != "" && names[g.GroupID] != "":
			where = "group " + names[g.GroupID]
		case g.GroupID != "":
			where = "group " + string(g.GroupID)
		case g.OrgID != "":
			where = "organization " + string(g.OrgID)
		}
		d.Grants = append(d.Grants, roleWord(g.Role)+" of "+where)
	}
	a := view.Answer{Template: "account.html", Title: "Account", Nav: "account", Data: &d}
	if !password.OK() || !prefs.OK() {
		a.Status = http.StatusUnprocessableEntity
	}
	return a, nil
}

// roleWord is a role's name in running text: GROUP_READ_ONLY is Group Read Only.
func roleWord(r model.Role) string {
	words := strings.Split(strings.ToLower(string(r)), "_")
	for i, w := range words {
		if w != "" {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, " ")
}

func (m *Manage) savePreferences(ctx context.Context, v *view.Visit) (view.Answer, error) {
	f := view.NewForm(v.Request, "theme", "timeZone")
	theme, zone := f.Value("theme"), strings.TrimSpace(f.Value("timeZone"))
	if theme != "light" && theme != "dark" {
		theme = ""
	}
	if _, err := time.LoadLocation(zone); err != nil || zone == "Local" {
		f.Fail("timeZone", "Give a time zone's IANA name, such as UTC or Europe/Berlin, or nothing for your browser's.")
		return m.accountPage(ctx, v, view.NewForm(nil), f)
	}
	err := m.opt.Access.UpdateUser(ctx, v.User.ID, func(u *model.User) error {
		u.Prefs.Theme, u.Prefs.TimeZone = theme, zone
		return nil
	})
	if err != nil {
		return view.Answer{}, fmt.Errorf("save the preferences: %w", err)
	}
	return view.Redirect("/account?done=saved"), nil
}

// changePassword asks for the old password, and signs every other browser out: a password is changed when somebody else
// may know it.
func (m *Manage) changePassword(ctx context.Context, v *view.Visit) (view.Answer, error) {
	f := view.NewForm(v.Request)
	next := v.Request.PostFormValue("new")
	if ok, _ := m.opt.Passwords.Check(v.User.PasswordHash, v.Request.PostFormValue("old")); !ok {
		f.Fail("old", "This is not your current password.")
	}
	if err := auth.CheckPolicy(next, v.User.Username); err != nil {
		f.Fail("new", err.Error())
	}
	if next != v.Request.PostFormValue("again") {
		f.Fail("again", "The two new passwords differ.")
	}
	if !f.OK() {
		return m.accountPage(ctx, v, f, nil)
	}
	hash, err := m.opt.Passwords.Hash(next)
	if err != nil {
		return view.Answer{}, fmt.Errorf("hash the password: %w", err)
	}
	if err := m.opt.Access.UpdateUser(ctx, v.User.ID, func(u *model.User) error { u.PasswordHash = hash; return nil }); err != nil {
		return view.Answer{}, fmt.Errorf("save the password: %w", err)
	}
	if err := m.opt.Access.DeleteSessionsOf(ctx, v.User.ID, v.Session.Key); err != nil {
		return view.Answer{}, fmt.Errorf("end the other sessions: %w", err)
	}
	m.note(ctx, v, model.Event{Type: model.EventPasswordChanged, Text: "Password changed"})
	return view.Redirect("/account?done=password"), nil
}

// endSession signs another browser of the same person out.
func (m *Manage) endSession(ctx context.Context, v *view.Visit) (view.Answer, error) {
	key := v.Request.PathValue("key")
	own, err := m.opt.Access.SessionsOf(ctx, v.User.ID)
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the sessions: %w", err)
	}
	if !slices.ContainsFunc(own, func(s model.Session) bool { return s.Key == key }) {
		return view.Answer{}, view.NotFound("session")
	}
	if err := m.opt.Access.DeleteSession(ctx, key); err != nil {
		return view.Answer{}, fmt.Errorf("end the session: %w", err)
	}
	m.note(ctx, v, model.Event{Type: model.EventLogout, Text: "Another browser signed out"})
	return view.Redirect("/account?done=session-ended"), nil
}
