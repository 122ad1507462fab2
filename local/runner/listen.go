package runner

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
	"github.com/heartwood-db/heartwood/shared/pemfile"
)

// Bounds of our HTTP servers. Writes may take long: archives and slow readers behind a balancer.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = 2 * time.Minute
	idleTimeout   = 4 * time.Minute // longer than the 180 s that a load balancer in front should use
	maxHeader     = 64 << 10
	drainBudget   = 20 * time.Second
)

// listen opens a TCP listener; a port in use is named with its remedy.
func listen(ctx context.Context, what, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, opererr.New("listen for "+what, fmt.Errorf("%s is in use by another program", address),
			"choose another port with --listen or --port-base, or stop the other program (find it: ss -ltnp sport = :"+portOf(address)+")")
	}
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, opererr.New("listen for "+what, fmt.Errorf("%s is no address of this machine", address), "give one with --listen; 0.0.0.0 and [::] stand for all (list them: ip addr)")
	case errors.Is(err, syscall.EACCES):
		return nil, opererr.New("listen for "+what, fmt.Errorf("this user may not listen on %s", address),
			"choose a port above 1023 with --listen, or allow low ones: setcap cap_net_bind_service=+ep on the program, AmbientCapabilities=CAP_NET_BIND_SERVICE in its unit")
	case err != nil:
		return nil, opererr.New("listen for "+what+" on "+address, err, "choose another address with --listen")
	}
	return l, nil
}

func portOf(address string) string {
	_, p, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return p
}

// serve runs an HTTP server on l until it is stopped through the stack. While the server drains, each connection ends with its
// next answer: balancers and agents open the next one elsewhere.
func (s *Server) serve(what string, l net.Listener, h http.Handler, tlsConf *tls.Config) {
	last := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
	srv := &http.Server{
		Handler: last, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return s.ctx },
	}
	if tlsConf != nil {
		l = tls.NewListener(l, tlsConf)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.fail(fmt.Errorf("serve %s on %s: %w", what, l.Addr(), err))
		}
	}()
	s.stack.push(what, drainBudget, func(ctx context.Context) error {
		err := srv.Shutdown(ctx)
		if err != nil { // connections that would not end in time are cut
			err = errors.Join(err, srv.Close())
		}
		<-done
		return err
	})
	s.log.Info("listening", obs.KeyComponent, what, obs.KeyAddr, l.Addr().String())
}

// drain lets load balancers see that this server is about to go, and serves what they send until they have.
func (s *Server) drain(ctx context.Context) {
	if s.drainFor <= 0 || s.draining.Swap(true) {
		return
	}
	s.log.Info("draining: the health check fails, requests are still served", obs.KeyTook, s.drainFor)
	t := time.NewTimer(s.drainFor)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// serverTLS builds the listeners' TLS settings; nil when the server speaks HTTP. Agents listeners ask for client certificates
// in the modes agents_only and required, the others only in required.
func serverTLS(c *config.Server, agents bool) (*tls.Config, error) {
	if c.HTTPSPEMKeyFile == "" {
		return nil, nil
	}
	cert, err := pemfile.KeyPair(c.HTTPSPEMKeyFile, c.HTTPSPEMKeyPass)
	if err != nil {
		hint := "name a file this user may read that holds the certificate chain and its private key, both PEM"
		if errors.Is(err, pemfile.ErrNoPassword) || errors.Is(err, pemfile.ErrWrongPassword) {
			hint = "set mms.https.PEMKeyFilePassword (or HEARTWOOD_MMS_HTTPS_PEMKEYFILEPASSWORD_FILE) to the key's password"
		}
		return nil, opererr.New("read mms.https.PEMKeyFile", err, hint)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	if c.HTTPSClientCert == config.CertRequired || c.HTTPSClientCert == config.CertAgentsOnly && agents {
		if conf.ClientCAs, err = pemfile.Authorities(c.HTTPSCAFile); err != nil {
			return nil, opererr.New("read mms.https.CAFile", err, "name a PEM file with the certificates of the authorities that signed the clients' certificates")
		}
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf, nil
}

// besidePort is address with its port replaced.
func besidePort(address string, port int) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = ""
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}
