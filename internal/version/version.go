// Package version knows which version of the module this program is.
package version

import "runtime/debug"

// version is set by the linker where an image is built (hack/image).
var version string

// Version is the module's version, for people: what the image was built as,
// else what the Go toolchain knows of the source.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
