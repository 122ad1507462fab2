package config

import (
	"fmt"
	"strings"
	"time"
)

// Bounds of the backup daemon's settings.
const (
	mostWorkers   = 64
	leastCacheMB  = 256
	leastTakeOver = 2 * time.Minute
)

// scheduleKeys name the setting for each field of a schedule as its own check names it.
var scheduleKeys = strings.NewReplacer(
	"snapshotIntervalHours", "brs.snapshotSchedule.interval", "dailySnapshotRetentionDays", "brs.snapshotSchedule.retention.daily",
	"weeklySnapshotRetentionWeeks", "brs.snapshotSchedule.retention.weekly", "monthlySnapshotRetentionMonths", "brs.snapshotSchedule.retention.monthly",
	"snapshotRetentionDays", "brs.snapshotSchedule.retention.base", "pointInTimeWindowHours", "brs.pitWindowInHours",
)

// backupFaults are those of the backup daemon's settings.
func (s *Server) backupFaults() []error {
	var faults []error
	fault := func(format string, a ...any) { faults = append(faults, fmt.Errorf(format, a...)) }
	if s.HeadWorkers < 1 || s.HeadWorkers > mostWorkers {
		fault("numWorkers: %d: use 1 to %d", s.HeadWorkers, mostWorkers)
	}
	if s.HeadBasePort < 1 || s.HeadBasePort+max(1, s.HeadWorkers)-1 > 65535 {
		fault("heartwood.backup.headPort: %d leaves no room for %d ports", s.HeadBasePort, s.HeadWorkers)
	}
	if s.HeadCacheMB < leastCacheMB {
		fault("heartwood.backup.headCacheMB: %d is below %d, the least that mongod takes", s.HeadCacheMB, leastCacheMB)
	}
	for name, p := range map[string]int{"heartwood.backup.port": s.BackupPort, "heartwood.backup.killPort": s.BackupKillPort} {
		if p < 0 || p > 65535 {
			fault("%s: %d is not a port", name, p)
		}
	}
	if s.BackupTakeOver < leastTakeOver {
		fault("heartwood.backup.takeOver: %v is below %v: a daemon that starts again would lose its backups", s.BackupTakeOver, leastTakeOver)
	}
	if s.ReadMBPerSecond < 0 {
		fault("heartwood.backup.readMBPerSecond: %d is negative", s.ReadMBPerSecond)
	}
	if s.ReadMaxLag < 0 {
		fault("heartwood.backup.readMaxLag: %v is negative", s.ReadMaxLag)
	}
	if s.MinOplogHours < 0 {
		fault("mms.backup.minimumOplogWindowHours: %d is negative", s.MinOplogHours)
	}
	if err := s.Schedule().Validate(); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fault("%s", scheduleKeys.Replace(line))
		}
	}
	return faults
}
