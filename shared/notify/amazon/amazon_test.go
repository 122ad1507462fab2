package amazon

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/notify/letter"
	"github.com/heartwood-db/heartwood/shared/notify/letter/post"
	"github.com/heartwood-db/heartwood/shared/notify/notifytest"
)

const (
	accessKey = "AKIDEXAMPLE"
	secretKey = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	topicARN  = "arn:aws:sns:eu-central-1:123456789012:alerts"
)

func options(t *testing.T, endpoint string) Options {
	t.Helper()
	s, err := post.NewSender("alerts@example.com", "", letter.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return Options{AccessKey: accessKey, SecretKey: secretKey, Client: notifytest.Client(), Endpoint: endpoint, Region: "eu-central-1", Sender: s}
}

// signed says what is wrong with a request's signature, or "". It is written from the description of Signature Version 4, not
// from the library.
func signed(r *http.Request, body []byte, service string) string {
	auth, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return "no signature: " + r.Header.Get("Authorization")
	}
	part := map[string]string{}
	for p := range strings.SplitSeq(auth, ", ") {
		k, v, _ := strings.Cut(p, "=")
		part[k] = v
	}
	at := r.Header.Get("X-Amz-Date")
	when, err := time.Parse("20060102T150405Z", at)
	if err != nil || time.Since(when).Abs() > 5*time.Minute {
		return "date " + at
	}
	scope := at[:8] + "/eu-central-1/" + service + "/aws4_request"
	if part["Credential"] != accessKey+"/"+scope {
		return "credential " + part["Credential"]
	}
	names := strings.Split(part["SignedHeaders"], ";")
	if !slices.IsSorted(names) || !slices.Contains(names, "host") || !slices.Contains(names, "x-amz-date") || !slices.Contains(names, "content-type") {
		return "signed headers " + part["SignedHeaders"]
	}
	var headers strings.Builder
	for _, n := range names {
		v := r.Header.Get(n)
		switch n {
		case "host":
			v = r.Host
		case "content-length":
			v = r.Header.Get("Content-Length")
		}
		headers.WriteString(n + ":" + strings.TrimSpace(v) + "\n")
	}
	sum := func(b []byte) string { h := sha256.Sum256(b); return hex.EncodeToString(h[:]) }
	canonical := strings.Join([]string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, headers.String(), part["SignedHeaders"], sum(body)}, "\n")
	key := []byte("AWS4" + secretKey)
	for _, s := range []string{at[:8], "eu-central-1", service, "aws4_request"} {
		key = mac(key, s)
	}
	if want := hex.EncodeToString(mac(key, strings.Join([]string{"AWS4-HMAC-SHA256", at, scope, sum([]byte(canonical))}, "\n"))); part["Signature"] != want {
		return "signature " + part["Signature"] + ", want " + want + " over " + canonical
	}
	return ""
}

func mac(key []byte, s string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(s))
	return h.Sum(nil)
}

// accept answers signed requests and refuses all others.
func accept(t *testing.T, service, answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Header.Set("Content-Length", r.Header.Get("Content-Length"))
		if r.ContentLength > 0 {
			r.Header.Set("Content-Length", itoa(r.ContentLength))
		}
		if wrong := signed(r, body, service); wrong != "" {
			t.Error(wrong)
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, answer)
	}
}

func itoa(n int64) string { b, _ := json.Marshal(n); return string(b) }

func TestSNSSuite(t *testing.T) {
	srv, base := notifytest.HTTP(t, accept(t, "sns", `<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult><MessageId>m-1</MessageId></PublishResult></PublishResponse>`))
	notifytest.Run(t, notifytest.Suite{
		New:    func(t *testing.T) notify.Notifier { return NewTopic(options(t, base)) },
		Target: notify.Target{Channel: notify.SNS, Fields: map[string]string{"snsTopicArn": topicARN}},
		Server: srv, HasKey: true, MaxBytes: 256 << 10,
		Plain: func(received string) string {
			_, body, _ := strings.Cut(received, "\n\n")
			text, err := url.QueryUnescape(body)
			if err != nil {
				t.Error(err)
			}
			return text
		},
	})
}

func TestSESSuite(t *testing.T) {
	srv, base := notifytest.HTTP(t, accept(t, "ses", `{"MessageId":"m-1"}`))
	notifytest.Run(t, notifytest.Suite{
		New:    func(t *testing.T) notify.Notifier { return NewMail(options(t, base)) },
		Target: notify.Target{Channel: notify.Email, Address: "ann@example.com"},
		Server: srv, HasKey: true,
		Plain: func(received string) string { return mailText(t, received) },
	})
}

