package channels

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/notify/amazon"
	"github.com/heartwood-db/heartwood/shared/notify/email"
)

func loaded(t *testing.T, file map[string]string) *config.Server {
	t.Helper()
	l, err := config.Load(config.Sources{File: file})
	if err != nil {
		t.Fatal(err)
	}
	return &l.Server
}

func TestEveryChannelIsThereOnceItsSettingsAre(t *testing.T) {
	bare, err := New(loaded(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := New(loaded(t, map[string]string{
		"mms.fromEmailAddr": "hw@example.com", "mms.mail.hostname": "mail.example.com", "aws.accesskey": "a", "aws.secretkey": "b",
		"twilio.account.sid": "AC1", "twilio.auth.token": "t", "twilio.from.num": "+15005550006",
	}))
	if err != nil {
		t.Fatal(err)
	}
	needs := []string{notify.Email, notify.SMS, notify.SNS, notify.Group, notify.Org, notify.User, notify.Admin}
	for _, c := range notify.Channels() {
		if !whole.Has(c.Name) {
			t.Errorf("%s: %s", c.Name, whole.Missing(c.Name))
		}
		if wants := slices.Contains(needs, c.Name); bare.Has(c.Name) == wants || wants && !strings.Contains(bare.Missing(c.Name), "not configured: set ") {
			t.Errorf("%s without settings: %q", c.Name, bare.Missing(c.Name))
		}
	}
}

func TestMailGoesByTheServerOrByAmazon(t *testing.T) {
	made, err := notifiers(loaded(t, map[string]string{"mms.fromEmailAddr": "hw@example.com", "mms.mail.hostname": "m"}), notify.ClientOptions{})
	if _, ok := made[notify.Email].(*email.Notifier); err != nil || !ok {
		t.Errorf("%T, %v", made[notify.Email], err)
	}
	made, err = notifiers(loaded(t, map[string]string{"mms.fromEmailAddr": "hw@example.com", "mms.mail.transport": "ses", "aws.accesskey": "a", "aws.secretkey": "b"}), notify.ClientOptions{})
	if _, ok := made[notify.Email].(*amazon.Mail); err != nil || !ok {
		t.Errorf("%T, %v", made[notify.Email], err)
	}
}

func TestAFileOfCAsThatIsNoneIsNamed(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{empty, empty + ".missing"} {
		_, err := New(loaded(t, map[string]string{"mms.fromEmailAddr": "hw@example.com", "mms.mail.hostname": "m", "heartwood.mail.CAFile": file}))
		if err == nil || !strings.Contains(err.Error(), "heartwood.mail.CAFile") || !strings.Contains(err.Error(), file) {
			t.Errorf("%v", err)
		}
	}
}

func TestMailLinksToTheSettingsOfTheGroup(t *testing.T) {
	link := settingsURL("https://hw.example.com/")
	if got := link(&model.Alert{GroupID: "5f0000000000000000000001"}); got != "https://hw.example.com/g/5f0000000000000000000001/alert-settings" {
		t.Error(got)
	}
	if got := link(&model.Alert{GroupID: "5f0000000000000000000001", Global: true}) + link(&model.Alert{}); got != "" || settingsURL("") != nil {
		t.Errorf("a link that leads nowhere: %s", got)
	}
}
