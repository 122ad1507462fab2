package runner

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/heartwood-db/heartwood/shared/config"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
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
	if err != nil {
		return nil, fmt.Errorf("listen for %s on %s: %w", what, address, err)
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

// serve runs an HTTP server on l until it is stopped through the stack.
func (s *Server) serve(what string, l net.Listener, h http.Handler, tlsConf *tls.Config) {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
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

// serverTLS builds the listeners' TLS settings; nil when the server speaks HTTP. Agents listeners ask for client certificates
// in the modes agents_only and required, the others only in required.
func serverTLS(c *config.Server, agents bool) (*tls.Config, error) {
	if c.HTTPSPEMKeyFile == "" {
		return nil, nil
	}
	cert, err := loadPEMKeyFile(c.HTTPSPEMKeyFile)
	if err != nil {
		return nil, opererr.New("read mms.https.PEMKeyFile", err, "the file must hold the certificate chain and the unencrypted private key, both PEM")
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	if c.HTTPSClientCert == "required" || c.HTTPSClientCert == "agents_only" && agents {
		pool := x509.NewCertPool()
		b, err := os.ReadFile(c.HTTPSCAFile)
		if err != nil {
			return nil, fmt.Errorf("read mms.https.CAFile: %w", err)
		}
		if !pool.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("mms.https.CAFile %s holds no certificate", c.HTTPSCAFile)
		}
		conf.ClientCAs, conf.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	return conf, nil
}

// loadPEMKeyFile reads a file with certificates and a private key in any order.
func loadPEMKeyFile(name string) (tls.Certificate, error) {
	b, err := os.ReadFile(name) //nolint:gosec // the operator names the file
	if err != nil {
		return tls.Certificate{}, err
	}
	var certs, key []byte
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			certs = append(certs, pem.EncodeToMemory(block)...)
		} else {
			key = append(key, pem.EncodeToMemory(block)...)
		}
	}
	return tls.X509KeyPair(certs, key)
}

// besidePort is address with its port replaced.
func besidePort(address string, port int) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = ""
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}
