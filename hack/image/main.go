// Command image builds the module's one image without Docker: the four server
// programs, static, for amd64 and arm64, with a list of what is in them (SBOM).
// Built twice from one commit it is the same to the last byte.
//
//	image -source ../.. -o ../../dist              writes dist/registry.tar, dist/registry.digest and dist/registry-*.cdx.json
//	image ... -push registry.example.com/path:v1   and pushes it, with the credentials of `docker login`
//
// registry.tar is an OCI layout: `ctr -n k8s.io images import` takes it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) //nolint:forbidigo // this is main
	defer stop()
	err := run(ctx, os.Args[1:], log.New(os.Stdout, "", 0))
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1) //nolint:gocritic // the context's work is over
	}
}

// options is one run of this program.
type options struct {
	source, out, name, push, version string
	platforms                        []string
	created                          time.Time
}

func parse(ctx context.Context, args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.StringVar(&o.source, "source", ".", "`folder` of the module's source")
	flags.StringVar(&o.out, "o", "dist", "`folder` for the results")
	flags.StringVar(&o.version, "version", "", "`version` that programs tell; by default what git describe says")
	flags.StringVar(&o.name, "name", "", "`reference` under which the tarball is imported (default localhost/registry:VERSION)")
	flags.StringVar(&o.push, "push", "", "`reference` to push the image to")
	platforms := flags.String("platforms", "linux/amd64,linux/arm64", "platforms, by comma")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.platforms = strings.Split(*platforms, ",")
	var err error
	if o.version == "" {
		if o.version, err = git(ctx, o.source, "describe", "--tags", "--always", "--dirty"); err != nil {
			return o, fmt.Errorf("find out the version (or give -version): %w", err)
		}
	}
	if o.name == "" {
		o.name = "localhost/registry:" + o.version
	}
	// https://reproducible-builds.org/specs/source-date-epoch/
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		if epoch, err = git(ctx, o.source, "log", "-1", "--format=%ct"); err != nil {
			return o, fmt.Errorf("find out the time of the source (or set SOURCE_DATE_EPOCH): %w", err)
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return o, fmt.Errorf("SOURCE_DATE_EPOCH %q is no number of seconds", epoch)
	}
	o.created = time.Unix(seconds, 0).UTC()
	return o, nil
}

func run(ctx context.Context, args []string, out *log.Logger) error {
	o, err := parse(ctx, args)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "registry-image-")
	if err != nil {
		return fmt.Errorf("make a folder to work in: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	a := &artifact{created: o.created, version: o.version}
	for _, platform := range o.platforms {
		out.Println("building", platform)
		bin := filepath.Join(work, "bin", platform)
		if err := compile(ctx, o.source, platform, o.version, bin); err != nil {
			return err
		}
		if err := a.add(platform, bin); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(o.out, 0o750); err != nil {
		return fmt.Errorf("make %s: %w", o.out, err)
	}
	for _, v := range a.variants {
		path := filepath.Join(o.out, "registry-"+v.platform.Architecture+".cdx.json")
		if err := os.WriteFile(path, v.sbom, 0o644); err != nil { //nolint:gosec // it is for everybody
			return fmt.Errorf("write SBOM: %w", err)
		}
	}
	if err := a.writeTar(filepath.Join(o.out, "registry.tar"), filepath.Join(work, "layout"), o.name); err != nil {
		return err
	}
	if o.push != "" {
		if err := a.push(ctx, o.push); err != nil {
			return fmt.Errorf("push to %s: %w", o.push, err)
		}
		out.Println("pushed", o.push)
	}
	digest, err := a.index().Digest()
	if err != nil {
		return err
	}
	// The chart is packaged with it: see hack/chart.sh.
	if err := os.WriteFile(filepath.Join(o.out, "registry.digest"), []byte(digest.String()+"\n"), 0o644); err != nil { //nolint:gosec // it is for everybody
		return fmt.Errorf("write the digest: %w", err)
	}
	out.Printf("%s %s in %s", o.name, digest, filepath.Join(o.out, "registry.tar"))
	return nil
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
