package restores

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/ingestion/reply"
	"github.com/heartwood-db/heartwood/shared/blockstore"
	"github.com/heartwood-db/heartwood/shared/httpx"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/obs"
	"github.com/heartwood-db/heartwood/shared/store"
	"github.com/heartwood-db/heartwood/shared/store/backup"
	"github.com/heartwood-db/heartwood/shared/wire"
)

const (
	stallLimit   = 2 * time.Minute  // a client that takes nothing for so long is cut off
	downloadTTL  = time.Hour        // of a URL of the store's own: to begin, not to end
	maxTokenPath = 128              // bytes of a token in a path
	noteLimit    = 10 * time.Second // for what is noted after a download
)

// pull serves a restore by its link: whole, from a byte on, or only its size (HEAD). The use is counted before the first byte
// flows. Whoever has no right link learns nothing, not even whether the restore exists.
func (s *Server) pull(w http.ResponseWriter, r *http.Request) error {
	id, token, file := r.PathValue("id"), r.PathValue("token"), r.PathValue("file")
	h := w.Header()
	h.Set("Cache-Control", "no-store, private")
	h.Set("Referrer-Policy", "no-referrer") // the path is the secret
	ctx, now := r.Context(), s.o.Now().UTC()
	if len(token) > maxTokenPath || len(id) > 64 || len(file) > reply.MaxText {
		return s.noLink(w, r, backup.ErrLink)
	}
	// A first look, as if it were a resumption: it tells the file's size, which decides what is asked for.
	res, i, err := s.o.Area.Download(ctx, id, token, file, true, now)
	if err != nil {
		return s.noLink(w, r, err)
	}
	o := &res.Objects[i]
	etag := `"` + o.SHA256 + `"`
	from, whole, satisfiable := rangeOf(r, etag, o.Bytes)
	if !satisfiable {
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(o.Bytes, 10))
		http.Error(w, "The file has "+strconv.FormatInt(o.Bytes, 10)+" bytes.", http.StatusRequestedRangeNotSatisfiable)
		return nil
	}
	resume := !whole && from > 0
	bs, err := s.o.Blobs.Open(ctx, res.StoreID)
	if err != nil {
		return s.unavailable(w, r, err)
	}
	content := &object{ctx: ctx, bs: bs, store: res.StoreID, key: o.Key, size: o.Bytes, note: id}
	defer content.close()
	if r.Method != http.MethodHead {
		// What cannot be read is not counted: the link would be burnt for nothing.
		if err := content.probe(); err != nil {
			return s.unavailable(w, r, err)
		}
		if err := s.o.Area.CountDownload(ctx, id, i, resume, now); errors.Is(err, backup.ErrLink) || errors.Is(err, backup.ErrLinkEnded) {
			return s.noLink(w, r, err)
		} else if err != nil {
			return s.unavailable(w, r, err)
		}
		s.begun(ctx, &res, o, resume, now)
		if url, ok := s.elsewhere(ctx, bs, o.Key); ok {
			http.Redirect(w, r, url, http.StatusTemporaryRedirect)
			return nil
		}
	}
	h.Set("Content-Type", contentType(o.Name))
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": o.Name}))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Etag", etag)
	h.Set("Repr-Digest", "sha-256=:"+base64Of(o.SHA256)+":")
	plain(r, whole)
	http.ServeContent(&unhurried{w: w, rc: http.NewResponseController(w), sent: s.m.sentBytes.Add}, r, "", time.Time{}, content)
	if content.ended && r.Method != http.MethodHead {
		s.m.downloads.WithLabelValues("ended").Inc()
		after, stop := context.WithTimeout(context.WithoutCancel(ctx), noteLimit)
		defer stop()
		if err := s.o.Area.EndDownload(after, id, s.o.Now().UTC()); err != nil {
			s.o.Log.WarnContext(ctx, "the end of a download was not kept", obs.KeyErr, err)
		}
	}
	return nil
}

// begun tells people, once a use.
func (s *Server) begun(ctx context.Context, res *backup.Restore, o *backup.Object, resume bool, now time.Time) {
	if resume {
		s.m.downloads.WithLabelValues("resumed").Inc()
		return
	}
	s.m.downloads.WithLabelValues("begun").Inc()
	ip := httpx.ClientIP(ctx).String()
	s.o.Log.InfoContext(ctx, "download of a restore begun", obs.KeyFile, o.Name, obs.KeyBytes, o.Bytes, obs.KeyAddr, ip)
	err := s.o.Events.AddEvents(ctx, model.Event{
		GroupID: res.GroupID, Type: model.EventRestoreDownloaded, At: now, ClusterID: res.Job, IP: ip,
		Text: fmt.Sprintf("The restore %s is being downloaded to %s.", o.Name, ip),
	})
	if err != nil {
		s.o.Log.WarnContext(ctx, "the event of a download was not kept", obs.KeyErr, err)
	}
}

