// Package credprovider gets short-lived credentials of registries, and new ones long
// before they end, from plugins of the kubelet's credential provider protocol: those of
// ECR, GAR and ACR are such programs.
//
// Nothing waits for it: plugins run beside the passes, for a limited time, and what they
// give is a state.Grant that a pass stores and publishes. A plugin that fails changes
// nothing: the last good credentials stay. What it says is believed of the registry only
// that it was asked for. Its stderr is shown to nobody but who calls Diagnose. Start at
// Keeper.
package credprovider
