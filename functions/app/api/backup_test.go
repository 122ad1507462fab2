package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/backup/backuptest"
)

const set1 = model.ID("5f0000000000000000000c01")

func (x *site) replicaSet() {
	x.t.Helper()
	err := x.inv.UpsertCluster(x.t.Context(), x.group.ID, set1, func(c *model.Cluster) error {
		*c = model.Cluster{ID: set1, GroupID: x.group.ID, Type: model.ClusterReplicaSet, Name: "rs0", ReplicaSet: "rs0", Created: t0}
		return nil
	})
	if err != nil {
		x.t.Fatal(err)
	}
	x.host("db1:27017", func(h *model.Host) { h.ClusterID, h.Version, h.Type = set1, "7.0.14", model.TypeReplicaPrimary })
}

// TestBackupFromStartToEnd goes the way of the operator's client: start, schedule, snapshots, restore, stop, terminate.
func TestBackupFromStartToEnd(t *testing.T) {
	x := newSite(t)
	x.replicaSet()
	admin, reader := x.inGroup(model.GroupBackupAdmin), x.inGroup(model.GroupReadOnly)
	g := "/groups/" + string(x.group.ID)
	config, cluster := g+"/backupConfigs/"+string(set1), g+"/clusters/"+string(set1)

	if list := x.ok(reader, "GET", g+"/backupConfigs", "", 200); get(list, "results", 0, "statusName") != "INACTIVE" || get(list, "results", 0, "clusterId") != string(set1) {
		t.Fatalf("%v", list)
	}
	x.refused(reader, "PATCH", config, `{"statusName":"STARTED"}`, 401, "USER_UNAUTHORIZED")
	x.refused(admin, "PATCH", config, `{"statusName":"STOPPED"}`, 409, "CANNOT_STOP_BACKUP_INVALID_STATE")
	x.refused(admin, "PATCH", config, `{"statusName":"TERMINATING"}`, 409, "CANNOT_TERMINATE_BACKUP_INVALID_STATE")
	x.refused(admin, "PATCH", config, `{"statusName":"PROVISIONING"}`, 403, "UNSUPPORTED_SET_BACKUP_STATE")
	x.refused(admin, "PATCH", config, `{"excludedNamespaces":["a"],"includedNamespaces":["b"]}`, 400, "INVALID_FILTERLIST")
	x.refused(admin, "PATCH", config, `{"excludedNamespaces":["admin"]}`, 400, "INVALID_FILTERLIST")
	x.refused(admin, "GET", config+"/snapshotSchedule", "", 409, "CANNOT_GET_BACKUP_CONFIG_INVALID_STATE")
	x.refused(admin, "POST", cluster+"/restoreJobs", `{"snapshotId":"5f0000000000000000000e01"}`, 409, "CANNOT_GET_BACKUP_CONFIG_INVALID_STATE")
	x.refused(admin, "GET", g+"/backupConfigs/5f0000000000000000000cff", "", 404, "CLUSTER_NOT_FOUND")

	body := fmt.Sprintf(`{"clusterId":%q,"groupId":%q,"encryptionEnabled":false,"excludedNamespaces":[],"includedNamespaces":null,"provisioned":false,"statusName":"STARTED","storageEngineName":"WIRED_TIGER","syncSource":"PRIMARY","authMechanismName":"NONE","links":[]}`, set1, x.group.ID)
	if o := x.ok(admin, "PATCH", config, body, 200); o["statusName"] != "PROVISIONING" {
		t.Errorf("%v", o)
	}
	id := backuptest.History(t, x.backup, x.group.ID, set1, t0)
	o := x.ok(admin, "GET", config, "", 200)
	if o["statusName"] != "STARTED" {
		t.Errorf("%v", o)
	}
	x.refused(admin, "PATCH", config, body, 409, "CANNOT_START_BACKUP_INVALID_STATE")
	if err := x.backup.UpdateJobAs(t.Context(), set1, backuptest.Token, func(j *backup.Job) error {
		j.Tail.Error, j.Tail.ErrorCode, j.Tail.ErrorAt = "no member can be reached", "NO_SOURCE", t0
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if o := x.ok(reader, "GET", config+"/state", "", 200); o["stage"] != "TAILING" || get(o, "agentProblem", "text") != "no member can be reached" || get(o, "agentProblem", "code") != "NO_SOURCE" {
		t.Errorf("%v", o)
	}
	// Alerts came with the first backup.
	if list := x.ok(x.owner, "GET", g+"/alertConfigs", "", 200); !strings.Contains(fmt.Sprint(list), "OPLOG_BEHIND") {
		t.Errorf("no alerts of backups: %v", list)
	}

	x.refused(admin, "PATCH", config+"/snapshotSchedule", `{"snapshotIntervalHours":7}`, 400, "INVALID_SNAPSHOT_INTERVAL")
	x.refused(admin, "PATCH", config+"/snapshotSchedule", `{"referenceHourOfDay":24}`, 400, "INVALID_REFERENCE_HOUR_OF_DAY")
	x.refused(admin, "PATCH", config+"/snapshotSchedule", `{"referenceTimeZoneOffset":"x"}`, 400, "INVALID_REFERENCE_TIMEZONE_OFFSET")
	if s := x.ok(admin, "PATCH", config+"/snapshotSchedule", `{"clusterId":"","groupId":"","snapshotIntervalHours":6,"referenceTimeZoneOffset":"+0130"}`, 200); s["snapshotIntervalHours"] != 6.0 || s["referenceTimeZoneOffset"] != "+0130" {
		t.Errorf("%v", s)
	}

	if list := x.ok(reader, "GET", cluster+"/snapshots", "", 200); get(list, "results", 0, "id") != id || get(list, "results", 0, "parts", 0, "fileSizeBytes") != float64(1<<20) {
		t.Errorf("%v", list)
	}
	at := cluster + "/snapshots/" + id
	x.refused(admin, "PATCH", at, `{"doNotDelete":true,"expires":"2027-01-01"}`, 403, "CANNOT_MODIFY_SNAPSHOT")
	if s := x.ok(admin, "PATCH", at, `{"doNotDelete":true}`, 200); s["doNotDelete"] != true || s["expires"] != nil {
		t.Errorf("%v", s)
	}
	if s := x.ok(admin, "PATCH", at, `{"expires":"2026-12-01"}`, 200); s["expires"] != "2026-12-01T00:00:00Z" {
		t.Errorf("%v", s)
	}
	x.refused(admin, "DELETE", at, "", 401, "USER_UNAUTHORIZED")
	x.refused(x.owner, "DELETE", at, "", 409, "CANNOT_GET_BACKUP_CONFIG_INVALID_STATE") // the last one
	x.refused(admin, "GET", cluster+"/snapshots/5f0000000000000000000eff", "", 404, "SNAPSHOT_NOT_FOUND")
	x.ok(admin, "POST", cluster+"/snapshots/onDemandSnapshot?retentionDays=3", "", 200)
	x.refused(admin, "POST", cluster+"/snapshots/onDemandSnapshot", "", 400, "UNFINISHED_ON_DEMAND_SNAPSHOT")

	x.restores(admin, reader, cluster, id)

	x.ok(admin, "PATCH", config, `{"statusName":"STOPPED"}`, 200)
	if o := x.ok(admin, "PATCH", config, `{"statusName":"TERMINATING"}`, 200); o["statusName"] != "TERMINATING" {
		t.Errorf("%v", o)
	}
	x.refused(admin, "PATCH", config, `{"statusName":"STARTED"}`, 409, "CANNOT_START_BACKUP_INVALID_STATE")
	x.refused(x.owner, "DELETE", g, "", 409, "CANNOT_CLOSE_GROUP_ACTIVE_BACKUP")
	events := fmt.Sprint(x.ok(x.owner, "GET", g+"/events", "", 200))
	for _, want := range []string{"RS_STATE_CHANGED_AUDIT", "RS_SNAPSHOT_SCHEDULE_UPDATED_AUDIT", "SNAPSHOT_EXPIRY_UPDATED_AUDIT", "RESTORE_REQUESTED_AUDIT"} {
		if !strings.Contains(events, want) {
			t.Errorf("no event %s", want)
		}
	}
}

// restores plans, asks for, follows and cancels restores.
func (x *site) restores(admin, reader key, cluster, id string) {
	x.t.Helper()
	at := cluster + "/restoreJobs"
	ranges := x.do(reader, "POST", at+"/restorableTimeRanges", "")
	if text := string(ranges.body); !strings.HasPrefix(text, "[{") || !strings.Contains(text, `"end":{"date":"2026-03-01T10:17:00Z"`) {
		x.t.Errorf("ranges %s", text)
	}
	second := t0.Add(5 * time.Minute).UnixMilli()
	plan := x.ok(reader, "POST", at+"/plan", fmt.Sprintf(`{"pointInTimeUTCMillis":%d}`, second), 200)
	if plan["snapshotId"] != id || plan["replay"] != true || get(plan, "steps", 0, "do") != "fetch" {
		x.t.Errorf("%v", plan)
	}
	for body, code := range map[string]string{
		`{}`: "MISSING_ONE_OF_THREE_ATTRIBUTES",
		`{"snapshotId":"` + id + `","delivery":{"methodName":"SCP"}}`:                                             "UNSUPPORTED_DELIVERY_METHOD",
		`{"snapshotId":"` + id + `","delivery":{"methodName":"HTTP","expirationHours":1,"expires":"2027-01-01"}}`: "INVALID_ATTRIBUTE",
		`{"snapshotId":"` + id + `","delivery":{"methodName":"HTTP","maxDownloads":0}}`:                           "ATTRIBUTE_NEGATIVE_OR_ZERO",
		`{"oplogTs":"5"}`: "MISSING_ATTRIBUTES",
	} {
		x.refused(admin, "POST", at, body, 400, code)
	}
	x.refused(admin, "POST", at, fmt.Sprintf(`{"pointInTimeUTCMillis":%d}`, t0.Add(time.Hour).UnixMilli()), 409, "RESTORE_INITIATION_FAILED")
	x.refused(admin, "POST", at, `{"snapshotId":"`+id+`","delivery":{"methodName":"AUTOMATED_RESTORE","targetClusterName":"nothing"}}`, 403, "CANNOT_RESTORE_TO_TARGET")
	x.refused(reader, "POST", at, `{"snapshotId":"`+id+`"}`, 401, "USER_UNAUTHORIZED")

	made := x.ok(admin, "POST", at, fmt.Sprintf(`{"pointInTimeUTCMillis":%d,"delivery":{"methodName":"HTTP","expirationHours":4,"maxDownloads":2}}`, second), 200)
	job := fmt.Sprint(get(made, "results", 0, "id"))
	if get(made, "results", 0, "statusName") != "IN_PROGRESS" || get(made, "results", 0, "delivery", "statusName") != "NOT_STARTED" {
		x.t.Errorf("%v", made)
	}
	// A daemon takes it and makes the archive.
	r, ok, err := x.backup.ClaimRestore(x.t.Context(), "d1:/heads/", x.clock(), time.Minute, func(*backup.Restore) bool { return true })
	if err != nil || !ok || r.ID != job {
		x.t.Fatalf("%v %v %v", r, ok, err)
	}
	err = x.backup.UpdateRestoreAs(x.t.Context(), job, r.Token, func(r *backup.Restore) error {
		r.Status, r.Finished = model.RestoreFinished, x.clock()
		r.Objects = []backup.Object{{Key: "restores/x", Name: "rs0.tar.gz", Bytes: 5, SHA256: strings.Repeat("ab", 32)}}
		x.backup.OfferDownload(r, x.clock())
		return nil
	})
	if err != nil {
		x.t.Fatal(err)
	}
	done := x.ok(reader, "GET", at+"/"+job, "", 200)
	url := fmt.Sprint(get(done, "delivery", "url"))
	if done["statusName"] != "FINISHED" || get(done, "delivery", "statusName") != "READY" || !strings.HasPrefix(url, "https://om.example.com/backup/restore/v2/pull/"+job+"/") || !strings.HasSuffix(url, "/rs0.tar.gz") {
		x.t.Errorf("%v", done)
	}
	if get(done, "hashes", 0, "hash") != strings.Repeat("ab", 32) || get(done, "timestamp", "date") != "2026-03-01T10:12:00Z" {
		x.t.Errorf("%v", done)
	}
	x.mu.Lock()
	x.now = x.now.Add(time.Second) // the list is newest first
	x.mu.Unlock()
	other := x.ok(admin, "POST", at, `{"snapshotId":"`+id+`"}`, 200)
	x.ok(admin, "DELETE", at+"/"+fmt.Sprint(get(other, "results", 0, "id")), "", 200)
	if list := x.ok(reader, "GET", at, "", 200); list["totalCount"] != 2.0 || get(list, "results", 0, "statusName") != "KILLED" {
		x.t.Errorf("%v", list)
	}
	if list := x.ok(reader, "GET", at+"?batchId="+fmt.Sprint(get(done, "batchId")), "", 200); list["totalCount"] != 1.0 {
		x.t.Errorf("%v", list)
	}
	x.refused(reader, "GET", at+"/5f0000000000000000000fff", "", 404, "RESTORE_JOB_NOT_FOUND")
}

func TestBackupAdministration(t *testing.T) {
	x := newSite(t)
	admin := x.key("", model.Grant{Role: model.GlobalBackupAdmin})
	const stores = "/admin/backup/snapshot"
	x.refused(x.inGroup(model.GroupOwner), "GET", stores+"/s3Configs", "", 401, "USER_UNAUTHORIZED")
	x.refused(admin, "POST", stores+"/fileSystemConfigs", `{"id":"nas","storePath":"relative"}`, 400, "INVALID_ATTRIBUTE")
	x.ok(admin, "POST", stores+"/fileSystemConfigs", `{"id":"nas","storePath":"/srv/blocks","loadFactor":2}`, 200)
	x.refused(admin, "POST", stores+"/fileSystemConfigs", `{"id":"nas","storePath":"/srv/blocks"}`, 409, "CONFLICT")
	s3 := x.ok(admin, "POST", stores+"/s3Configs", `{"id":"s3","s3BucketName":"b","s3BucketEndpoint":"https://s3.example.com","acceptedTos":true,"awsAccessKey":"AK","awsSecretKey":"geheim","pathStyleAccessEnabled":true}`, 200)
	if s3["awsSecretKey"] != "REDACTED" || s3["s3AuthMethod"] != "KEYS" {
		t.Errorf("%v", s3)
	}
	back := x.do(admin, "GET", stores+"/s3Configs/s3", "")
	x.ok(admin, "PUT", stores+"/s3Configs/s3", string(back.body), 200)
	if s, err := x.backup.Store(t.Context(), "s3"); err != nil || s.SecretKey.Reveal() != "geheim" {
		t.Errorf("the mask replaced the secret: %v %v", s, err)
	}
	m := x.ok(admin, "POST", stores+"/mongoConfigs", `{"id":"m","uri":"mongodb://u:p@db1,db2/blocks?replicaSet=rs","ssl":false}`, 200)
	if m["uri"] != "mongodb://REDACTED:REDACTED@db1,db2/blocks?replicaSet=rs" {
		t.Errorf("%v", m)
	}
	x.ok(admin, "PUT", stores+"/mongoConfigs/m", `{"id":"m","uri":"mongodb://REDACTED:REDACTED@db1,db2/blocks?replicaSet=rs","assignmentEnabled":false}`, 200)
	x.refused(admin, "PUT", stores+"/mongoConfigs/m", `{"id":"m","uri":"mongodb://REDACTED:REDACTED@db3/blocks"}`, 400, "INVALID_ATTRIBUTE")
	x.refused(admin, "GET", stores+"/mongoConfigs/s3", "", 404, "MONGO_SNAPSHOT_CONFIG_NOT_FOUND")
	x.ok(admin, "DELETE", stores+"/mongoConfigs/m", "", 200)
	if list := x.ok(admin, "GET", stores+"/mongoConfigs", "", 200); list["totalCount"] != 0.0 {
		t.Errorf("%v", list)
	}

	if _, err := x.backup.Beat(t.Context(), backup.Daemon{ID: "d1:/heads/", Machine: "d1", HeadRoot: "/heads/", Heads: 4, Beat: t0, Configured: true}); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"/d1", "/d1/%2Fheads%2F", "/d1/heads/"} {
		if d := x.ok(admin, "GET", "/admin/backup/daemon/configs"+at, "", 200); get(d, "machine", "machine") != "d1" {
			t.Errorf("%s: %v", at, d)
		}
	}
	x.refused(admin, "GET", "/admin/backup/daemon/configs/d2", "", 404, "DAEMON_MACHINE_CONFIG_NOT_FOUND")
	if d := x.ok(admin, "PUT", "/admin/backup/daemon/configs/d1", `{"assignmentEnabled":false}`, 200); d["assignmentEnabled"] != false {
		t.Errorf("%v", d)
	}
}
