// Package envoytest runs real Envoys for tests, with model servers behind them
// and load in front of them.
//
// A test that says something about Envoy says it about a process started here:
//
//	blue := envoytest.NewUpstream(t, "v1")
//	proxy := envoytest.Start(t, bootstrap)      // waits until it is live
//	load := envoytest.StartLoad(t, envoytest.LoadOptions{URL: url, Rate: 200})
//	...                                         // change something
//	report := load.Stop()
//	if report.Failed != 0 { t.Fatal(report) }
//
// Everything listens on loopback, on ports that the kernel chose, is bounded
// in what it sends and keeps, and is ended by its own process id when the test
// ends. A missing Envoy fails the test; it never skips it.
package envoytest
