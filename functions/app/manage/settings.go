package manage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
)

// settingsTab is what all settings pages share.
type settingsTab struct {
	Tab  string
	Form *view.Form
	Said string // what was just done
	May  bool
	Why  string // why the controls are disabled
}

func newTab(v *view.Visit, name string, right view.Right, f *view.Form) settingsTab {
	return settingsTab{Tab: name, Form: f, May: v.May(right), Why: "You cannot change this: " + right.Reason(), Said: doneText(v.Query("done"))}
}

// doneText is the sentence after an action; the address carries only its name, so that nobody can put words on a page.
func doneText(name string) string {
	switch name {
	case "saved":
		return "Saved."
	case "host-added":
		return "The host was added. The agent picks it up with its next configuration call, within two minutes."
	case "host-hidden":
		return "The host is hidden and no longer polled."
	case "host-shown":
		return "The host is shown and polled again."
	case "host-removed":
		return "The host was removed. Its history is kept until it expires."
	case "key-deleted":
		return "The key was deleted. Whoever uses it is refused from now on."
	case "session-ended":
		return "That browser is signed out."
	case "password":
		return "The password was changed. All other browsers were signed out."
	}
	return ""
}

type generalPage struct {
	settingsTab
	Hosts int
}

func (m *Manage) settings(_ context.Context, v *view.Visit) (view.Answer, error) {
	s := v.Group.Settings
	f := view.NewForm(nil).Set("name", v.Group.Name).Set("timeZone", s.TimeZone).Set("ping", fmt.Sprint(s.PingSeconds)).Set("preferred", s.PreferredHostnames)
	for name, on := range map[string]bool{"dbstats": s.CollectDBStats, "logs": s.CollectLogs, "diagnostics": s.CollectDiagnostics, "mongos": s.SuppressMongos, "exposed": !s.SkipExposed} {
		if on {
			f.Set(name, "on")
		}
	}
	return settingsAnswer(v, "Settings", "settings.html", &generalPage{settingsTab: newTab(v, "general", view.ManageGroup, f)}, f), nil
}

func settingsAnswer(_ *view.Visit, title, template string, data any, f *view.Form) view.Answer {
	a := view.Answer{Template: template, Title: title, Nav: "settings", Data: data}
	if f != nil && !f.OK() {
		a.Status = http.StatusUnprocessableEntity
	}
	return a
}

func (m *Manage) saveSettings(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.ManageGroup); err != nil {
		return view.Answer{}, err
	}
	f := view.NewForm(v.Request, "name", "timeZone", "ping", "dbstats", "logs", "diagnostics", "mongos", "preferred", "exposed")
	name, err := CheckGroupName(f.Value("name"))
	var bad *NameError
	if errors.As(err, &bad) {
		f.Fail("name", bad.Why)
	}
	zone := strings.TrimSpace(f.Value("timeZone"))
	if _, err := time.LoadLocation(zone); err != nil || zone == "" || zone == "Local" {
		f.Fail("timeZone", "Give a time zone's IANA name, such as UTC or Europe/Berlin.")
	}
	ping, _ := strconv.Atoi(f.Value("ping")) // what is no number is none of the two
	if ping != 10 && ping != 60 {
		f.Fail("ping", "A ping is sent every 10 or every 60 seconds.")
	}
	if why := badPreferred(f.Value("preferred")); why != "" {
		f.Fail("preferred", why)
	}
	if f.OK() {
		err := m.opt.Inventory.UpdateGroup(ctx, v.Group.ID, func(g *model.Group) error {
			g.Name = name
			g.Settings.TimeZone, g.Settings.PingSeconds = zone, ping
			g.Settings.CollectDBStats, g.Settings.CollectLogs = f.On("dbstats"), f.On("logs")
			g.Settings.CollectDiagnostics, g.Settings.SuppressMongos = f.On("diagnostics"), f.On("mongos")
			g.Settings.SkipExposed = !f.On("exposed")
			g.Settings.PreferredHostnames = strings.TrimSpace(f.Value("preferred"))
			return nil
		})
		switch {
		case errors.Is(err, docstore.ErrExists):
			f.Fail("name", "There is a group of this name already.")
		case err != nil:
			return view.Answer{}, fmt.Errorf("save the group: %w", err)
		default:
			m.note(ctx, v, model.Event{Type: model.EventGroupUpdated, Text: "Settings of the group changed"})
			return view.Redirect(v.GroupPath("/settings?done=saved")), nil
		}
	}
	return settingsAnswer(v, "Settings", "settings.html", &generalPage{settingsTab: newTab(v, "general", view.ManageGroup, f)}, f), nil
}

