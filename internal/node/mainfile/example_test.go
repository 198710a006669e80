package mainfile_test

import (
	"fmt"

	"github.com/d8-registry/registry/internal/node/mainfile"
)

// The directory in which containerd 1.x looks for hosts is set; every other byte
// of the file stays.
func ExampleSetConfigPath() {
	before := `version = 2 # ours since 2019
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "pause:3.9"
`
	after, err := mainfile.SetConfigPath([]byte(before), 1, "/etc/containerd/registry.d")
	fmt.Printf("%s%v\n", after, err)
	// Output:
	// version = 2 # ours since 2019
	// [plugins."io.containerd.grpc.v1.cri"]
	//   sandbox_image = "pause:3.9"
	// # registry-agent: begin
	// [plugins."io.containerd.grpc.v1.cri".registry]
	//   config_path = "/etc/containerd/registry.d"
	// # registry-agent: end
	// <nil>
}
