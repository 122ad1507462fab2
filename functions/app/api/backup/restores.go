package backup

import (
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/functions/app/backups"
	"github.com/heartwood-db/heartwood/shared/auth"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/restoreplan"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

func (c *call) restoreEntity(b *backups.Backup, r *backup.Restore) rest.Object {
	group, cluster := string(r.GroupID), string(r.Job)
	d := rest.Object{"methodName": model.DeliverHTTP, "maxDownloads": r.Delivery.MaxDownloads, "expirationHours": r.Delivery.Hours, "statusName": deliveryStatus(r)}
	rest.PutTime(d, "expires", r.Delivery.Expires)
	plan, planned := backups.PlanOf(r)
	if r.Method == model.DeliverPush { // by HTTP too, as documented: the target's agent fetches what it writes
		d["maxDownloads"], d["targetGroupId"], d["targetClusterId"] = math.MaxInt32, r.TargetGroup, r.TargetID
		delete(d, "expirationHours")
		if planned && plan.Into != nil {
			d["targetClusterName"] = plan.Into.Name
		}
	}
	if path, err := c.Service.Link(*r); err == nil {
		d["url"] = c.pullURL() + path
	}
	hashes := []rest.Object{}
	for _, o := range r.Objects {
		if r.Method == model.DeliverHTTP {
			hashes = append(hashes, rest.Object{"fileName": o.Name, "hash": o.SHA256, "typeName": "SHA256"})
		}
	}
	o := rest.Object{
		"id": r.ID, "batchId": r.BatchID, "groupId": r.GroupID, "clusterId": r.Job, "clusterName": b.Cluster.Name,
		"created": rest.ISOTime(r.Created), "statusName": r.Status, "pointInTime": r.PointInTime, "encryptionEnabled": false,
		"delivery": d, "hashes": hashes,
		"links": c.Self(c.Href("groups", group, "clusters", cluster, "restoreJobs", r.ID),
			rest.Rel("cluster", c.Href("groups", group, "clusters", cluster)), rest.Rel("group", c.Href("groups", group))),
	}
	at := r.Target
	if planned && at.IsZero() {
		at = plan.Target
	}
	if !at.IsZero() {
		o["timestamp"] = timestamp(at)
	}
	if !r.PointInTime {
		rest.Put(o, "snapshotId", r.SnapshotID)
	}
	// Ours: what is being done, and what went wrong.
	if r.Status == model.RestoreInProgress {
		o["progress"] = progressEntity(r, &plan)
	}
	if r.Method == model.DeliverPush {
		o["drop"], o["users"] = r.Drop, r.Users
	}
	if len(r.Namespaces) > 0 {
		o["namespaces"] = r.Namespaces
	}
	if len(r.Rename) > 0 {
		o["rename"] = r.Rename
	}
	rest.Put(o, "format", r.Format)
	rest.Put(o, "errorText", r.Error)
	rest.Put(o, "remedy", r.Remedy)
	rest.PutTime(o, "finished", r.Finished)
	return o
}

// progressEntity is how far a restore is, with the steps of its plan.
func progressEntity(r *backup.Restore, plan *restoreplan.Plan) rest.Object {
	o := rest.Object{"step": r.Step, "doneBytes": r.Done, "totalBytes": r.Total}
	if backups.At(r) == restoreplan.DoSwap { // that step counts collections, in its text
		o["doneBytes"], o["totalBytes"] = 0, 0
	}
	p := backups.ProgressOf(r, plan)
	if p.Left >= 0 {
		o["secondsLeft"] = int64(p.Left.Seconds())
	}
	steps := []rest.Object{}
	for i, s := range plan.Steps {
		steps = append(steps, rest.Object{"do": s.Do, "text": s.Text, "statusName": p.Steps[i]})
	}
	o["steps"] = steps
	return o
}

// deliveryStatus is the delivery as clients of the API know it.
func deliveryStatus(r *backup.Restore) string {
	switch {
	case r.Status == model.RestoreBroken:
		return "FAILED"
	case r.Status == model.RestoreKilled:
		return "INTERRUPTED"
	case r.Status == model.RestoreInProgress && r.Daemon == "" && len(r.Objects) == 0:
		return "NOT_STARTED"
	case r.Status == model.RestoreInProgress:
		return "IN_PROGRESS"
	case r.Method == model.DeliverPush, r.Delivery.Status == model.DeliveryTransferring, r.Delivery.Status == model.DeliveryFinished && r.Delivery.Downloads < r.Delivery.MaxDownloads:
		return "READY"
	case r.Delivery.Status == model.DeliveryFinished:
		return string(model.DeliveryMaxDownloads)
	}
	return cmp.Or(string(r.Delivery.Status), "READY")
}

// pullURL is where archives are fetched.
func (c *call) pullURL() string {
	if c.PullURL != "" {
		return strings.TrimSuffix(c.PullURL, "/")
	}
	return strings.TrimSuffix(c.BaseURL(), rest.Prefix)
}

func (c *call) restores() (any, error) {
	b, err := c.one()
	if err != nil {
		return nil, err
	}
	batch := cmp.Or(c.R.URL.Query().Get("batchId"), c.R.URL.Query().Get("batchid"))
	var all []backup.Restore
	q := backup.RestoreQuery{Group: c.Group.ID, Job: b.Config.ClusterID, Limit: 300}
	for len(all) < 300 { // the last 300, as the product keeps
		page, next, err := c.Service.Restores(c.R.Context(), q)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if q.After = next; next == "" {
			break
		}
	}
	if batch != "" {
		all = slices.DeleteFunc(all, func(r backup.Restore) bool { return r.BatchID != batch })
	}
	return rest.Page(c.Call, all, func(r backup.Restore) rest.Object { return c.restoreEntity(&b, &r) })
}

// oneRestore is the restore that is the path's third variable.
func (c *call) oneRestore() (b backups.Backup, r backup.Restore, err error) {
	if b, err = c.one(); err != nil {
		return b, r, err
	}
	id := c.Args[2]
	if len(id) != 24 {
		return b, r, rest.Fail(http.StatusNotFound, "INVALID_JOB_ID", "An invalid restore job ID %s was specified.", id)
	}
	r, err = c.Service.Restore(c.R.Context(), c.Group.ID, id)
	if rest.IsNotFound(err) || err == nil && r.Job != b.Config.ClusterID {
		err = rest.Fail(http.StatusNotFound, "RESTORE_JOB_NOT_FOUND", "No restore job with ID %s exists for cluster %s.", id, b.Config.ClusterID)
	}
	return b, r, err
}

func (c *call) restore() (any, error) {
	b, r, err := c.oneRestore()
	if err != nil {
		return nil, err
	}
	return c.restoreEntity(&b, &r), nil
}

func (c *call) cancelRestore() (any, error) {
	_, r, err := c.oneRestore()
	if err != nil {
		return nil, err
	}
	acts, err := c.Service.Cancel(c.R.Context(), r, c.Who.Name())
	c.done(acts)
	return rest.Object{}, err
}

// number takes a JSON number or a string of one, as clients send either.
type number struct {
	set   bool
	value float64
}

// UnmarshalJSON reads it.
func (n *number) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `"`)
	if s == "null" || s == "" {
		return nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || v < 0 || v > 1e15 {
		return errors.New("a number is needed")
	}
	n.set, n.value = true, v
	return nil
}

