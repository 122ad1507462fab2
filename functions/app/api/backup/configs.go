package backup

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/functions/app/backups"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog/filter"
	"github.com/heartwood-db/heartwood/shared/snapshot"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

func (c *call) configEntity(b backups.Backup) rest.Object {
	k := b.Config
	o := rest.Object{
		"groupId": k.GroupID, "clusterId": k.ClusterID, "statusName": k.Status, "storageEngineName": "WIRED_TIGER",
		"authMechanismName": orNone(k.Mechanism), "sslEnabled": k.TLS, "encryptionEnabled": k.Encrypted,
		"excludedNamespaces": []string{}, "includedNamespaces": []string{}, "provisioned": k.Status != model.BackupInactive,
		"multiRegionBackupEnabled": false,
		"links":                    c.Self(c.Href("groups", string(k.GroupID), "backupConfigs", string(k.ClusterID)), c.relations(&k)...),
	}
	switch k.Filter {
	case filter.Exclude:
		o["excludedNamespaces"] = k.Namespaces
	case filter.Include:
		o["includedNamespaces"] = k.Namespaces
	}
	rest.Put(o, "username", k.Username)
	if k.SyncSource != "" && k.SyncSource != "PRIMARY" && k.SyncSource != "SECONDARY" {
		o["preferredMember"] = k.SyncSource
	}
	if k.StoreID != "" {
		o["snapshotStore"] = rest.Object{"snapshotStoreId": k.StoreID}
	}
	return o
}

func orNone(mechanism string) string {
	if mechanism == "" {
		return "NONE"
	}
	return mechanism
}

func (c *call) relations(k *backup.Config) []rest.Link {
	group, cluster := string(k.GroupID), string(k.ClusterID)
	return []rest.Link{
		rest.Rel("group", c.Href("groups", group)),
		rest.Rel("cluster", c.Href("groups", group, "clusters", cluster)),
		rest.Rel("snapshotSchedule", c.Href("groups", group, "backupConfigs", cluster, "snapshotSchedule")),
	}
}

func (c *call) configs() (any, error) {
	all, err := c.Service.List(c.R.Context(), c.Group.ID)
	if err != nil {
		return nil, err
	}
	return rest.Page(c.Call, all, c.configEntity)
}

func (c *call) config() (any, error) {
	b, err := c.one()
	if err != nil {
		return nil, err
	}
	return c.configEntity(b), nil
}

// configBody is the body of a PATCH, which clients send whole, as they read it, or in part: what is absent or null stays.
type configBody struct {
	rest.Ignored
	GroupID   string  `json:"groupId"`
	ClusterID string  `json:"clusterId"`
	Status    string  `json:"statusName"`
	Engine    string  `json:"storageEngineName"`
	Source    *string `json:"syncSource"`
	Preferred *string `json:"preferredMember"`
	Mechanism *string `json:"authMechanismName"`
	Username  *string `json:"username"`
	Password  *string `json:"password"`
	SSL       *bool   `json:"sslEnabled"`
	// Lists that are given and empty take the filter away.
	Excluded      *[]string `json:"excludedNamespaces"`
	Included      *[]string `json:"includedNamespaces"`
	Provisioned   bool      `json:"provisioned"`
	Encrypted     *bool     `json:"encryptionEnabled"`
	MultiRegion   bool      `json:"multiRegionBackupEnabled"`
	Misconfigured bool      `json:"multiRegionMisconfigured"`
	Store         *struct {
		Type string `json:"snapshotStoreType"`
		ID   string `json:"snapshotStoreId"`
	} `json:"snapshotStore"`
}

