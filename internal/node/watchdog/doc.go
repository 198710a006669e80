// Package watchdog owns whether a half of the agent makes progress, and how the
// kubelet learns it: a half in which a step has hung is started anew.
//
// A half puts each step of its loops through Do. The serving half, which listens
// anyway, answers the kubelet with Err. The other half does not listen: it stamps a
// file while Err is nil, and a command in its container asks Stamped. A process that
// is stopped as a whole does neither.
//
// It never ends anything itself. Start at Watchdog.
package watchdog