func badPreferred(s string) string {
	s = strings.TrimSpace(s)
	if expr, ok := strings.CutPrefix(s, "/"); ok {
		expr, closed := strings.CutSuffix(expr, "/")
		if !closed {
			return "A regular expression stands between two slashes."
		}
		if _, err := regexp.Compile(expr); err != nil {
			return "This is no regular expression: " + err.Error() + "."
		}
	}
	return ""
}

type hostsPage struct {
	settingsTab
	Hosts  []model.Host
	Pager  view.Pager
	Hidden int
}

func (m *Manage) hostSettings(ctx context.Context, v *view.Visit) (view.Answer, error) {
	return m.hostsPage(ctx, v, view.NewForm(nil))
}

func (m *Manage) hostsPage(ctx context.Context, v *view.Visit, f *view.Form) (view.Answer, error) {
	all, err := m.opt.Inventory.Hosts(ctx, v.Group.ID)
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the hosts: %w", err)
	}
	d := hostsPage{settingsTab: newTab(v, "hosts", view.ManageHosts, f)}
	var shown []model.Host
	for i := range all {
		if !all[i].Deleted && all[i].DuplicateOf == "" {
			shown = append(shown, all[i])
		}
	}
	d.Hosts, d.Pager = view.Paged(v, shown)
	return settingsAnswer(v, "Hosts", "settings-hosts.html", &d, f), nil
}

// addHost starts the monitoring of a process. One that is known under any of its names is not added twice; one that was
// removed comes back with its history.
func (m *Manage) addHost(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.ManageHosts); err != nil {
		return view.Answer{}, err
	}
	f := view.NewForm(v.Request, "address", "username", "source", "tls")
	name, port, err := model.SplitAddress(f.Value("address"))
	if err != nil {
		f.Fail("address", "Give a host name and port, such as db1.example.com:27017.")
	}
	password := v.Request.PostFormValue("password")
	user := strings.TrimSpace(f.Value("username"))
	if (user == "") != (password == "") {
		f.Fail("username", "User name and password go together.")
	}
	if !f.OK() {
		return m.hostsPage(ctx, v, f)
	}
	known, err := m.opt.Inventory.FindHost(ctx, v.Group.ID, model.Address(name, port))
	id := known.ID
	switch {
	case err == nil && known.Visible():
		f.Fail("address", "This process is monitored already, as "+known.Address()+".")
		return m.hostsPage(ctx, v, f)
	case err == nil:
		err = m.opt.Inventory.UpdateHost(ctx, v.Group.ID, id, func(h *model.Host) error {
			h.Deleted, h.Hidden, h.Deactivated, h.Enabled, h.Seed, h.TLS = false, false, false, true, true, f.On("tls")
			return nil
		})
	case errors.Is(err, docstore.ErrNotFound):
		id = model.NewHostID(v.Group.ID, name, port)
		err = m.opt.Inventory.CreateHost(ctx, model.Host{
			ID: id, GroupID: v.Group.ID, Hostname: name, Port: port, Created: v.Now, Type: model.TypeNoData,
			MemberID: -1, Enabled: true, AlertsEnabled: true, Seed: true, TLS: f.On("tls"),
		})
	}
	if err != nil {
		return view.Answer{}, fmt.Errorf("add the host: %w", err)
	}
	if user != "" {
		c := model.Credentials{Username: user, Password: model.Secret(password), Source: strings.TrimSpace(f.Value("source"))}
		if err := m.opt.Inventory.SetHostCredentials(ctx, v.Group.ID, id, c); err != nil {
			return view.Answer{}, fmt.Errorf("keep the host's credentials: %w", err)
		}
	}
	m.note(ctx, v, model.Event{Type: model.EventHostAdded, HostID: id, HostName: model.Address(name, port), Text: "Host added by hand"})
	return view.Redirect(v.GroupPath("/settings/hosts?done=host-added")), nil
}

