package xds

import (
	"google.golang.org/protobuf/types/known/anypb"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// Resource is one xDS resource, ready to be sent. Version is a hash of Body,
// so equal resources have equal versions on every replica and after a restart.
type Resource struct {
	Name    string
	Version string
	Body    *anypb.Any
}

// ModelResources is what one model needs of Envoy. It is immutable. While a
// model's plan does not change, neither does the pointer.
type ModelResources struct {
	Model    string
	Listener string // name of the Listener and of its RouteConfiguration
	// Clusters are those of the versions, and then one for each of Internal,
	// of the same name, that leads there.
	Clusters []Resource
	// Internal are listeners inside Envoy: each takes the copies for a version.
	Internal []Resource
	Domain   string           // of the virtual host; "*" for any
	Routes   []*routev3.Route // in the order in which they must be tried
	// RouteVersion is a hash of Domain and Routes. It does not depend on the
	// weights: a share that moves leaves it as it was.
	RouteVersion string
	// Weights are runtime values by key, in hundredths of a percent. Empty while
	// one version serves alone and nothing is copied.
	Weights map[string]uint32
	Shard   int // index of the runtime layer that carries Weights

	// What Build made is kept as the bytes that larger resources are put
	// together from.
	layer  []byte // Weights, as a part of a runtime layer
	routes []byte // Routes, as a part of a virtual host
}

// Snapshot is what every Envoy should have. It is immutable.
type Snapshot struct {
	Models    []*ModelResources // sorted by model name
	Listeners []Resource        // sorted by name
	Secrets   []Resource        // sorted by name
}

// RuntimeShards is the number of runtime layers over which models are spread,
// so that a weight that moves sends one layer and not all of them. Every
// bootstrap names all of them, see [RuntimeLayerName].
const RuntimeShards = 16
