package app

import (
	"strings"
	"testing"
	"time"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/store/backup/backuptest"
)

const backedUp = model.ID("5f0000000000000000000c01")

func (s *site) set(g model.Group, id model.ID, kind model.ClusterType, name string) {
	s.t.Helper()
	s.ok(s.inv.UpsertCluster(s.t.Context(), g.ID, id, func(c *model.Cluster) error {
		*c = model.Cluster{ID: id, GroupID: g.ID, Type: kind, Name: name, ReplicaSet: name, Created: s.now, Members: []model.Member{{Host: "db1:27017"}, {ID: 1, Host: "db2:27017"}}}
		return nil
	}))
}

// TestBackupPages goes through every state of the pages of backups, as somebody who may and as somebody who may not.
func TestBackupPages(t *testing.T) {
	s, g, b := owner(t)
	at := "/g/" + string(g.ID) + "/backup"
	b.get(at).want(200, "No replica set to back up", "Set up monitoring")

	s.set(g, backedUp, model.ClusterReplicaSet, "rs0")
	s.set(g, "5f0000000000000000000c02", model.ClusterSharded, "big")
	b.get(at).want(200, "rs0", "not backed up", "No backup daemon is running", "heartwood backup-agent", "big is sharded", "nothing yet")
	set := at + "/" + string(backedUp)
	b.get(set).want(200, "Start the backup", "Schedule").wantNot("What can be restored")
	b.get(at+"/5f0000000000000000000c02").want(404, "no backup of its own")
	b.get(at + "/5f0000000000000000000cff").want(404)
	b.get(set+"/restore").want(200, "Nothing can be restored yet")
	b.get("/search?q=backup").want(200, at, "/agents#install-backup", "/admin/backup")
	b.get("/g/"+string(g.ID)+"/clusters/"+string(backedUp)).want(200, `href="`+set+`"`)
	b.get("/g/" + string(g.ID) + "/clusters/5f0000000000000000000c02").wantNot("/backup/5f0000000000000000000c02")
	b.get("/g/"+string(g.ID)+"/agents").want(200, "cat &gt; backup-agent.config", "heartwood backup-agent --config backup-agent.config --check", "mmsGroupId="+string(g.ID))

	b.get(set).post(set+"/state", "want", "STARTED").want(200, "The backup was started", "waits for a daemon")
	b.get(set).post(set+"/state", "want", "STARTED").want(422, "The backup is PROVISIONING")
	b.get(set).post(set+"/state", "want", "FLY").want(400)

	s.ok(s.backup.UpdateJobAs(t.Context(), backedUp, backuptest.Token, func(j *backup.Job) error {
		j.Daemon, j.Stage, j.StageSince = backuptest.Daemon, backup.StageSync, s.now.Add(-time.Minute)
		j.Tail = backup.Tail{Source: "db2:27017", Collections: 10, CollectionsDone: 5, Bytes: 1000, BytesDone: 500}
		return nil
	}))
	b.get(set).want(200, "reading everything", "50 %", "5 of 10 collections", "about 60 s left", "db2:27017")
	s.ok(s.backup.UpdateJobAs(t.Context(), backedUp, backuptest.Token, func(j *backup.Job) error {
		j.Problem = &backup.Problem{Code: "X", Text: "The key is another one.", Remedy: "Give it the right one.", Since: s.now}
		return nil
	}))
	b.get(set).want(200, "stands still", "The key is another one.", "Give it the right one.")
	b.get(at).want(200, "stands still", "Give it the right one.")
	s.ok(s.backup.UpdateJobAs(t.Context(), backedUp, backuptest.Token, func(j *backup.Job) error { j.Problem = nil; return nil }))
	for since, word := range map[time.Duration]string{30 * time.Second: "reading everything", time.Hour: "agent in trouble"} {
		s.ok(s.backup.UpdateJobAs(t.Context(), backedUp, backuptest.Token, func(j *backup.Job) error {
			j.Tail.Error, j.Tail.ErrorCode, j.Tail.ErrorAt = "the server's block store is full", "SERVER", s.now.Add(-since)
			return nil
		}))
		b.get(at).want(200, word)
	}
	b.get(set).want(200, "The backup agent reports", "block store is full")
	s.ok(s.backup.UpdateJobAs(t.Context(), backedUp, backuptest.Token, func(j *backup.Job) error { j.Tail.Error = ""; return nil }))

	_, err := s.backup.Beat(t.Context(), backup.Daemon{ID: backuptest.Daemon, Machine: "d1", HeadRoot: "/heads/", Beat: s.now})
	s.ok(err)
	id := backuptest.History(t, s.backup, g.ID, backedUp, s.now.Add(-11*time.Minute))
	b.get(at).want(200, "continuous", "any second", "from ", "Restore").wantNot("No backup daemon")
	b.get(set).want(200, "continuous", `class="chain"`, "Any second from", "Snapshots", "complete", "Take one now", "1 MiB")

	b.get(set).post(set+"/snapshots").want(200, "A snapshot was asked for", "One was asked for and has not been taken yet")
	b.get(set).post(set+"/snapshots/"+id+"/keep", "how", "forever").want(200, "Let it expire")
	b.get(set).post(set+"/schedule", "interval", "7", "days", "2", "daily", "0", "weekly", "2", "monthly", "1", "window", "24", "hour", "0").want(422, "7 is none of 6, 8, 12 and 24", `hx-get="`+set+`"`)
	b.get(set).post(set+"/schedule", "interval", "6", "days", "3", "daily", "7", "weekly", "2", "monthly", "1", "window", "48", "hour", "2").want(200, "The schedule was saved")
	b.get(set).post(set+"/settings", "source", "PRIMARY", "filter", "exclude", "namespaces", "admin").want(422, "cannot be listed")
	b.get(set).post(set+"/settings", "source", "PRIMARY", "filter", "exclude", "namespaces", "scratch").want(200, "The settings were saved", "scratch")
	b.get(set).post(set+"/settings", "source", "PRIMARY", "filter", "").want(422, "have everything read anew")

	del := set + "/snapshots/" + id + "/delete"
	b.get(del).want(200, "Type "+id).post(del, "name", "x").want(422, "as it stands above")
	b.get(del).post(del, "name", id).want(422, "the last snapshot")

	s.restorePages(b, set, id)

	reader := s.user("reader@example.com", model.Grant{Role: model.GroupReadOnly, GroupID: g.ID})
	r := s.signIn(reader.Username)
	r.get(set).want(200, "You cannot change this: only Group Owners and Backup Admins start and stop backups")
	r.get(set).post(set+"/state", "want", "STOPPED").want(403)
	r.get(del).want(403)

	b.get(set).post(set+"/state", "want", "RESYNC").want(200, "read anew", "must read anew")
	b.get(set).post(set+"/state", "want", "STOPPED").want(200, "The backup was stopped", "Start again", "Delete everything")
	b.get(set+"/terminate").want(200, "Type rs0").post(set+"/terminate", "name", "rs1").want(422)
	b.get(set+"/terminate").post(set+"/terminate", "name", "rs0").want(200, "being deleted")
	var kinds []string
	for _, e := range s.events(g.ID) {
		kinds = append(kinds, string(e.Type))
	}
	for _, want := range []string{"RS_STATE_CHANGED_AUDIT", "RS_SNAPSHOT_SCHEDULE_UPDATED_AUDIT", "RS_DENYLIST_UPDATED_AUDIT", "SNAPSHOT_EXPIRY_UPDATED_AUDIT", "RESTORE_REQUESTED_AUDIT", "SYNC_REQUIRED_AUDIT"} {
		if !strings.Contains(strings.Join(kinds, " "), want) {
			t.Errorf("no event %s among %v", want, kinds)
		}
	}
}

