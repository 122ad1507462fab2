package config

// Row is one line of `heartwood config show`.
type Row struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin Origin `json:"origin"`
	Env    string `json:"env"`
	Help   string `json:"help"`
}

// Redacted lists every setting with its effective value and origin; secrets are replaced by ***.
func (l *Loaded) Redacted() []Row {
	rows := make([]Row, 0, len(serverKeys()))
	for _, k := range serverKeys() {
		v := l.Values[k.Name]
		switch {
		case v == "":
		case k.Secret == "all":
			v = "***"
		case k.Secret == "uri":
			v = redactURI(v)
		}
		rows = append(rows, Row{Key: k.Name, Value: v, Origin: l.Origins[k.Name], Env: k.Env, Help: k.Help})
	}
	return rows
}
