// Command plugin is a credential provider plugin that does what a file says, see package
// credplugin.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/d8-registry/registry/test/harness/credplugin"
)

func main() {
	script := os.Getenv("PLUGIN_SCRIPT")
	request, err := io.ReadAll(os.Stdin)
	if err != nil || len(os.Args) != 2 || os.Args[1] != "get-credentials" {
		fmt.Fprintln(os.Stderr, "not called as configured:", err, os.Args)
		os.Exit(2)
	}
	asked, err := os.OpenFile(script+".asked", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(asked, string(request))
	}
	data, errScript := os.ReadFile(script)
	var does credplugin.Script
	if err != nil || errScript != nil || json.Unmarshal(data, &does) != nil {
		fmt.Fprintln(os.Stderr, "no script:", err, errScript)
		os.Exit(2)
	}
	_, _ = fmt.Fprint(os.Stdout, strings.Repeat("x", does.Flood), does.Stdout)
	_, _ = fmt.Fprint(os.Stderr, does.Stderr)
	if does.Leave || does.Hang {
		child, err := os.StartProcess("/bin/sleep", []string{"sleep", "3600"}, &os.ProcAttr{Files: []*os.File{nil, os.Stdout, nil}, Env: os.Environ()})
		if err == nil && does.Hang {
			_, _ = child.Wait()
		}
	}
	os.Exit(does.Exit)
}
