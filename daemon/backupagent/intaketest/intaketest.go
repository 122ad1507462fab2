// Package intaketest is a server for tests of the backup agent: it keeps what agents send in memory, checks the chain and every
// digest strictly, and fails or forgets to answer where a test says so. Replay is the oracle: the documents of a source as
// the stored slices give them.
package intaketest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/oplog"
	"github.com/heartwood-db/heartwood/shared/oplog/chain"
	"github.com/heartwood-db/heartwood/shared/wire"
)

// Group and Key are the agents' credentials.
const (
	Group = "5f3a1c0e9d8b7a6f5e4d3c2b"
	Key   = "0123456789abcdef0123456789abcdef"
	Job   = "5f3a1c0e9d8b7a6f5e4d3c2c"
)

// Fault is what goes wrong with a request.
type Fault int

// The faults.
const (
	None  Fault = iota
	Away        // 503, nothing is stored
	Mute        // everything is stored, the answer never arrives
	Cut         // the connection ends before anything is stored
	Twice       // the request is handled twice, as through two servers
	Clash       // another slice is said to be stored in its place
)

// Epoch is what is stored of one epoch.
type Epoch struct {
	Begin       wire.BeginEpoch
	Head        chain.Head
	Slices      []chain.Slice
	Entries     []bson.Raw
	Collections map[string]*wire.CollectionInfo // by UUID; views by name
	Seeds       map[string][]Seed               // by UUID: of the present attempt
	Scanned     *wire.Scanned
	Ended       *wire.EndEpoch
	Found       []wire.FoundDocs
}

// Seed is a slice of a full read.
type Seed struct {
	wire.SeedHeader
	Docs []byte
}

// Server is the server. Task is the template of the job's task: hosts, filter and so on.
type Server struct {
	*httptest.Server
	Lease time.Duration // silence after which another agent takes over; 0: 3 s

	// SliceBytes is the size of slices that agents are told; 0: 4 MiB.
	SliceBytes int64
	// Judge decides about a slice of a full read by what it is, before it is stored: None, Away or Clash; nil: all are taken.
	Judge func(ns string, h *wire.SeedHeader) Fault
	// Fault decides about a request, by its path and how many came to it before; nil: all is well.
	Fault func(path string, n int) Fault

	mu      sync.Mutex
	t       testing.TB
	task    wire.BackupTask
	want    string // why a new epoch is wanted, "" when none is
	resync  bool   // begin a new epoch when one ended
	active  string // session
	heard   time.Time
	epochs  map[int64]*Epoch
	current int64
	counts  map[string]int
	reports []wire.BackupReport
	objects map[string][]byte
}

// Start starts a server that wants a first epoch.
func Start(t testing.TB, task wire.BackupTask) *Server {
	s := &Server{t: t, task: task, want: "first", resync: true, Lease: 3 * time.Second, epochs: map[int64]*Epoch{}, counts: map[string]int{}, objects: map[string][]byte{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+wire.PathBackupConf, s.conf)
	mux.HandleFunc("POST "+wire.PathBackupReport, handle(s, s.report))
	mux.HandleFunc("POST "+wire.PathBackupEpoch, handle(s, s.begin))
	mux.HandleFunc("POST "+wire.PathBackupCollections, handle(s, s.collections))
	mux.HandleFunc("GET "+wire.PathBackupCollections, s.page)
	mux.HandleFunc("POST "+wire.PathBackupSeed, s.framed(s.seed))
	mux.HandleFunc("POST "+wire.PathBackupOplog, s.framed(s.oplog))
	mux.HandleFunc("POST "+wire.PathBackupScanned, handle(s, s.scanned))
	mux.HandleFunc("POST "+wire.PathBackupEnd, handle(s, s.end))
	mux.HandleFunc("POST "+wire.PathBackupMissing, handle(s, s.missing))
	mux.HandleFunc("POST "+wire.PathBackupUpload, handle(s, s.upload))
	mux.HandleFunc("PUT /objects/", s.put)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// Lock gives the current epoch to a function; nothing is stored meanwhile. The epoch is empty before the first.
func (s *Server) Lock(f func(number int64, e *Epoch)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.epochs[s.current]
	if e == nil {
		e = &Epoch{}
	}
	f(s.current, e)
}

// Of gives an epoch to a function.
func (s *Server) Of(number int64, f func(e *Epoch)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.epochs[number])
}

// Change changes the task.
func (s *Server) Change(f func(t *wire.BackupTask)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.task)
}

