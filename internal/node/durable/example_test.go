package durable_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/durable/durabletest"
)

// A file is replaced in one step: a process that is killed at the rename leaves
// the old content.
func ExampleReplace() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	name := filepath.Join(dir, "state.json")
	show := func() {
		data, err := os.ReadFile(name)
		fmt.Println(string(data), err)
	}

	first := durable.File{Name: name, Data: []byte(`{"generation":1}`)}
	if err := durable.Replace(durable.Disk{}, first); err != nil {
		fmt.Println(err)
	}
	show()

	second := durable.File{Name: name, Data: []byte(`{"generation":2}`)}
	process := durabletest.NewProcess(2, durabletest.Before) // write, rename, sync
	fmt.Println(durable.Replace(process.FS(durable.Disk{}), second))
	show()
	// Output:
	// {"generation":1} <nil>
	// the process was killed
	// {"generation":1} <nil>
}