// restoreBody is what a restore is asked for with. Format, namespaces, rename, compress, drop and users are ours.
type restoreBody struct {
	rest.Ignored
	SnapshotID string `json:"snapshotId"`
	Millis     number `json:"pointInTimeUTCMillis"`
	OplogTS    number `json:"oplogTs"`
	OplogInc   number `json:"oplogInc"`
	Timestamp  *struct {
		Date      string `json:"date"`
		Increment uint32 `json:"increment"`
	} `json:"timestamp"`
	CheckpointID string          `json:"checkpointId"`
	Delivery     *deliveryBody   `json:"delivery"`
	Format       string          `json:"format"`
	Compress     *bool           `json:"compress"`
	Namespaces   []string        `json:"namespaces"`
	Rename       json.RawMessage `json:"rename"`
	Drop         bool            `json:"drop"`
	Users        bool            `json:"users"`
}

type deliveryBody struct {
	Method         string  `json:"methodName"`
	Hours          *int    `json:"expirationHours"`
	Expires        *string `json:"expires"`
	MaxDownloads   *int    `json:"maxDownloads"`
	TargetGroup    string  `json:"targetGroupId"`
	TargetID       string  `json:"targetClusterId"`
	TargetName     string  `json:"targetClusterName"`
	FormatName     string  `json:"formatName"`
	HashName       string  `json:"hashName"`
	PasswordType   string  `json:"passwordTypeName"`
	Hostname       string  `json:"hostname"`
	Port           int     `json:"port"`
	TargetDir      string  `json:"targetDirectory"`
	Username       string  `json:"username"`
	MaxFileSize    int64   `json:"maxFileSize"`
	StatusName     string  `json:"statusName"`
	URL            string  `json:"url"`
	DeliveryMethod string  `json:"deliveryMethod"`
}