// Reports are those that came.
func (s *Server) Reports() []wire.BackupReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reports
}

// Active is the session of the agent that works.
func (s *Server) Active() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

type problem struct {
	status       int
	code, reason string
}

func refuse(w http.ResponseWriter, p *problem) {
	w.WriteHeader(p.status)
	_, _ = w.Write(wire.EncodeProblem(wire.Problem{Code: p.code, Reason: p.reason}))
}

func conflict(code, format string, a ...any) *problem {
	return &problem{http.StatusConflict, code, fmt.Sprintf(format, a...)}
}

// around applies the fault of a request to what handles it.
func (s *Server) around(w http.ResponseWriter, r *http.Request, do func() ([]byte, *problem)) {
	if user, pass, _ := r.BasicAuth(); user != Group || pass != Key {
		refuse(w, &problem{http.StatusUnauthorized, wire.CodeBadKey, "no such key"})
		return
	}
	s.mu.Lock()
	n := s.counts[r.URL.Path]
	s.counts[r.URL.Path]++
	s.mu.Unlock()
	fault := None
	if s.Fault != nil {
		fault = s.Fault(r.URL.Path, n)
	}
	switch fault {
	case Away:
		refuse(w, &problem{http.StatusServiceUnavailable, wire.CodeStorage, "the object store is away"})
		return
	case Cut:
		panic(http.ErrAbortHandler)
	}
	answer, p := do()
	switch fault {
	case Mute:
		panic(http.ErrAbortHandler)
	case Twice:
		answer, p = do()
	}
	if p != nil {
		refuse(w, p)
		return
	}
	_, _ = w.Write(answer)
}

func handle[T, A wire.BackupMessage](s *Server, f func(m T) (A, *problem)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		s.around(w, r, func() ([]byte, *problem) {
			m, err := wire.Decode[T](body)
			if err != nil {
				s.t.Errorf("%s: %v", r.URL.Path, err)
				return nil, &problem{http.StatusBadRequest, wire.CodeMalformed, err.Error()}
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			a, p := f(m)
			if p != nil {
				return nil, p
			}
			b, err := wire.Encode(a)
			if err != nil {
				s.t.Error(err)
			}
			return b, nil
		})
	}
}

