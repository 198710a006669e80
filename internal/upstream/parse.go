package upstream

import "strconv"

// Settings are an upstream as a user writes it in ModuleConfig or as the
// installation wrote it in Secret deckhouse-registry. Names of fields in
// errors are those of ModuleConfig.
type Settings struct {
	ImagesRepo string // host[:port][/path]; spaces around and a trailing slash are dropped
	Scheme     string // "HTTP", "HTTPS", in any case; empty means HTTPS
	CA         string // PEM
	License    string // excludes Username and Password
	Username   string // both or none
	Password   string
}

// FieldError says which field is wrong, what was given and what would be
// right. Value is empty for secrets.
type FieldError struct {
	Field string // "imagesRepo", "scheme", "ca", "license", "username", "password"
	Value string
	Want  string
}

// Error names the field, the value and what would be right.
func (e *FieldError) Error() string {
	if e.Value == "" {
		return e.Field + ": " + e.Want
	}
	return e.Field + ": " + quoted(e.Value) + ": " + e.Want
}

// Parse validates what a user wrote and returns the upstream it means. The
// error is a *FieldError.
func Parse(s Settings) (Upstream, error) { panic("unfinished") }

func quoted(s string) string { return strconv.Quote(s) }
