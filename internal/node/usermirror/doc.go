// Package usermirror owns what users write about registries on a node: host
// directories with a hosts.toml of their own, above all those with `auth` and
// `rewrite`, which stock containerd ignores without a word.
//
// Look reads and checks them. NewPlan decides what the agent does about them:
// which hosts it serves, in which files containerd is sent to it first by a
// marked block, and which entries of ours the effective directory needs where
// it is not the one that users write to. Plan.Apply writes the blocks, and cuts
// out those that nobody needs any more.
//
// What users wrote stays as it is, to the byte: only the marked block comes and
// goes. A host that both a layout and a user name is the user's: his mirrors
// come first and the layout's registries behind them; but the fixed address is
// never a user's. The package opens no connection. Start at NewPlan.
package usermirror
