package notify

import (
	"fmt"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/shared/model"
)

// Recipient is one address on one channel that sends: EMAIL, SMS, or the notification's own channel, whose Address then
// only says where it goes (Destination).
type Recipient struct {
	Channel string
	Address string
}

// People are those among whom Expand finds the recipients.
type People struct {
	Users   []model.User // at least those of the group, of its organization, and those notifications name
	GroupID model.ID
	OrgID   model.ID
	Admin   []string // the operator's mailbox: mms.adminEmailAddr
}

// Expand says to whom a notification goes, each once, and in sentences who cannot be reached and why.
func Expand(n model.Notification, p People) (to []Recipient, missing []string) {
	c, ok := ChannelOf(n.Channel)
	if !ok {
		return nil, []string{unsupported(n.Channel)}
	}
	seen := map[Recipient]bool{}
	add := func(channel, address string) {
		key := Recipient{channel, strings.ToLower(address)}
		if !seen[key] {
			seen[key] = true
			to = append(to, Recipient{channel, address})
		}
	}
	switch {
	case c.Name == Admin:
		for _, a := range p.Admin {
			if a = strings.TrimSpace(a); a != "" {
				add(Email, a)
			}
		}
		if len(to) == 0 {
			missing = append(missing, "nobody has set where mail for the operators goes: set mms.adminEmailAddr")
		}
	case !c.People:
		add(c.Name, c.where(&n))
	default:
		users := slices.DeleteFunc(slices.Clone(p.Users), func(u model.User) bool { return !meant(&n, c.Name, &u, p) })
		slices.SortFunc(users, func(a, b model.User) int { return strings.Compare(a.Username, b.Username) })
		if len(users) == 0 {
			missing = append(missing, nobody(&n, c.Name))
		}
		for i := range users {
			missing = append(missing, reach(&n, &users[i], add)...)
		}
	}
	return to, missing
}

// Ways are the channels that a notification is sent by: for people mail, SMS or both, as it says.
func Ways(n model.Notification) (out []string) {
	ch, ok := ChannelOf(n.Channel)
	switch {
	case !ok:
		return []string{n.Channel}
	case !ch.People:
		return []string{ch.Name}
	}
	if n.EmailEnabled {
		out = append(out, Email)
	}
	if n.SMSEnabled {
		out = append(out, SMS)
	}
	return out
}

// meant reports whether a notification is for a user.
func meant(n *model.Notification, channel string, u *model.User, p People) bool {
	if channel == User {
		return strings.EqualFold(u.Username, n.Fields["username"])
	}
	return slices.ContainsFunc(u.Grants, func(g model.Grant) bool {
		of := channel == Group && p.GroupID != "" && g.GroupID == p.GroupID || channel == Org && p.OrgID != "" && g.OrgID == p.OrgID && g.GroupID == ""
		return of && (len(n.Roles) == 0 || slices.Contains(n.Roles, g.Role))
	})
}

func nobody(n *model.Notification, channel string) string {
	switch channel {
	case User:
		return fmt.Sprintf("there is no user %s", line(n.Fields["username"], 100))
	case Org:
		return "there are no " + withRoles("users of the organization", n.Roles)
	}
	return "there are no " + withRoles("users of the group", n.Roles)
}

// reach adds a user's addresses and returns the sentences about those that are missing.
func reach(n *model.Notification, u *model.User, add func(channel, address string)) (missing []string) {
	if n.EmailEnabled {
		switch {
		case badEmail(u.Email) == "":
			add(Email, u.Email)
		case u.Email == "" && badEmail(u.Username) == "":
			add(Email, u.Username)
		default:
			missing = append(missing, u.Username+" has no email address")
		}
	}
	if n.SMSEnabled {
		if number, ok := Phone(u.Mobile); ok {
			add(SMS, number)
		} else {
			missing = append(missing, u.Username+" has no mobile number with a country code")
		}
	}
	return missing
}

// TargetOf is what a Notifier needs to tell a recipient of a notification.
func TargetOf(n model.Notification, r Recipient) Target {
	return Target{Channel: r.Channel, Address: r.Address, Fields: n.Fields, Secrets: n.Secrets}
}