// order turns the body into what the service understands.
func (c *call) order(in *restoreBody) (o backups.Order, err error) {
	fail := func(status int, code, detail string, args ...any) (backups.Order, error) {
		return o, rest.Fail(status, code, detail, args...)
	}
	given := 0
	for _, is := range []bool{in.SnapshotID != "", in.Millis.set, in.OplogTS.set || in.OplogInc.set, in.Timestamp != nil, in.CheckpointID != ""} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return fail(http.StatusBadRequest, "MISSING_ONE_OF_THREE_ATTRIBUTES", "Exactly one of snapshotId, pointInTimeUTCMillis, and oplogTs with oplogInc must be specified.")
	case in.CheckpointID != "":
		return fail(http.StatusNotFound, "CHECKPOINT_NOT_FOUND", "No checkpoint with ID %s exists.", in.CheckpointID)
	case in.SnapshotID != "":
		o.Snapshot = in.SnapshotID
	case in.Millis.set:
		o.Second = time.UnixMilli(int64(in.Millis.value)).UTC()
	case in.Timestamp != nil:
		t, ok := rest.ParseDate(in.Timestamp.Date)
		if !ok || t.Unix() <= 0 || t.Unix() > math.MaxUint32 {
			return fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Invalid attribute timestamp.date specified.")
		}
		o.Point = bson.Timestamp{T: uint32(t.Unix()), I: in.Timestamp.Increment} //nolint:gosec // checked above
	default:
		if !in.OplogTS.set || !in.OplogInc.set || in.OplogTS.value > math.MaxUint32 || in.OplogInc.value > math.MaxUint32 {
			return fail(http.StatusBadRequest, "MISSING_ATTRIBUTES", "oplogTs and oplogInc are needed together.")
		}
		o.Point = bson.Timestamp{T: uint32(in.OplogTS.value), I: uint32(in.OplogInc.value)}
	}
	o.Namespaces, o.Drop, o.Users, o.Compress = in.Namespaces, in.Drop, in.Users, in.Compress == nil || *in.Compress
	o.Format = restoreplan.Format(strings.ToUpper(in.Format))
	if len(in.Rename) > 0 {
		if json.Unmarshal(in.Rename, &o.Rename) != nil {
			return fail(http.StatusBadRequest, "INVALID_JSON_ATTRIBUTE", "Received JSON for the rename attribute has the wrong type: it maps names to names.")
		}
	}
	if in.Delivery == nil {
		return o, nil
	}
	return o, c.deliver(&o, in.Delivery)
}

