// Package envoy knows how an Envoy is found, started, kept and ended.
package envoy
