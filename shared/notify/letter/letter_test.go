package letter

import (
	"html"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/notify/notifytest"
)

func compose(t *testing.T, m notify.Message) Letter {
	t.Helper()
	l, err := Compose(m, Options{SettingsURL: func(a *model.Alert) string {
		return "https://heartwood.example.com/g/" + string(a.GroupID) + "/alert-settings"
	}})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func open() notify.Message {
	m := notifytest.Message(model.DeliverOpen)
	for i := range 14 {
		m.Alert.Samples = append(m.Alert.Samples, model.Sample{At: notifytest.At.Add(time.Duration(i-14) * time.Minute), Value: float64(300 + 40*i)})
	}
	m.Picture = []byte("\x89PNG")
	return m
}

func TestGolden(t *testing.T) {
	for name, m := range map[string]notify.Message{
		"open": open(), "close": notifytest.Message(model.DeliverClose), "acknowledge": notifytest.Message(model.DeliverAcknowledge),
		"test": notifytest.Message(model.DeliverTest), "digest": notifytest.Digest(4),
	} {
		l := compose(t, m)
		notifytest.Golden(t, name+".html", []byte(l.HTML))
		notifytest.Golden(t, name+".txt", []byte(l.Subject+"\n\n"+l.Text))
	}
}

func TestTextAndPageSayTheSame(t *testing.T) {
	m := open()
	l := compose(t, m)
	for _, want := range []string{
		m.Alert.Text, "db1.example.com:27017", "812", "above 500", "2026-03-01 09:55:00 UTC", m.URL, m.AckURL, "/alert-settings", m.Alert.Rule.Note, "2026-03-01 10:15:00 UTC",
		"09:59:00", "820", "Shop",
	} {
		if !strings.Contains(l.Text, want) {
			t.Errorf("the text lacks %q:\n%s", want, l.Text)
		}
		if !strings.Contains(html.UnescapeString(l.HTML), want) {
			t.Errorf("the page lacks %q:\n%s", want, l.HTML)
		}
	}
	if strings.Contains(l.Text, "09:46:00") {
		t.Error("older samples than the newest ten are listed")
	}
}

func TestAPageIsReadWithoutImagesAndInTheDark(t *testing.T) {
	l := compose(t, open())
	for _, want := range []string{`alt="Chart of 14 samples between 300 and 820"`, `name="color-scheme" content="light dark"`, "prefers-color-scheme: dark"} {
		if !strings.Contains(l.HTML, want) {
			t.Errorf("no %s", want)
		}
	}
	for _, never := range []string{"http-equiv=\"refresh\"", "<script", "ZgotmplZ"} {
		if strings.Contains(l.HTML, never) {
			t.Errorf("%s is in the page", never)
		}
	}
	if n := strings.Count(l.HTML, "src="); n != 1 || !strings.Contains(l.HTML, `src="cid:`+PictureID+`"`) {
		t.Errorf("%d pictures, something is loaded from elsewhere", n)
	}
	if strings.Contains(compose(t, notifytest.Message(model.DeliverOpen)).HTML, "<img") {
		t.Error("a picture that is not there")
	}
}

func TestWhatThingsAreCalledIsNeverMarkup(t *testing.T) {
	m := open()
	evil := `<script>alert(1)</script>"><img src=x>`
	m.Group.Name, m.Alert.Text, m.Alert.Target.HostName, m.Alert.Rule.Note, m.Site = evil, evil, evil, evil, evil
	m.URL, m.AckURL = "javascript:alert(1)", "javascript:alert(2)"
	d := notifytest.Digest(2)
	d.Alert.Text, d.URL = evil, "javascript:alert(3)"
	for _, l := range []Letter{compose(t, m), compose(t, d)} {
		if strings.Contains(l.HTML, "<script>") || strings.Contains(l.HTML, "<img src=x") || strings.Contains(l.HTML, `href="javascript:`) {
			t.Errorf("markup came through:\n%s", l.HTML)
		}
		if strings.ContainsAny(l.Subject, "\r\n") {
			t.Errorf("subject %q", l.Subject)
		}
	}
}

func TestALongDigestStaysShort(t *testing.T) {
	l := compose(t, notifytest.Digest(400))
	if !strings.Contains(l.HTML, "and 350 more") || len(l.HTML) > 100<<10 {
		t.Errorf("%d bytes", len(l.HTML))
	}
}

func TestATestSaysThatItIsOne(t *testing.T) {
	l := compose(t, notifytest.Message(model.DeliverTest))
	if !strings.Contains(l.HTML, "somebody tested this notification") || strings.Contains(l.HTML, "alert-settings") || !strings.Contains(l.Text, "This is a test") {
		t.Errorf("%s", l.HTML)
	}
	if _, err := Compose(notify.Message{Kind: model.DeliverTest}, Options{}); err != nil {
		t.Errorf("without an alert: %v", err)
	}
}
