package backup

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/api/rest"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

func (c *call) daemonEntity(d backup.Daemon) rest.Object {
	o := rest.Object{
		"id": d.ID, "machine": rest.Object{"machine": d.Machine, "headRootDirectory": d.HeadRoot}, "configured": d.Configured,
		"assignmentEnabled": d.Assignment, "backupJobsEnabled": d.BackupJobs, "restoreJobsEnabled": d.Restores,
		"resourceUsageEnabled": d.Garbage, "garbageCollectionEnabled": d.Garbage, "restoreQueryableJobsEnabled": false,
		"numWorkers": d.Heads, "headDiskType": "SSD", "labels": []string{},
		"links": c.Self(c.Href("admin", "backup", "daemon", "configs", d.Machine, d.HeadRoot)),
		// Ours: how it does.
		"jobs": d.Jobs, "freeBytes": d.Free, "sizeBytes": d.Size, "releases": d.Releases, "stopped": d.Stopped,
	}
	rest.PutTime(o, "lastBeat", d.Beat)
	rest.Put(o, "version", d.Version)
	rest.Put(o, "errorText", d.Error)
	return o
}

func (c *call) daemons() (any, error) {
	all, err := c.Admin.Daemons(c.R.Context())
	if err != nil {
		return nil, err
	}
	if c.R.URL.Query().Get("backupJobsEnabledOnly") == "true" {
		all = slices.DeleteFunc(all, func(d backup.Daemon) bool { return !d.BackupJobs })
	}
	return rest.Page(c.Call, all, c.daemonEntity)
}

// oneDaemon finds a daemon by its id, its machine, or machine and root directory.
func (c *call) oneDaemon() (backup.Daemon, error) {
	all, err := c.Admin.Daemons(c.R.Context())
	if err != nil {
		return backup.Daemon{}, err
	}
	name, root := c.Args[0], ""
	if len(c.Args) > 1 {
		if root = c.Args[1]; !strings.HasPrefix(root, "/") {
			root = "/" + root
		}
		root = strings.TrimSuffix(root, "/") + "/"
	}
	for _, d := range all {
		if d.ID == name || d.Machine == name && (root == "" || d.HeadRoot == root) {
			return d, nil
		}
	}
	return backup.Daemon{}, rest.Fail(http.StatusNotFound, "DAEMON_MACHINE_CONFIG_NOT_FOUND", "No backup daemon %s is known: it makes itself known when it starts.", name)
}

func (c *call) daemon() (any, error) {
	d, err := c.oneDaemon()
	if err != nil {
		return nil, err
	}
	return c.daemonEntity(d), nil
}

