// Package usermirror owns what users write about registries on a node: host
// directories with a hosts.toml of their own, above all those with `auth` and
// `rewrite`, which stock containerd ignores.
//
// Scan reads and checks them. NewPlan decides what the agent does about them:
// which hosts it serves, which files get a marked block that sends containerd to
// the agent first, and which entries the effective directory needs if users write
// to another one. Plan.Apply writes the blocks, and cuts out those that are not
// needed any more.
//
// Every byte that users wrote stays: only the marked block comes and goes. A host
// that both a layout and a user name is the user's: their mirrors come first, then
// the layout's registries. The fixed address is never a user's. The package opens
// no connection. Start at NewPlan.
package usermirror
