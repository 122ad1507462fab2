// Package mongod starts the deployments that tests of whole programs watch and store in: a standalone, or replica sets with
// arbiters, hidden and delayed members, with authentication and TLS. What they run on is the machine's choice:
//
//   - HEARTWOOD_TEST_MONGOD=/path/to/mongod: that binary, as processes on loopback addresses of their own.
//   - HEARTWOOD_TEST_MONGO_IMAGE=mongo:8.0: containers of that image.
//   - neither: containers of the simulator, in the image of infra/docker built from this tree. Each member is a process in a
//     container of its own, at its own place on the network, and what happens to that container happens to the member; the
//     members' data and elections are kept by one more container, the core (see local/mongosim/apart). It is a test double,
//     not MongoDB. With Options.Local all members are one process of it, without containers.
//
// Containers stand on two networks. On that of the set the members call each other by name; on that of the clients they have
// the addresses at which tests reach them. So a member can be cut off from the others while clients reach it, from clients
// while the others do, or from both. Names are resolved for the whole test process (net.DefaultResolver), which the driver's
// dialer and everything else that runs in it uses: servers and agents under test are started in the process. With Options.Local
// members are called by their addresses, for tests whose servers and agents are processes of their own.
//
// Helpers fail the test by themselves. What a test was run on is printed.
package mongod

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/heartwood-db/heartwood/local/mongosim"
)

// What members listen on, and how the first user is called.
const (
	port     = "27017"
	setName  = "rs0"
	username = "root"
	password = "s3cret"
)

// MemberOptions describe a member.
type MemberOptions struct {
	Arbiter bool
	Hidden  bool
	Delay   time.Duration
	Spare   bool // runs, but is not in the set's first configuration
}

// Options describe a deployment.
type Options struct {
	Members    []MemberOptions // default: three that may become primary
	Standalone bool
	Auth       bool // with access control, and a user of role root
	TLS        bool
	Slow       bool // members are reached through relays, which Slow can delay
	// Local lets other processes than the test's own reach the members: they are called by addresses, not by names that only this
	// process resolves. Where nothing else is set, one process of the simulator is all members then.
	Local   bool
	OplogMB int // size of each member's oplog; 0: 256 MB. The simulator's is 64 MB
}

func (o *Options) oplogMB() int {
	if o.OplogMB > 0 {
		return o.OplogMB
	}
	return 256
}

// Deployment is a running deployment. A member is named by its number in Options.Members.
type Deployment struct {
	t       testing.TB
	o       Options
	on      string
	real    bool
	version string
	engine  engine
	certs   *mongosim.Certificates
	relays  []*relay
	current []string // what each member is called

	mu      sync.Mutex
	clients map[string]*mongo.Client
}

// engine is what members run on.
type engine interface {
	prepare(ctx context.Context) error // makes what comes before members
	names(i int) []string              // host names of member i; more than one where it can be renamed
	launch(ctx context.Context, i int) error
	stop(ctx context.Context, i int) error
	kill(ctx context.Context, i int) error
	pause(ctx context.Context, i int, on bool) error
	cut(ctx context.Context, i int, from Side, off bool) error
	initiate(ctx context.Context, d *Deployment, cfg bson.D) error
	log(ctx context.Context, i int) string
	close(ctx context.Context) error
}

// Side is one of the networks of a member.
type Side string

// The networks a member can be cut off from.
const (
	Peers   Side = "peers"
	Clients Side = "clients"
)

// errUnsupported is what an engine cannot do.
var errUnsupported = errors.New("what this runs on cannot do that")

