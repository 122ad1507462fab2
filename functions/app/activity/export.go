package activity

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/model"
)

// Bounds of a download.
const (
	maxExport  = 100_000 // events
	lookExport = 500_000 // events looked at
)

// exporter writes a file event by event.
type exporter interface {
	event(e *model.Event) error
	// end closes the file. cut is not empty when there is more: it says how to get it.
	end(cut string) error
}

// export answers with everything the filters select, newest first, as it is read: however long the feed, only one event is held.
func (p *Pages) export(start func(io.Writer) exporter, kind, ending string) view.Handler {
	return func(ctx context.Context, v *view.Visit) (view.Answer, error) {
		if v.Group == nil {
			if err := v.Need(view.ReadSite); err != nil {
				return view.Answer{}, err
			}
		}
		q, f, _, err := p.query(ctx, v)
		if err != nil {
			return view.Answer{}, err
		}
		if !f.OK() {
			return view.Answer{}, view.BadRequest(f.Errors[f.Order[0]])
		}
		q.Limit = 0
		return view.Answer{Write: func(w http.ResponseWriter) error {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="activity-%s.%s"`, v.Now.UTC().Format("20060102-150405"), ending))
			buf := bufio.NewWriter(w)
			out := start(buf)
			n := 0
			var failed error
			next, err := p.opt.Events.EachEvent(ctx, q, lookExport, func(e model.Event) bool {
				if n == maxExport {
					return false
				}
				n++
				failed = out.event(&e)
				return failed == nil
			})
			switch {
			case failed != nil:
				return failed
			case err != nil:
				// The head is sent: a connection that breaks is the only honest way to say that the file is not whole.
				panic(http.ErrAbortHandler)
			}
			cut := ""
			if next != "" {
				cut = "There are more events. The next part is at before=" + next
			}
			if err := out.end(cut); err != nil {
				return err
			}
			return buf.Flush()
		}}, nil
	}
}

type csvFile struct{ w *csv.Writer }

func writeCSV(w io.Writer) exporter {
	out := csv.NewWriter(w)
	_ = out.Write([]string{"id", "time (UTC)", "type", "what", "group", "host", "cluster", "actor", "actor kind", "address"}) // an error stays in the writer
	return &csvFile{out}
}

func (c *csvFile) event(e *model.Event) error {
	as, actor := actorOf(e)
	record := []string{
		string(e.ID), e.At.UTC().Format("2006-01-02T15:04:05.000Z"), string(e.Type), row{Event: *e, Word: word(e.Type)}.Sentence(), string(e.GroupID),
		e.HostName, string(e.ClusterID), actor, as, e.IP,
	}
	for i := range record {
		record[i] = harmless(record[i])
	}
	return c.w.Write(record)
}

// harmless keeps spreadsheets from taking a text for a formula: names and sign-in attempts are written by strangers.
func harmless(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r\n", rune(s[0])) {
		return "'" + s
	}
	return s
}

func (c *csvFile) end(cut string) error {
	if cut != "" {
		if err := c.w.Write([]string{"", "", "", cut, "", "", "", "", "", ""}); err != nil {
			return err
		}
	}
	c.w.Flush()
	return c.w.Error()
}

type jsonFile struct {
	w   io.Writer
	sep string
}

func writeJSON(w io.Writer) exporter { return &jsonFile{w: w, sep: "{\"events\":[\n"} }

// jsonEvent is an event in the file; names are those of the Public API where it has them.
type jsonEvent struct {
	ID            model.ID        `json:"id"`
	Created       time.Time       `json:"created"`
	Type          model.EventType `json:"eventTypeName"`
	Text          string          `json:"text"`
	GroupID       model.ID        `json:"groupId,omitempty"`
	OrgID         model.ID        `json:"orgId,omitempty"`
	HostID        model.HostID    `json:"hostId,omitempty"`
	Host          string          `json:"host,omitempty"`
	ClusterID     model.ID        `json:"clusterId,omitempty"`
	UserID        model.ID        `json:"userId,omitempty"`
	Username      string          `json:"username,omitempty"`
	APIKeyID      model.ID        `json:"apiKeyId,omitempty"`
	PublicKey     string          `json:"publicKey,omitempty"`
	AgentID       string          `json:"agentId,omitempty"`
	RemoteAddress string          `json:"remoteAddress,omitempty"`
	TargetUser    string          `json:"targetUsername,omitempty"`
	TargetKey     string          `json:"targetPublicKey,omitempty"`
	AccessEntry   string          `json:"accessListEntry,omitempty"`
}

func (j *jsonFile) event(e *model.Event) error {
	b, err := json.Marshal(jsonEvent{
		e.ID, e.At.UTC(), e.Type, row{Event: *e, Word: word(e.Type)}.Sentence(), e.GroupID, e.OrgID, e.HostID, e.HostName, e.ClusterID,
		e.UserID, e.Username, e.APIKeyID, e.APIKey, e.AgentID, e.IP, e.TargetUser, e.TargetKey, e.AccessEntry,
	})
	if err != nil {
		return err
	}
	_, err = io.WriteString(j.w, j.sep+string(b))
	j.sep = ",\n"
	return err
}

func (j *jsonFile) end(cut string) error {
	if j.sep != ",\n" { // no event
		if _, err := io.WriteString(j.w, j.sep); err != nil {
			return err
		}
	}
	note, err := json.Marshal(cut)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(j.w, "\n],\"complete\":%t,\"note\":%s}\n", cut == "", note)
	return err
}
