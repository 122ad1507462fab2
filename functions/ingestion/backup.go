package ingestion

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/ingestion/backup"
	"github.com/heartwood-db/heartwood/functions/ingestion/expiry"
	"github.com/heartwood-db/heartwood/functions/ingestion/restores"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// bulkLimit is how long a slice may take from its first byte to the answer: the sender's line may be slow.
const bulkLimit = 5 * time.Minute

// Backup is what ingestion needs of the backup area.
type Backup interface {
	backup.Area
	restores.Area
	expiry.Area
}

// mountBackup makes the parts of backup and mounts their routes. A slice may hold the largest document there is; a server that
// announces less than usual (behind a balancer, on Lambda) means it for slices too. Bulk has turns of its own, so that pings never
// wait for it; what streams is bounded by the client's patience alone.
func (s *Server) mountBackup(mux *http.ServeMux) error {
	o := &s.o
	largest := o.MaxPost
	if largest == wire.MaxPost {
		largest = wire.MaxSliceBytes + wire.MaxSliceHeader
	}
	intake, err := backup.New(backup.Options{
		Area: o.Backup, Inventory: o.Inventory, Events: o.Events, Caller: caller{s}, Blobs: o.Blobs, Log: o.Log, Reg: o.Reg, Now: o.Now,
		MaxPost: largest, Presign: o.Presign, SessionTimeout: o.SessionTimeout, ConfSeconds: int32((confBase / time.Duration(o.StandbyFactor)).Seconds()),
		BandwidthBytes: o.ReadBytesPerSecond, MaxLagSeconds: int32(o.ReadMaxLag.Seconds()),
	})
	if err != nil {
		return err
	}
	delivery := restores.New(restores.Options{
		Area: o.Backup, Events: o.Events, Caller: caller{s}, Blobs: o.Blobs, Log: o.Log, Reg: o.Reg, Now: o.Now, MaxPost: largest, Presign: o.Presign,
	})
	s.expiry = expiry.New(expiry.Options{Area: o.Backup, Events: o.Events, Leases: o.Store, Blobs: o.Blobs, Log: o.Log, Reg: o.Reg})
	bulk := make(turns, o.MaxBulk)
	for _, route := range intake.Routes() {
		if !route.Bulk {
			mux.HandleFunc(route.Pattern, s.admitted(s.posts, workLimit, route.Serve))
			continue
		}
		mux.HandleFunc(route.Pattern, s.admitted(bulk, bulkLimit, func(w http.ResponseWriter, r *http.Request) error {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bulkLimit)) // not every transport has one
			return route.Serve(w, r)
		}))
	}
	for _, route := range delivery.Routes() {
		if !route.Stream {
			mux.HandleFunc(route.Pattern, s.admitted(s.posts, workLimit, route.Serve))
			continue
		}
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := route.Serve(w, r); err != nil {
				s.answerError(w, r, err)
			}
		})
	}
	return nil
}

// logPath takes the token out of the path of a download.
func logPath(path string) string {
	rest, ok := strings.CutPrefix(path, wire.PathRestorePull)
	if !ok {
		return path
	}
	id, rest, _ := strings.Cut(rest, "/")
	_, file, _ := strings.Cut(rest, "/")
	return wire.PathRestorePull + id + "/***/" + file
}

// caller is what the parts of backup ask ingestion for.
type caller struct{ s *Server }

// Authenticate implements backup.Caller.
func (c caller) Authenticate(r *http.Request) (model.Group, error) {
	id, err := c.s.authenticate(r)
	if err != nil {
		return model.Group{}, err
	}
	return c.s.group(r, id)
}

// NoteConf implements backup.Caller.
func (c caller) NoteConf(r *http.Request, group model.ID, info *wire.AgentInfo, state model.AgentState, hosts int, now time.Time) error {
	return c.s.noteConf(r, group, info, state, hosts, now)
}

// Host implements backup.Caller.
func (c caller) Host(ctx context.Context, group *model.Group, h *model.Host) (wire.Host, error) {
	return c.s.wireHost(ctx, group, h)
}