// Start starts a deployment and waits until it can be written to. It stops when the test is over.
func Start(t testing.TB, o Options) *Deployment {
	t.Helper()
	if len(o.Members) == 0 || o.Standalone {
		o.Members = make([]MemberOptions, 3)
		if o.Standalone {
			o.Members = o.Members[:1]
		}
	}
	b := make([]byte, 3)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	d := &Deployment{t: t, o: o, clients: map[string]*mongo.Client{}}
	d.choose(hex.EncodeToString(b))
	t.Logf("runs on %s", d.on)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	t.Cleanup(d.stop)
	d.must(d.engine.prepare(ctx))
	for i := range o.Members {
		d.current = append(d.current, d.engine.names(i)[0])
	}
	var wg sync.WaitGroup
	errs := make([]error, len(o.Members))
	for i := range o.Members {
		wg.Go(func() { errs[i] = d.engine.launch(ctx, i) })
	}
	wg.Wait()
	d.must(errors.Join(errs...))
	for i := range o.Members {
		d.waitUp(ctx, i)
	}
	var build struct{ Version string }
	d.must(d.client(d.uri(false, d.Name(0)), false).Database("admin").RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Decode(&build))
	d.version = build.Version
	d.must(d.engine.initiate(ctx, d, d.firstConfig()))
	d.WaitPrimary()
	if !o.Standalone {
		d.waitMembers()
	}
	return d
}

// On says what the deployment runs on.
func (d *Deployment) On() string { return d.on }

// Real reports whether members are real servers; else the simulator stands in for them.
func (d *Deployment) Real() bool { return d.real }

// Version is the members' version, as 7.0.14.
func (d *Deployment) Version() string { return d.version }

func (d *Deployment) must(err error) {
	d.t.Helper()
	if errors.Is(err, errUnsupported) {
		d.t.Skipf("%s: %v", d.on, err)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *Deployment) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.clients {
		short, cancel := context.WithTimeout(ctx, time.Second)
		_ = c.Disconnect(short)
		cancel()
	}
	for _, r := range d.relays {
		r.close()
	}
	if d.t.Failed() {
		for i := range d.o.Members {
			d.t.Logf("%s said:\n%s", d.current[i], d.engine.log(ctx, i))
		}
	}
	if err := d.engine.close(ctx); err != nil {
		d.t.Error(err)
	}
}

// choose takes what members run on.
func (d *Deployment) choose(id string) {
	if binary := os.Getenv("HEARTWOOD_TEST_MONGOD"); binary != "" {
		d.on, d.real = "processes of "+binary, true
		d.engine = &processes{d: d, binary: binary, dir: d.t.TempDir()}
		return
	}
	image := os.Getenv("HEARTWOOD_TEST_MONGO_IMAGE")
	if d.o.Local && image == "" {
		d.on = "the simulator, as one process"
		d.engine = &simulator{d: d, dir: d.t.TempDir()}
		return
	}
	needDocker(d.t)
	c := &containers{d: d, id: id, image: image}
	d.on, d.real = "containers of "+c.image, image != ""
	if c.image == "" {
		c.image, c.simulated = Image(d.t), true
		d.on = "containers of the simulator"
	}
	d.engine = c
}

// firstConfig is what the set is initiated with; nil for a standalone.
func (d *Deployment) firstConfig() bson.D {
	if d.o.Standalone {
		return nil
	}
	members := bson.A{}
	for i, m := range d.o.Members {
		if !m.Spare {
			members = append(members, d.memberDoc(i))
		}
	}
	return bson.D{{Key: "_id", Value: setName}, {Key: "version", Value: 1}, {Key: "members", Value: members}, {Key: "settings", Value: bson.D{{Key: "electionTimeoutMillis", Value: 2000}}}}
}

// memberDoc is member i in a configuration.
func (d *Deployment) memberDoc(i int) bson.D {
	m := d.o.Members[i]
	doc := bson.D{{Key: "_id", Value: i}, {Key: "host", Value: d.Name(i)}}
	if m.Arbiter {
		doc = append(doc, bson.E{Key: "arbiterOnly", Value: true})
	}
	if m.Hidden || m.Delay > 0 {
		doc = append(doc, bson.E{Key: "priority", Value: 0}, bson.E{Key: "hidden", Value: true})
	}
	if m.Delay > 0 {
		name := "secondaryDelaySecs"
		if strings.HasPrefix(d.version, "4.") {
			name = "slaveDelay"
		}
		doc = append(doc, bson.E{Key: name, Value: int64(m.Delay / time.Second)})
	}
	return doc
}

