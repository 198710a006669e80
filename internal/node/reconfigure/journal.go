package reconfigure

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/d8-registry/registry/internal/node/durable"
)

// step is how far a change has come.
type step string

const (
	stepWrite       step = "write"        // nothing is written yet, or the file just was
	stepRestart     step = "restart"      // the file is written; containerd restarts, and is looked at
	stepUndo        step = "undo"         // the change failed; the file goes back
	stepUndoRestart step = "undo restart" // the file is back; containerd restarts
)

// journal is a change under way, as it survives a crash. Nothing of the main file
// is in it, which may hold passwords.
type journal struct {
	ID     string `json:"id"`
	Key    string `json:"key"`
	Shown  string `json:"shown"` // the main file
	Step   step   `json:"step"`
	Path   string `json:"path"`
	Legacy bool   `json:"legacy,omitempty"`
	// Before and After are hashes of the main file; absent for no file.
	Before string `json:"before"`
	After  string `json:"after"`
	// Instance is the run of containerd before the change, From the one that the
	// restart of this step was to end.
	Instance   string   `json:"instance"`
	From       string   `json:"from,omitempty"`
	Containers []string `json:"containers,omitempty"`
	Reason     string   `json:"reason,omitempty"`
	// Meaning is what the file means before the change, Instead that of the Want.
	Meaning string `json:"meaning,omitempty"`
	Instead string `json:"instead,omitempty"`
}

// noInstance is the instance of a containerd that does not answer.
const noInstance = "nobody"

// failure is a change that is not tried again.
type failure struct {
	ID      string `json:"id"`
	Key     string `json:"key"`
	Message string `json:"message"`
	Dead    bool   `json:"dead,omitempty"` // containerd has not answered since
	// Meaning is what the file means since a program wrote it anew. Its bytes may
	// differ at each start.
	Meaning string `json:"meaning,omitempty"`
}

// edit is our change of the main file while it is in there.
type edit struct {
	Path   string `json:"path"`
	After  string `json:"after"`
	Absent bool   `json:"absent,omitempty"` // there was no file before us
	// Meaning is what the file meant before, Boot the node's boot of then, and Again
	// how often the same edit was made again in that boot: each time somebody had
	// taken it out.
	Meaning string `json:"meaning,omitempty"`
	Boot    string `json:"boot,omitempty"`
	Again   int    `json:"again,omitempty"`
}

// madeAgain is the record of the edit, if old is the record of the same one.
func (e edit) madeAgain(old edit) edit {
	if old.Meaning != "" && old.Meaning == e.Meaning && old.Boot == e.Boot {
		e.Again = old.Again + 1
	}
	return e
}

// Names in the state folder.
const (
	journalName = "reconfigure.json"
	failureName = "reconfigure-failed.json"
	editName    = "reconfigure-edit.json"
)

// absent is the hash of a file that is not there.
const absent = "absent"

func sum(data []byte, there bool) string {
	if !there {
		return absent
	}
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// boot is the part of an instance that differs after a reboot.
func boot(instance string) string {
	b, _, _ := strings.Cut(instance, "/")
	return b
}

// load reads one of our files in the state directory; false if there is none.
func (r *Reconfigurer) load(name string, into any) (bool, error) {
	path := filepath.Join(r.o.State, name)
	data, err := r.fs.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	return true, nil
}

// save returns when one of our files is on disk.
func (r *Reconfigurer) save(name string, v any) error {
	path := filepath.Join(r.o.State, name)
	data, err := json.Marshal(v)
	if err == nil {
		err = r.replace(path, data, durable.Attributes{})
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func (r *Reconfigurer) forget(name string) error {
	path := filepath.Join(r.o.State, name)
	if err := r.remove(path); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// replace puts a file in one step.
func (r *Reconfigurer) replace(path string, data []byte, a durable.Attributes) error {
	return durable.Replace(r.fs, durable.File{Name: path, Temp: path + suffixNew, Data: data, Attributes: a})
}

// remove removes a file, and returns when that is on disk.
func (r *Reconfigurer) remove(path string) error { return durable.Remove(r.fs, path) }