func (s *Server) conf(w http.ResponseWriter, r *http.Request) {
	s.around(w, r, func() ([]byte, *problem) {
		info, _, err := wire.ParseConfQuery(r.URL.Query())
		if err != nil || info.Type != string(model.AgentBackup) {
			s.t.Errorf("conf: %v, type %s", err, info.Type)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		c := wire.BackupConf{Time: time.Now(), State: string(model.AgentActive), ConfSeconds: 1, MaxPost: 16 << 20, SliceBytes: 4 << 20}
		if s.SliceBytes > 0 {
			c.SliceBytes = s.SliceBytes
		}
		if wire.IsCheck(r.URL.Query()) {
			c.Jobs = []wire.BackupTask{s.task}
		} else {
			if s.active == "" || s.active != info.Session && time.Since(s.heard) > s.Lease {
				s.active = info.Session
			}
			if s.active == info.Session {
				s.heard = time.Now()
				c.Jobs = []wire.BackupTask{s.now()}
			} else {
				c.State = string(model.AgentStandby)
			}
		}
		b, err := wire.Encode(c)
		if err != nil {
			s.t.Error(err)
		}
		return b, nil
	})
}

// now is the task as it is. The lock is held.
func (s *Server) now() wire.BackupTask {
	t := s.task
	t.Epoch = s.current
	if e := s.epochs[s.current]; e != nil {
		t.EpochSetID, t.Start, t.StartEntry = e.Begin.ReplicaSetID, e.Begin.Start, e.Begin.StartEntry
		t.Scanned, t.Ended = e.Scanned != nil, e.Ended != nil
		t.Head = wire.Head{Last: e.Head.Last, Sum: e.Head.Sum, Entry: e.Head.Entry}
	}
	if s.want != "" {
		t.WantEpoch, t.Why = s.current+1, s.want
	}
	return t
}

// Resync asks for a new epoch.
func (s *Server) Resync(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want = why
}

func (s *Server) report(r wire.BackupReport) (wire.BackupAck, *problem) {
	s.reports = append(s.reports, r)
	return wire.BackupAck{Time: time.Now()}, nil
}

func (s *Server) begin(b wire.BeginEpoch) (wire.BackupAck, *problem) {
	if e := s.epochs[b.Number]; e != nil && b.Number == s.current {
		if e.Begin.Start == b.Start && e.Begin.StartEntry == b.StartEntry {
			return wire.BackupAck{Repeated: true}, nil
		}
		return wire.BackupAck{}, conflict(wire.CodeConflict, "epoch %d begins elsewhere", b.Number)
	}
	if b.Number != s.current+1 {
		return wire.BackupAck{}, conflict(wire.CodeConflict, "epoch %d is not the next", b.Number)
	}
	s.epochs[b.Number] = &Epoch{Begin: b, Head: chain.Head{Job: b.Job, Epoch: b.Number}, Collections: map[string]*wire.CollectionInfo{}, Seeds: map[string][]Seed{}}
	s.current, s.want = b.Number, ""
	return wire.BackupAck{}, nil
}

func (s *Server) epoch(n int64) (*Epoch, *problem) {
	e := s.epochs[n]
	switch {
	case n != s.current || e == nil:
		return nil, conflict(wire.CodeEpoch, "the current epoch is %d", s.current)
	case e.Ended != nil:
		return nil, conflict(wire.CodeEpoch, "epoch %d has ended", n)
	}
	return e, nil
}

func key(c *wire.CollectionInfo) string {
	if c.View != nil {
		return c.NS
	}
	return c.UUID.String()
}

func (s *Server) collections(m wire.PutCollections) (wire.BackupAck, *problem) {
	e, p := s.epoch(m.Epoch)
	if p != nil {
		return wire.BackupAck{}, p
	}
	for _, c := range m.Collections {
		k := key(&c)
		old := e.Collections[k]
		switch {
		case old != nil && (old.Attempt > c.Attempt || old.Done && !c.Done && old.Attempt == c.Attempt):
			continue
		case old != nil && old.Attempt < c.Attempt:
			delete(e.Seeds, k)
		}
		if c.Done && c.View == nil {
			if n := int64(len(e.Seeds[k])); n != c.Slices {
				return wire.BackupAck{}, conflict(wire.CodeConflict, "%s is said to have %d slices, %d are stored", c.NS, c.Slices, n)
			}
		}
		e.Collections[k] = &c
	}
	return wire.BackupAck{}, nil
}

func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	s.around(w, r, func() ([]byte, *problem) {
		n, _ := strconv.ParseInt(r.URL.Query().Get("epoch"), 10, 64)
		s.mu.Lock()
		defer s.mu.Unlock()
		e, p := s.epoch(n)
		if p != nil {
			return nil, p
		}
		var page wire.CollectionsPage
		for k, c := range e.Collections {
			x := *c
			x.Stored, x.Resume = stored(e.Seeds[k])
			page.Collections = append(page.Collections, x)
		}
		b, err := wire.Encode(page)
		if err != nil {
			s.t.Error(err)
		}
		return b, nil
	})
}

