// Package truth tells how good predictions were, from what became true of them
// later: accuracy, precision and recall, the area under the ROC curve, absolute
// and squared errors.
//
// Each measure is a set of counters that can be added up over days and machines
// in any order, and saved as JSON. Each says what may be claimed of it while the
// truth is still coming in: its interval is a confidence sequence, which holds at
// all times together, so that whoever looks every second is not misled. The zero
// value of each has seen nothing. None is safe for use by several goroutines.
//
// What all of them assume is that whether a truth is told does not depend on
// which version made the prediction. Truth that comes late for one label and
// early for another is no harm to a comparison of versions, but is one to the
// figure itself: the first labels of a churn model are all churn.
package truth
