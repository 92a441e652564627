// Package stats tells what counts and durations show, at any moment and however
// often one looks. Its tests are bets (e-processes): a test holds a capital
// that is 1 in the beginning and that, while the hypothesis is true, cannot be
// expected to grow; that it ever exceeds 1/alpha has probability alpha at most
// (Ville 1939). Intervals are those of confidence sequences: the values that a
// test has not refuted.
//
// [Rate] tests a rate against a limit, [Share] the rates of two versions
// between which units are drawn, [Starts] begins a test anew for harm that
// comes late, [QuantileInterval] and [MeanInterval] bound what a [Histogram]
// has counted, [PSIInterval] and [KSInterval] how far two distributions are
// apart. Each says its formula, its assumption and its paper, and how much it
// needs.
//
// Capital is kept as logs, so that counts from 0 to 10^12 do no harm. Nothing
// here knows a clock, a log or what the counts are of.
package stats
