package mongod

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	mobynet "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim"
	"github.com/heartwood-db/heartwood/tests/mongod/resolve"
)

// containers runs members in containers of a MongoDB image or of the simulator.
type containers struct {
	d         *Deployment
	id        string
	image     string
	simulated bool
	docker    *testcontainers.DockerClient
	nets      map[Side]*subnet
	link      string // the simulator's: between the core and the members, never cut
	core      testcontainers.Container
	members   []testcontainers.Container
	keyFile   []byte
}

// subnet is a network of a deployment; member i has the same address in it all the time.
type subnet struct {
	id     string
	prefix netip.Prefix
}

func (s *subnet) address(i int) netip.Addr {
	a := s.prefix.Addr().As4()
	a[3] += byte(10 + i)
	return netip.AddrFrom4(a)
}

const (
	coreName = "core"
	certDir  = "/data/configdb" // the official image gives this folder to the server's user
)

func (c *containers) names(i int) []string {
	if c.d.o.Local {
		return []string{c.nets[Clients].address(i).String()}
	}
	return []string{fmt.Sprintf("db%d.%s.test", i+1, c.id), fmt.Sprintf("db%d-new.%s.test", i+1, c.id)}
}

func (c *containers) prepare(ctx context.Context) error {
	var err error
	if c.docker, err = testcontainers.NewDockerClientWithOpts(ctx); err != nil {
		return err
	}
	c.members = make([]testcontainers.Container, len(c.d.o.Members))
	c.nets = map[Side]*subnet{}
	for _, side := range []Side{Peers, Clients} {
		if c.nets[side], err = c.network(ctx, string(side)); err != nil {
			return err
		}
	}
	if c.d.o.TLS {
		var hosts []string
		for i := range c.members {
			hosts = append(hosts, c.names(i)...)
		}
		if c.d.certs, err = mongosim.NewCertificates(c.d.t.TempDir(), hosts...); err != nil {
			return err
		}
	}
	if c.d.o.Auth {
		key := make([]byte, 96)
		for i := range key {
			key[i] = byte(rand.Uint32()) //nolint:gosec // a test's
		}
		c.keyFile = []byte(base64.StdEncoding.EncodeToString(key))
	}
	for i := range c.members {
		if err := c.resolve(i); err != nil {
			return err
		}
	}
	if !c.simulated {
		return nil
	}
	s, err := c.network(ctx, "link")
	if err != nil {
		return err
	}
	c.link = s.id
	return c.startCore(ctx)
}

// resolve makes the names of member i stand for its address, or for its relay's.
func (c *containers) resolve(i int) error {
	if c.d.o.Local {
		if c.d.o.Slow {
			return fmt.Errorf("%w: relays have names", errUnsupported)
		}
		return nil
	}
	ip := net.IP(c.nets[Clients].address(i).AsSlice())
	if c.d.o.Slow {
		near := net.IPv4(127, 79, byte(rand.N(250)+1), byte(rand.N(250)+1)) //nolint:gosec // any will do
		r, err := newRelay(net.JoinHostPort(near.String(), port), net.JoinHostPort(ip.String(), port))
		if err != nil {
			return err
		}
		c.d.relays = append(c.d.relays, r)
		ip = near
	}
	for _, n := range c.names(i) {
		resolve.Name(n, ip)
	}
	return nil
}

// network makes a network with a subnet that nobody else has.
func (c *containers) network(ctx context.Context, role string) (*subnet, error) {
	var last error
	for range 20 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(200 + rand.N(50)), byte(rand.N(256)), 0}), 24) //nolint:gosec // any will do
		labels := labels()
		labels[labelRole] = role
		n, err := c.docker.NetworkCreate(ctx, "heartwood-test-"+c.id+"-"+role, client.NetworkCreateOptions{
			Driver: "bridge", Labels: labels, IPAM: &mobynet.IPAM{Config: []mobynet.IPAMConfig{{Subnet: p}}},
		})
		if err == nil {
			return &subnet{id: n.ID, prefix: p}, nil
		}
		last = err
	}
	return nil, fmt.Errorf("make a network: %w", last)
}

// quiet drops what testcontainers says of each step.
type quiet struct{}

// Printf drops a line.
func (quiet) Printf(string, ...any) {}

var _ tclog.Logger = quiet{}

// create makes a container without starting it.
func (c *containers) create(ctx context.Context, r testcontainers.ContainerRequest) (testcontainers.Container, error) {
	r.Image, r.Labels = c.image, labels()
	host := r.HostConfigModifier
	r.HostConfigModifier = func(h *container.HostConfig) {
		if c.simulated {
			h.ReadonlyRootfs, h.CapDrop = true, []string{"ALL"}
		}
		if host != nil {
			host(h)
		}
	}
	return testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{ContainerRequest: r, Logger: quiet{}})
}

