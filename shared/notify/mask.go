package notify

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/heartwood-db/heartwood/shared/model"
)

// masked begins what Mask shows. Its length says nothing of the secret's.
const masked = "************"

// Mask shows a secret's last four characters and hides the rest. A secret of less than eight characters is hidden whole.
func Mask(secret model.Secret) string {
	s := []rune(secret.Reveal())
	switch {
	case len(s) == 0:
		return ""
	case len(s) < 8:
		return masked
	}
	return masked + string(s[len(s)-4:])
}

// KeepMasked replaces secrets of next that are only the masked text of have's by have's: clients read a configuration,
// change it and send it back. have is the notification with the same id, or the zero one.
func KeepMasked(have, next model.Notification) model.Notification {
	if have.Channel != next.Channel {
		return next
	}
	next.Secrets = maps.Clone(next.Secrets)
	for name, s := range next.Secrets {
		if old := have.Secrets[name]; old != "" && s.Reveal() == Mask(old) {
			next.Secrets[name] = old
		}
	}
	return next
}

// KeepAllMasked is KeepMasked for a configuration's notifications: each of next is matched by its id, or, where it has none
// that is known, with one of the same channel whose secrets it repeats masked; that one's id goes over to it.
func KeepAllMasked(have, next []model.Notification) []model.Notification {
	out := slices.Clone(next)
	used := make([]bool, len(have))
	take := func(i int, fits func(*model.Notification) bool) bool {
		for j := range have {
			if !used[j] && fits(&have[j]) {
				used[j] = true
				out[i] = KeepMasked(have[j], next[i])
				out[i].ID = have[j].ID
				return true
			}
		}
		return false
	}
	var rest []int
	for i := range next {
		if next[i].ID == "" || !take(i, func(h *model.Notification) bool { return h.ID == next[i].ID }) {
			rest = append(rest, i)
		}
	}
	for _, i := range rest {
		take(i, func(h *model.Notification) bool { return h.Channel == next[i].Channel && repeats(h, &next[i]) })
	}
	return out
}

// repeats reports whether next repeats masked at least one of have's secrets and disagrees with none.
func repeats(have, next *model.Notification) bool {
	some := false
	for name, s := range next.Secrets {
		switch old := have.Secrets[name]; {
		case s.Reveal() == "":
		case strings.HasPrefix(s.Reveal(), masked) && s.Reveal() != Mask(old):
			return false
		default:
			some = some || s.Reveal() == Mask(old) && old != ""
		}
	}
	return some
}

const hidden = "***"

// urls finds URLs in running text.
var urls = regexp.MustCompile(`(?i)\bhttps?://[^\s"'<>\\]+`)

// Scrub takes the given secrets out of a text, in every form they may have been written in, and the path, query and user of
// every URL.
func Scrub(text string, secrets ...model.Secret) string {
	text = urls.ReplaceAllStringFunc(strings.ToValidUTF8(text, "\uFFFD"), bare)
	all := forms(secrets)
	for _, f := range all {
		text = strings.ReplaceAll(text, f, hidden)
	}
	for _, s := range secrets { // too short to be told from ordinary letters within words
		if short := strings.ToValidUTF8(s.Reveal(), "\uFFFD"); short != "" && len(s.Reveal()) < shortest {
			text = regexp.MustCompile(`(^|[^\pL\pN])`+regexp.QuoteMeta(short)+`($|[^\pL\pN])`).ReplaceAllString(text, "${1}"+hidden+"${2}")
		}
	}
	for _, f := range all {
		if strings.Contains(text, f) { // what is left has closed up to the secret again
			return hidden
		}
	}
	return text
}

// bare is a URL's scheme and host, as they were written.
func bare(s string) string {
	if _, err := url.Parse(s); err != nil {
		return hidden
	}
	scheme, rest, _ := strings.Cut(s, "://")
	host := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		host = rest[:i]
	}
	if host == strings.TrimSuffix(rest, "/") && !strings.Contains(host, "@") {
		return s
	}
	return scheme + "://" + host[strings.LastIndexByte(host, '@')+1:] + "/" + hidden
}

// shortest is the length of secrets that are taken out wherever they are found.
const shortest = 4

// forms lists how secrets may be written in a text, longest first.
func forms(secrets []model.Secret) []string {
	found := map[string]bool{}
	add := func(s string) {
		if len(s) >= shortest {
			found[strings.ToValidUTF8(s, "\uFFFD")] = true
		}
	}
	for _, secret := range secrets {
		s := secret.Reveal()
		if s == "" {
			continue
		}
		written(s, add)
		u, err := url.Parse(s)
		if err != nil || u.Host == "" {
			continue
		}
		// The parts of a URL that hold what makes it secret.
		if password, ok := u.User.Password(); ok {
			written(password, add)
		}
		add(u.RequestURI())
		for part := range strings.SplitSeq(u.EscapedPath(), "/") {
			if utf8.RuneCountInString(part) >= 8 {
				add(part)
			}
		}
		for _, values := range u.Query() {
			for _, v := range values {
				if utf8.RuneCountInString(v) >= 8 {
					written(v, add)
				}
			}
		}
	}
	list := slices.Collect(maps.Keys(found))
	slices.SortFunc(list, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return list
}

// written adds the encodings of a secret that turn up in messages.
func written(s string, add func(string)) {
	add(s)
	add(url.QueryEscape(s))
	add(url.PathEscape(s))
	add(strings.Trim(strconv.Quote(s), `"`))
	if js, err := json.Marshal(s); err == nil {
		add(string(js[1 : len(js)-1]))
	}
	if len(s) >= shortest {
		add(base64.StdEncoding.EncodeToString([]byte(s)))
		add(base64.RawURLEncoding.EncodeToString([]byte(s)))
	}
}
