package memory

import (
	"os"
	"runtime/debug"
)

// CollectAt makes the garbage collector run when the heap has grown by this many
// percent, instead of twofold: for a program that holds much for long, and makes
// garbage in bursts. GOGC, if somebody set it, is left as it is.
func CollectAt(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// SmallRequests is for CollectAt in programs that hold little, a few MiB, and make garbage
// for each request: with Go's own 100 a collection is due every few hundred requests.
const SmallRequests = 300
