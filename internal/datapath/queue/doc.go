// Package queue owns whose turn it is when more is asked for at a time than memory holds.
// Between clients turns go round, and within one they go by arrival, so that whoever asks
// for much waits for itself. It knows nothing of what is asked for.
//
// Start at Queue.Take.
package queue