// Name is member i's host:port, as the set and its clients call it.
func (d *Deployment) Name(i int) string { return addressed(d.current[i]) }

// Len is the number of members, spare ones included.
func (d *Deployment) Len() int { return len(d.o.Members) }

// URI is a connection string: names of the members that clients are told of, credentials, TLS.
func (d *Deployment) URI() string {
	var hosts []string
	for i, m := range d.o.Members {
		if !m.Arbiter && !m.Hidden && m.Delay == 0 && !m.Spare {
			hosts = append(hosts, d.Name(i))
		}
	}
	return d.uri(!d.o.Standalone, hosts...)
}

func (d *Deployment) uri(set bool, hosts ...string) string {
	u := url.URL{Scheme: "mongodb", Host: strings.Join(hosts, ","), Path: "/"}
	q := url.Values{}
	if d.o.Auth {
		u.User = url.UserPassword(username, password)
	}
	if set {
		q.Set("replicaSet", setName)
	} else {
		q.Set("directConnection", "true")
	}
	if d.o.TLS {
		q.Set("tls", "true")
		q.Set("tlsCAFile", d.certs.CAFile)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// Seeds are the names of all members of the first configuration.
func (d *Deployment) Seeds() []string {
	var out []string
	for i, m := range d.o.Members {
		if !m.Spare {
			out = append(out, d.Name(i))
		}
	}
	return out
}

// Credentials are the first user's; empty without Options.Auth.
func (d *Deployment) Credentials() (user, pass string) {
	if !d.o.Auth {
		return "", ""
	}
	return username, password
}

// CAFile is the file of the authority that signed the members' certificates; empty without Options.TLS.
func (d *Deployment) CAFile() string {
	if d.certs == nil {
		return ""
	}
	return d.certs.CAFile
}

// Client is a client of the whole deployment.
func (d *Deployment) Client() *mongo.Client { return d.client(d.URI(), d.o.Auth) }

// Direct is a client of member i alone. An arbiter knows no users: there it does not sign in.
func (d *Deployment) Direct(i int) *mongo.Client {
	return d.client(d.uri(false, d.Name(i)), d.o.Auth && !d.o.Members[i].Arbiter)
}

func (d *Deployment) client(uri string, auth bool) *mongo.Client {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := fmt.Sprint(uri, auth)
	if c := d.clients[key]; c != nil {
		return c
	}
	o := options.Client().ApplyURI(uri).SetServerSelectionTimeout(3 * time.Second).SetConnectTimeout(2 * time.Second).
		SetHeartbeatInterval(500 * time.Millisecond)
	if !auth {
		o.Auth = nil
	}
	c, err := mongo.Connect(o)
	if err != nil {
		d.t.Fatal(err)
	}
	d.clients[key] = c
	return c
}

// Hello is a member's own account.
type Hello struct {
	IsWritablePrimary bool
	Secondary         bool
	ArbiterOnly       bool
	Hidden            bool
	Primary           string
	Me                string
	Hosts             []string
	SetName           string
}

// Hello asks member i.
func (d *Deployment) Hello(ctx context.Context, i int) (Hello, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var h Hello
	c := d.client(d.uri(false, d.Name(i)), false)
	err := c.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&h)
	return h, err
}

// Admin runs a command on member i's database admin.
func (d *Deployment) Admin(i int, cmd bson.D) bson.Raw {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 20*time.Second)
	defer cancel()
	raw, err := d.Direct(i).Database("admin").RunCommand(ctx, cmd).Raw()
	d.must(err)
	return raw
}

func (d *Deployment) waitUp(ctx context.Context, i int) {
	d.t.Helper()
	d.poll(ctx, d.Name(i)+" answers", func() error {
		_, err := d.Hello(ctx, i)
		return err
	})
}