// restorePages plans, starts, follows, cancels and fetches.
func (s *site) restorePages(b *browser, set, id string) {
	s.t.Helper()
	list := set[:strings.LastIndex(set, "/")] + "-restores"
	b.get(list).want(200, "Nothing was restored yet")
	b.get(set+"/restore").want(200, "Show the plan", "the newest second", "10 minutes ago", "Any second from").wantNot("6 hours ago")
	b.get(set+"/restore?ago=5m").want(200, s.now.Add(-5*time.Minute).Format("2006-01-02T15:04:05"))
	form := func(at, do string, more ...string) *browser {
		return b.get(set+"/restore").post(set+"/restore", append([]string{"at", at, "format", "FILES", "hours", "4", "downloads", "1", "do", do}, more...)...)
	}
	form("", "plan").want(422, "Say to which second")
	form(s.now.Add(time.Hour).Format("2006-01-02T15:04:05"), "plan").want(422, "not restorable")
	form(s.now.Format("2006-01-02T15:04:05"), "plan", "snapshot", id, "namespaces", "shop").want(422, "choose BSON")
	minute := s.now.Add(-5 * time.Minute).Format("2006-01-02T15:04:05")
	form(minute, "plan").want(200, "The plan", "Replay 3 oplog entries", "Start the restore")
	damage := func(what string) {
		s.ok(s.backup.UpdateSnapshot(s.t.Context(), backedUp, id, func(x *backup.Snapshot) error { x.VerifyError = what; return nil }))
	}
	damage("object x is gone")
	form(minute, "plan").want(422, "not restorable") // no moment is restored from it
	form(minute, "plan", "snapshot", id).want(200, "a snapshot that is damaged: object x is gone", "(damaged)")
	damage("")
	form(minute, "plan", "rename", "a").want(422, "OLD=NEW")
	form(minute, "start").want(200, "in progress", "What was planned", "Cancel")
	job := b.url[strings.LastIndex(b.url, "/")+1:]
	b.post(list+"/"+job+"/cancel").want(200, "cancelled", "The restore was cancelled", "Plan it again", "plan=1")
	b.get(list + "/" + job).post(list + "/" + job + "/cancel")

	form(minute, "start", "snapshot", id).want(200, "in progress")
	job = b.url[strings.LastIndex(b.url, "/")+1:]
	r, ok, err := s.backup.ClaimRestore(s.t.Context(), backuptest.Daemon, s.now, time.Minute, nil)
	s.ok(err)
	if !ok || r.ID != job {
		s.t.Fatalf("claimed %v %s, not %s", ok, r.ID, job)
	}
	s.ok(s.backup.UpdateRestoreAs(s.t.Context(), job, r.Token, func(x *backup.Restore) error {
		x.Do, x.Step, x.Done, x.Total, x.Beat = restoreplan.DoFetch, "fetches the snapshot", 25, 100, s.now
		return nil
	}))
	b.get(list+"/"+job).want(200, "Fetches the snapshot", "25 %")
	s.ok(s.backup.UpdateRestoreAs(s.t.Context(), job, r.Token, func(x *backup.Restore) error {
		x.Status, x.Finished = model.RestoreFinished, s.now
		x.Objects = []backup.Object{{Key: "restores/x", Name: "rs0.tar.gz", Bytes: 5000, SHA256: strings.Repeat("ab", 32)}}
		s.backup.OfferDownload(x, s.now)
		return nil
	}))
	b.get(list+"/"+job).want(200, "ready", "/backup/restore/v2/pull/"+job+"/", "curl -fLO", strings.Repeat("ab", 32), "heartwood restore download rs0 "+job)
	b.get(list).want(200, "ready", "cancelled", "rs0")
}