func (c *call) putDaemon() (any, error) {
	d, err := c.oneDaemon()
	if err != nil {
		return nil, err
	}
	var in struct {
		rest.Ignored
		Assignment *bool `json:"assignmentEnabled"`
		BackupJobs *bool `json:"backupJobsEnabled"`
		Restores   *bool `json:"restoreJobsEnabled"`
		Garbage    *bool `json:"garbageCollectionEnabled"`
		Configured *bool `json:"configured"`
	}
	if err := c.DecodeOver(&in, c.daemonEntity(d), "version", "lastBeat", "errorText"); err != nil {
		return nil, err
	}
	err = c.Admin.UpdateDaemon(c.R.Context(), d.ID, func(x *backup.Daemon) error {
		for _, f := range []struct {
			from *bool
			into *bool
		}{{in.Assignment, &x.Assignment}, {in.BackupJobs, &x.BackupJobs}, {in.Restores, &x.Restores}, {in.Garbage, &x.Garbage}, {in.Configured, &x.Configured}} {
			if f.from != nil {
				*f.into = *f.from
			}
		}
		d = *x
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.Event(model.Event{Type: model.EventBackupDaemonChanged, Text: "The settings of the backup daemon on " + d.Machine + " were changed."})
	return c.daemonEntity(d), nil
}

// family is one of the kinds of block stores, each with a resource of its own.
type family struct {
	path    string
	kind    model.BlockStoreType
	missing string // code
}

func families() []family {
	return []family{
		{"/snapshot/fileSystemConfigs", model.BlockStoreFile, "FILESYSTEM_SNAPSHOT_CONFIG_NOT_FOUND"},
		{"/snapshot/s3Configs", model.BlockStoreS3, "S3_SNAPSHOT_CONFIG_NOT_FOUND"},
		{"/snapshot/mongoConfigs", model.BlockStoreMongo, "MONGO_SNAPSHOT_CONFIG_NOT_FOUND"},
	}
}

// storeBody is a block store as it is written: the fields of all families, of which each takes its own.
type storeBody struct {
	rest.Ignored
	ID         string   `json:"id"`
	Assignment *bool    `json:"assignmentEnabled"`
	Labels     []string `json:"labels"`
	LoadFactor *int     `json:"loadFactor"`
	Encrypt    *bool    `json:"encryptionEnabled"` // ours

	StorePath string `json:"storePath"`
	WTSetting string `json:"wtCompressionSetting"`
	MMSetting string `json:"mmapv1CompressionSetting"`

	Bucket         string `json:"s3BucketName"`
	Endpoint       string `json:"s3BucketEndpoint"`
	Region         string `json:"s3RegionOverride"`
	AccessKey      string `json:"awsAccessKey"`
	SecretKey      string `json:"awsSecretKey"`
	AuthMethod     string `json:"s3AuthMethod"`
	MaxConnections *int   `json:"s3MaxConnections"`
	PathStyle      *bool  `json:"pathStyleAccessEnabled"`
	AcceptedTos    bool   `json:"acceptedTos"`
	SSE            bool   `json:"sseEnabled"`
	ObjectLock     bool   `json:"objectLockEnabled"`
	DisableProxy   bool   `json:"disableProxyS3"`

	URI          string `json:"uri"`
	SSL          bool   `json:"ssl"`
	Sealed       bool   `json:"encryptedCredentials"`
	WriteConcern string `json:"writeConcern"`
	MaxGB        int64  `json:"maxCapacityGB"`
	UsedSize     int64  `json:"usedSize"`
}

const masked = "REDACTED"

func (c *call) storeEntity(f family, s *model.BlockStore) rest.Object {
	labels := s.Labels
	if labels == nil {
		labels = []string{}
	}
	o := rest.Object{
		"id": s.ID, "assignmentEnabled": s.AssignmentEnabled, "labels": labels, "loadFactor": max(1, s.LoadFactor), "encryptionEnabled": s.Encrypt,
		"links": c.Self(c.BaseURL() + "/admin/backup" + f.path + "/" + url.PathEscape(s.ID)),
	}
	switch f.kind {
	case model.BlockStoreFile:
		o["storePath"], o["wtCompressionSetting"], o["mmapv1CompressionSetting"] = s.Path, "NONE", "NONE"
	case model.BlockStoreS3:
		o["s3BucketName"], o["s3BucketEndpoint"], o["pathStyleAccessEnabled"], o["acceptedTos"] = s.Bucket, s.Endpoint, s.PathStyle, true
		o["s3MaxConnections"], o["s3AuthMethod"] = s.MaxConnections, model.S3AuthRole
		if s.AccessKey != "" {
			o["s3AuthMethod"], o["awsAccessKey"], o["awsSecretKey"] = model.S3AuthKeys, s.AccessKey, masked
		}
		rest.Put(o, "s3RegionOverride", s.Region)
	case model.BlockStoreMongo:
		o["uri"], o["writeConcern"] = maskURI(s.URI.Reveal()), "MAJORITY"
	}
	return o
}

// maskURI hides the credentials of a connection string.
func maskURI(uri string) string {
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return masked
	}
	host := strings.IndexAny(rest, "/?")
	if host < 0 {
		host = len(rest)
	}
	if at := strings.LastIndex(rest[:host], "@"); at >= 0 {
		rest = masked + ":" + masked + rest[at:]
	}
	return scheme + "://" + rest
}

// apply puts the body into a description; what is masked stays.
func (in *storeBody) apply(f family, s *model.BlockStore) error {
	require := func(name, value string) error { return rest.Require(name, value) }
	if in.Assignment != nil {
		s.AssignmentEnabled = *in.Assignment
	}
	if in.Labels != nil {
		s.Labels = in.Labels
	}
	if in.LoadFactor != nil {
		s.LoadFactor = max(1, *in.LoadFactor)
	}
	if in.Encrypt != nil {
		s.Encrypt = *in.Encrypt
	}
	switch f.kind {
	case model.BlockStoreFile:
		s.Path = in.StorePath
		if s.Path != "" && !strings.HasPrefix(s.Path, "/") {
			return rest.Fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Invalid attribute storePath specified: an absolute path is needed.")
		}
		return require("storePath", s.Path)
	case model.BlockStoreS3:
		s.Bucket, s.Endpoint, s.Region = in.Bucket, in.Endpoint, in.Region
		if in.PathStyle != nil {
			s.PathStyle = *in.PathStyle
		}
		if in.MaxConnections != nil {
			s.MaxConnections = *in.MaxConnections
		}
		s.Auth = in.AuthMethod
		if s.Auth == model.S3AuthRole {
			s.AccessKey, s.SecretKey = "", ""
		} else if in.AccessKey != "" {
			s.AccessKey = in.AccessKey
			if in.SecretKey != "" && in.SecretKey != masked {
				s.SecretKey = model.Secret(in.SecretKey)
			}
		}
		return require("s3BucketName", s.Bucket)
	}
	if in.URI != maskURI(s.URI.Reveal()) {
		if strings.Contains(in.URI, masked+":"+masked+"@") {
			return rest.Fail(http.StatusBadRequest, "INVALID_ATTRIBUTE", "Invalid attribute uri specified: its credentials are masked, and the rest differs from what is kept. Send it with its credentials.")
		}
		s.URI = model.Secret(in.URI)
	}
	return require("uri", s.URI.Reveal())
}

func (c *call) stores(f family) (any, error) {
	all, err := c.Admin.Stores(c.R.Context())
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(s model.BlockStore) bool { return s.Type != f.kind })
	return rest.Page(c.Call, all, func(s model.BlockStore) rest.Object { return c.storeEntity(f, &s) })
}

