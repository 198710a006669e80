// Package systemd restarts one unit of the host through its systemd, over
// D-Bus below the host's root. A unit whose restart would kill containers is
// refused. Start at Open.
package systemd
