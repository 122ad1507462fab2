// Package derive turns the pings of one post into writes: a row of raw values each, the host's status and last ping, and
// what changed about hosts and clusters. What a reply means is decided in shared/topology and shared/catalog; this package
// fetches what they need, in as few reads as it can, and saves what they say, in an order in which a post that is sent again
// after a failure anywhere completes what is missing and doubles nothing.
package derive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/catalog"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/store/facts"
	"github.com/heartwood-db/heartwood/shared/store/series"
	"github.com/heartwood-db/heartwood/shared/topology"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Inventory is what deriving needs of the inventory.
type Inventory interface {
	HostsByID(ctx context.Context, group model.ID, ids ...model.HostID) ([]model.Host, error)
	StatusesByID(ctx context.Context, group model.ID, ids ...model.HostID) ([]model.HostStatus, error)
	FindHost(ctx context.Context, group model.ID, address string) (model.Host, error)
	HostCredentials(ctx context.Context, group model.ID, id model.HostID) (model.Credentials, error)
	CreateHost(ctx context.Context, h model.Host) error
	UpdateHost(ctx context.Context, group model.ID, id model.HostID, change func(*model.Host) error) error
	Cluster(ctx context.Context, group, id model.ID) (model.Cluster, error)
	Clusters(ctx context.Context, group model.ID) ([]model.Cluster, error)
	UpsertCluster(ctx context.Context, group, id model.ID, change func(*model.Cluster) error) error
	StatusOp(model.HostStatus) (docstore.Op, error)
	LastPingOp(model.LastPing) (docstore.Op, error)
	ChangeOp(model.Change) (docstore.Op, error)
}

// Series makes the write of a row.
type Series interface {
	RowOp(host model.HostID, row catalog.Row) (docstore.Op, error)
}

// Events makes the write of an event.
type Events interface {
	EventOp(model.Event) (docstore.Op, error)
}

// Facts keeps the seldom replies of hosts.
type Facts interface {
	Replies(ctx context.Context, group model.ID, host model.HostID) (bson.Raw, map[string]time.Time, error)
	Op(group model.ID, host model.HostID, replies bson.Raw, at map[string]time.Time) (docstore.Op, error)
}

// Writer is the store's batch write.
type Writer interface {
	Write(ctx context.Context, ops ...docstore.Op) error
}

// Options are what a Deriver needs.
type Options struct {
	Inventory Inventory
	Series    Series
	Events    Events
	Facts     Facts
	Store     Writer
	Log       *slog.Logger
	MaxAge    time.Duration // older pings are refused; 0: 48 h
}

// maxAhead is how far a ping's time may lie ahead of the server's: a clock that is wrong by more is not believed.
const maxAhead = 10 * time.Minute

// Reasons for refusing a single ping, as counted in metrics.
const (
	ReasonUnknown   = "unknown_host"
	ReasonRemoved   = "removed"
	ReasonTooOld    = "too_old"
	ReasonFuture    = "future"
	ReasonMalformed = "malformed"
)

// Result is what became of a post.
type Result struct {
	Accepted int
	Rejected []wire.Rejected
	Reasons  map[string]int // of the rejected ones
}

// Deriver derives and saves. It is safe for concurrent use. All it remembers is a bounded set of addresses known to belong
// to hosts, so that the same neighbours need not be looked up with every ping.
type Deriver struct {
	o       Options
	cores   [][]string
	known   knownAddresses
	buffers sync.Pool
}

// New returns a Deriver.
func New(o Options) *Deriver {
	if o.MaxAge <= 0 {
		o.MaxAge = 48 * time.Hour
	}
	d := &Deriver{o: o, cores: coresPaths()}
	d.buffers.New = func() any { return new([]byte) }
	return d
}

// work is the state of one post.
type work struct {
	d       *Deriver
	ctx     context.Context //nolint:containedctx // lives for one call of Save
	group   *model.Group
	agentID string
	now     time.Time

	hosts    map[model.HostID]*hostState
	clusters map[model.ID]*clusterState
	allRead  bool                    // all clusters of the group are in clusters
	windows  map[model.HostID]*int64 // oplog window of primaries
	found    map[string]discovery    // addresses nobody monitors yet

	news []docstore.Op // events, changes, facts: written first
	rows []docstore.Op
	res  Result
}

