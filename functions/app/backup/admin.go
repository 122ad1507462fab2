package backup

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/backup"
)

type daemonRow struct {
	backup.Daemon
	State view.State
	Off   []string // what it is not to do
	Used  float64  // percent of the disk of its heads; negative: not known
}

type storeRow struct {
	model.BlockStore
	Kind  string
	Where string // without credentials
}

type adminPage struct {
	Daemons []daemonRow
	Stores  []storeRow
	Add     string // commands that change what is shown
	Drain   string
}

// admin answers: which daemons work, have they room, and where are backups kept? It shows; changes go through the API.
func (p *Pages) admin(ctx context.Context, v *view.Visit) (view.Answer, error) {
	if err := v.Need(view.ReadSite); err != nil {
		return view.Answer{}, err
	}
	daemons, err := p.opt.Daemons.Daemons(ctx)
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the backup daemons: %w", err)
	}
	stores, err := p.opt.Daemons.Stores(ctx)
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the block stores: %w", err)
	}
	d := adminPage{}
	for i := range daemons {
		d.Daemons = append(d.Daemons, daemonRowOf(v, &daemons[i]))
	}
	for i := range stores {
		d.Stores = append(d.Stores, storeRow{BlockStore: stores[i], Kind: kindOf(stores[i].Type), Where: whereOf(&stores[i])})
	}
	const curl = "curl --digest -u PUBLIC-KEY:PRIVATE-KEY -H 'Content-Type: application/json'"
	api := here(v) + "/api/public/v1.0/admin/backup"
	d.Add = curl + " -X POST " + api + `/snapshot/fileSystemConfigs -d '{"id": "nas1", "storePath": "/mnt/nas1", "assignmentEnabled": true, "encryptionEnabled": true}'`
	machine := "MACHINE"
	if len(daemons) > 0 {
		machine = daemons[0].Machine
	}
	d.Drain = curl + " -X PUT " + api + "/daemon/configs/" + machine + ` -d '{"assignmentEnabled": false}'`
	return view.Answer{Template: "admin-backup.html", Title: "Backup daemons and block stores", Nav: "admin", Data: &d}, nil
}

func daemonRowOf(v *view.Visit, d *backup.Daemon) daemonRow {
	r := daemonRow{Daemon: *d, State: view.State{Level: view.OK, Word: "running"}, Used: -1}
	if d.Size > 0 {
		r.Used = 100 * float64(max(0, d.Size-d.Free)) / float64(d.Size)
	}
	for _, x := range []struct {
		on   bool
		what string
	}{{d.Assignment, "new backups"}, {d.BackupJobs, "backups"}, {d.Restores, "restores"}, {d.Garbage, "grooming"}} {
		if !x.on {
			r.Off = append(r.Off, x.what)
		}
	}
	switch {
	case d.Stopped:
		r.State = view.State{Level: view.Unknown, Word: "stopped", Why: "It said goodbye; its backups go on when it is started, or on another one."}
	case v.Now.Sub(d.Beat) > silence:
		r.State = view.State{Level: view.Critical, Word: "silent", Why: "It was killed, or cannot reach the database."}
	case d.Error != "":
		r.State = view.State{Level: view.Warning, Word: "running, with an error", Why: d.Error}
	case !d.Full.IsZero():
		r.State = view.State{Level: view.Warning, Word: "disk fills up", Why: "As it grew so far, the disk of its heads is full at " + v.At(d.Full) + "."}
	}
	return r
}

func kindOf(t model.BlockStoreType) string {
	return cmp.Or(map[model.BlockStoreType]string{
		model.BlockStoreFile: "folder", model.BlockStoreS3: "S3 bucket", model.BlockStoreMongo: "replica set", model.BlockStoreMemory: "memory",
	}[t], string(t))
}

// whereOf says where a store keeps its objects; credentials are no part of it.
func whereOf(s *model.BlockStore) string {
	switch s.Type {
	case model.BlockStoreFile:
		return s.Path
	case model.BlockStoreS3:
		where := s.Bucket
		if s.Prefix != "" {
			where += "/" + s.Prefix
		}
		if at := cmp.Or(s.Endpoint, s.Region); at != "" {
			where += " at " + at
		}
		return where
	case model.BlockStoreMongo:
		return hostsOf(s.URI.Reveal())
	case model.BlockStoreMemory:
		return "gone when the server stops"
	}
	return ""
}

// hostsOf is the hosts of a connection string alone: all else may hold a secret.
func hostsOf(uri string) string {
	_, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return "a replica set"
	}
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		rest = rest[:end]
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		rest = rest[at+1:]
	}
	return rest
}