// poll waits until ok gives no error.
func (d *Deployment) poll(ctx context.Context, what string, ok func() error) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			d.t.Fatalf("%s: never: %v", what, err)
		}
	}
}

// Primary is the member that says it leads and that others follow, -1 for none.
func (d *Deployment) Primary(ctx context.Context) int {
	votes := map[string]int{}
	leads := -1
	for i := range d.o.Members {
		h, err := d.Hello(ctx, i)
		if err != nil {
			continue
		}
		votes[h.Primary]++
		if h.IsWritablePrimary && (leads < 0 || votes[h.Me] > votes[d.Name(leads)]) {
			leads = i
		}
	}
	return leads
}

// WaitPrimary waits for a primary other than some members.
func (d *Deployment) WaitPrimary(other ...int) int {
	d.t.Helper()
	p := -1
	d.poll(d.t.Context(), "an election", func() error {
		p = d.Primary(d.t.Context())
		for _, o := range other {
			if p == o {
				p = -1
			}
		}
		if p < 0 {
			return errors.New("no primary")
		}
		return nil
	})
	return p
}

// waitMembers waits until every member of the configuration is what it is to be.
func (d *Deployment) waitMembers() {
	d.t.Helper()
	for i, m := range d.o.Members {
		if !m.Spare {
			d.WaitMember(i)
		}
	}
}

// WaitMember waits until member i takes part in the set.
func (d *Deployment) WaitMember(i int) {
	d.t.Helper()
	d.poll(d.t.Context(), d.Name(i)+" takes part", func() error {
		h, err := d.Hello(d.t.Context(), i)
		if err == nil && !h.IsWritablePrimary && !h.Secondary && !h.ArbiterOnly {
			err = fmt.Errorf("it says %+v", h)
		}
		return err
	})
}

// StepDown asks the primary to hand over, and waits for another.
func (d *Deployment) StepDown() int {
	d.t.Helper()
	p := d.WaitPrimary()
	ctx, cancel := context.WithTimeout(d.t.Context(), 30*time.Second)
	defer cancel()
	cmd := bson.D{{Key: "replSetStepDown", Value: 20}, {Key: "secondaryCatchUpPeriodSecs", Value: 10}}
	d.must(d.Direct(p).Database("admin").RunCommand(ctx, cmd).Err())
	return d.WaitPrimary(p)
}

// Stop ends member i cleanly.
func (d *Deployment) Stop(i int) {
	d.t.Helper()
	d.do(func(c context.Context) error { return d.engine.stop(c, i) })
}

// Kill ends member i as kill -9 does.
func (d *Deployment) Kill(i int) {
	d.t.Helper()
	d.do(func(c context.Context) error { return d.engine.kill(c, i) })
}

// Pause makes member i hang.
func (d *Deployment) Pause(i int) {
	d.t.Helper()
	d.do(func(c context.Context) error { return d.engine.pause(c, i, true) })
}

// Unpause ends Pause.
func (d *Deployment) Unpause(i int) {
	d.t.Helper()
	d.do(func(c context.Context) error { return d.engine.pause(c, i, false) })
}

// PauseAll makes all members hang: what a network that is down looks like to everybody else.
func (d *Deployment) PauseAll() {
	d.t.Helper()
	for i := range d.o.Members {
		d.Pause(i)
	}
}

// UnpauseAll ends PauseAll.
func (d *Deployment) UnpauseAll() {
	d.t.Helper()
	for i := range d.o.Members {
		d.Unpause(i)
	}
}

// KillAll ends all members as a machine does that loses its power, and RestartAll starts them again.
func (d *Deployment) KillAll() {
	d.t.Helper()
	for i := range d.o.Members {
		d.Kill(i)
	}
}

