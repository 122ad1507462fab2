package backup

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
)

// StateError is a change of status that the status does not allow.
type StateError struct {
	Have, Want model.BackupStatus
	Settable   bool // false: Want is never asked for, a backup comes to it by itself
}

// Error says what to do.
func (e *StateError) Error() string {
	switch {
	case !e.Settable:
		return fmt.Sprintf("a backup cannot be set to %s: ask for STARTED, STOPPED or TERMINATING", e.Want)
	case e.Have == e.Want:
		return fmt.Sprintf("the backup is %s already", e.Have)
	case e.Have == model.BackupTerminating:
		return "the backup is being deleted: wait until it is INACTIVE"
	case e.Want == model.BackupTerminating && e.Have == model.BackupInactive:
		return "there is no backup to delete: it is INACTIVE"
	case e.Want == model.BackupTerminating:
		return fmt.Sprintf("the backup is %s: stop it before it is deleted", e.Have)
	}
	return fmt.Sprintf("the backup is %s and cannot become %s", e.Have, e.Want)
}

// Is makes it an ErrState.
func (e *StateError) Is(target error) bool { return target == ErrState }

// Change is the status machine of what people ask for: STARTED, STOPPED or TERMINATING. TERMINATING is absorbing: nothing but
// the end of the deletion leads out of it. A backup that is started from INACTIVE is PROVISIONING until a daemon has bound it.
// After an error, a *StateError, the configuration is unchanged.
func Change(c *Config, want model.BackupStatus, now time.Time) error {
	have := c.Status
	if have == "" {
		have = model.BackupInactive
	}
	to := want
	ok := false
	switch want {
	case model.BackupStarted:
		ok = have == model.BackupInactive || have == model.BackupStopped
		if have == model.BackupInactive {
			to = model.BackupProvisioning
		}
	case model.BackupStopped:
		ok = have == model.BackupStarted || have == model.BackupProvisioning
	case model.BackupTerminating:
		ok = have == model.BackupStopped
	default:
		return &StateError{Have: have, Want: want}
	}
	if !ok {
		return &StateError{Have: have, Want: want, Settable: true}
	}
	c.Status, c.Changed, c.StoppedAt = to, now, time.Time{}
	if to == model.BackupStopped {
		c.StoppedAt = now
	}
	return nil
}

// FilterOf turns the two lists of the Public API into a filter. At most one of them may name something.
func FilterOf(excluded, included []string) (filter.Kind, []string, error) {
	switch {
	case len(excluded) > 0 && len(included) > 0:
		return filter.None, nil, errors.New("excludedNamespaces and includedNamespaces exclude each other: give one of them")
	case len(excluded) > 0:
		return filter.Exclude, excluded, nil
	case len(included) > 0:
		return filter.Include, included, nil
	}
	return filter.None, nil, nil
}

// validate reports all faults of a configuration together, each naming the field of the Public API. It tidies SyncSource.
func (c *Config) validate() error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !c.GroupID.Valid() {
		fault("groupId: %q is no id", c.GroupID)
	}
	if !c.ClusterID.Valid() {
		fault("clusterId: %q is no id", c.ClusterID)
	}
	switch source := strings.ToUpper(c.SyncSource); source {
	case "":
		c.SyncSource = SyncSecondary
	case SyncPrimary, SyncSecondary:
		c.SyncSource = source
	default:
		if _, _, err := model.SplitAddress(c.SyncSource); err != nil || !strings.Contains(c.SyncSource, ":") {
			fault("syncSource: %q is neither PRIMARY nor SECONDARY nor a member's host:port", c.SyncSource)
		}
	}
	if _, err := filter.New(c.Filter, c.Namespaces); err != nil {
		fault("excludedNamespaces, includedNamespaces: %w", err)
	}
	if c.Username == "" && (c.NewPassword != "" || c.Password != nil) {
		fault("password: it is given without a username")
	}
	if err := c.Schedule.Validate(); err != nil {
		fault("%w", err)
	}
	if len(errs) > 0 {
		return fmt.Errorf("%w: backup configuration: %w", docstore.ErrInvalid, errors.Join(errs...))
	}
	return nil
}

// resyncFor says why a change of the settings of a backup that has data calls for a full resync, "" if it does not.
func resyncFor(old, c *Config) string {
	was, err := filter.New(old.Filter, old.Namespaces)
	if err != nil { // a filter of an older release that is refused now
		return "the namespace filter changed"
	}
	is, err := filter.New(c.Filter, c.Namespaces)
	switch {
	case err == nil && is.Wider(was):
		return "the namespace filter was widened: what it lets in was never read"
	case c.Encrypted && !old.Encrypted:
		return "encryption was switched on"
	}
	return ""
}
