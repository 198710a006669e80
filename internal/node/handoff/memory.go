package handoff

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
)

// fileMemory is written and read by node only.
const fileMemory = "node.json"

// Memory reads what SaveMemory saved. If nothing was, it leaves into as it is.
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

// SaveMemory saves what node must know after a restart, and returns when that is
// on disk.
func (f StateDir) SaveMemory(what any) error {
	data, err := json.Marshal(what)
	if err != nil {
		return fmt.Errorf("encode %s: %w", fileMemory, err)
	}
	return f.write(f.nodePath(fileMemory), ownerOnly, data)
}
