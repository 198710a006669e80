package handoff

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/d8-registry/registry/internal/node/durable"
)

// fileMemory is the one file of the folder that node writes and serve does not
// read.
const fileMemory = "node.json"

// Memory reads what node saved with SaveMemory. Before the first time it leaves
// into as it is.
func (f StateDir) Memory(into any) error {
	data, err := read(f.nodePath(fileMemory))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read %s: %w", fileMemory, err)
	}
	return nil
}

// SaveMemory returns when what node must know after a restart is on disk.
func (f StateDir) SaveMemory(what any) error {
	data, err := json.Marshal(what)
	if err != nil {
		return fmt.Errorf("encode %s: %w", fileMemory, err)
	}
	return f.write(f.nodePath(fileMemory), ownerOnly, data)
}

// Existing is the folder as an agent left it; nothing is made if there is none.
func Existing(dir string) StateDir { return StateDir{dir: dir, fsys: durable.Disk{}} }
