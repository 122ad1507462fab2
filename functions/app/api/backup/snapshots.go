package backup

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/functions/app/backups"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

// timestamp is a position of the oplog as the API renders it.
func timestamp(t bson.Timestamp) rest.Object {
	return rest.Object{"date": rest.ISOTime(time.Unix(int64(t.T), 0)), "increment": t.I}
}

func (c *call) snapshotEntity(b *backups.Backup, x *backup.Snapshot) rest.Object {
	group, cluster := string(x.GroupID), string(x.Job)
	list, kind := x.Namespaces, "blacklist"
	if x.Filter == filter.Include {
		kind = "whitelist"
	}
	if list == nil {
		list = []string{}
	}
	part := rest.Object{
		"typeName": "REPLICA_SET", "clusterId": x.Job, "replicaSetName": x.SetName, "mongodVersion": x.Version, "fcv": x.FCV,
		"dataSizeBytes": x.DataBytes, "fileSizeBytes": x.FileBytes, "storageSizeBytes": x.AddedBytes, "compressionSetting": "ZSTD",
		"encryptionEnabled": x.Encrypted, "replicaState": "SECONDARY",
	}
	rest.PutTime(part, "completedTime", x.Finished)
	o := rest.Object{
		"id": x.ID, "groupId": x.GroupID, "clusterId": x.Job, "clusterName": b.Cluster.Name, "complete": x.Complete,
		"created":     rest.Object{"date": rest.ISOTime(x.Created), "increment": 1},
		"doNotDelete": x.DoNotDelete, "isPossiblyInconsistent": false, "missingShards": []string{},
		"lastOplogAppliedTimestamp": timestamp(x.Applied.TS),
		"namespaceFilterList":       rest.Object{"filterType": kind, "filterList": list},
		"parts":                     []rest.Object{part},
		"links": c.Self(c.Href("groups", group, "clusters", cluster, "snapshots", x.ID),
			rest.Rel("cluster", c.Href("groups", group, "clusters", cluster)), rest.Rel("group", c.Href("groups", group))),
	}
	if !x.DoNotDelete {
		rest.PutTime(o, "expires", x.Expires)
	}
	rest.PutTime(o, "verified", x.Verified) // ours, as the next
	rest.Put(o, "verifyError", x.VerifyError)
	return o
}

func (c *call) snapshots() (any, error) {
	b, err := c.one()
	if err != nil {
		return nil, err
	}
	complete, incomplete := true, false
	switch q := c.R.URL.Query().Get("completed"); q {
	case "", "true":
	case "false":
		complete, incomplete = false, true
	case "all":
		incomplete = true
	default:
		return nil, rest.Fail(http.StatusBadRequest, "INVALID_QUERY_PARAMETER", "An invalid value for query parameter completed was specified: %s.", q)
	}
	all, err := c.Service.Snapshots(c.R.Context(), b.Config.ClusterID, complete, incomplete)
	if err != nil {
		return nil, err
	}
	return rest.Page(c.Call, all, func(x backup.Snapshot) rest.Object { return c.snapshotEntity(&b, &x) })
}

// oneSnapshot is the snapshot that is the path's third variable.
func (c *call) oneSnapshot() (b backups.Backup, x backup.Snapshot, err error) {
	if b, err = c.one(); err != nil {
		return b, x, err
	}
	id := c.Args[2]
	if len(id) != 24 {
		return b, x, rest.Fail(http.StatusNotFound, "INVALID_SNAPSHOT_ID", "An invalid snapshot ID %s was specified.", id)
	}
	all, err := c.Service.Snapshots(c.R.Context(), b.Config.ClusterID, true, true)
	if err != nil {
		return b, x, err
	}
	i := slices.IndexFunc(all, func(s backup.Snapshot) bool { return s.ID == id })
	if i < 0 {
		return b, x, rest.Fail(http.StatusNotFound, "SNAPSHOT_NOT_FOUND", "No snapshot with ID %s exists for cluster %s.", id, b.Config.ClusterID)
	}
	return b, all[i], nil
}

