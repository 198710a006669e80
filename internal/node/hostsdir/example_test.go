package hostsdir_test

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
)

// A layout becomes one directory per host. The second Apply finds nothing to do.
func Example() {
	ca, err := pki.NewCA(time.Now(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	harbor := upstream.Upstream{Host: "harbor.example.com", Path: "team", Scheme: upstream.HTTPS}
	l := layout.Layout{
		Active: harbor, Target: harbor,
		Routes: layout.Cross([]layout.Name{layout.Fixed(), layout.NameOf(harbor)}, []upstream.Upstream{harbor}),
	}
	tree, err := hostsdir.Render(l, hostsdir.Options{
		AgentURL: "https://127.0.0.1:5001", AgentCA: ca.Cert, Token: strings.Repeat("0", 64),
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	path, err := os.MkdirTemp("", "certs.d")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(path) }()
	dir, err := hostsdir.MakeDir(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = dir.Close() }()
	for range 2 {
		result, err := hostsdir.Apply(dir, tree)
		fmt.Println(len(result.Written), "written", err)
		for _, name := range result.Written {
			fmt.Println(" ", name)
		}
	}
	// Output:
	// 5 written <nil>
	//   .registry-agent-owned.json
	//   harbor.example.com/ca.crt
	//   harbor.example.com/hosts.toml
	//   registry.d8-system.svc:5001/ca.crt
	//   registry.d8-system.svc:5001/hosts.toml
	// 0 written <nil>
}