type hostState struct {
	host, before model.Host
	status       model.HostStatus
	moved        bool // the status went forward
	lastPing     *wire.Ping
	facts        bson.Raw
	factsAt      map[string]time.Time
	factsRead    bool
	factsNewer   bool // they became newer in this post
}

type discovery struct {
	address topology.Address
	from    *hostState
}

// Save derives and saves the pings of one post. An error means that nothing may be acknowledged; the same post sent again
// completes what is missing.
func (d *Deriver) Save(ctx context.Context, group *model.Group, agentID string, now time.Time, pings []wire.Ping) (Result, error) {
	w := &work{
		d: d, ctx: ctx, group: group, agentID: agentID, now: now,
		hosts: map[model.HostID]*hostState{}, clusters: map[model.ID]*clusterState{}, windows: map[model.HostID]*int64{},
		found: map[string]discovery{}, res: Result{Reasons: map[string]int{}},
	}
	order := make([]*wire.Ping, len(pings))
	for i := range pings {
		order[i] = &pings[i]
	}
	slices.SortStableFunc(order, func(a, b *wire.Ping) int { return a.At.Compare(b.At) })
	if err := w.load(order); err != nil {
		return Result{}, err
	}
	buf, _ := d.buffers.Get().(*[]byte)
	defer d.buffers.Put(buf)
	for _, p := range order {
		if err := w.ping(p, buf); err != nil {
			return Result{}, err
		}
	}
	if err := w.save(); err != nil {
		return Result{}, err
	}
	return w.res, nil
}

