// Package model holds the models of the demo: logistic regressions that tell
// malignant from benign breast masses, fitted when the program starts to the
// Breast Cancer Wisconsin (Diagnostic) data, which lies beside the code.
//
// Fitting is deterministic: the same rows are always held out, and the loss is
// convex. See wdbc.SOURCE.md for the data's creators and licence.
package model
