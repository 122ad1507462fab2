package ingestion

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/ingestion/backup"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// bulkLimit is how long a slice may take from its first byte to the answer: the sender's line may be slow.
const bulkLimit = 5 * time.Minute

// intake makes the part that backup agents talk to. A slice may hold the largest document there is; a server that announces less
// than usual (behind a balancer, on Lambda) means it for slices too.
func (s *Server) intake() (*backup.Intake, error) {
	largest := s.o.MaxPost
	if largest == wire.MaxPost {
		largest = wire.MaxSliceBytes + wire.MaxSliceHeader
	}
	return backup.New(backup.Options{
		Area: s.o.Backup, Inventory: s.o.Inventory, Events: s.o.Events, Leases: s.o.Store, Caller: caller{s}, Blobs: s.o.Blobs, Log: s.o.Log, Reg: s.o.Reg,
		Now: s.o.Now, MaxPost: largest, Presign: s.o.Presign, SessionTimeout: s.o.SessionTimeout,
		ConfSeconds: int32((confBase / time.Duration(s.o.StandbyFactor)).Seconds()),
	})
}

// mountBackup mounts its routes. Bulk has turns of its own, so that pings never wait for it; what streams is bounded by the
// client's patience alone.
func (s *Server) mountBackup(mux *http.ServeMux) {
	bulk := make(turns, s.o.MaxBulk)
	for _, route := range s.backup.Routes() {
		switch {
		case route.Stream:
			mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
				if err := route.Serve(w, r); err != nil {
					s.answerError(w, r, err)
				}
			})
		case route.Bulk:
			mux.HandleFunc(route.Pattern, s.admitted(bulk, bulkLimit, func(w http.ResponseWriter, r *http.Request) error {
				_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bulkLimit)) // not every transport has one
				return route.Serve(w, r)
			}))
		default:
			mux.HandleFunc(route.Pattern, s.admitted(s.posts, workLimit, route.Serve))
		}
	}
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

// caller is what the intake of backups asks ingestion for.
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
