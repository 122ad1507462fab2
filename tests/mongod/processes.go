package mongod

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim"
)

// processes runs members as processes of a mongod binary. Each has loopback addresses of its own, which are its names.
type processes struct {
	d      *Deployment
	binary string
	dir    string
	base   int
	run    []*process
}

type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (p *processes) names(i int) []string {
	return []string{fmt.Sprintf("127.77.%d.%d", p.base, i+1), fmt.Sprintf("127.78.%d.%d", p.base, i+1)}
}

// choose takes addresses that no deployment of another test has.
func (p *processes) choose() error {
	for range 20 {
		n, err := rand.Int(rand.Reader, big.NewInt(230))
		if err != nil {
			return err
		}
		p.base = 20 + int(n.Int64())
		var all []string
		for i := range p.d.o.Members {
			all = append(all, p.names(i)...)
		}
		if freeAddresses(all...) {
			return nil
		}
	}
	return errors.New("no free addresses for members")
}

func (p *processes) prepare(context.Context) error {
	p.run = make([]*process, len(p.d.o.Members))
	if err := p.choose(); err != nil {
		return err
	}
	if p.d.o.Slow {
		return fmt.Errorf("%w: relays for processes", errUnsupported)
	}
	if p.d.o.Auth {
		key := make([]byte, 96)
		if _, err := rand.Read(key); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(p.dir, "key"), []byte(base64.StdEncoding.EncodeToString(key)), 0o600); err != nil {
			return err
		}
	}
	if !p.d.o.TLS {
		return nil
	}
	var hosts []string
	for i := range p.d.o.Members {
		hosts = append(hosts, p.names(i)...)
	}
	var err error
	p.d.certs, err = mongosim.NewCertificates(p.dir, hosts...)
	return err
}

func (p *processes) launch(_ context.Context, i int) error {
	data := filepath.Join(p.dir, "db"+strconv.Itoa(i))
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	names := p.names(i)
	args := []string{"--dbpath", data, "--port", port, "--bind_ip", names[0] + "," + names[1], "--logpath", filepath.Join(data, "log"), "--logappend", "--nounixsocket"}
	args = append(args, serverArgs(p.d.o, filepath.Join(p.dir, "key"), p.d.certs)...)
	cmd := exec.Command(p.binary, args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	p.run[i] = watch(cmd)
	return nil
}

// watch waits for the end of a process that was started.
func watch(cmd *exec.Cmd) *process {
	r := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(r.done)
	}()
	return r
}

// serverArgs are a mongod's arguments that follow from the options. Several members share a machine with the tests: each gets the
// smallest cache there is, and an oplog that does not grow with the disk.
func serverArgs(o Options, keyFile string, certs *mongosim.Certificates) []string {
	args := []string{"--wiredTigerCacheSizeGB", "0.25"}
	if !o.Standalone {
		args = append(args, "--replSet", setName, "--oplogSize", strconv.Itoa(o.oplogMB()))
	}
	switch {
	case o.Auth && o.Standalone:
		args = append(args, "--auth")
	case o.Auth:
		args = append(args, "--keyFile", keyFile)
	}
	if o.TLS {
		args = append(args, "--tlsMode", "requireTLS", "--tlsCertificateKeyFile", certs.ServerFile, "--tlsCAFile", certs.CAFile, "--tlsAllowConnectionsWithoutCertificates")
	}
	return args
}

func (p *processes) signal(i int, s syscall.Signal, wait bool) error {
	if p.run[i] == nil {
		return nil
	}
	return p.run[i].signal(s, wait)
}

func (r *process) signal(s syscall.Signal, wait bool) error {
	if err := r.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if wait {
		select {
		case <-r.done:
		case <-time.After(30 * time.Second):
			return errors.New("the process does not end")
		}
	}
	return nil
}

func (p *processes) stop(_ context.Context, i int) error { return p.signal(i, syscall.SIGTERM, true) }

func (p *processes) kill(_ context.Context, i int) error { return p.signal(i, syscall.SIGKILL, true) }

func (p *processes) pause(_ context.Context, i int, on bool) error {
	if on {
		return p.signal(i, syscall.SIGSTOP, false)
	}
	return p.signal(i, syscall.SIGCONT, false)
}

func (p *processes) cut(context.Context, int, Side, bool) error {
	return fmt.Errorf("%w: processes of one machine are not cut off each other; set HEARTWOOD_TEST_MONGO_IMAGE", errUnsupported)
}

// initiate makes the set, and the first user while the server lets anybody on its own machine do so.
func (p *processes) initiate(ctx context.Context, d *Deployment, cfg bson.D) error {
	c := d.client(d.uri(false, d.Name(0)), false)
	if cfg != nil {
		if err := c.Database("admin").RunCommand(ctx, bson.D{{Key: "replSetInitiate", Value: cfg}}).Err(); err != nil {
			return err
		}
	}
	if !d.o.Auth {
		return nil
	}
	primary := d.WaitPrimary()
	c = d.client(d.uri(false, d.Name(primary)), false)
	return c.Database("admin").RunCommand(ctx, createUser()).Err()
}

func createUser() bson.D {
	return bson.D{{Key: "createUser", Value: username}, {Key: "pwd", Value: password}, {Key: "roles", Value: bson.A{"root"}}}
}

func (p *processes) log(_ context.Context, i int) string {
	b, err := os.ReadFile(filepath.Join(p.dir, "db"+strconv.Itoa(i), "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8<<10):])
}

func (p *processes) close(context.Context) error {
	var errs []error
	for i, r := range p.run {
		if r != nil {
			_ = p.signal(i, syscall.SIGCONT, false)
			errs = append(errs, p.signal(i, syscall.SIGKILL, true))
		}
	}
	return errors.Join(errs...)
}
