// Package config reads a configuration directory, one file per model, into a
// [routing.Config]. The language is described in README.md beside this file,
// and for editors by [Schema].
//
// It promises that a Config is complete and checked: what is unknown, missing,
// written twice, out of bounds, claimed by two models or not implemented is an
// [Error] with file, line, path, value and rule, never a guess, and all
// mistakes of all files come at once ([Errors]). A hostile file costs
// milliseconds and a few megabytes. Nothing outside of the directory is read,
// unless a TLS file is named by its absolute path.
//
// [Load] reads once, a [Loader] again and again, and [Watch] tells every state
// that a directory comes to. The language is a set of Go types (file.go) whose
// tags say all that decoder and schema need, see shape.
//
// It leaves out what only a running headgate knows: whether a rollout allows
// an edit, whether endpoints answer, what Envoy says.
//
// What Envoy does that the rules here come from:
//
//   - Its regular expressions match bytes as Latin-1: `\pL` and `\x{100}` are
//     refused or mean something else, so expressions must be ASCII. It limits
//     the size of their programs, by a runtime key that the bootstrap raises.
//   - A host is looked for in one virtual host only, and routes are tried in
//     order, so two models may share a prefix only where one of them asks for
//     more than the other, or their conditions exclude each other.
//   - A header with an empty value is there, and would be hashed like any
//     other: an empty value counts as absent and fulfils no condition.
package config
