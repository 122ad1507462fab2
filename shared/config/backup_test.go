package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heartwood-db/heartwood/shared/snapshot"
)

func TestBackupSettings(t *testing.T) {
	l, err := Load(Sources{File: map[string]string{
		"heartwood.data": "/var/lib/heartwood", "brs.snapshotSchedule.interval": "6", "brs.snapshotSchedule.retention.daily": "7", "brs.pitWindowInHours": "48",
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := snapshot.Policy{IntervalHours: 6, RetentionDays: 2, DailyDays: 7, WeeklyWeeks: 2, MonthlyMonths: 1, PointInTimeHour: 48}
	if diff := cmp.Diff(want, l.Server.Schedule()); diff != "" {
		t.Error(diff)
	}
	if l.Server.Heads() != "/var/lib/heartwood/heads/" || l.Server.Releases() != "/var/lib/heartwood/releases" {
		t.Errorf("%s %s", l.Server.Heads(), l.Server.Releases())
	}
	l, err = Load(Sources{File: map[string]string{"rootDirectory": "/heads/", "mongodb.release.directory": "/opt/mongodb"}})
	if err != nil || l.Server.Heads() != "/heads/" || l.Server.Releases() != "/opt/mongodb" {
		t.Errorf("%s %s %v", l.Server.Heads(), l.Server.Releases(), err)
	}
	if l, err = Load(Sources{}); err != nil || l.Server.Schedule() != snapshot.Default() {
		t.Errorf("the defaults are not those of snapshot.Default: %+v %v", l.Server.Schedule(), err)
	}
}

func TestFaultsOfBackupSettings(t *testing.T) {
	for fault, file := range map[string]map[string]string{
		"numWorkers: 0: use":                          {"numWorkers": "0"},
		"heartwood.backup.headPort: 65534 leaves":     {"heartwood.backup.headPort": "65534"},
		"heartwood.backup.headCacheMB: 100 is below":  {"heartwood.backup.headCacheMB": "100"},
		"heartwood.backup.port: 70000 is not":         {"heartwood.backup.port": "70000"},
		"heartwood.backup.killPort: -1 is not":        {"heartwood.backup.killPort": "-1"},
		"heartwood.backup.takeOver: 1m0s is below":    {"heartwood.backup.takeOver": "1m"},
		"mms.backup.minimumOplogWindowHours: -1":      {"mms.backup.minimumOplogWindowHours": "-1"},
		"brs.snapshotSchedule.interval: 7 is none":    {"brs.snapshotSchedule.interval": "7"},
		"brs.snapshotSchedule.retention.base: 9 is":   {"brs.snapshotSchedule.retention.base": "9", "brs.snapshotSchedule.interval": "6"},
		"brs.pitWindowInHours: 100 is longer than":    {"brs.pitWindowInHours": "100"},
		"brs.snapshotSchedule.retention.daily: -1 is": {"brs.snapshotSchedule.retention.daily": "-1"},
	} {
		_, err := Load(Sources{File: file})
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%v: %v, want %q", file, err, fault)
		}
	}
}