func (c *call) findStore(f family, id string) (s model.BlockStore, err error) {
	all, err := c.Admin.Stores(c.R.Context())
	if err != nil {
		return s, err
	}
	for _, s := range all {
		if s.ID == id && s.Type == f.kind {
			return s, nil
		}
	}
	return s, rest.Fail(http.StatusNotFound, f.missing, "No block store with ID %s exists.", id)
}

func (c *call) store(f family) (any, error) {
	s, err := c.findStore(f, c.Args[0])
	if err != nil {
		return nil, err
	}
	return c.storeEntity(f, &s), nil
}

func (c *call) createStore(f family) (any, error) {
	var in storeBody
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	if err := rest.Require("id", in.ID); err != nil {
		return nil, err
	}
	all, err := c.Admin.Stores(c.R.Context())
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(all, func(s model.BlockStore) bool { return s.ID == in.ID }) {
		return nil, rest.Fail(http.StatusConflict, "CONFLICT", "A block store with ID %s exists.", in.ID)
	}
	s := model.BlockStore{ID: in.ID, Type: f.kind, AssignmentEnabled: true, LoadFactor: 1}
	return c.saveStore(f, &in, &s)
}

func (c *call) putStore(f family) (any, error) {
	s, err := c.findStore(f, c.Args[0])
	if err != nil {
		return nil, err
	}
	var in storeBody
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	if in.ID != "" && in.ID != s.ID {
		return nil, rest.Fail(http.StatusBadRequest, "ATTRIBUTE_READ_ONLY", "Cannot modify read-only attribute id.")
	}
	return c.saveStore(f, &in, &s)
}

func (c *call) saveStore(f family, in *storeBody, s *model.BlockStore) (any, error) {
	if err := in.apply(f, s); err != nil {
		return nil, err
	}
	if err := c.Admin.SaveStore(c.R.Context(), *s); err != nil {
		return nil, err
	}
	c.Event(model.Event{Type: model.EventBackupStoreChanged, Text: "The block store " + s.ID + " was added or changed."})
	return c.storeEntity(f, s), nil
}

func (c *call) deleteStore(f family) (any, error) {
	s, err := c.findStore(f, c.Args[0])
	if err != nil {
		return nil, err
	}
	switch err := c.Admin.DeleteStore(c.R.Context(), s.ID); {
	case errors.Is(err, backup.ErrState):
		return nil, rest.Fail(http.StatusConflict, "BLOCK_STORE_IN_USE", "The block store %s holds backups: terminate them or wait until they have expired.", s.ID)
	case err != nil:
		return nil, err
	}
	c.Event(model.Event{Type: model.EventBackupStoreChanged, Text: "The block store " + s.ID + " was removed."})
	return rest.Object{}, nil
}
