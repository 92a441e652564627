// Package xds compiles plans into Envoy resources and brings them to Envoys.
package xds
