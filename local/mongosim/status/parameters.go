package status

import (
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/status/template"
)

// Parameters answers getParameter: all of them for "*", else those named; found says whether there is any.
func (k *Kit) Parameters(v *View, req bson.Raw) (reply bson.D, found bool) {
	all := k.params
	compatible := v.FCV
	if compatible == "" {
		compatible = fmt.Sprintf("%d.%d", v.Version.Major, v.Version.Minor)
	}
	fcv := bson.E{Key: "featureCompatibilityVersion", Value: bson.D{{Key: "version", Value: compatible}}}
	if first := req.Lookup("getParameter"); first.Type == bson.TypeString && first.StringValue() == "*" {
		out := make(bson.D, 0, len(all)+2)
		for _, e := range all {
			if e.Key == fcv.Key {
				e = fcv
			}
			out = append(out, e)
		}
		return ok(out), true
	}
	elems, err := req.Elements()
	if err != nil {
		return nil, false
	}
	var out bson.D
	for _, e := range elems {
		if e.Key() == fcv.Key {
			out = append(out, fcv)
			continue
		}
		if value, has := template.Get(all, e.Key()); has {
			out = append(out, bson.E{Key: e.Key(), Value: value})
		}
	}
	return ok(out), len(out) > 0
}
