package restore

import (
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

func one() *work {
	w := &work{
		job:  backup.Restore{ID: "65f0000000000000000000aa", GroupID: "65f0000000000000000000ab", Job: "65f0000000000000000000ac"},
		shot: backup.Snapshot{ID: "65f0000000000000000000ad", SetName: "rs ü/../0", At: time.Unix(1700000000, 0), Version: "7.0.14", FCV: "7.0"},
	}
	w.plan.Target, w.plan.Format = bson.Timestamp{T: 1700000300, I: 7}, restoreplan.Files
	return w
}

func TestNamesOfArchives(t *testing.T) {
	w := one()
	if got, want := w.file(), "rs___.._0-1700000300-65f0000000000000000000aa.tar"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	w.plan.Compress, w.shot.SetName = true, ""
	if got, want := w.file(), "cluster_65f0000000000000000000ac-1700000300-65f0000000000000000000aa.tar.gz"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestInfoOfAnArchive: it says what the archive is, and what must not be done with it.
func TestInfoOfAnArchive(t *testing.T) {
	w := one()
	for _, want := range []string{"65f0000000000000000000aa", "2023-11-14 22:18:20 UTC", "1700000300:7, inclusive", "mongod 7.0.14", "--dbpath", "Do not start them as a member of the replica set they come from"} {
		if !strings.Contains(w.info(), want) {
			t.Errorf("%q is not in\n%s", want, w.info())
		}
	}
	if strings.Contains(w.info(), "only a part") {
		t.Errorf("it says that something was excluded:\n%s", w.info())
	}
	w.shot.Filter, w.shot.Namespaces = filter.Exclude, []string{"logs", "app.tmp"}
	if !strings.Contains(w.info(), "exclude logs, app.tmp") {
		t.Errorf("it does not say what was excluded:\n%s", w.info())
	}
	w.plan.Format, w.plan.Selected = restoreplan.BSON, []string{"shop.orders"}
	if got := w.info(); !strings.Contains(got, "mongorestore --uri") || !strings.Contains(got, "shop.orders") || strings.Contains(got, "--dbpath") {
		t.Error(got)
	}
}