// stored is how far slices go without a hole, and the note in the last of them.
func stored(seeds []Seed) (n int64, resume []byte) {
	for {
		i := slices.IndexFunc(seeds, func(s Seed) bool { return s.Seq == n })
		if i < 0 {
			return n, resume
		}
		n, resume = n+1, seeds[i].Resume
	}
}

func (s *Server) framed(f func(header bson.Raw, content []byte) ([]byte, *problem)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		s.around(w, r, func() ([]byte, *problem) {
			header, content, err := wire.Unframe(body)
			if err != nil {
				s.t.Errorf("%s: %v", r.URL.Path, err)
				return nil, &problem{http.StatusBadRequest, wire.CodeMalformed, err.Error()}
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			return f(header, content)
		})
	}
}

func (s *Server) seed(header bson.Raw, content []byte) ([]byte, *problem) {
	h, err := wire.DecodeSeedHeader(header)
	if err != nil {
		s.t.Error(err)
		return nil, &problem{http.StatusBadRequest, wire.CodeMalformed, err.Error()}
	}
	e, p := s.epoch(h.Epoch)
	if p != nil {
		return nil, p
	}
	if h.Uploaded {
		content = s.objects["seed-"+h.Digest.String()]
	}
	docs, err := wire.Decompress(content, h.Bytes)
	if err == nil {
		err = h.Open(docs)
	}
	if err != nil {
		s.t.Error(err)
		return nil, &problem{http.StatusBadRequest, wire.CodeDamaged, err.Error()}
	}
	k := h.UUID.String()
	c := e.Collections[k]
	switch {
	case c == nil:
		s.t.Errorf("a slice of a collection nobody told of: %s", k)
		return nil, conflict(wire.CodeConflict, "no such collection")
	case h.Attempt < c.Attempt:
		return encodeAck(true)
	case h.Attempt > c.Attempt:
		s.t.Errorf("%s: attempt %d, told was %d", c.NS, h.Attempt, c.Attempt)
	}
	if s.Judge != nil {
		switch s.Judge(c.NS, &h) {
		case Away:
			return nil, &problem{http.StatusServiceUnavailable, wire.CodeStorage, "the object store is away"}
		case Clash:
			return nil, conflict(wire.CodeConflict, "another slice %d is stored", h.Seq)
		}
	}
	for _, old := range e.Seeds[k] {
		if old.Seq != h.Seq {
			continue
		}
		if old.Digest != h.Digest {
			s.t.Errorf("%s: slice %d came twice with other documents", c.NS, h.Seq)
			return nil, conflict(wire.CodeConflict, "another slice %d is stored", h.Seq)
		}
		return encodeAck(true)
	}
	e.Seeds[k] = append(e.Seeds[k], Seed{h, docs})
	return encodeAck(false)
}

func encodeAck(repeated bool) ([]byte, *problem) {
	b, err := wire.Encode(wire.BackupAck{Repeated: repeated})
	if err != nil {
		panic(err) // constant
	}
	return b, nil
}

func (s *Server) oplog(header bson.Raw, content []byte) ([]byte, *problem) {
	h, err := wire.DecodeOplogHeader(header)
	if err != nil {
		s.t.Error(err)
		return nil, &problem{http.StatusBadRequest, wire.CodeMalformed, err.Error()}
	}
	e, p := s.epoch(h.Slice.Epoch)
	if p != nil {
		return nil, p
	}
	if h.Uploaded {
		content = s.objects["oplog-"+h.Slice.Content.String()]
	}
	docs, err := wire.Decompress(content, h.Slice.Bytes)
	if err != nil {
		s.t.Error(err)
		return nil, &problem{http.StatusBadRequest, wire.CodeDamaged, err.Error()}
	}
	next, repeated, err := e.Head.Follow(&h.Slice)
	switch {
	case err != nil:
		return nil, conflict(wire.CodeGap, "%v", err)
	case repeated:
	default:
		if e.Head.Last.IsZero() && h.Slice.First != e.Begin.Start {
			s.t.Errorf("the first slice begins with %s, the epoch with %s", h.Slice.First, e.Begin.Start)
		}
		if err := h.Slice.Open(docs, func(raw bson.Raw) error {
			e.Entries = append(e.Entries, raw)
			return nil
		}); err != nil {
			s.t.Error(err)
			return nil, &problem{http.StatusBadRequest, wire.CodeDamaged, err.Error()}
		}
		e.Head = next
		e.Slices = append(e.Slices, h.Slice)
	}
	b, err := wire.Encode(wire.OplogAck{Repeated: repeated, Head: wire.Head{Last: e.Head.Last, Sum: e.Head.Sum, Entry: e.Head.Entry}})
	if err != nil {
		s.t.Error(err)
	}
	return b, nil
}

