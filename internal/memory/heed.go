package memory

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
)

// Variable is where the container's limit is found, in bytes: Kubernetes writes it
// there (resourceFieldRef).
const Variable = "MEMORY_LIMIT"

// Heed makes the garbage collector work harder near the limit of the container
// instead of being killed at it. A fifth stays for what Go does not count, such as
// the buffers of sockets. GOMEMLIMIT, if somebody set it, is left as it is; without a
// limit nothing happens.
func Heed() error {
	text := os.Getenv(Variable)
	if text == "" || os.Getenv("GOMEMLIMIT") != "" {
		return nil
	}
	limit, err := strconv.ParseInt(text, 10, 64)
	if err != nil || limit <= 0 {
		return fmt.Errorf("%s %q is no number of bytes", Variable, text)
	}
	debug.SetMemoryLimit(limit / 5 * 4)
	return nil
}