// elsewhere is the store's own URL of an object, where people are sent there.
func (s *Server) elsewhere(ctx context.Context, bs blockstore.Store, key string) (string, bool) {
	signer, ok := blockstore.SignerOf(bs)
	if !ok || !s.o.Presign {
		return "", false
	}
	signed, err := signer.SignGet(ctx, key, downloadTTL)
	if err != nil || len(signed.Header) > 0 {
		return "", false
	}
	return signed.URL, true
}

// noLink refuses a download in words for people: they see it in a browser or a terminal.
func (s *Server) noLink(w http.ResponseWriter, r *http.Request, err error) error {
	switch {
	case errors.Is(err, backup.ErrLinkEnded):
		s.m.downloads.WithLabelValues("refused").Inc()
		http.Error(w, "This download link has ended: "+strings.TrimPrefix(err.Error(), backup.ErrLinkEnded.Error()+": ")+
			". Start the restore again to get a new one.", http.StatusGone)
		return nil
	case errors.Is(err, backup.ErrLink):
		s.m.downloads.WithLabelValues("refused").Inc()
		http.Error(w, "There is no such download. Copy the whole link from the page of the restore.", http.StatusNotFound)
		return nil
	}
	return s.unavailable(w, r, err)
}

func (s *Server) unavailable(w http.ResponseWriter, r *http.Request, err error) error {
	if r.Context().Err() != nil {
		return nil
	}
	s.o.Log.ErrorContext(r.Context(), "a download failed", obs.KeyErr, err, obs.KeyRequest, httpx.RequestID(r.Context()))
	w.Header().Set("Retry-After", "30")
	http.Error(w, "The file cannot be read at the moment; this try was not counted. Try again in a minute.", http.StatusServiceUnavailable)
	return nil
}

// rangeOf reads what a request wants of a file: its first byte, and whether it is the whole. Requests for several ranges, or
// for ranges of another version of the file, get the whole.
func rangeOf(r *http.Request, etag string, size int64) (from int64, whole, satisfiable bool) {
	spec, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes=")
	if !ok || strings.Contains(spec, ",") {
		return 0, true, true
	}
	if cond := r.Header.Get("If-Range"); cond != "" && cond != etag {
		return 0, true, true
	}
	first, last, ok := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok {
		return 0, true, true
	}
	if first == "" {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n < 0 {
			return 0, true, true
		}
		return max(size-n, 0), false, n > 0 && size > 0
	}
	n, err := strconv.ParseInt(first, 10, 64)
	if err != nil || n < 0 {
		return 0, true, true
	}
	if last != "" {
		if end, err := strconv.ParseInt(last, 10, 64); err != nil || end < n {
			return 0, true, true
		}
	}
	return n, false, n < size
}

// plain takes out of a request what would make ServeContent answer otherwise than was counted.
func plain(r *http.Request, whole bool) {
	for _, name := range []string{"If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range"} {
		r.Header.Del(name)
	}
	if whole {
		r.Header.Del("Range")
	}
}

func contentType(name string) string {
	switch {
	case strings.HasSuffix(name, ".gz"), strings.HasSuffix(name, ".tgz"):
		return "application/gzip"
	case strings.HasSuffix(name, ".tar"):
		return "application/x-tar"
	}
	return "application/octet-stream"
}

// object reads an object of a block store as http.ServeContent wants it: it is opened where reading begins.
type object struct {
	ctx   context.Context //nolint:containedctx // of the one request that it serves
	bs    blockstore.Store
	store string // its id
	key   string
	size  int64
	note  string // told a transport that sends the object by itself, with its last byte
	at    int64
	r     io.ReadCloser
	ended bool // the last byte was read
}

// probe reads the object's metadata: that it is there, and whole.
func (o *object) probe() error {
	have, err := o.bs.Stat(o.ctx, o.key)
	if err == nil && have.Size != o.size {
		err = fmt.Errorf("%w: %s has %d bytes instead of %d", blockstore.ErrDamaged, o.key, have.Size, o.size)
	}
	return err
}

// Seek implements io.Seeker.
func (o *object) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += o.at
	case io.SeekEnd:
		offset += o.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning of an object")
	}
	if offset != o.at {
		o.close()
		o.at = offset
	}
	return offset, nil
}

