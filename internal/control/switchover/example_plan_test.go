package switchover_test

import (
	"fmt"
	"strings"

	"github.com/d8-registry/registry/internal/control/switchover"
)

// The steps to a mode are conditions, in this order.
func ExamplePlan() {
	fmt.Println(strings.Join(switchover.Plan(switchover.Direct), "\n"))

	// Output:
	// RegistryContainsRequiredImages
	// ContainerdConfigPreflightReady
	// TransitionContainerdConfigReady
	// InClusterProxyReady
	// DeckhouseRegistrySwitchReady
	// FinalContainerdConfigReady
}
