package status

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/heartwood-db/heartwood/local/mongosim/status/template"
)

// The templates are recorded replies of a real server: their field names, order and types are what the answers keep.
var (
	//go:embed templates/serverStatus.json
	serverStatusJSON []byte
	//go:embed templates/collStats.json
	collStatsJSON []byte
	//go:embed templates/parameters.json
	parametersJSON []byte
	//go:embed templates/systemMetrics.json
	systemMetricsJSON []byte
	//go:embed templates/rates.tsv
	ratesTSV string
	//go:embed templates/since.tsv
	sinceTSV string
)

// applySince turns the recorded shape into a version's: it adds what later versions brought and drops what they lost.
func applySince(d bson.D, v Version) (bson.D, error) {
	for n, line := range strings.Split(sinceTSV, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) < 4 {
			return nil, fmt.Errorf("since.tsv line %d: %d fields", n+1, len(f))
		}
		from, err := ParseVersion(f[0])
		if err != nil {
			return nil, fmt.Errorf("since.tsv line %d: %w", n+1, err)
		}
		if !v.AtLeast(from.Major, from.Minor) {
			continue
		}
		if f[1] == "-" {
			d = template.Set(d, f[3], nil)
			continue
		}
		text := ""
		if len(f) > 4 {
			text = f[4]
		}
		switch f[2] {
		case "int":
			d = template.Set(d, f[3], int32(0))
		case "long":
			d = template.Set(d, f[3], int64(0))
		case "double":
			d = template.Set(d, f[3], 0.0)
		case "bool":
			d = template.Set(d, f[3], false)
		default:
			d = template.Set(d, f[3], text)
		}
	}
	return d, nil
}

// readRates lists the counters that only advance with the load, with their rate.
func readRates() (map[string]float64, error) {
	out := map[string]float64{}
	for n, line := range strings.Split(ratesTSV, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		path, rate, _ := strings.Cut(line, "\t")
		r, err := strconv.ParseFloat(rate, 64)
		if err != nil {
			return nil, fmt.Errorf("rates.tsv line %d: %w", n+1, err)
		}
		out[path] = r
	}
	return out, nil
}