// mailText is the mail in a call of SES, its parts decoded.
func mailText(t *testing.T, received string) string {
	t.Helper()
	_, body, _ := strings.Cut(received, "\n\n")
	var in struct {
		FromEmailAddress string
		Destination      struct{ ToAddresses []string }
		Content          struct{ Raw struct{ Data string } }
	}
	if err := json.Unmarshal([]byte(body), &in); err != nil || in.FromEmailAddress != "alerts@example.com" || !slices.Equal(in.Destination.ToAddresses, []string{"ann@example.com"}) {
		t.Fatalf("%v in %s", err, body)
	}
	raw, err := base64.StdEncoding.DecodeString(in.Content.Raw.Data)
	if err != nil {
		t.Fatal(err)
	}
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	all := m.Header.Get("X-Heartwood-Delivery") + "\n"
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err != nil {
			return all
		}
		b, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		all += string(b)
	}
}

func TestAFIFOTopicDropsWhatComesTwiceAndKeepsAnAlertInOrder(t *testing.T) {
	srv, base := notifytest.HTTP(t, accept(t, "sns", ""))
	n := NewTopic(options(t, base))
	to := notify.Target{Channel: notify.SNS, Fields: map[string]string{"snsTopicArn": topicARN + ".fifo"}}
	var ids, groups []string
	for _, k := range []model.DeliveryKind{model.DeliverOpen, model.DeliverOpen, model.DeliverClose} {
		if _, err := n.Notify(t.Context(), to, notifytest.Message(k)); err != nil {
			t.Fatal(err)
		}
		_, body, _ := strings.Cut(srv.Received()[len(ids)], "\n\n")
		form, err := url.ParseQuery(body)
		if err != nil {
			t.Fatal(err)
		}
		ids, groups = append(ids, form.Get("MessageDeduplicationId")), append(groups, form.Get("MessageGroupId"))
	}
	if ids[0] == "" || ids[0] != ids[1] || ids[0] == ids[2] || groups[0] == "" || groups[0] != groups[2] {
		t.Errorf("ids %q, groups %q", ids, groups)
	}
}

func TestWhatIsWrongWithTheAccountIsTriedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		status    int
		kind      string
		body      string
		permanent bool
	}{
		"a wrong key":              {403, "", `<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code></Error></ErrorResponse>`, false},
		"a topic that is not ours": {404, "", `<ErrorResponse><Error><Code>NotFound</Code></Error></ErrorResponse>`, true},
		"too many at once":         {400, "", `<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>`, false},
		"SES's daily limit":        {400, "LimitExceededException:http://x", `{}`, false},
		"SES refuses the message":  {400, "MessageRejected", `{"message":"Email address is not verified"}`, true},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if c.kind != "" {
				w.Header().Set("X-Amzn-Errortype", c.kind)
			}
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}))
		o := options(t, srv.URL)
		var err error
		if c.kind != "" {
			_, err = NewMail(o).Notify(t.Context(), notify.Target{Channel: notify.Email, Address: "ann@example.com"}, notifytest.Message(model.DeliverOpen))
		} else {
			_, err = NewTopic(o).Notify(t.Context(), notify.Target{Channel: notify.SNS, Fields: map[string]string{"snsTopicArn": topicARN}}, notifytest.Message(model.DeliverOpen))
		}
		if err == nil || errors.Is(err, notify.ErrPermanent) != c.permanent {
			t.Errorf("%s: %v", name, err)
		}
		srv.Close()
	}
	if _, err := NewTopic(options(t, "")).Notify(t.Context(), notify.Target{Channel: notify.SNS, Fields: map[string]string{"snsTopicArn": "alerts"}}, notifytest.Message(model.DeliverOpen)); !errors.Is(err, notify.ErrPermanent) {
		t.Errorf("no ARN: %v", err)
	}
}

func TestSubjectsAreWhatSNSTakes(t *testing.T) {
	for in, want := range map[string]string{"OPEN: x": "OPEN: x", "日本: x": ": x", "": "Alert", "a\nb": "a?b", strings.Repeat("x", 200): strings.Repeat("x", 100)} {
		if got := subject(in); got != want {
			t.Errorf("%q becomes %q", in, got)
		}
	}
}
