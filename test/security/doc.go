// Package security runs the agent's halves in real containers with the security
// settings of its DaemonSet, and tries what they must not be able to do.
package security
