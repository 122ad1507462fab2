package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/backup/backuptest"
	"github.com/heartwood-db/heartwood/shared/store/storetest"
)

const (
	set2 = model.ID("5f0000000000000000000c02")
	set3 = model.ID("5f0000000000000000000c03")
)

// TestPushIntoARunningDeployment goes the way of a script that restores into a replica set: plan, ask, follow, cancel.
func TestPushIntoARunningDeployment(t *testing.T) {
	x := newSite(t)
	x.replicaSet()
	s := storetest.OpenOn(t, x.engine)
	g := "/groups/" + string(x.group.ID)
	x.ok(x.owner, "PATCH", g+"/backupConfigs/"+string(set1), `{"statusName":"STARTED","syncSource":"PRIMARY"}`, 200)
	id := backuptest.History(t, x.backup, x.group.ID, set1, t0)
	admin, reader := x.inGroup(model.GroupBackupAdmin), x.inGroup(model.GroupReadOnly)
	at := g + "/clusters/" + string(set1) + "/restoreJobs"
	body := func(target string, more ...string) string {
		return `{"snapshotId":"` + id + `","delivery":{"methodName":"AUTOMATED_RESTORE",` + target + `}` + strings.Join(more, "") + `}`
	}
	const byName = `"targetClusterName":"rs2"`

	// Another group's replica set: the right is needed there too, and what is there is not told.
	backuptest.Target(t, s, x.other.ID, set3, "rs3", t0)
	other := fmt.Sprintf(`"targetGroupId":%q,"targetClusterId":%q`, x.other.ID, set3)
	for _, path := range []string{at, at + "/plan"} {
		x.refused(admin, "POST", path, body(other), 403, "CANNOT_RESTORE_TO_TARGET")
		x.refused(admin, "POST", path, body(fmt.Sprintf(`"targetGroupId":%q,"targetClusterId":%q`, x.group.ID, set3)), 403, "CANNOT_RESTORE_TO_TARGET")
		x.refused(admin, "POST", path, body(`"targetClusterId":""`), 403, "CANNOT_RESTORE_TO_TARGET")
	}
	x.refused(reader, "POST", at, body(byName), 401, "USER_UNAUTHORIZED")
	x.refused(reader, "POST", at+"/plan", body(byName), 403, "CANNOT_RESTORE_TO_TARGET")

	// Every reason at once.
	err := x.inv.UpsertCluster(t.Context(), x.group.ID, set2, func(c *model.Cluster) error {
		*c = model.Cluster{ID: set2, GroupID: x.group.ID, Type: model.ClusterReplicaSet, Name: "rs2", ReplicaSet: "rs2", Created: t0}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	refused := x.do(admin, "POST", at, body(byName, `,"users":true,"namespaces":["shop"]`))
	for _, want := range []string{`"errorCode":"CANNOT_RESTORE_TO_TARGET"`, "no backup agent of the group of rs2 is calling", "leave the choice of namespaces out"} {
		if refused.status != 403 || !strings.Contains(string(refused.body), want) {
			t.Errorf("%d %s lacks %q", refused.status, refused.body, want)
		}
	}
	x.refused(admin, "POST", at, `{"snapshotId":"`+id+`","drop":true}`, 409, "RESTORE_INITIATION_FAILED")

	backuptest.Target(t, s, x.group.ID, set2, "rs2", t0)
	plan := x.ok(admin, "POST", at+"/plan", body(byName, `,"rename":{"shop":"shop2"},"users":true`), 200)
	if get(plan, "into", "name") != "rs2" || get(plan, "into", "clusterId") != string(set2) || get(plan, "contents", 0, "ns") != "shop2.orders" || plan["users"] != true || plan["push"] != true {
		t.Errorf("%v", plan)
	}
	var do []any
	for i := range 6 {
		do = append(do, get(plan, "steps", i, "do"))
	}
	if fmt.Sprint(do) != "[fetch parts stage indexes swap <nil>]" {
		t.Errorf("steps %v", do)
	}
	if list := x.ok(admin, "GET", at, "", 200); list["totalCount"] != 0.0 {
		t.Errorf("a plan left %v", list)
	}

	made := x.ok(admin, "POST", at, body(byName, `,"rename":{"shop":"shop2"},"drop":true,"users":true`), 200)
	job := get(made, "results", 0)
	jobID := fmt.Sprint(get(job, "id"))
	// As documented: by HTTP with the target, and without an end of downloads.
	if get(job, "statusName") != "IN_PROGRESS" || get(job, "delivery", "methodName") != "HTTP" || get(job, "delivery", "targetGroupId") != string(x.group.ID) ||
		get(job, "delivery", "targetClusterId") != string(set2) || get(job, "delivery", "targetClusterName") != "rs2" || get(job, "delivery", "maxDownloads") != 2147483647.0 || get(job, "delivery", "statusName") != "NOT_STARTED" {
		t.Errorf("%v", job)
	}
	if get(job, "drop") != true || get(job, "users") != true || get(job, "rename", "shop") != "shop2" || get(job, "progress", "step") != "waits for a backup daemon" || get(job, "progress", "steps", 0, "statusName") != "WAITING" {
		t.Errorf("%v", job)
	}
	x.refused(admin, "POST", at, body(byName), 403, "CANNOT_RESTORE_TO_TARGET") // one at a time

	// The daemon has stored the parts, the agent writes them.
	r, ok, err := x.backup.ClaimRestore(t.Context(), backuptest.Daemon, x.clock(), time.Minute, nil)
	if err != nil || !ok || r.ID != jobID || r.Method != model.DeliverPush || !r.Users || !r.Drop || r.TargetID != set2 {
		t.Fatalf("%+v %v %v", r, ok, err)
	}
	change := func(f func(r *backup.Restore)) {
		t.Helper()
		if err := x.backup.UpdateRestore(t.Context(), jobID, func(r *backup.Restore) error { f(r); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	change(func(r *backup.Restore) {
		r.Do, r.Waits, r.Objects, r.Step, r.Daemon = restoreplan.DoStage, true, []backup.Object{{Key: "k", Name: "part-000001.tar.zst", Bytes: 5, SHA256: strings.Repeat("ab", 32)}}, "waits for the backup agent beside the target", ""
		r.Delivery.Status = model.DeliveryReady
	})
	waiting := x.ok(reader, "GET", at+"/"+jobID, "", 200)
	if get(waiting, "delivery", "statusName") != "IN_PROGRESS" || get(waiting, "delivery", "url") != nil || get(waiting, "progress", "steps", 1, "statusName") != "DONE" || get(waiting, "progress", "steps", 2, "statusName") != "WAITING" {
		t.Errorf("%v", waiting)
	}
	change(func(r *backup.Restore) {
		r.Do, r.Waits, r.Delivery.Status, r.Step, r.Done, r.Total, r.Beat = restoreplan.DoStage, false, model.DeliveryTransferring, "writes shop2.orders", 0, 1000, t0
	})
	change(func(r *backup.Restore) { r.Done, r.Beat = 250, t0.Add(10*time.Second) })
	writing := x.ok(reader, "GET", at+"/"+jobID, "", 200)
	if get(writing, "progress", "steps", 2, "statusName") != "RUNNING" || get(writing, "progress", "doneBytes") != 250.0 || get(writing, "progress", "secondsLeft") != 32.0 { // 30 s of this step, and two more of a second
		t.Errorf("%v", get(writing, "progress"))
	}

	x.ok(admin, "DELETE", at+"/"+jobID, "", 200)
	killed := x.ok(reader, "GET", at+"/"+jobID, "", 200)
	if killed["statusName"] != "KILLED" || get(killed, "delivery", "statusName") != "INTERRUPTED" || !strings.Contains(fmt.Sprint(killed["errorText"]), "its backup agent removes what it has written into rs2") {
		t.Errorf("%v", killed)
	}
	events := fmt.Sprint(x.ok(x.owner, "GET", g+"/events", "", 200))
	for _, want := range []string{"RESTORE_REQUESTED_AUDIT", "RESTORE_CANCELLED_AUDIT"} {
		if !strings.Contains(events, want) {
			t.Errorf("no event %s", want)
		}
	}

	// Into another group, by who may do so in both; its feed tells of it too. A moment that cannot be is refused with the target's
	// reasons.
	x.ok(x.owner, "POST", at, body(other), 200)
	if events := fmt.Sprint(x.ok(x.owner, "GET", "/groups/"+string(x.other.ID)+"/events", "", 200)); !strings.Contains(events, "RESTORE_REQUESTED_AUDIT") {
		t.Errorf("the target's group was not told: %s", events)
	}
	x.refused(x.owner, "POST", at, `{"pointInTimeUTCMillis":1,"delivery":{"methodName":"AUTOMATED_RESTORE",`+other+`}}`, 403, "CANNOT_RESTORE_TO_TARGET") // busy
	x.refused(x.owner, "POST", at, `{"pointInTimeUTCMillis":1,"delivery":{"methodName":"AUTOMATED_RESTORE",`+byName+`}}`, 409, "RESTORE_INITIATION_FAILED")
}