// TestAdminOfBackup shows daemons and block stores to who may see the site, and nothing that signs in anywhere.
func TestAdminOfBackup(t *testing.T) {
	s, g, b := owner(t)
	b.get("/admin").want(200, `href="/admin/backup"`)
	b.get("/admin/backup").want(200, "No backup daemon has called", "heartwood backup-daemon", "There is no block store", "/api/public/v1.0/admin/backup/snapshot/fileSystemConfigs")
	daemon := func(machine string, change func(*backup.Daemon)) {
		d := backup.Daemon{ID: machine + ":/heads/", Machine: machine, HeadRoot: "/heads/", Beat: s.now, Heads: 4, Jobs: 2, Releases: []string{"7.0.16"}, Free: 1 << 30, Size: 4 << 30}
		change(&d)
		_, err := s.backup.Beat(t.Context(), d)
		s.ok(err)
	}
	daemon("well", func(*backup.Daemon) {})
	daemon("gone", func(d *backup.Daemon) { d.Beat = s.now.Add(-time.Hour) })
	daemon("ended", func(d *backup.Daemon) { d.Stopped = true })
	daemon("ill", func(d *backup.Daemon) { d.Error, d.Releases = "The folder of releases cannot be read.", nil })
	daemon("narrow", func(d *backup.Daemon) { d.Full = s.now.Add(time.Hour) })
	s.ok(s.backup.UpdateDaemon(t.Context(), "well:/heads/", func(d *backup.Daemon) error { d.Assignment = false; return nil }))
	for _, x := range []model.BlockStore{
		{ID: "nas", Type: model.BlockStoreFile, Path: "/mnt/nas", Encrypt: true, LoadFactor: 1},
		{ID: "cloud", Type: model.BlockStoreS3, Bucket: "shop-backups", Prefix: "hw/", Region: "eu-central-1", AccessKey: "AKIA123", SecretKey: "s3cret", LoadFactor: 1},
		{ID: "set", Type: model.BlockStoreMongo, URI: "mongodb://saver:s3cret@blocks1:27017,blocks2:27017/?replicaSet=blocks", LoadFactor: 1},
	} {
		s.ok(s.backup.SaveStore(t.Context(), x))
	}
	b.get("/admin/backup").want(200, "well", "1 GiB free of 4 GiB", "Not to do: new backups", "7.0.16", "silent", "stopped", "The folder of releases cannot be read.", "it can hold no head",
		"disk fills up", "/mnt/nas", "shop-backups/hw/ at eu-central-1", "blocks1:27017,blocks2:27017").wantNot("s3cret", "AKIA123", "saver", "No backup daemon")
	s.user("reader@example.com", model.Grant{Role: model.GroupReadOnly, GroupID: g.ID})
	s.signIn("reader@example.com").get("/admin/backup").want(403)
}

