// Package remedy says what helps against the state a host is in: sentences with the very commands, filled in.
package remedy

import (
	"strconv"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
)

// Remedy is one thing to do about a host in trouble: a sentence, and the commands that do it.
type Remedy struct {
	Text     string
	Commands []string
	Link     string // a page of ours that helps
	LinkText string
}

// agentCheck is the agent's own look at everything; it names what is missing with the command that grants it.
const agentCheck = "heartwood monitoring-agent --config monitoring-agent.config --check"

// The codes by which servers refuse.
const codeAuthenticationFailed = 18

// For says what helps against the state a host is in, most likely cause first.
func For(v *view.Visit, state view.State, h *model.Host, st *model.HostStatus) []Remedy {
	agents := Remedy{Text: "The agent sends nothing about it any more.", Link: v.GroupPath("/agents"), LinkText: "Look at the agents"}
	hosts := v.GroupPath("/settings/hosts")
	switch state.Word {
	case "down":
		if strings.Contains(st.Error, "sends nothing") {
			return []Remedy{agents}
		}
		return append(unreachable(h, strings.ToLower(st.Error), hosts),
			Remedy{Text: "Where the agent runs, this tries everything once and says what is missing:", Commands: []string{agentCheck}})
	case "not authorised":
		return refused(h, st, hosts)
	case "slow":
		return []Remedy{{Text: "See what keeps it busy, in mongosh:", Commands: []string{`db.getSiblingDB("admin").currentOp({active: true, secs_running: {$gt: 5}})`}}}
	case "lags":
		return []Remedy{{Text: "Compare what each member has applied, in mongosh:", Commands: []string{"rs.printSecondaryReplicationInfo()"}}}
	case "stale":
		return []Remedy{agents}
	case "paused":
		return []Remedy{{Text: "Its page of settings switches monitoring on again.", Link: hosts, LinkText: "Settings of hosts"}}
	}
	return nil
}

func unreachable(h *model.Host, why, hosts string) []Remedy {
	name, port := shellWord(h.Hostname), strconv.Itoa(h.Port)
	reach := "nc -vz " + name + " " + port
	switch {
	case strings.Contains(why, "no such host"), strings.Contains(why, "name resolution"):
		return []Remedy{
			{Text: "The agent's machine does not know the name. There:", Commands: []string{"getent hosts " + name}},
			{Text: "If the name is wrong, add the right one and remove this.", Link: hosts, LinkText: "Settings of hosts"},
		}
	case strings.Contains(why, "refused"):
		return []Remedy{{
			Text:     "The machine answers, but nothing listens on the port. On it: is the process running, and does net.bindIp let others in?",
			Commands: []string{"systemctl status mongod", "ss -ltnp 'sport = :" + port + "'"},
		}}
	case strings.Contains(why, "certificate"), strings.Contains(why, "x509"), strings.Contains(why, "tls"):
		return []Remedy{{
			Text:     "The connection stands, TLS does not. Set sslTrustedServerCertificates to the CA of its certificate in the agent's configuration, or tell whether it speaks TLS at all:",
			Commands: []string{"openssl s_client -connect " + name + ":" + port + " </dev/null"},
		}}
	case strings.Contains(why, "timeout"), strings.Contains(why, "timed out"), strings.Contains(why, "unreachable"), strings.Contains(why, "no route"), strings.Contains(why, "deadline"):
		return []Remedy{{Text: "No packet comes back: the machine is off, or a firewall is between. From the agent's machine:", Commands: []string{reach}}}
	}
	return []Remedy{{Text: "Does the port answer at all? From the agent's machine:", Commands: []string{reach}}}
}

func refused(h *model.Host, st *model.HostStatus, hosts string) []Remedy {
	const create = `db.getSiblingDB("admin").createUser({user: "heartwood", pwd: passwordPrompt(), roles: [{role: "clusterMonitor", db: "admin"}]})`
	where := "on the primary"
	if h.Type == model.TypeStandalone {
		where = "on this process"
	}
	give := Remedy{Text: "Then give them to the agent in its configuration, or to this host alone:", Commands: []string{"globalAuthUsername=heartwood\nglobalAuthPassword=..."}, Link: hosts, LinkText: "Settings of hosts"}
	if st.ErrorCode == codeAuthenticationFailed {
		return []Remedy{
			{Text: "User name or password is wrong. Set the password anew, in mongosh " + where + ":", Commands: []string{`db.getSiblingDB("admin").changeUserPassword("heartwood", passwordPrompt())`}},
			{Text: "Or make the user, if it is not there:", Commands: []string{create}},
			give,
		}
	}
	return []Remedy{
		{Text: "Without a user for the agent: make one, in mongosh " + where + ":", Commands: []string{create}},
		{Text: "With one: give it the role.", Commands: []string{`db.getSiblingDB("admin").grantRolesToUser("heartwood", [{role: "clusterMonitor", db: "admin"}])`}},
		give,
	}
}

// shellWord quotes what is not plainly harmless: names come from other machines, and people paste these lines.
func shellWord(s string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(".-_:", c)
	}
	if s != "" && !strings.HasPrefix(s, "-") && !strings.ContainsFunc(s, func(c rune) bool { return !plain(c) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