// apply puts the body into a configuration.
func (in *configBody) apply(k *backup.Config) error {
	if in.Engine != "" && in.Engine != "WIRED_TIGER" && in.Engine != "MEMORY_MAPPED" {
		return rest.Fail(http.StatusBadRequest, "INVALID_ENUM_VALUE", "An invalid enumeration value %s was specified: WIRED_TIGER is the one there is.", in.Engine)
	}
	for _, s := range []*string{in.Preferred, in.Source} { // the plainer wish wins
		if s != nil && *s != "" {
			k.SyncSource, k.Resync = *s, true // who names the source of a full read allows one
			if up := strings.ToUpper(*s); up == "PRIMARY" || up == "SECONDARY" {
				k.SyncSource = up
			}
		}
	}
	if in.Mechanism != nil {
		if k.Mechanism = *in.Mechanism; k.Mechanism == "NONE" {
			k.Mechanism, k.Username, k.Password = "", "", nil
		}
	}
	if in.Username != nil {
		k.Username = *in.Username
	}
	if in.Password != nil && *in.Password != "" {
		k.NewPassword = model.Secret(*in.Password)
	}
	if in.SSL != nil {
		k.TLS = *in.SSL
	}
	if in.Encrypted != nil {
		k.Encrypted = *in.Encrypted
	}
	if in.Store != nil && in.Store.ID != "" {
		k.StoreID = in.Store.ID
	}
	list := func(l *[]string) []string {
		if l == nil {
			return nil
		}
		return *l
	}
	excluded, included := list(in.Excluded), list(in.Included)
	switch {
	case len(excluded) > 0 && len(included) > 0:
		return rest.Fail(http.StatusBadRequest, "INVALID_FILTERLIST", "Namespaces are either excluded or included, not both.")
	case len(excluded) > 0:
		k.Filter, k.Namespaces = filter.Exclude, excluded
	case len(included) > 0:
		k.Filter, k.Namespaces = filter.Include, included
	case in.Excluded != nil || in.Included != nil:
		k.Filter, k.Namespaces = filter.None, nil
	}
	if _, err := filter.New(k.Filter, k.Namespaces); err != nil {
		return rest.Fail(http.StatusBadRequest, "INVALID_FILTERLIST", "%s", sentence(err.Error()))
	}
	return nil
}

func (c *call) patchConfig() (any, error) {
	b, err := c.one()
	if err != nil {
		return nil, err
	}
	var in configBody
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	want := model.BackupStatus(in.Status)
	if want == model.BackupProvisioning || want == model.BackupInactive {
		if want != b.Config.Status { // a client that sends everything back says the present state
			return nil, rest.Fail(http.StatusForbidden, "UNSUPPORTED_SET_BACKUP_STATE", "The state %s cannot be set.", want)
		}
		want = ""
	}
	next := b.Config
	if err := in.apply(&next); err != nil {
		return nil, err
	}
	switch want {
	case "", model.BackupStarted, model.BackupStopped, model.BackupTerminating:
	default:
		return nil, rest.Fail(http.StatusBadRequest, "INVALID_ENUM_VALUE", "An invalid enumeration value %s was specified.", want)
	}
	kept, acts, err := c.Service.Save(c.R.Context(), b, next, want)
	c.done(acts)
	if err != nil {
		return nil, stateRefusal(err, want)
	}
	b.Config = kept
	return c.configEntity(b), nil
}

// schedule is refused for a backup that was never started, as clients expect.
func (c *call) started() (backups.Backup, error) {
	b, err := c.one()
	if err == nil && b.Config.Status == model.BackupInactive {
		err = rest.Fail(http.StatusConflict, "CANNOT_GET_BACKUP_CONFIG_INVALID_STATE", "The backup of cluster %s is not started.", b.Config.ClusterID)
	}
	return b, err
}

func (c *call) scheduleEntity(k *backup.Config) rest.Object {
	p := k.Schedule
	o := rest.Object{
		"groupId": k.GroupID, "clusterId": k.ClusterID, "snapshotIntervalHours": p.IntervalHours, "snapshotRetentionDays": p.RetentionDays,
		"dailySnapshotRetentionDays": p.DailyDays, "weeklySnapshotRetentionWeeks": p.WeeklyWeeks,
		"monthlySnapshotRetentionMonths": p.MonthlyMonths, "pointInTimeWindowHours": p.PointInTimeHour,
		"referenceHourOfDay": p.ReferenceHour, "referenceMinuteOfHour": p.ReferenceMinute, "referenceTimeZoneOffset": zone(p.ReferenceZone),
		"links": c.Self(c.Href("groups", string(k.GroupID), "backupConfigs", string(k.ClusterID), "snapshotSchedule")),
	}
	return o
}

// zone is an offset as "+0130".
func zone(minutes int) string {
	sign := "+"
	if minutes < 0 {
		sign, minutes = "-", -minutes
	}
	two := func(n int) string { return strconv.Itoa(n/10%10) + strconv.Itoa(n%10) }
	return sign + two(minutes/60) + two(minutes%60)
}

var offset = regexp.MustCompile(`^([+-])(\d{2}):?(\d{2})$`)

func parseZone(s string) (minutes int, ok bool) {
	if s == "Z" || s == "UTC" {
		return 0, true
	}
	m := offset.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	h, _ := strconv.Atoi(m[2])
	mm, _ := strconv.Atoi(m[3])
	if minutes = h*60 + mm; m[1] == "-" {
		minutes = -minutes
	}
	return minutes, h <= 14 && mm < 60
}