func (c *call) deliver(o *backups.Order, d *deliveryBody) error {
	switch strings.ToUpper(d.Method) {
	case "", string(model.DeliverHTTP):
		if d.Hours != nil && d.Expires != nil {
			return rest.Fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Either expirationHours or expires can be specified, not both.")
		}
		if d.Hours != nil {
			o.LinkHours = *d.Hours
		}
		if d.Expires != nil {
			t, ok := rest.ParseDate(*d.Expires)
			if !ok || !t.After(c.Now()) {
				return rest.Fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Invalid attribute delivery.expires specified: a date in the future is needed.")
			}
			o.LinkHours = int(math.Ceil(t.Sub(c.Now()).Hours()))
		}
		if d.MaxDownloads != nil {
			if o.Downloads = *d.MaxDownloads; o.Downloads < 1 {
				return rest.Fail(http.StatusBadRequest, "ATTRIBUTE_NEGATIVE_OR_ZERO", "maxDownloads must be at least 1.")
			}
		}
		return nil
	case string(model.DeliverPush):
		o.Push, o.TargetGroup, o.Target = true, model.ID(cmp.Or(d.TargetGroup, string(c.Group.ID))), model.ID(d.TargetID)
		return c.findTarget(o, d.TargetName)
	}
	return rest.Fail(http.StatusBadRequest, "UNSUPPORTED_DELIVERY_METHOD", "The delivery method %s is not supported: HTTP and AUTOMATED_RESTORE are.", d.Method)
}

// findTarget finds the target, and checks that the caller may write into it: it takes the right to restore in both groups. Whether
// a target that they may not see exists is not told.
func (c *call) findTarget(o *backups.Order, name string) error {
	refused := rest.Fail(http.StatusForbidden, cannotRestore, "The target is not known, or may not be restored into by this key.")
	groups, err := c.Inventory.Groups(c.R.Context())
	if err != nil {
		return err
	}
	i := slices.IndexFunc(groups, func(g model.Group) bool { return g.ID == o.TargetGroup })
	if i < 0 || !c.Who.Can(auth.OperateBackup, groups[i].ID, groups[i].OrgID) {
		return refused
	}
	if o.Target == "" && name != "" {
		clusters, err := c.Inventory.Clusters(c.R.Context(), o.TargetGroup)
		if err != nil {
			return err
		}
		for _, k := range clusters {
			switch {
			case k.Name != name || !backups.Backable(&k):
			case o.Target != "":
				return rest.Fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Invalid attribute delivery.targetClusterName specified: several clusters of that group have this name, give targetClusterId.")
			default:
				o.Target = k.ID
			}
		}
	}
	if o.Target == "" {
		return refused
	}
	return nil
}

func (c *call) createRestore() (any, error) {
	b, err := c.one()
	if err != nil {
		return nil, err
	}
	var in restoreBody
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	o, err := c.order(&in)
	if err != nil {
		return nil, err
	}
	r, acts, err := c.Service.Start(c.R.Context(), b, o, c.Who.Name())
	if err != nil {
		return nil, err
	}
	c.done(acts)
	return rest.Page(c.Call, []backup.Restore{r}, func(r backup.Restore) rest.Object { return c.restoreEntity(&b, &r) })
}

// plan answers what a restore would do, and does nothing (ours).
func (c *call) plan() (any, error) {
	b, err := c.one()
	if err != nil {
		return nil, err
	}
	var in restoreBody
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	o, err := c.order(&in)
	if err != nil {
		return nil, err
	}
	p, err := c.Service.Plan(c.R.Context(), b, o)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	var out rest.Object
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, err
	}
	out["targetTimestamp"] = timestamp(p.Target)
	delete(out, "target")
	delete(out, "replayFrom")
	return out, nil
}

// ranges lists what can be restored: a bare array, as documented, and ours: the holes with their reasons with ?holes=true.
func (c *call) ranges() (any, error) {
	b, err := c.one()
	if err != nil {
		return nil, err
	}
	all, holes, err := c.Service.Ranges(c.R.Context(), b.Config.ClusterID)
	if err != nil {
		return nil, err
	}
	list := []rest.Object{}
	for _, r := range all {
		list = append(list, rest.Object{
			"start": timestamp(r.From), "end": timestamp(r.To), "snapshotId": r.Snapshots[0].ID, "shardCount": 0, "configServerType": "NONE",
		})
	}
	if c.R.URL.Query().Get("holes") != "true" {
		return list, nil
	}
	gaps := []rest.Object{}
	for _, h := range holes {
		gaps = append(gaps, rest.Object{"start": timestamp(h.From), "end": timestamp(h.To), "reason": h.Why})
	}
	return rest.Object{"ranges": list, "holes": gaps}, nil
}
