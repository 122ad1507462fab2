package notify

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/model"
)

func TestMask(t *testing.T) {
	for secret, want := range map[model.Secret]string{
		"": "", "abc": "************", "abcdefg": "************", "abcdefgh": "************efgh", "0123456789": "************6789", "schlüsselö": "************selö",
	} {
		if got := Mask(secret); got != want {
			t.Errorf("%q: got %q, want %q", secret.Reveal(), got, want)
		}
	}
}

func TestMaskedSecretsComeBack(t *testing.T) {
	have := of(Webhook, "webhookUrl", "https://hooks.example.com/abcdef", "webhookSecret", "short")
	next := of(Webhook, "webhookUrl", Mask(have.Secrets["webhookUrl"]), "webhookSecret", "a new one")
	got := KeepMasked(have, next)
	if d := cmp.Diff(of(Webhook, "webhookUrl", "https://hooks.example.com/abcdef", "webhookSecret", "a new one"), got); d != "" {
		t.Error(d)
	}
	if next.Secrets["webhookUrl"] == got.Secrets["webhookUrl"] {
		t.Error("the notification that was given has changed")
	}
	if got := KeepMasked(have, of(Webhook, "webhookSecret", Mask("short"))); got.Secrets["webhookSecret"] != "short" {
		t.Errorf("a short secret: %q", got.Secrets["webhookSecret"].Reveal())
	}
	if got := KeepMasked(have, of(Webhook, "webhookUrl", Mask("https://hooks.example.com/uvwxyz"))); !strings.HasPrefix(got.Secrets["webhookUrl"].Reveal(), masked) {
		t.Errorf("another's mask: %q", got.Secrets["webhookUrl"].Reveal())
	}
	other := of(Slack)
	other.Secrets["webhookUrl"] = model.Secret(Mask(have.Secrets["webhookUrl"]))
	if got := KeepMasked(have, other); got.Secrets["webhookUrl"] == have.Secrets["webhookUrl"] {
		t.Error("a secret went over to another channel")
	}
}

func TestMaskedSecretsOfAWholeConfigurationComeBack(t *testing.T) {
	with := func(id model.ID, n model.Notification) model.Notification { n.ID = id; return n }
	have := []model.Notification{
		with("n1", of(PagerDuty, "serviceKey", "aaaaaaaaaaaa1111")),
		with("n2", of(PagerDuty, "serviceKey", "bbbbbbbbbbbb2222")),
		with("n3", of(Email, "emailAddress", "a@example.com")),
	}
	mask := func(i int) string { return Mask(have[i].Secrets["serviceKey"]) }
	for _, c := range []struct {
		name       string
		next, want []model.Notification
	}{
		{
			"sent back as it was",
			[]model.Notification{with("n1", of(PagerDuty, "serviceKey", mask(0))), with("n2", of(PagerDuty, "serviceKey", mask(1))), have[2]},
			have,
		},
		{
			"in another order and without ids",
			[]model.Notification{of(PagerDuty, "serviceKey", mask(1)), of(PagerDuty, "serviceKey", mask(0))},
			[]model.Notification{have[1], have[0]},
		},
		{
			"one replaced",
			[]model.Notification{with("n2", of(PagerDuty, "serviceKey", "cccccccccccc3333"))},
			[]model.Notification{with("n2", of(PagerDuty, "serviceKey", "cccccccccccc3333"))},
		},
		{
			"a mask of none of them",
			[]model.Notification{of(PagerDuty, "serviceKey", masked+"9999")},
			[]model.Notification{of(PagerDuty, "serviceKey", masked+"9999")},
		},
		{
			"a new one without secrets",
			[]model.Notification{of(Email, "emailAddress", "a@example.com")},
			[]model.Notification{of(Email, "emailAddress", "a@example.com")},
		},
		{
			"the same twice",
			[]model.Notification{of(PagerDuty, "serviceKey", mask(0)), of(PagerDuty, "serviceKey", mask(0))},
			[]model.Notification{have[0], of(PagerDuty, "serviceKey", mask(0))},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, KeepAllMasked(have, c.next)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestScrub(t *testing.T) {
	for _, c := range []struct {
		name, text string
		secrets    []model.Secret
		want       string
	}{
		{"nothing secret", "connection refused", nil, "connection refused"},
		{"a secret", "bad key abcdef!", []model.Secret{"abcdef"}, "bad key ***!"},
		{"several, one within another", "abcdef abcd", []model.Secret{"abcd", "abcdef"}, "*** ***"},
		{"a URL's path and query", "Post https://hooks.example.com/T0/x?y=z: refused", nil, "Post https://hooks.example.com/*** refused"},
		{"a URL's user", `"http://u:p@h:80" failed`, nil, `"http://h:80/***" failed`},
		{"a bare URL", "at https://slack.com/ too", nil, "at https://slack.com/ too"},
		{"a path without its host", "404 /services/T0123456/abcdefghijkl", []model.Secret{"https://h/services/T0123456/abcdefghijkl"}, "404 ***"},
		{"one part of a path", "no such hook abcdefghijkl", []model.Secret{"https://h/services/T0123456/abcdefghijkl"}, "no such hook ***"},
		{"a query's value", "bad token 0123 4567+8", []model.Secret{"https://h/?t=0123+4567%2B8"}, "bad token ***"},
		{"escaped for URLs", "a%2Fb%3Dcd", []model.Secret{"a/b=cd"}, "***"},
		{"in JSON", `{"key":"a\"bcd"}`, []model.Secret{`a"bcd`}, `{"key":"***"}`},
		{"base64", "Basic c2VjcmV0IQ==", []model.Secret{"secret!"}, "Basic ***"},
		{"a short one by itself", "the key ab is not about", []model.Secret{"ab"}, "the key *** is not about"},
		{"one that closes up again", "a***-*b", []model.Secret{"***-", "****"}, "***"},
		{"broken text", "x\xffabcdef", []model.Secret{"abcdef"}, "x\uFFFD***"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Scrub(c.text, c.secrets...); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// FuzzScrub: a secret (Check lets only UTF-8 pass) of four bytes or more is never left, however it was written.
func FuzzScrub(f *testing.F) {
	f.Add("Post https://h/", "abcdef", ": refused")
	f.Add("****", "****", "*")
	f.Add("https://u:p@h/x?", "https://h/services/T0123456/abcdef", "")
	f.Add("\xff", "\xffabc", "%41")
	f.Fuzz(func(t *testing.T, before, secret, after string) {
		s := model.Secret(secret)
		js, _ := json.Marshal(secret)
		for _, written := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret), string(js[1 : len(js)-1])} {
			got := Scrub(before+written+after, s)
			if utf8.ValidString(secret) && len(secret) >= shortest && (strings.Contains(got, secret) || len(written) >= shortest && strings.Contains(got, strings.ToValidUTF8(written, "\uFFFD"))) {
				t.Errorf("%q is left in %q", secret, got)
			}
		}
		if m := Mask(s); len([]rune(secret)) > 4 && !strings.HasPrefix(secret, "*") && strings.Contains(m, secret) {
			t.Errorf("the mask %q shows %q", m, secret)
		}
		have := model.Notification{Channel: Webhook, Secrets: map[string]model.Secret{"webhookUrl": s}}
		back := KeepMasked(have, model.Notification{Channel: Webhook, Secrets: map[string]model.Secret{"webhookUrl": model.Secret(Mask(s))}})
		if back.Secrets["webhookUrl"] != s {
			t.Errorf("%q came back as %q", secret, back.Secrets["webhookUrl"].Reveal())
		}
	})
}
