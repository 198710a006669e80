package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"

	"github.com/d8-registry/registry/internal/node/agent"
	"github.com/d8-registry/registry/internal/node/reconfigure"
	"github.com/d8-registry/registry/internal/node/serve"
)

// The exit statuses of Command.
const (
	ExitReady   = 0 // nothing is in the way
	ExitProblem = 1 // something is
	ExitUsage   = 2 // it was called wrongly
	ExitUnknown = 3 // it could not look
)

const about = `usage: registry-agent doctor [-o json] [flags]

Prints what this node's containerd is, what an agent would change here, and what
is in its way. Changes nothing and needs no cluster, but root.

Exit status: 0 nothing is in the way, 1 something is, 2 wrong usage, 3 it could
not look.

Flags are an agent's, so that its arguments can be given as they are:
`

// Command is `registry-agent doctor`.
func Command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var s serve.Config
	var n agent.Config
	// The flags are those of an agent, to look where that agent would.
	flags := flag.NewFlagSet("registry-agent doctor", flag.ContinueOnError)
	flags.SetOutput(stderr)
	s.RegisterFlags(flags)
	n.RegisterFlags(flags)
	output := flags.String("o", "", "output `format`: json, or empty for people")
	flags.Usage = func() {
		_, _ = fmt.Fprint(stderr, about)
		flags.PrintDefaults()
	}
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return ExitReady
	case err != nil:
		return ExitUsage
	case flags.NArg() > 0 || *output != "" && *output != "json":
		complain(stderr, errors.New("usage: registry-agent doctor [-o json] [flags]; --help lists them"))
		return ExitUsage
	}
	if os.Geteuid() != 0 {
		complain(stderr, errors.New("it takes root to look at containerd's process and files"))
		return ExitUnknown
	}
	report, err := Examine(ctx, Config{
		Socket: n.Socket, ConfigFile: n.ConfigFile, HostsDir: n.HostsDir, SourceDir: n.SourceDir,
		StateDir: s.StateDir, Listen: s.Listen,
		Service: func(unit string) reconfigure.Service { return agent.ServiceOf(n, unit, slog.New(slog.DiscardHandler)) },
	})
	if err == nil {
		err = show(report, stdout, *output)
	}
	if err != nil {
		complain(stderr, err)
		return ExitUnknown
	}
	if !report.Ready {
		return ExitProblem
	}
	return ExitReady
}

func complain(stderr io.Writer, err error) {
	_, _ = fmt.Fprintln(stderr, "registry-agent:", err) // there is nowhere else to say it
}

func show(r *Report, stdout io.Writer, output string) error {
	if output == "json" {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	file, ok := stdout.(*os.File)
	terminal := ok && term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == ""
	return printer{to: stdout, terminal: terminal}.print(r)
}
