// Package service tells the service manager how a program is: when it serves, what it waits for, when it stops. Without systemd, or
// in a unit of another type than notify, it does nothing.
package service

import (
	"context"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
)

// tell sends one message. What systemd does not take is no reason to stop.
func tell(state string) { _, _ = daemon.SdNotify(false, state) }

// Ready says that the program serves.
func Ready() { tell(daemon.SdNotifyReady + "\nSTATUS=") }

// Status says in a line what the program is at, as systemctl status shows it.
func Status(text string) { tell("STATUS=" + strings.ReplaceAll(text, "\n", " ")) }

// StoppingWith says that the program stops once ctx ends. The function it gives ends the watch.
func StoppingWith(ctx context.Context) (done func() bool) {
	return context.AfterFunc(ctx, func() { tell(daemon.SdNotifyStopping) })
}