func (c *call) schedule() (any, error) {
	b, err := c.started()
	if err != nil {
		return nil, err
	}
	return c.scheduleEntity(&b.Config), nil
}

func (c *call) patchSchedule() (any, error) {
	b, err := c.started()
	if err != nil {
		return nil, err
	}
	var in struct {
		rest.Ignored
		GroupID    string  `json:"groupId"`
		ClusterID  string  `json:"clusterId"`
		Interval   *int    `json:"snapshotIntervalHours"`
		Retention  *int    `json:"snapshotRetentionDays"`
		Daily      *int    `json:"dailySnapshotRetentionDays"`
		Weekly     *int    `json:"weeklySnapshotRetentionWeeks"`
		Monthly    *int    `json:"monthlySnapshotRetentionMonths"`
		Window     *int    `json:"pointInTimeWindowHours"`
		Checkpoint *int    `json:"clusterCheckpointIntervalMin"`
		Hour       *int    `json:"referenceHourOfDay"`
		Minute     *int    `json:"referenceMinuteOfHour"`
		Zone       *string `json:"referenceTimeZoneOffset"`
		FullDay    *string `json:"fullIncrementalDayOfWeek"`
	}
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	if in.Checkpoint != nil && *in.Checkpoint != 0 {
		return nil, rest.Fail(http.StatusBadRequest, "CANNOT_SET_CLUSTER_CHECKPOINT_INTERVAL_FOR_REPLICA_SET", "Checkpoints are of sharded clusters.")
	}
	next := b.Config
	p := &next.Schedule
	for _, f := range []struct {
		from *int
		into *int
	}{
		{in.Interval, &p.IntervalHours},
		{in.Retention, &p.RetentionDays},
		{in.Daily, &p.DailyDays},
		{in.Weekly, &p.WeeklyWeeks},
		{in.Monthly, &p.MonthlyMonths},
		{in.Window, &p.PointInTimeHour},
		{in.Hour, &p.ReferenceHour},
		{in.Minute, &p.ReferenceMinute},
	} {
		if f.from != nil {
			*f.into = *f.from
		}
	}
	if in.Zone != nil {
		var ok bool
		if p.ReferenceZone, ok = parseZone(*in.Zone); !ok {
			return nil, rest.Fail(http.StatusBadRequest, "INVALID_REFERENCE_TIMEZONE_OFFSET", "An invalid time zone offset %s was specified: +0000 is one.", *in.Zone)
		}
	}
	if err := p.Validate(); err != nil {
		return nil, rest.Fail(http.StatusBadRequest, scheduleCode(b.Config.Schedule, *p), "%s", sentence(err.Error()))
	}
	kept, acts, err := c.Service.Save(c.R.Context(), b, next, "")
	c.done(acts)
	if err != nil {
		return nil, err
	}
	return c.scheduleEntity(&kept), nil
}

// scheduleCode finds the code of the first field that makes a schedule invalid: the valid one before, with that field alone.
func scheduleCode(before, now snapshot.Policy) string {
	for _, f := range []struct {
		code string
		set  func(p *snapshot.Policy)
	}{
		{"INVALID_SNAPSHOT_INTERVAL", func(p *snapshot.Policy) { p.IntervalHours = now.IntervalHours }},
		{"INVALID_SNAPSHOT_RETENTION_PERIOD", func(p *snapshot.Policy) {
			p.IntervalHours, p.RetentionDays = now.IntervalHours, now.RetentionDays
		}},
		{"INVALID_DAILY_SNAPSHOT_RETENTION_PERIOD", func(p *snapshot.Policy) { p.DailyDays = now.DailyDays }},
		{"INVALID_WEEKLY_SNAPSHOT_RETENTION_PERIOD", func(p *snapshot.Policy) { p.WeeklyWeeks = now.WeeklyWeeks }},
		{"INVALID_MONTHLY_SNAPSHOT_RETENTION_PERIOD", func(p *snapshot.Policy) { p.MonthlyMonths = now.MonthlyMonths }},
		{"CANNOT_SET_POINT_IN_TIME_WINDOW", func(p *snapshot.Policy) { p.PointInTimeHour = now.PointInTimeHour }},
		{"INVALID_REFERENCE_HOUR_OF_DAY", func(p *snapshot.Policy) { p.ReferenceHour = now.ReferenceHour }},
		{"INVALID_REFERENCE_MINUTE_OF_HOUR", func(p *snapshot.Policy) { p.ReferenceMinute = now.ReferenceMinute }},
	} {
		p := before
		if f.set(&p); p.Validate() != nil {
			return f.code
		}
	}
	return "VALIDATION_ERROR"
}

