package agent

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/heartwood-db/heartwood/daemon/agent/dial"
	"github.com/heartwood-db/heartwood/shared/config"
)

// HTTPClient is what an agent reaches the server with: proxy and TLS as configured, and a limit for each request.
func HTTPClient(cfg *config.Agent, limit time.Duration) (*http.Client, error) {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("the default HTTP transport was replaced")
	}
	t = t.Clone()
	t.MaxIdleConnsPerHost = 8 // slices of several collections, the oplog and reports go side by side
	if cfg.HTTPProxy != "" {
		proxy, err := url.Parse(cfg.HTTPProxy)
		if err != nil {
			return nil, errors.New("httpProxy: not a URL")
		}
		t.Proxy = http.ProxyURL(proxy)
	}
	var err error
	if t.TLSClientConfig, err = dial.TLSConfig(cfg.ServerCAFile, cfg.ServerCertFile, cfg.ServerCertPass, cfg.ServerVerify); err != nil {
		return nil, fmt.Errorf("TLS to the server: %w", err)
	}
	t.TLSClientConfig.MinVersion = tls.VersionTLS12
	return &http.Client{Transport: t, Timeout: limit}, nil
}