// Read implements io.Reader.
func (o *object) Read(p []byte) (int, error) {
	if o.at >= o.size {
		return 0, io.EOF
	}
	if o.r == nil {
		r, err := o.bs.Open(o.ctx, o.key, o.at, -1)
		if err != nil {
			return 0, err
		}
		o.r = r
	}
	n, err := o.r.Read(p)
	o.at += int64(n)
	if o.at >= o.size {
		o.ended = true
	}
	if errors.Is(err, io.EOF) && o.at < o.size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (o *object) close() {
	if o.r != nil {
		_ = o.r.Close()
		o.r = nil
	}
}

// unhurried gives every piece of an answer its own time: a download may take hours, but not stand still.
type unhurried struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	sent func(float64)
}

// Header implements http.ResponseWriter.
func (u *unhurried) Header() http.Header { return u.w.Header() }

// WriteHeader implements http.ResponseWriter.
func (u *unhurried) WriteHeader(code int) { u.w.WriteHeader(code) }

// Write implements http.ResponseWriter.
func (u *unhurried) Write(p []byte) (int, error) {
	_ = u.rc.SetWriteDeadline(time.Now().Add(stallLimit)) // not every transport has one
	n, err := u.w.Write(p)
	u.sent(float64(n))
	return n, err
}

// ReadFrom implements io.ReaderFrom, which is how http.ServeContent copies: a transport that sends objects by itself is told which
// bytes, and they do not pass here.
func (u *unhurried) ReadFrom(r io.Reader) (int64, error) {
	part, ok := r.(*io.LimitedReader)
	if !ok {
		return io.Copy(writerOnly{u}, r)
	}
	o, ok := part.R.(*object)
	sender, sends := httpx.ObjectSenderOf(u.w)
	if !ok || !sends {
		return io.Copy(writerOnly{u}, r)
	}
	send := httpx.Object{Store: o.store, Key: o.key, From: o.at, Length: min(part.N, o.size-o.at)}
	if send.From+send.Length == o.size {
		send.Note = o.note
	}
	if err := sender.SendObject(send); err != nil {
		return 0, err
	}
	o.at += send.Length
	return send.Length, nil
}

// writerOnly hides ReadFrom from io.Copy.
type writerOnly struct{ io.Writer }

// pushed is a restore that the caller's group is to write.
func (s *Server) pushed(r *http.Request) (backup.Restore, error) {
	group, err := s.o.Caller.Authenticate(r)
	if err != nil {
		return backup.Restore{}, err
	}
	res, err := s.o.Area.Restore(r.Context(), reply.Cut(r.PathValue("id")))
	if err != nil {
		if httpx.Status(err) == http.StatusNotFound {
			err = reply.Refuse(wire.CodeStopped, "there is no such restore: it was deleted")
		}
		return res, err
	}
	if res.Method != model.DeliverPush || res.TargetGroup != group.ID {
		return res, reply.Refuse(wire.CodeStopped, "there is no such restore: it was deleted")
	}
	return res, nil
}

// push tells the agent what a restore holds.
func (s *Server) push(w http.ResponseWriter, r *http.Request) error {
	res, err := s.pushed(r)
	if err != nil {
		return err
	}
	p := wire.Push{
		Restore: res.ID, Drop: res.Drop, Users: res.Users, Rename: res.Rename, Plan: res.Plan, Objects: make([]wire.PushObject, len(res.Objects)),
		Cancel: res.Status != model.RestoreInProgress,
	}
	for i, o := range res.Objects {
		p.Objects[i] = wire.PushObject{Name: o.Name, Bytes: o.Bytes, SHA256: o.SHA256}
	}
	return reply.Answer(w, p)
}