func (c *containers) connect(ctx context.Context, ctr testcontainers.Container, network string, e *mobynet.EndpointSettings) error {
	_, err := c.docker.NetworkConnect(ctx, network, client.NetworkConnectOptions{Container: ctr.GetContainerID(), EndpointConfig: e})
	return err
}

// startCore starts what holds the data of simulated members.
func (c *containers) startCore(ctx context.Context) error {
	r := testcontainers.ContainerRequest{Cmd: []string{"mongosim", "core", "--set", setName, "--no-workload", "--load", "0.2"}}
	if c.d.o.Standalone {
		r.Cmd = append(r.Cmd, "--standalone")
	}
	for i, m := range c.d.o.Members {
		flag := "--member"
		if m.Arbiter {
			flag = "--arbiter"
		} else if i > 0 && c.d.o.Members[i-1].Arbiter {
			return errors.New("arbiters come last in Options.Members")
		}
		names := c.names(i)
		for k := range names {
			names[k] = addressed(names[k])
		}
		r.Cmd = append(r.Cmd, flag, strings.Join(names, ","))
	}
	if c.d.o.Auth {
		r.Cmd = append(r.Cmd, "--user", username, "--password", password)
	}
	if c.d.o.TLS {
		// Nothing can be copied into a container whose root is read-only.
		if err := os.Chmod(c.d.certs.ServerFile, 0o644); err != nil { //nolint:gosec // a test's, read by another user
			return err
		}
		r.Cmd = append(r.Cmd, "--tls-file", "/certs/server.pem", "--tls-ca-file", "/certs/ca.pem")
		r.HostConfigModifier = func(h *container.HostConfig) {
			h.Binds = append(h.Binds, filepath.Dir(c.d.certs.ServerFile)+":/certs:ro")
		}
	}
	var err error
	r.Networks = []string{"heartwood-test-" + c.id + "-link"}
	r.NetworkAliases = map[string][]string{r.Networks[0]: {coreName}}
	if c.core, err = c.create(ctx, r); err != nil {
		return err
	}
	if err := c.connect(ctx, c.core, c.nets[Peers].id, &mobynet.EndpointSettings{Aliases: []string{coreName + "-peers"}}); err != nil {
		return err
	}
	return c.core.Start(ctx)
}

// files are the certificates for a container.
func (c *containers) files(dir string) ([]testcontainers.ContainerFile, error) {
	var out []testcontainers.ContainerFile
	for _, f := range []string{c.d.certs.ServerFile, c.d.certs.CAFile} {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		out = append(out, testcontainers.ContainerFile{Reader: bytes.NewReader(b), ContainerFilePath: dir + "/" + filepath.Base(f), FileMode: 0o444})
	}
	return out, nil
}

// launch starts member i, for the first time or again.
func (c *containers) launch(ctx context.Context, i int) error {
	if c.members[i] != nil {
		return c.members[i].Start(ctx)
	}
	clients := "heartwood-test-" + c.id + "-clients"
	r := testcontainers.ContainerRequest{
		Networks: []string{clients},
		EndpointSettingsModifier: func(m map[string]*mobynet.EndpointSettings) {
			if m[clients] == nil {
				m[clients] = &mobynet.EndpointSettings{}
			}
			m[clients].IPAMConfig = &mobynet.EndpointIPAMConfig{IPv4Address: c.nets[Clients].address(i)}
		},
	}
	if c.simulated {
		r.Cmd = []string{"mongosim", "member", "--core", coreName, "--peers", coreName + "-peers", "--number", strconv.Itoa(i)}
	} else if err := c.serverRequest(&r); err != nil {
		return err
	}
	ctr, err := c.create(ctx, r)
	if ctr != nil {
		c.members[i] = ctr
	}
	if err != nil {
		return err
	}
	if c.simulated {
		if err := c.connect(ctx, ctr, c.link, &mobynet.EndpointSettings{}); err != nil {
			return err
		}
	}
	if err := c.cut(ctx, i, Peers, false); err != nil {
		return err
	}
	return ctr.Start(ctx)
}

// serverRequest is a container of a MongoDB image.
func (c *containers) serverRequest(r *testcontainers.ContainerRequest) error {
	certs := c.d.certs
	if certs != nil {
		files, err := c.files(certDir)
		if err != nil {
			return err
		}
		r.Files = files
		certs = &mongosim.Certificates{ServerFile: certDir + "/server.pem", CAFile: certDir + "/ca.pem"}
	}
	if c.d.o.Auth && !c.d.o.Standalone {
		r.Files = append(r.Files, testcontainers.ContainerFile{Reader: bytes.NewReader(c.keyFile), ContainerFilePath: certDir + "/key", FileMode: 0o400})
	}
	r.Cmd = append([]string{"mongod", "--bind_ip_all", "--port", port}, serverArgs(c.d.o, certDir+"/key", certs)...)
	return nil
}

