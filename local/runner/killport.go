package runner

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/opererr"
)

// The kill-port is the classic way to stop a server: a program on the same machine connects and says the word. Here the word is
// a token in a file that only the server's user can read.
const (
	killTokenName = "kill.token"
	killLimit     = 5 * time.Second // for saying the word
	killAtOnce    = 4
	killYes       = "stopping"
)

// killPort is the open port.
type killPort struct {
	l     net.Listener
	file  string
	token string
	log   *slog.Logger
	stop  func()
	turns chan struct{}
	done  sync.WaitGroup
}

// listenKill opens 127.0.0.1:port and writes the token into the data folder. Whoever says the token there makes stop be
// called, which must only begin to stop and return. A port that is taken means that a server runs already. Without a port (0) there
// is nothing to listen on, and close does nothing.
func listenKill(ctx context.Context, port int, dataDir string, log *slog.Logger, stop func()) (closePort func(context.Context) error, err error) {
	if port == 0 {
		return func(context.Context) error { return nil }, nil
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, opererr.New("listen on the kill-port", fmt.Errorf("%s is taken: a heartwood server is already running on this machine", address),
			"run: heartwood stop, or set heartwood.alerts.killPort to another port (0: none) or choose others with --port-base")
	}
	if err != nil {
		return nil, opererr.New("listen on the kill-port "+address, err, "set heartwood.alerts.killPort to another port, or to 0 for none")
	}
	k := &killPort{l: l, file: filepath.Join(dataDir, killTokenName), token: rand.Text(), log: log, stop: stop, turns: make(chan struct{}, killAtOnce)}
	if err := k.writeToken(); err != nil {
		return nil, errors.Join(opererr.New("write the kill-port's token", err, dataHint), l.Close())
	}
	k.done.Go(k.accept)
	log.Info("listening", obs.KeyComponent, "kill-port", obs.KeyAddr, l.Addr().String())
	return k.close, nil
}

// writeToken replaces the file as a whole, so that it never has another owner's rights or half a token.
func (k *killPort) writeToken() error {
	f, err := os.CreateTemp(filepath.Dir(k.file), killTokenName+".*") // 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(k.token + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), k.file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func (k *killPort) close(context.Context) error {
	err := k.l.Close()
	k.done.Wait()
	if rm := os.Remove(k.file); rm != nil && !errors.Is(rm, os.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	return err
}

func (k *killPort) accept() {
	for {
		conn, err := k.l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(50 * time.Millisecond) // out of descriptors
			continue
		}
		k.turns <- struct{}{}
		k.done.Go(func() {
			defer func() { <-k.turns }()
			defer conn.Close()
			k.hear(conn)
		})
	}
}

// hear reads the word, and answers before it acts on it.
func (k *killPort) hear(conn net.Conn) {
	if conn.SetDeadline(time.Now().Add(killLimit)) != nil {
		return
	}
	word, _ := bufio.NewReader(io.LimitReader(conn, 256)).ReadString('\n') // a client may hang up without a line's end
	if subtle.ConstantTimeCompare([]byte(strings.TrimSpace(word)), []byte(k.token)) != 1 {
		k.log.Warn("somebody on this machine tried the kill-port without its token")
		_, _ = io.WriteString(conn, "refused: the token is in "+k.file+"\n")
		return
	}
	k.log.Info("stop asked for at the kill-port")
	_, _ = io.WriteString(conn, killYes+"\n")
	k.stop()
}

// RequestStop asks the server on this machine to stop, with the token of its data folder. It returns once the server says that it
// is stopping.
func RequestStop(ctx context.Context, dataDir string, port int) error {
	token, err := os.ReadFile(filepath.Join(dataDir, killTokenName)) //nolint:gosec // the operator names the folder
	if err != nil {
		return opererr.New("read the kill-port's token", err, "run it as the user the server runs as, with the server's --data")
	}
	d := net.Dialer{Timeout: killLimit}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return opererr.New("connect to the kill-port", err, "no server listens there: see heartwood status")
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(killLimit)); err != nil {
		return fmt.Errorf("connect to the kill-port: %w", err)
	}
	if _, err := conn.Write(append([]byte(strings.TrimSpace(string(token))), '\n')); err != nil {
		return fmt.Errorf("say the kill-port's token: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 512))
	if text := strings.TrimSpace(string(answer)); text != killYes {
		return errors.Join(fmt.Errorf("the kill-port did not take the token: %q", text), err)
	}
	return nil
}
