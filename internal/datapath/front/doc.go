// Package front owns what a process that serves pulls to others is made of: what it serves
// by, who may come, health, and the end.
//
// It serves by a layout, users and a certificate. They come from a Source, a Secret or a
// Folder of files, and the last good content of each stays: a Source that is gone,
// unreadable or older changes nothing, and what is wrong with it is said.
//
// It writes nothing anywhere. Start at New, then Loaded.Apply.
package front