// members lists who may be the source of a backup.
func (c *call) members() (any, error) {
	b, err := c.one()
	if err != nil {
		return nil, err
	}
	hosts, err := c.Inventory.Hosts(c.R.Context(), c.Group.ID)
	if err != nil {
		return nil, err
	}
	hosts = slices.DeleteFunc(hosts, func(h model.Host) bool {
		return h.ClusterID != b.Config.ClusterID || !h.Visible() || h.Type == model.TypeReplicaArbiter
	})
	slices.SortFunc(hosts, func(x, y model.Host) int { return strings.Compare(x.Address(), y.Address()) })
	return rest.Page(c.Call, hosts, func(h model.Host) rest.Object {
		return rest.Object{"hostId": h.ID, "hostname": h.Hostname, "port": h.Port, "name": h.Address(), "typeName": h.Type}
	})
}

// state is a backup as it does (ours).
func (c *call) state() (any, error) {
	b, err := c.one()
	if err != nil {
		return nil, err
	}
	return c.stateEntity(&b), nil
}

func (c *call) stateEntity(b *backups.Backup) rest.Object {
	o := rest.Object{
		"groupId": b.Config.GroupID, "clusterId": b.Config.ClusterID, "clusterName": b.Cluster.Name, "statusName": b.Config.Status,
		"links": c.Self(c.Href("groups", string(b.Config.GroupID), "backupConfigs", string(b.Config.ClusterID), "state")),
	}
	rest.PutTime(o, "newestOplog", b.Newest())
	if lag := b.Lag(c.Now()); lag >= 0 {
		o["lagSeconds"] = int64(lag.Seconds())
	}
	if j := b.Job; j != nil {
		o["stage"], o["epoch"] = j.Stage, j.Epoch
		rest.PutTime(o, "stageSince", j.StageSince)
		rest.Put(o, "daemon", j.Daemon)
		rest.Put(o, "source", j.Tail.Source)
		rest.Put(o, "agent", j.Tail.Hostname)
		rest.Put(o, "reason", j.Reason)
		rest.PutTime(o, "nextSnapshot", j.Next)
		if !j.Applied.IsZero() {
			o["applied"] = timestamp(j.Applied.TS)
		}
		if t := j.Tail; t.Collections > 0 && j.Stage == backup.StageSync {
			o["read"] = rest.Object{"collections": t.Collections, "collectionsDone": t.CollectionsDone, "bytes": t.Bytes, "bytesDone": t.BytesDone}
		}
		if a := j.Activity; a != nil {
			o["activity"] = rest.Object{"what": a.What, "since": rest.ISOTime(a.Since), "done": a.Done, "total": a.Total, "unit": a.Unit}
		}
		if t := j.Tail; t.Error != "" {
			o["agentProblem"] = rest.Object{"code": t.ErrorCode, "text": t.Error, "since": rest.ISOTime(t.ErrorAt)}
		}
		if p := j.Problem; p != nil {
			o["problem"] = rest.Object{"code": p.Code, "text": p.Text, "remedy": p.Remedy, "since": rest.ISOTime(p.Since), "retries": p.Retries}
		}
	}
	if b.Last != nil {
		o["lastSnapshot"] = rest.Object{"id": b.Last.ID, "created": rest.ISOTime(b.Last.At), "fileSizeBytes": b.Last.FileBytes}
	}
	return o
}

func (c *call) resync() (any, error) {
	b, err := c.one()
	if err != nil {
		return nil, err
	}
	acts, err := c.Service.Resync(c.R.Context(), b, c.Who.Name())
	if err != nil {
		return nil, err
	}
	c.done(acts)
	return c.stateEntity(&b), nil
}

// stateRefusal gives a refused change of state the code of what was wanted.
func stateRefusal(err error, want model.BackupStatus) error {
	verb := map[model.BackupStatus]string{model.BackupStarted: "START", model.BackupStopped: "STOP", model.BackupTerminating: "TERMINATE"}[want]
	if verb == "" || !isState(err) {
		return err
	}
	return rest.Fail(http.StatusConflict, "CANNOT_"+verb+"_BACKUP_INVALID_STATE", "%s", sentence(err.Error()))
}