// pushObject serves one object of a restore to the agent, from any byte on.
func (s *Server) pushObject(w http.ResponseWriter, r *http.Request) error {
	res, err := s.pushed(r)
	if err != nil {
		return err
	}
	if res.Status != model.RestoreInProgress {
		return reply.Refuse(wire.CodeStopped, "the restore is %s", res.Status)
	}
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 0 || n >= len(res.Objects) {
		return reply.Refuse(wire.CodeMalformed, "the restore has %d objects", len(res.Objects))
	}
	bs, err := s.o.Blobs.Open(r.Context(), res.StoreID)
	if err != nil {
		return err
	}
	o := &res.Objects[n]
	content := &object{ctx: r.Context(), bs: bs, store: res.StoreID, key: o.Key, size: o.Bytes}
	defer content.close()
	if err := content.probe(); err != nil {
		return reply.Refusal(err)
	}
	if url, ok := s.elsewhere(r.Context(), bs, o.Key); ok {
		http.Redirect(w, r, url, http.StatusTemporaryRedirect)
		return nil
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Etag", `"`+o.SHA256+`"`)
	http.ServeContent(&unhurried{w: w, rc: http.NewResponseController(w), sent: s.m.sentBytes.Add}, r, "", time.Time{}, content)
	return nil
}

// pushProgress keeps how far the agent is, and the end. What is told again changes nothing.
func (s *Server) pushProgress(w http.ResponseWriter, r *http.Request) error {
	res, err := s.pushed(r)
	if err != nil {
		return err
	}
	body, err := reply.Body(w, r, s.o.MaxPost)
	if err != nil {
		return err
	}
	m, err := wire.Decode[wire.PushProgress](body)
	if err != nil {
		return err
	}
	now := s.o.Now().UTC()
	ended := model.RestoreInProgress
	switch {
	case m.Error != "":
		ended = model.RestoreBroken
	case m.Finished:
		ended = model.RestoreFinished
	}
	repeated, at := false, now
	err = s.o.Area.UpdateRestore(r.Context(), res.ID, func(res *backup.Restore) error {
		if repeated = res.Status != model.RestoreInProgress; repeated {
			at = res.Finished
			return afterEnd(res, &m, ended)
		}
		at = now
		return during(res, &m, ended, now)
	})
	if err != nil {
		return reply.Refusal(err)
	}
	// Also when it is told again: the event may be what failed the first time. Its id makes it one.
	if ended != model.RestoreInProgress && (!repeated || res.Status == ended) {
		e := model.Event{
			ID: model.DeriveID("push", res.ID, string(ended)), GroupID: res.GroupID, Type: model.EventRestoreReady, At: at, ClusterID: res.Job,
			AgentID: reply.Cut(m.AgentID), Text: "The restore was written into its target.",
		}
		if ended == model.RestoreBroken {
			e.Type, e.Text = model.EventRestoreFailed, "The restore could not be written into its target: "+reply.CutTo(m.Error, reply.MaxText)
		}
		if err := s.o.Events.AddEvents(r.Context(), e); err != nil {
			return err
		}
	}
	return reply.Ack(w, s.o.Now(), repeated)
}

// during changes a push in progress as its agent tells.
func during(res *backup.Restore, m *wire.PushProgress, ended model.RestoreStatus, now time.Time) error {
	if len(res.Objects) == 0 {
		return reply.Refuse(wire.CodeStopped, "the restore is not ready to be written")
	}
	res.Step, res.Done, res.Total, res.Beat = reply.Cut(m.Step), m.Done, m.Total, now
	res.Waits = m.Waiting && res.Delivery.Status == model.DeliveryReady
	if m.Do != "" { // an agent that was just started does not know yet, and a swap that has begun is not taken back
		res.Do = reply.Cut(m.Do)
	}
	if !m.Waiting {
		res.Delivery.Status = model.DeliveryTransferring
	}
	if ended != model.RestoreInProgress {
		res.Status, res.Finished, res.Error, res.Remedy = ended, now, reply.CutTo(m.Error, 4<<10), reply.CutTo(m.Remedy, reply.MaxText)
		if m.Cleaned {
			res.Delivery.Status = model.DeliveryFinished
		}
	}
	return nil
}

// afterEnd takes of a push that has ended only that nothing of it is left in its target, and what became of that.
func afterEnd(res *backup.Restore, m *wire.PushProgress, ended model.RestoreStatus) error {
	switch {
	case m.Cleaned && res.Delivery.Status == model.DeliveryTransferring:
		res.Delivery.Status = model.DeliveryFinished
		if m.Error != "" && res.Status != model.RestoreFinished && !strings.Contains(res.Error, m.Error) {
			res.Error, res.Remedy = reply.CutTo(strings.TrimPrefix(res.Error+"; "+m.Error, "; "), 4<<10), reply.CutTo(m.Remedy, reply.MaxText)
		}
		return nil
	case m.Cleaned || res.Status == ended:
		return store.ErrUnchanged
	}
	return reply.Refuse(wire.CodeStopped, "the restore is %s", res.Status)
}

// base64Of turns a hexadecimal digest into the form of the Repr-Digest header (RFC 9530).
func base64Of(digest string) string {
	raw, err := hex.DecodeString(digest)
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(raw)
}