func (s *Server) scanned(m wire.Scanned) (wire.BackupAck, *problem) {
	e, p := s.epoch(m.Epoch)
	if p != nil {
		return wire.BackupAck{}, p
	}
	for _, c := range e.Collections {
		if !c.Done && c.Lost == "" {
			return wire.BackupAck{}, conflict(wire.CodeConflict, "%s was not read", c.NS)
		}
	}
	if int64(len(e.Collections)) != m.Collections {
		s.t.Errorf("%d collections were read, %d told of", m.Collections, len(e.Collections))
	}
	e.Scanned = &m
	return wire.BackupAck{}, nil
}

func (s *Server) end(m wire.EndEpoch) (wire.BackupAck, *problem) {
	e := s.epochs[m.Epoch]
	if m.Epoch != s.current || e == nil {
		return wire.BackupAck{}, conflict(wire.CodeEpoch, "the current epoch is %d", s.current)
	}
	if e.Ended == nil {
		e.Ended = &m
		if s.resync {
			s.want = m.Why
		}
	}
	return wire.BackupAck{}, nil
}

func (s *Server) missing(m wire.FoundDocs) (wire.BackupAck, *problem) {
	e, p := s.epoch(m.Epoch)
	if p != nil {
		return wire.BackupAck{}, p
	}
	e.Found = append(e.Found, m)
	s.task.Missing = nil
	return wire.BackupAck{}, nil
}

func (s *Server) upload(m wire.UploadWish) (wire.Upload, *problem) {
	name := ""
	switch m.Kind {
	case wire.UploadSeed:
		h, err := wire.DecodeSeedHeader(m.Header)
		if err != nil {
			s.t.Error(err)
		}
		name = "seed-" + h.Digest.String()
	default:
		h, err := wire.DecodeOplogHeader(m.Header)
		if err != nil {
			s.t.Error(err)
		}
		name = "oplog-" + h.Slice.Content.String()
	}
	return wire.Upload{Method: http.MethodPut, URL: s.URL + "/objects/" + name, Header: map[string]string{"If-None-Match": "*"}}, nil
}

func (s *Server) put(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if _, _, ok := r.BasicAuth(); ok || r.Header.Get("If-None-Match") != "*" {
		s.t.Error("an upload past the server carries the group's key, or lacks the header it was told to send")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := r.URL.Path[len("/objects/"):]
	if s.objects[name] != nil {
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	s.objects[name] = b
}

// Position is the end of the stored oplog of the current epoch.
func (s *Server) Position() oplog.OpTime {
	var at oplog.OpTime
	s.Lock(func(_ int64, e *Epoch) { at = e.Head.Last })
	return at
}

// History says why each epoch was begun and ended.
func (s *Server) History() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := ""
	for n := int64(1); n <= s.current; n++ {
		e := s.epochs[n]
		out += fmt.Sprintf("\nepoch %d from %s (%s)", n, e.Begin.Start, e.Begin.Why)
		if e.Ended != nil {
			out += fmt.Sprintf(" ended: %s, %s", e.Ended.Verdict, e.Ended.Why)
		}
	}
	return out
}
