package view

import "net/http"

// Form is what a person typed, and what is wrong with it. Values are kept when the form comes back, except secrets.
type Form struct {
	Values map[string]string
	Errors map[string]string
	Order  []string // names of the fields with errors, as met
}

// NewForm reads the named fields of a posted form; none on a first visit.
func NewForm(r *http.Request, names ...string) *Form {
	f := &Form{Values: map[string]string{}, Errors: map[string]string{}}
	if r != nil && r.Method == http.MethodPost {
		for _, n := range names {
			f.Values[n] = r.PostFormValue(n)
		}
	}
	return f
}

// Set presets a value.
func (f *Form) Set(name, value string) *Form {
	f.Values[name] = value
	return f
}

// Value is what a field holds.
func (f *Form) Value(name string) string { return f.Values[name] }

// On reports whether a checkbox is ticked.
func (f *Form) On(name string) bool { return f.Values[name] != "" }

// Fail notes an error of a field; the first stays.
func (f *Form) Fail(name, why string) {
	if _, had := f.Errors[name]; !had {
		f.Errors[name] = why
		f.Order = append(f.Order, name)
	}
}

// OK reports whether nothing failed.
func (f *Form) OK() bool { return len(f.Errors) == 0 }

// Field is one labelled input of a form.
type Field struct {
	Name, Label, Type, Help, Value, Error, Auto, Hint string
	Required                                          bool
}

// newField is the template function: field form name label type help autocomplete. A type that ends in "?" is optional.
func newField(f *Form, name, label, kind, help, auto string) Field {
	out := Field{Name: name, Label: label, Type: kind, Help: help, Auto: auto, Required: true}
	if n := len(kind); n > 0 && kind[n-1] == '?' {
		out.Type, out.Required = kind[:n-1], false
	}
	if f != nil {
		out.Error = f.Errors[name]
		if out.Type != "password" {
			out.Value = f.Values[name]
		}
	}
	return out
}
