// Package nodeservices keeps the store of a node: the files that it serves by, its key and
// certificate, the folder of what is kept, and the static pod in which the kubelet runs it.
//
// Apply makes what a Config says, the manifest last; Remove takes it away, the manifest first;
// Look only says what is there. So a manifest never stands without its files. The key is made
// here and stays: others get a certificate request. The process takes over files while it runs;
// what only a new process takes over is in the manifest, see pod.Store, and a hash of that is
// on it. So a layout restarts no store, and a file that differs from what is wanted is Differs
// until Apply has come to its end.
//
// Only root may write where this writes: links, what is no file, and what belongs to others is
// left as it is, and the error names it. Start at Keeper.
package nodeservices
