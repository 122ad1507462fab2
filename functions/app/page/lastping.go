package page

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/functions/app/view"
	"github.com/heartwood-db/heartwood/shared/docstore"
	"github.com/heartwood-db/heartwood/shared/model"
	"github.com/heartwood-db/heartwood/shared/wire"
)

type replyLink struct {
	Name, Href string
	Bytes      int
	On         bool
}

type pingHit struct{ Reply, Path, Value string }

type lastPingPage struct {
	Row     hostRow
	Ping    *model.LastPing
	Replies []replyLink
	Name    string
	Tree    template.HTML
	Query   string
	Hits    []pingHit
	More    bool
	Bytes   int
	JSONAt  string
}

// Bounds of what one page shows of a document.
const (
	maxHits  = 200
	maxNodes = 20_000
	maxDepth = 100
)

// lastPing answers: what exactly did the process say? With q, which fields are named so or hold that.
func (p *Pages) lastPing(ctx context.Context, v *view.Visit) (view.Answer, error) {
	h, row, err := p.loadHost(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	d := lastPingPage{Row: row, Query: strings.TrimSpace(v.Query("q"))}
	d.JSONAt = v.Request.URL.Path + ".json"
	answer := view.Answer{Template: "lastping.html", Title: "Last ping of " + h.Address(), Nav: "deployment", Data: &d}
	ping, doc, err := p.replies(ctx, v, h.ID)
	if isMissing(err) {
		return answer, nil
	}
	if err != nil {
		return view.Answer{}, err
	}
	d.Ping, d.Bytes = &ping, len(doc)
	elems, err := doc.Elements()
	if err != nil {
		return view.Answer{}, fmt.Errorf("read the last ping: %w", err)
	}
	d.Name = v.Query("reply")
	if d.Name == "" && len(elems) > 0 {
		d.Name = elems[0].Key()
		if _, err := doc.LookupErr("serverStatus"); err == nil {
			d.Name = "serverStatus"
		}
	}
	var t tree
	for _, e := range elems {
		d.Replies = append(d.Replies, replyLink{Name: e.Key(), Href: v.Link("reply", e.Key(), "q", ""), Bytes: len(e.Value().Value), On: e.Key() == d.Name && d.Query == ""})
		switch {
		case d.Query != "":
			s := search{q: strings.ToLower(d.Query), reply: e.Key(), hits: d.Hits}
			s.walk(e.Key(), e.Value(), 0)
			d.Hits, d.More = s.hits, d.More || s.more
		case e.Key() == d.Name:
			t.node(e.Key(), e.Value(), 0)
		}
	}
	d.Tree = template.HTML(t.b.String()) //nolint:gosec // every name and value is escaped where it is written
	return answer, nil
}

func isMissing(err error) bool { return errors.Is(err, docstore.ErrNotFound) }

func (p *Pages) replies(ctx context.Context, v *view.Visit, id model.HostID) (model.LastPing, bson.Raw, error) {
	ping, err := p.opt.Inventory.LastPing(ctx, v.Group.ID, id)
	if err != nil {
		return ping, nil, fmt.Errorf("read the last ping: %w", err)
	}
	doc, err := wire.DecodeReplies(ping.Replies)
	if err != nil {
		return ping, nil, fmt.Errorf("unpack the last ping: %w", err)
	}
	return ping, doc, nil
}

// lastPingJSON is the whole ping as canonical extended JSON, so that no type is lost.
func (p *Pages) lastPingJSON(ctx context.Context, v *view.Visit) (view.Answer, error) {
	h, _, err := p.loadHost(ctx, v)
	if err != nil {
		return view.Answer{}, err
	}
	_, doc, err := p.replies(ctx, v, h.ID)
	if err != nil {
		return view.Answer{}, err
	}
	body, err := bson.MarshalExtJSONIndent(doc, true, false, "", "  ")
	if err != nil {
		return view.Answer{}, fmt.Errorf("write the last ping as JSON: %w", err)
	}
	return view.Answer{Write: func(w http.ResponseWriter) error {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="last-ping-%s.json"`, h.ID))
		_, err := w.Write(body)
		return err
	}}, nil
}

// tree writes a document as nested details elements: by hand, because a server's status has thousands of fields.
type tree struct {
	b strings.Builder
	n int
}

func (t *tree) node(name string, v bson.RawValue, depth int) {
	if t.n++; t.n > maxNodes {
		return
	}
	elems, ok := children(v)
	if !ok || depth >= maxDepth {
		kind, text := scalar(v)
		t.b.WriteString("<p><b>")
		t.b.WriteString(template.HTMLEscapeString(name))
		t.b.WriteString("</b> <span class=" + kind + ">")
		t.b.WriteString(template.HTMLEscapeString(text))
		t.b.WriteString("</span></p>")
		return
	}
	open := ""
	if depth == 0 {
		open = " open"
	}
	t.b.WriteString("<details" + open + "><summary><b>" + template.HTMLEscapeString(name) + "</b> <i>" + size(v, len(elems)) + "</i></summary>")
	for _, e := range elems {
		t.node(e.Key(), e.Value(), depth+1)
	}
	t.b.WriteString("</details>")
}

func size(v bson.RawValue, n int) string {
	switch {
	case v.Type == bson.TypeArray:
		return "[" + strconv.Itoa(n) + "]"
	case n == 1:
		return "1 field"
	}
	return strconv.Itoa(n) + " fields"
}

func children(v bson.RawValue) ([]bson.RawElement, bool) {
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		if doc, ok := v.DocumentOK(); ok {
			elems, err := doc.Elements()
			return elems, err == nil
		}
	case bson.TypeArray:
		if arr, ok := v.ArrayOK(); ok {
			elems, err := bson.Raw(arr).Elements()
			return elems, err == nil
		}
	default:
	}
	return nil, false
}

// scalar is a value as text with its class: s for strings, n for numbers, x for the rest.
func scalar(v bson.RawValue) (class, text string) {
	switch v.Type {
	case bson.TypeString:
		s, _ := v.StringValueOK()
		return "s", s
	case bson.TypeInt32:
		n, _ := v.Int32OK()
		return "n", strconv.FormatInt(int64(n), 10)
	case bson.TypeInt64:
		n, _ := v.Int64OK()
		return "n", strconv.FormatInt(n, 10)
	case bson.TypeDouble:
		f, _ := v.DoubleOK()
		return "n", strconv.FormatFloat(f, 'g', -1, 64)
	case bson.TypeBoolean:
		b, _ := v.BooleanOK()
		return "n", strconv.FormatBool(b)
	case bson.TypeDateTime:
		ms, _ := v.DateTimeOK()
		return "x", time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
	case bson.TypeTimestamp:
		sec, inc, _ := v.TimestampOK()
		return "x", fmt.Sprintf("Timestamp(%d, %d) %s", sec, inc, time.Unix(int64(sec), 0).UTC().Format(time.RFC3339))
	case bson.TypeObjectID:
		id, _ := v.ObjectIDOK()
		return "x", "ObjectId(" + id.Hex() + ")"
	case bson.TypeBinary:
		sub, data, _ := v.BinaryOK()
		if len(data) > 32 {
			return "x", fmt.Sprintf("Binary(%d, %d bytes)", sub, len(data))
		}
		return "x", fmt.Sprintf("Binary(%d, %s)", sub, hex.EncodeToString(data))
	case bson.TypeNull:
		return "x", "null"
	default:
		return "x", v.String()
	}
}

// search finds fields whose path or value holds a text.
type search struct {
	q, reply string
	hits     []pingHit
	more     bool
}

func (s *search) walk(path string, v bson.RawValue, depth int) {
	if s.more {
		return
	}
	if elems, ok := children(v); ok && depth < maxDepth {
		for _, e := range elems {
			s.walk(path+"."+e.Key(), e.Value(), depth+1)
		}
		return
	}
	_, text := scalar(v)
	if !strings.Contains(strings.ToLower(path), s.q) && !strings.Contains(strings.ToLower(text), s.q) {
		return
	}
	if len(s.hits) >= maxHits {
		s.more = true
		return
	}
	s.hits = append(s.hits, pingHit{s.reply, path, view.Middle(text, 200)})
}

// Size is the reply's size in bytes.
func (r replyLink) Size() float64 { return float64(r.Bytes) }

// Size is the whole document's size in bytes.
func (d *lastPingPage) Size() float64 { return float64(d.Bytes) }