// load reads hosts, statuses and clusters of the whole post at once.
func (w *work) load(pings []*wire.Ping) error {
	var ids []model.HostID
	for _, p := range pings {
		id := model.HostID(p.HostID)
		if _, seen := w.hosts[id]; !seen && id.Valid() {
			w.hosts[id] = nil
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	hosts, err := w.d.o.Inventory.HostsByID(w.ctx, w.group.ID, ids...)
	if err != nil {
		return err
	}
	statuses, err := w.d.o.Inventory.StatusesByID(w.ctx, w.group.ID, ids...)
	if err != nil {
		return err
	}
	for i := range hosts {
		w.hosts[hosts[i].ID] = &hostState{host: hosts[i], before: hosts[i]}
	}
	for i := range statuses {
		if h := w.hosts[statuses[i].HostID]; h != nil {
			h.status = statuses[i]
		}
	}
	var primaries []model.HostID
	for _, h := range w.hosts {
		if h == nil || h.host.ClusterID == "" {
			continue
		}
		c, err := w.cluster(h.host.ClusterID)
		if err != nil {
			return err
		}
		if c == nil || c.c.PrimaryID == "" {
			continue
		}
		id := c.c.PrimaryID
		if _, seen := w.windows[id]; seen {
			continue
		}
		if p := w.hosts[id]; p != nil {
			w.windows[id] = p.status.WindowSecs
			continue
		}
		w.windows[id] = nil
		primaries = append(primaries, id)
	}
	if len(primaries) == 0 {
		return nil
	}
	others, err := w.d.o.Inventory.StatusesByID(w.ctx, w.group.ID, primaries...)
	for i := range others {
		w.windows[others[i].HostID] = others[i].WindowSecs
	}
	return err
}

func (w *work) reject(p *wire.Ping, reason, text string) {
	w.res.Rejected = append(w.res.Rejected, wire.Rejected{HostID: p.HostID, At: p.At, Reason: text})
	w.res.Reasons[reason]++
}

// ping derives one ping. An error is the store's; what is wrong with the ping itself rejects it alone.
func (w *work) ping(p *wire.Ping, buf *[]byte) error {
	h := w.hosts[model.HostID(p.HostID)]
	switch {
	case h == nil:
		w.reject(p, ReasonUnknown, "there is no host with this id in the group")
		return nil
	case h.host.Deleted, h.host.Hidden:
		w.reject(p, ReasonRemoved, "the host is no longer monitored")
		return nil
	case p.At.IsZero() || w.now.Sub(p.At) > w.d.o.MaxAge:
		w.reject(p, ReasonTooOld, fmt.Sprintf("the ping is older than %s", w.d.o.MaxAge))
		return nil
	case p.At.Sub(w.now) > maxAhead:
		w.reject(p, ReasonFuture, fmt.Sprintf("the ping's time is %s ahead of the server's", p.At.Sub(w.now).Round(time.Second)))
		return nil
	}
	var replies bson.Raw
	if len(p.Replies) > 0 {
		var err error
		if replies, err = wire.DecodeRepliesInto(*buf, p.Replies); err != nil {
			w.reject(p, ReasonMalformed, err.Error())
			return nil
		}
		*buf = replies
	}
	op, err := w.row(h, p, replies)
	switch {
	case errors.Is(err, series.ErrTooOld):
		w.reject(p, ReasonTooOld, err.Error())
		return nil
	case errors.Is(err, series.ErrFuture):
		w.reject(p, ReasonFuture, err.Error())
		return nil
	case err != nil:
		w.reject(p, ReasonMalformed, err.Error())
		return nil
	}
	if p.At.After(h.status.At) {
		if err := w.observe(h, p, replies); err != nil {
			return err
		}
	}
	if op.Collection != "" {
		w.rows = append(w.rows, op)
	}
	w.res.Accepted++
	return nil
}

// row makes the write of the raw values; none when nothing was measured. A late ping, too, makes one: its hour is merged again.
func (w *work) row(h *hostState, p *wire.Ping, replies bson.Raw) (docstore.Op, error) {
	var none docstore.Op
	if len(replies) == 0 {
		return none, nil
	}
	var extra []catalog.Cell
	if c := w.clusters[h.host.ClusterID]; c != nil && c.c.PrimaryID != "" && c.c.PrimaryID != h.host.ID {
		if secs := w.windows[c.c.PrimaryID]; secs != nil {
			extra = append(extra, catalog.Cell{Column: "ctx.primaryWindowSecs", Value: catalog.Int(*secs)})
		}
	}
	// Without diagnostic data the cores come with hostInfo, once an hour, and are needed with every ping.
	if h.host.NumCores > 0 && has(replies, "serverStatus") && !w.d.tellCores(replies) {
		extra = append(extra, catalog.Cell{Column: columnCores, Value: catalog.Int(int64(h.host.NumCores))})
	}
	row, err := catalog.Extract(replies, p.At, extra...)
	if err != nil || len(row.Cells) == 0 {
		return none, err
	}
	return w.d.o.Series.RowOp(h.host.ID, row)
}

// observe moves the host's status forward.
func (w *work) observe(h *hostState, p *wire.Ping, replies bson.Raw) error {
	in := topology.Input{
		Host: h.host, Status: h.status, Settings: w.group.Settings, Ping: *p, Replies: replies, AgentID: w.agentID,
	}
	if c := w.clusters[h.host.ClusterID]; c != nil {
		in.Cluster = &c.c
	}
	if hasSeldom(replies) {
		if err := w.readFacts(h); err != nil {
			return err
		}
		in.Facts = h.facts
	}
	o := topology.Observe(in)
	if ms, ok := catalog.ReplicationLag(replies); ok {
		o.Status.LagMS = &ms
	}
	if secs, ok := catalog.OplogWindow(replies); ok {
		o.Status.WindowSecs = &secs
	}
	if o.Host.Deactivated && o.Status.LastPing.Equal(p.At) {
		o.Host.Deactivated = false
	}
	h.host, h.status, h.moved = o.Host, o.Status, true
	if len(replies) > 0 {
		h.lastPing = p
	}
	if _, isPrimary := w.windows[h.host.ID]; isPrimary || o.Primary != nil {
		w.windows[h.host.ID] = o.Status.WindowSecs
	}
	w.news = slices.Grow(w.news, len(o.Events)+len(o.Changes))
	for _, e := range o.Events {
		if err := w.event(e, h); err != nil {
			return err
		}
	}
	for _, c := range o.Changes {
		op, err := w.d.o.Inventory.ChangeOp(c)
		if err != nil {
			return err
		}
		w.news = append(w.news, op)
	}
	if len(o.Facts) > 0 {
		// They become what the next ping of this post is compared with.
		merged, at, err := facts.Merge(h.facts, h.factsAt, o.Facts, p.At)
		if err != nil {
			return fmt.Errorf("facts of host %s: %w", h.host.ID, err)
		}
		h.facts, h.factsAt, h.factsNewer = merged, at, true
	}
	if err := w.clusterNews(h, &o, p); err != nil {
		return err
	}
	return w.discover(h, &o, p)
}

// event completes an event and keeps it for the batch. Its id follows from what it says, so that the same ping twice makes one event.
func (w *work) event(e model.Event, h *hostState) error {
	e.GroupID, e.AgentID = w.group.ID, w.agentID
	if h != nil {
		e.HostID, e.HostName = h.host.ID, cmp.Or(e.HostName, h.host.Address())
		if e.ClusterID == "" {
			e.ClusterID = h.host.ClusterID
		}
	}
	e.ID = model.DeriveID("event", string(e.GroupID), string(e.Type), string(e.HostID), e.HostName, string(e.ClusterID), e.At.UTC().Format(time.RFC3339Nano))
	op, err := w.d.o.Events.EventOp(e)
	if err != nil {
		return err
	}
	w.news = append(w.news, op)
	return nil
}

const columnCores = "cores"

// coresPaths are the places in replies where the catalogue looks for the number of cores.
func coresPaths() [][]string {
	column, _ := catalog.ColumnByName(columnCores)
	paths := make([][]string, len(column.Paths))
	for i, p := range column.Paths {
		paths[i] = strings.Split(p, ".")
	}
	return paths
}

func (d *Deriver) tellCores(replies bson.Raw) bool {
	return slices.ContainsFunc(d.cores, func(path []string) bool { return has(replies, path...) })
}

func has(replies bson.Raw, path ...string) bool {
	_, err := replies.LookupErr(path...)
	return err == nil
}

func hasSeldom(replies bson.Raw) bool {
	found := false
	wire.Each(replies, func(key []byte, _ bson.RawValue) bool {
		found = topology.IsSeldom(string(key))
		return !found
	})
	return found
}

func (w *work) readFacts(h *hostState) error {
	if h.factsRead {
		return nil
	}
	var err error
	h.facts, h.factsAt, err = w.d.o.Facts.Replies(w.ctx, w.group.ID, h.host.ID)
	h.factsRead = err == nil
	return err
}

// save writes in the order that makes a repetition harmless: first what is only ever added (events, change rows), then what is
// brought up to date by comparing (clusters, hosts), the facts that changes are told from, and at last rows, last pings and the
// statuses that mark the pings as seen.
func (w *work) save() error {
	if len(w.news) > 0 {
		if err := w.d.o.Store.Write(w.ctx, w.news...); err != nil {
			return err
		}
	}
	if err := w.saveClusters(); err != nil {
		return err
	}
	if err := w.createHosts(); err != nil {
		return err
	}
	for _, h := range w.hosts {
		if h == nil || !h.moved {
			continue
		}
		if err := w.saveHost(h); err != nil {
			return err
		}
	}
	if len(w.rows) == 0 {
		return nil
	}
	return w.d.o.Store.Write(w.ctx, w.rows...)
}

// saveHost updates the host's document if it changed, and puts its status and last ping into the batch.
func (w *work) saveHost(h *hostState) error {
	if !sameHost(&h.before, &h.host) {
		err := w.d.o.Inventory.UpdateHost(w.ctx, w.group.ID, h.host.ID, func(now *model.Host) error {
			takeOver(now, &h.host)
			return nil
		})
		if err != nil && !errors.Is(err, docstore.ErrNotFound) { // deleted for good meanwhile
			return err
		}
	}
	if h.factsNewer {
		op, err := w.d.o.Facts.Op(w.group.ID, h.host.ID, h.facts, h.factsAt)
		if err != nil {
			return err
		}
		w.rows = append(w.rows, op)
	}
	op, err := w.d.o.Inventory.StatusOp(h.status)
	if err != nil {
		return err
	}
	w.rows = append(w.rows, op)
	if h.lastPing == nil {
		return nil
	}
	op, err = w.d.o.Inventory.LastPingOp(model.LastPing{
		HostID: h.host.ID, GroupID: w.group.ID, At: h.lastPing.At, AgentID: w.agentID, Replies: h.lastPing.Replies,
	})
	w.rows = append(w.rows, op)
	return err
}