func (c *containers) stop(ctx context.Context, i int) error {
	limit := 30 * time.Second
	return c.members[i].Stop(ctx, &limit)
}

func (c *containers) kill(ctx context.Context, i int) error {
	id := c.members[i].GetContainerID()
	if _, err := c.docker.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		return err
	}
	for { // it can be started again only when the engine has noticed
		s, err := c.members[i].State(ctx)
		if err != nil || !s.Running {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *containers) pause(ctx context.Context, i int, on bool) error {
	id := c.members[i].GetContainerID()
	if on {
		_, err := c.docker.ContainerPause(ctx, id, client.ContainerPauseOptions{})
		return err
	}
	_, err := c.docker.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{})
	return err
}

// cut takes member i off a network or puts it back, with the address it had: connections of before go on.
func (c *containers) cut(ctx context.Context, i int, from Side, off bool) error {
	n := c.nets[from]
	id := c.members[i].GetContainerID()
	if off {
		_, err := c.docker.NetworkDisconnect(ctx, n.id, client.NetworkDisconnectOptions{Container: id, Force: true})
		return err
	}
	e := &mobynet.EndpointSettings{IPAMConfig: &mobynet.EndpointIPAMConfig{IPv4Address: n.address(i)}}
	if from == Peers {
		if !c.d.o.Local {
			e.Aliases = c.names(i)
		}
	}
	return c.connect(ctx, c.members[i], n.id, e)
}

// initiate makes the set through the driver. A real server with access control lets only its own machine do so, and make the
// first user: there its shell does both.
func (c *containers) initiate(ctx context.Context, d *Deployment, cfg bson.D) error {
	if c.simulated || !d.o.Auth {
		if cfg == nil {
			return nil
		}
		return d.Direct(0).Database("admin").RunCommand(ctx, bson.D{{Key: "replSetInitiate", Value: cfg}}).Err()
	}
	if cfg != nil {
		doc, err := bson.MarshalExtJSON(cfg, false, false)
		if err != nil {
			return err
		}
		if err := c.shell(ctx, 0, "rs.initiate("+string(doc)+")"); err != nil {
			return err
		}
	}
	user, err := bson.MarshalExtJSON(createUser(), false, false)
	if err != nil {
		return err
	}
	return c.shell(ctx, d.WaitPrimary(), "db.getSiblingDB('admin').runCommand("+string(user)+")")
}

func (c *containers) shell(ctx context.Context, i int, script string) error {
	args := []string{"mongosh", "--quiet", "--eval", script}
	if c.d.o.TLS {
		args = append(args, "--tls", "--tlsAllowInvalidHostnames", "--tlsCAFile", certDir+"/ca.pem")
	}
	code, out, err := c.members[i].Exec(ctx, args)
	if err == nil && code != 0 {
		b, _ := io.ReadAll(out)
		err = fmt.Errorf("mongosh: exit code %d: %s", code, b)
	}
	return err
}

func (c *containers) log(ctx context.Context, i int) string {
	var b strings.Builder
	for _, ctr := range []testcontainers.Container{c.members[i], c.core} {
		if ctr == nil || ctr == c.core && i > 0 {
			continue
		}
		r, err := ctr.Logs(ctx)
		if err != nil {
			return err.Error()
		}
		text, err := io.ReadAll(r)
		_ = r.Close()
		if err != nil {
			return err.Error()
		}
		b.Write(text[max(0, len(text)-8<<10):])
	}
	return b.String()
}

func (c *containers) close(ctx context.Context) error {
	var errs []error
	for _, ctr := range append(append([]testcontainers.Container{}, c.members...), c.core) {
		if ctr == nil {
			continue
		}
		_, err := c.docker.ContainerRemove(ctx, ctr.GetContainerID(), client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		errs = append(errs, err)
	}
	ids := []string{c.link}
	for n := range maps.Values(c.nets) {
		ids = append(ids, n.id)
	}
	for _, id := range ids {
		if id != "" {
			_, err := c.docker.NetworkRemove(ctx, id, client.NetworkRemoveOptions{})
			errs = append(errs, err)
		}
	}
	if !c.d.o.Local {
		for i := range c.members {
			for _, n := range c.names(i) {
				resolve.Name(n, nil)
			}
		}
	}
	return errors.Join(append(errs, c.docker.Close())...)
}
