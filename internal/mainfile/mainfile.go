package mainfile

import "errors"

// SetConfigPath returns the main file with registry.config_path of the CRI
// plugin set to dir, for a containerd of that major version (1 or 2). Nothing
// else in the document differs. Empty or nil data make a new file that means
// containerd's defaults and config_path.
func SetConfigPath(data []byte, major int, dir string) ([]byte, error) {
	return nil, errors.New("not yet")
}

// Restore takes our edit out again: config_path gets what it is in original,
// or goes when original has none. Nothing else differs from data.
// Restore(SetConfigPath(x), x) is x.
func Restore(data, original []byte) ([]byte, error) {
	return nil, errors.New("not yet")
}

// ClearConfigPath is Restore where the original is lost: config_path goes.
func ClearConfigPath(data []byte) ([]byte, error) {
	return nil, errors.New("not yet")
}

// Refusal is an edit that cannot be made safely, in a sentence that names the
// line and what to write by hand.
type Refusal struct {
	Line     int // 0 when the whole file is meant
	Sentence string
}

func (r *Refusal) Error() string { return r.Sentence }