func (m *Manage) hideHost(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.ManageHosts); err != nil {
		return view.Answer{}, err
	}
	id := model.HostID(v.Request.PathValue("id"))
	hide := v.Request.PostFormValue("show") == ""
	name := ""
	err := m.opt.Inventory.UpdateHost(ctx, v.Group.ID, id, func(h *model.Host) error {
		h.Hidden, h.Enabled, name = hide, !hide, h.Address()
		if !hide {
			h.Deactivated = false
		}
		return nil
	})
	if err != nil {
		return view.Answer{}, view.Missing(err, "host")
	}
	if hide {
		m.note(ctx, v, model.Event{Type: model.EventHostHidden, HostID: id, HostName: name, Text: "Host hidden and no longer polled"})
		return view.Redirect(v.GroupPath("/settings/hosts?done=host-hidden")), nil
	}
	m.note(ctx, v, model.Event{Type: model.EventHostUpdated, HostID: id, HostName: name, Text: "Host shown and polled again"})
	return view.Redirect(v.GroupPath("/settings/hosts?done=host-shown")), nil
}

// confirmPage asks for an object's name before it is gone.
type confirmPage struct {
	What, Name, Loses, Action, Back, Button string
	Form                                    *view.Form
}

func confirmAnswer(d confirmPage) view.Answer {
	a := view.Answer{Template: "confirm.html", Title: d.Button + " " + d.Name, Nav: "settings", Data: d}
	if !d.Form.OK() {
		a.Status = http.StatusUnprocessableEntity
	}
	return a
}

// confirmed reads the name that was typed. It answers with the form again when it is not the object's.
func confirmed(v *view.Visit, d *confirmPage) bool {
	d.Form = view.NewForm(v.Request, "name")
	if strings.TrimSpace(d.Form.Value("name")) != d.Name {
		d.Form.Fail("name", "Type exactly: "+d.Name)
	}
	return d.Form.OK()
}

func (m *Manage) removeHostForm(ctx context.Context, v *view.Visit) (confirmPage, model.Host, error) {
	if err := v.Need(view.ManageHosts); err != nil {
		return confirmPage{}, model.Host{}, err
	}
	h, err := m.opt.Inventory.Host(ctx, v.Group.ID, model.HostID(v.Request.PathValue("id")))
	if err != nil {
		return confirmPage{}, h, view.Missing(err, "host")
	}
	return confirmPage{
		What: "host", Name: h.Address(), Button: "Remove", Form: view.NewForm(nil), Back: v.GroupPath("/settings/hosts"),
		Action: v.GroupPath("/settings/hosts/" + string(h.ID) + "/remove"),
		Loses:  "The host leaves all lists, is no longer polled, and is not discovered again. Its charts cannot be reached any more. Adding it again by hand brings it back with the history that has not expired.",
	}, h, nil
}

func (m *Manage) confirmRemoveHost(ctx context.Context, v *view.Visit) (view.Answer, error) {
	d, _, err := m.removeHostForm(ctx, v)
	return confirmAnswerOr(d, err)
}

func confirmAnswerOr(d confirmPage, err error) (view.Answer, error) {
	if err != nil {
		return view.Answer{}, err
	}
	return confirmAnswer(d), nil
}

func (m *Manage) removeHost(ctx context.Context, v *view.Visit) (view.Answer, error) {
	d, h, err := m.removeHostForm(ctx, v)
	if err != nil || !confirmed(v, &d) {
		return confirmAnswerOr(d, err)
	}
	err = m.opt.Inventory.UpdateHost(ctx, v.Group.ID, h.ID, func(h *model.Host) error {
		h.Deleted, h.Enabled = true, false
		return nil
	})
	if err != nil {
		return view.Answer{}, view.Missing(err, "host")
	}
	m.note(ctx, v, model.Event{Type: model.EventHostDeleted, HostID: h.ID, HostName: h.Address(), Text: "Host removed"})
	return view.Redirect(v.GroupPath("/settings/hosts?done=host-removed")), nil
}