// TestPushPages restores into a running deployment: the target is chosen among those the visitor may write to, the plan is shown, the
// name is typed where something is replaced, and the page of the restore says how far it is and what cancelling leaves.
func TestPushPages(t *testing.T) {
	s, g, b := owner(t)
	s.set(g, backedUp, model.ClusterReplicaSet, "rs0")
	at := "/g/" + string(g.ID) + "/backup"
	set, list := at+"/"+string(backedUp), at+"-restores/"
	b.get(set).post(set+"/state", "want", "STARTED").want(200)
	backuptest.History(t, s.backup, g.ID, backedUp, s.now.Add(-11*time.Minute))
	b.get(set+"/restore").want(200, "Write into a running deployment", "No backup agent is calling", "/agents#install-backup")

	const rs1 = model.ID("5f0000000000000000000c11")
	backuptest.Target(t, s.store, g.ID, rs1, "rs1", s.now)
	other := s.group("Other")
	backuptest.Target(t, s.store, other.ID, "5f0000000000000000000c12", "rs2", s.now)
	admin := s.signIn(s.user("admin@example.com", model.Grant{Role: model.GroupBackupAdmin, GroupID: g.ID}, model.Grant{Role: model.GroupReadOnly, GroupID: other.ID}).Username)
	into := func(group, cluster model.ID) string { return string(group) + "/" + string(cluster) }
	admin.get(set+"/restore").want(200, `value="`+into(g.ID, rs1)+`"`, "rs0 (the backup is of it)").wantNot("rs2")

	minute := s.now.Add(-5 * time.Minute).Format("2006-01-02T15:04:05")
	form := func(b *browser, do string, more ...string) *browser {
		return b.get(set+"/restore").post(set+"/restore", append([]string{"at", minute, "way", "push", "do", do}, more...)...)
	}
	form(admin, "plan").want(422, "Choose the replica set to write into")
	form(admin, "plan", "into", into(other.ID, "5f0000000000000000000c12")).want(422, "Choose the replica set to write into")
	form(admin, "plan", "into", into(g.ID, "5f0000000000000000000c12")).want(422, "the target is no cluster of that group")
	form(admin, "plan", "into", into(g.ID, rs1), "users", "on", "namespaces", "shop").want(422, "leave the choice of namespaces out")
	form(admin, "plan", "into", into(g.ID, rs1), "rename", "shop=shop2").want(200, "Into the running deployment <b>rs1</b> (mongod 7.0.14)", "puts them in place", "shop2.orders", "is in the way", "stay as they are", "Start the restore").
		wantNot("to confirm that")
	form(admin, "plan", "into", into(g.ID, rs1), "drop", "on", "users", "on").want(200, "Type rs1 to confirm", "may be replaced", "is replaced", "are added")
	form(admin, "start", "into", into(g.ID, rs1), "drop", "on").want(422, "Type rs1, the name of the replica set", "Type rs1 to confirm", "The plan")
	form(admin, "start", "into", into(g.ID, rs1), "drop", "on", "confirm", "rs0").want(422)
	form(admin, "start", "into", into(g.ID, rs1), "drop", "on", "users", "on", "confirm", " rs1 ").want(200, "in progress", "into <b>rs1</b>", "Waits for a backup daemon", "Nothing was written into rs1", "to come", "/clusters/"+string(rs1))
	job := admin.url[strings.LastIndex(admin.url, "/")+1:]
	form(admin, "start", "into", into(g.ID, rs1)).want(422, "is being written into rs1")

	change := func(f func(*backup.Restore)) {
		s.t.Helper()
		s.ok(s.backup.UpdateRestore(t.Context(), job, func(r *backup.Restore) error { f(r); return nil }))
	}
	change(func(r *backup.Restore) {
		r.Objects = []backup.Object{{Key: "restores/x", Name: "part-000001.tar.zst", Bytes: 1}}
		r.OfferPush(s.now)
	})
	admin.get(list+job).want(200, "Waits for the backup agent", "ends if no agent has begun by").wantNot("Fetch it", "The backup agent beside rs1 waits")
	change(func(r *backup.Restore) {
		r.Step = "looks for the primary of rs1; the agent may not write to rs1: set restoreUsername"
	})
	admin.get(list+job).want(200, "The backup agent beside rs1 waits.", "The agent may not write to rs1: set restoreUsername.")
	change(func(r *backup.Restore) {
		r.Do, r.Waits, r.Delivery.Status, r.Step, r.Total, r.Beat = restoreplan.DoStage, false, model.DeliveryTransferring, "writes collections under names of their own", 1000, s.now.Add(-30*time.Second)
	})
	change(func(r *backup.Restore) { r.Done, r.Beat = 250, s.now })
	admin.get(list+job).want(200, "Writes collections under names of their own", "25 %", "about 92 s left", "removes what it has written into rs1 so far")
	change(func(r *backup.Restore) {
		r.Do, r.Step = restoreplan.DoSwap, "puts collections in place: 1 of 2, shop.orders"
	})
	admin.get(list+job).want(200, "stops between two collections of rs1").wantNot("250 B")
	admin.get(strings.TrimSuffix(list, "/")).want(200, "into rs1", "Puts collections in place")
	admin.get(list+job).post(list+job+"/cancel").want(200, "The restore was cancelled", "Cancelled by admin@example.com; its backup agent stops between two collections", "has not reported yet", "way=push", "drop=on", "users=on")
	change(func(r *backup.Restore) { r.Delivery.Status = model.DeliveryFinished })
	admin.get(list + job).wantNot("has not reported yet")

	form(admin, "start", "into", into(g.ID, rs1), "drop", "on", "confirm", "rs1").want(200)
	job = admin.url[strings.LastIndex(admin.url, "/")+1:]
	change(func(r *backup.Restore) {
		r.Objects = []backup.Object{{Key: "restores/x", Name: "part-000001.tar.zst", Bytes: 1}}
		r.Status, r.Finished, r.Delivery.Status = model.RestoreFinished, s.now, model.DeliveryFinished
	})
	admin.get(list+job).want(200, "in place", "Ended", "Plan it again").wantNot("/cancel", "The link is over", "Link expires")
	var cancelled bool
	for _, e := range s.events(g.ID) {
		cancelled = cancelled || e.Type == model.EventRestoreCancelled && strings.Contains(e.Text, "rs1")
	}
	if !cancelled {
		t.Error("no event of the cancellation")
	}
	form(s.signIn(s.user("reader@example.com", model.Grant{Role: model.GroupReadOnly, GroupID: g.ID}).Username), "plan", "into", into(g.ID, rs1)).want(403)
}
