// Package envoy finds an Envoy, says how it must be started to belong to a
// headgate, and keeps one running that outlives the headgate that started it.
//
// [Bootstrap] is for every Envoy, [Runner] for the one that `headgate run` has
// as a child. What Envoy serves is none of this package's business: that comes
// over xDS, from package xds. Tests with a real Envoy use envoytest.
//
// # What a Runner promises
//
// There is never more than one Envoy for a state directory, and none is lost.
// An Envoy inherits an open lock file and so holds the lock from the moment of
// the fork to its own end, whoever else dies meanwhile; a Runner starts one
// only when it gets that lock, and otherwise adopts the holder. The record in
// the directory (process, start time, binary, hash of the bootstrap) only adds
// what cannot be seen from outside. [LockState] keeps a second headgate out.
//
// Envoy has its own session and gets no signal with headgate: it goes on
// serving after a SIGKILL, a Ctrl-C or a closed terminal. A service manager
// that kills whole groups has to be told (systemd: KillMode=mixed), and in a
// container Envoy ends with process 1. An adopted Envoy keeps its bootstrap
// and its binary; [RunnerState] says so when they are no longer the wanted
// ones. When Envoy dies it is started again after 100 ms, then after pauses
// that double up to 5 s and begin anew once one has lived for 10 s.
//
// [Runner.Stop] ends the Envoy in less than 10 s: answers ask clients to close
// their connections, the ports close, requests in flight get 5 s. Neither a
// frozen Envoy nor a request without end makes it longer. Copies of requests
// to a shadow count as requests in flight.
//
// On other systems than Linux it works with less: an Envoy that was adopted is
// known by its recorded process id alone and asked for ten times a second.
//
// # What Envoy 1.40 does that one would not expect
//
//   - Order of a start: primary clusters (these of the bootstrap, each with its
//     first health check), then every RTDS layer, then CDS, then LDS; each is
//     asked for only when the one before is answered. A layer that the control
//     plane does not have must be answered as removed, or Envoy waits.
//   - After 15 s without an answer it goes on: without weights, and live
//     without listeners. initial_fetch_timeout: 0s, for each source, is
//     to wait.
//   - Its pause before it calls the control plane again grows to 30 s unless
//     ads_config has a retry_policy; 8 s were seen after 10 s of absence.
//     With 100 ms to 1 s it is back in less than a second. The pauses are random
//     between 0 and their bound.
//   - As a TLS client it speaks at most TLS 1.2 unless the maximum is raised; a
//     minimum of 1.3 alone leaves no version at all.
//   - A health check of a cluster that has not seen traffic yet waits
//     for no_traffic_interval, 60 s, before it looks again.
//   - The program size of a pattern is limited to 100 by the runtime key
//     re2.max_program_size.error_level.
//   - drain_listeners?graceful closes no port until --drain-time-s (600 s) is
//     over, and a following plain drain_listeners does so at once without
//     touching connections. Only with --drain-strategy immediate does every
//     answer carry "connection: close" from the first moment.
//   - Each Envoy that is killed leaves a file in /dev/shm, unless started with
//     --disable-hot-restart.
//   - It raises its own limit of open files to the hard limit.
//   - It warns at start when nothing bounds the clients' connections; the bound
//     is a resource monitor of the overload manager, not the runtime key of
//     older versions.
//   - When a configuration is refused, the log shows all of it, and the reason
//     in the last line.
package envoy