func (c *call) snapshot() (any, error) {
	b, x, err := c.oneSnapshot()
	if err != nil {
		return nil, err
	}
	return c.snapshotEntity(&b, &x), nil
}

func (c *call) patchSnapshot() (any, error) {
	b, x, err := c.oneSnapshot()
	if err != nil {
		return nil, err
	}
	var in struct {
		rest.Ignored
		DoNotDelete *bool   `json:"doNotDelete"`
		Expires     *string `json:"expires"`
	}
	if err := c.DecodeOver(&in, c.snapshotEntity(&b, &x)); err != nil {
		return nil, err
	}
	var until time.Time
	if in.Expires != nil {
		var ok bool
		if until, ok = rest.ParseDate(*in.Expires); !ok {
			return nil, rest.Fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Invalid attribute expires specified: an ISO 8601 date is needed.")
		}
	}
	switch {
	case in.Expires == nil && in.DoNotDelete == nil:
		return nil, rest.Fail(http.StatusBadRequest, "MISSING_ONE_OF_ATTRIBUTES", "Either the doNotDelete attribute or the expires attribute must be specified.")
	case in.Expires != nil && in.DoNotDelete != nil:
		return nil, rest.Fail(http.StatusForbidden, "CANNOT_MODIFY_SNAPSHOT", "Either doNotDelete or expires can be changed, not both at once.")
	case !x.Complete:
		return nil, rest.Fail(http.StatusForbidden, "CANNOT_MODIFY_SNAPSHOT", "The snapshot is not complete.")
	}
	kept, acts, err := c.Service.Keep(c.R.Context(), b, x.ID, in.DoNotDelete != nil && *in.DoNotDelete, until)
	if err != nil {
		return nil, err
	}
	c.done(acts)
	return c.snapshotEntity(&b, &kept), nil
}

func (c *call) deleteSnapshot() (any, error) {
	b, x, err := c.oneSnapshot()
	if err != nil {
		return nil, err
	}
	window := time.Duration(b.Config.Schedule.PointInTimeHour) * time.Hour
	if c.Now().Sub(x.At) < window && !c.Who.Can(auth.AdminBackup, "", "") {
		return nil, rest.ErrUnauthorized // within the point in time window only administrators may
	}
	acts, err := c.Service.Delete(c.R.Context(), b, x.ID)
	if err != nil {
		return nil, err
	}
	c.done(acts)
	return rest.Object{}, nil
}

func (c *call) takeSnapshot() (any, error) {
	b, err := c.one()
	if err != nil {
		return nil, err
	}
	days := 0
	if q := c.R.URL.Query().Get("retentionDays"); q != "" {
		if days, err = strconv.Atoi(q); err != nil || days < 1 || days > 3650 {
			return nil, rest.Fail(http.StatusBadRequest, "INVALID_QUERY_PARAMETER", "An invalid value for query parameter retentionDays was specified: 1 to 3650.")
		}
	}
	w, acts, err := c.Service.Take(c.R.Context(), b, days, c.Who.Name())
	if err != nil {
		return nil, err
	}
	c.done(acts)
	return rest.Object{
		"id": w.ID, "clusterName": b.Cluster.Name, "description": "on demand snapshot, asked for by " + w.By,
		"timestamp": rest.Object{"date": rest.ISOTime(w.At), "time": w.At.Unix(), "increment": 0},
	}, nil
}

// Checkpoints are of sharded clusters of old versions: a replica set has none.
func (c *call) checkpoints() (any, error) {
	if _, err := c.one(); err != nil {
		return nil, err
	}
	return rest.Page(c.Call, nil, func(struct{}) rest.Object { return nil })
}

func (c *call) checkpoint() (any, error) {
	if _, err := c.one(); err != nil {
		return nil, err
	}
	return nil, rest.Fail(http.StatusNotFound, "CHECKPOINT_NOT_FOUND", "No checkpoint with ID %s exists.", c.Args[2])
}
