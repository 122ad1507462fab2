// Package talk is what a sandboxed function and the server around it tell each other beyond HTTP and documents: the names of the
// capabilities, and the messages of each. All are BSON; both sides are of one build.
//
// Secrets travel as plain text, from the host to the guest and back, within one process.
package talk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/notify"
	"github.com/heartwood-db/heartwood/shared/obs"
)

// The capabilities, beside those of package guesthttp.
const (
	CapDuties    = "duties"    // Duties -> nothing: the guest tells its periodic duties when it starts
	CapSend      = "send"      // Letter -> Sent
	CapHash      = "hash"      // Password -> Hashed
	CapCheck     = "check"     // Password -> Checked
	CapProbe     = "probe"     // Door -> Finding
	CapHeartbeat = "heartbeat" // nothing -> Sent: the call of the one configured address
	CapBackupDB  = "backupdb"  // nothing -> nothing, or the error
	CapBlocks    = "blocks"    // hostblock's messages, both ways
	CapUpgrading = "upgrading" // nothing -> one byte, 0 or 1
)

// Config is what a guest is built from.
type Config struct {
	Server    config.Server // without what only the host needs
	Key       []byte        // gen.key
	Build     obs.BuildInfo
	Hostname  string
	Instance  string // names the process
	URL       string // of the site as seen from this machine
	AgentPort string
	Embedded  string // the embedded database's file; empty when the store is a replica set
	PassToken string
	Channels  []string  // of notifications that are configured
	CertEnd   time.Time // of the certificate the site shows; zero: none
	Releases  []byte    // the file that replaces the embedded table; empty: none
	Heartbeat bool      // an address is configured
	Blocks    bool      // the host opens block stores
	BackupDB  bool      // the backup database is another one
	Started   time.Time
}

// ForGuests is a copy of settings without the secrets that only the host uses: guests dial nobody.
func ForGuests(c *config.Server) config.Server {
	g := *c
	g.MongoURI, g.BackupMongoURI, g.MongoPEMKeyPass, g.HTTPSPEMKeyPass = "", "", "", ""
	g.GenKey, g.AlertsHeartbeat, g.MailPass, g.AWSSecretKey, g.TwilioToken = "", "", "", "", ""
	return g
}

// Duties are a guest's periodic duties.
type Duties struct{ List []Duty }

// Duty is one: whoever ticks it posts to its path.
type Duty struct {
	Name  string
	Every time.Duration
	Path  string
}

// Letter is a message to somebody.
type Letter struct {
	To      notify.Target
	Message notify.Message
}

// Sent says what became of a message or a call.
type Sent struct {
	Text, ID  string
	Failed    bool
	Permanent bool
	After     time.Duration
	Cause     int // of causes, from 1; 0: none
}

// causes are the errors that survive the way; their places are their numbers.
func causes() []error {
	return []error{context.Canceled, context.DeadlineExceeded, notify.ErrNotConfigured}
}

// NewSent turns a result into a message.
func NewSent(r notify.Result, err error) Sent {
	if err == nil {
		return Sent{Text: r.Text, ID: r.ID}
	}
	s := Sent{Text: err.Error(), Failed: true, Permanent: errors.Is(err, notify.ErrPermanent), After: notify.RetryAfter(err)}
	for i, cause := range causes() {
		if errors.Is(err, cause) {
			s.Cause = i + 1
		}
	}
	return s
}

// Result turns a message back into the result it was.
func (s Sent) Result() (notify.Result, error) {
	if !s.Failed {
		return notify.Result{Text: s.Text, ID: s.ID}, nil
	}
	failure := &notify.Failure{Text: s.Text, Permanent: s.Permanent, After: s.After}
	if s.Cause > 0 && s.Cause <= len(causes()) {
		return notify.Result{}, &caused{failure, causes()[s.Cause-1]}
	}
	return notify.Result{}, failure
}

// caused is a failure that was one of causes, too.
type caused struct {
	*notify.Failure
	cause error
}

// Unwrap yields both.
func (c *caused) Unwrap() []error { return []error{c.Failure, c.cause} }

// Password is what is to be hashed, or checked against a hash.
type Password struct{ Hash, Password string }

// Hashed is the answer of CapHash.
type Hashed struct{ Hash string }

// Checked is the answer of CapCheck.
type Checked struct{ OK, Rehash bool }

// Door is what is to be probed.
type Door struct {
	Host string
	Port int
}

// Finding is what a probe came to.
type Finding struct {
	Exposed, Known bool
	Reason         string
}

// Encode makes a message's bytes.
func Encode(message any) ([]byte, error) {
	b, err := bson.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("message to the other side: %w", err)
	}
	return b, nil
}

// Decode reads a message. Times are UTC.
func Decode[T any](b []byte) (T, error) {
	var message T
	if err := bson.Unmarshal(b, &message); err != nil {
		return message, fmt.Errorf("message of the other side: %w", err)
	}
	return message, nil
}

// Mismatch says why a guest must not run under a host, or "": each was built from another revision.
func Mismatch(host, guest obs.BuildInfo) string {
	if host.Revision == guest.Revision || unknown(host.Revision) || unknown(guest.Revision) {
		return ""
	}
	return fmt.Sprintf("the guest was built from %.12s, the server from %.12s", guest.Revision, host.Revision)
}

func unknown(revision string) bool {
	for _, r := range revision {
		if r != '0' {
			return false
		}
	}
	return true
}

// Secret is a token of the configuration.
func (c *Config) Secret() model.Secret { return model.Secret(c.PassToken) }
