// Package record keeps what was served, how pairs of answers differed, and what
// became true of it later, in one SQLite file apart from the journal.
//
// Three kinds of records come in. A [Served] is a request with the answers that
// versions gave to it, the one that the client saw and those of shadows. A [Pair]
// is a stable and a shadow answer that were compared. An [Outcome] is what is
// told of a request later: a label, a purchase. Outcomes are joined with what was
// served, whichever of the two is there first and across restarts, and every
// version that answered gets the same truth: [Store.Joined] tells of each exactly
// once, in an order that a cursor remembers.
//
// What it promises: [Store.AddServed] and [Store.AddPair] never wait for a disk.
// They put a record in a queue that is bounded in number and in bytes, from which
// one goroutine writes in batches; what finds the queue full is dropped and
// counted. What was written survives a SIGKILL. Outcomes are different, since
// nobody could tell them again: [Store.AddOutcomes] returns when they are on the
// disk, and telling one twice changes nothing. Readers never hold up the writer,
// nor it them. Old records go by age and by size, a few at a time between two
// batches. One process at a time has the file.
//
// A file that is damaged, held by another process or on a full disk gives an
// error at [Open], or later in [Store.Status]; no request and no rollout depends
// on it. While the disk is full records wait in the queue and outcomes are
// refused; with room again it goes on by itself. The way back from a damaged
// file: move it away together with its -wal and -shm files. What is lost is the
// records and the judges' sight of them, no state of any rollout; a judge's
// cursor of the old file works in the new one, and nothing counts twice.
//
// The predictions are whatever JSON the caller wants kept. What must not be
// stored has to be removed before.
package record