// RestartAll ends KillAll.
func (d *Deployment) RestartAll() {
	d.t.Helper()
	for i := range d.o.Members {
		d.do(func(c context.Context) error { return d.engine.launch(c, i) })
	}
	for i := range d.o.Members {
		d.waitUp(d.t.Context(), i)
	}
	d.WaitPrimary()
}

// Restart starts member i again and waits until it answers.
func (d *Deployment) Restart(i int) {
	d.t.Helper()
	d.do(func(c context.Context) error { return d.engine.launch(c, i) })
	d.waitUp(d.t.Context(), i)
}

// Cut cuts member i off some networks, both by default.
func (d *Deployment) Cut(i int, from ...Side) { d.t.Helper(); d.network(i, true, from) }

// Heal puts member i back on some networks, both by default.
func (d *Deployment) Heal(i int, from ...Side) { d.t.Helper(); d.network(i, false, from) }

func (d *Deployment) network(i int, off bool, from []Side) {
	d.t.Helper()
	if len(from) == 0 {
		from = []Side{Peers, Clients}
	}
	for _, s := range from {
		d.do(func(c context.Context) error { return d.engine.cut(c, i, s, off) })
	}
}

func (d *Deployment) do(f func(context.Context) error) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.t.Context()), time.Minute)
	defer cancel()
	d.must(f(ctx))
}

// Slow makes everything that member i sends to clients come later; 0 ends it. Options.Slow must be set.
func (d *Deployment) Slow(i int, by time.Duration) {
	d.t.Helper()
	if !d.o.Slow {
		d.t.Fatal("the deployment was started without Options.Slow")
	}
	d.relays[i].delay.Store(int64(by))
}

// Reconfig changes the set's configuration through its primary: change gets the members' documents and gives the new ones.
func (d *Deployment) Reconfig(change func(members []bson.M) []bson.M) {
	d.t.Helper()
	d.poll(d.t.Context(), "a new configuration", func() error {
		p := d.Primary(d.t.Context())
		if p < 0 {
			return errors.New("no primary")
		}
		ctx, cancel := context.WithTimeout(d.t.Context(), 20*time.Second)
		defer cancel()
		admin := d.Direct(p).Database("admin")
		var have struct{ Config bson.M }
		if err := admin.RunCommand(ctx, bson.D{{Key: "replSetGetConfig", Value: 1}}).Decode(&have); err != nil {
			return err
		}
		var members []bson.M
		list, _ := have.Config["members"].(bson.A)
		for _, m := range list {
			if doc, ok := m.(bson.D); ok {
				members = append(members, asMap(doc))
			}
		}
		have.Config["members"] = change(members)
		version, _ := have.Config["version"].(int32)
		have.Config["version"] = version + 1
		delete(have.Config, "term")
		return admin.RunCommand(ctx, bson.D{{Key: "replSetReconfig", Value: have.Config}}).Err()
	})
}

func asMap(doc bson.D) bson.M {
	m := bson.M{}
	for _, e := range doc {
		m[e.Key] = e.Value
	}
	return m
}

// Add adds member i to the set and waits until it takes part.
func (d *Deployment) Add(i int) {
	d.t.Helper()
	d.Reconfig(func(members []bson.M) []bson.M { return append(members, asMap(d.memberDoc(i))) })
	d.WaitMember(i)
}

// Remove takes member i out of the set. It goes on running.
func (d *Deployment) Remove(i int) {
	d.t.Helper()
	name := d.Name(i)
	d.Reconfig(func(members []bson.M) []bson.M {
		var left []bson.M
		for _, m := range members {
			if m["host"] != name {
				left = append(left, m)
			}
		}
		return left
	})
}

// Rename makes member i be called by its other name from now on; it is to be outside the set then.
func (d *Deployment) Rename(i int) {
	d.t.Helper()
	names := d.engine.names(i)
	if len(names) < 2 {
		d.must(errUnsupported)
	}
	if d.current[i] == names[0] {
		d.current[i] = names[1]
	} else {
		d.current[i] = names[0]
	}
}
