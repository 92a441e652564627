package xds

import (
	"fmt"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/types/known/structpb"

	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"

	"github.com/headgate/headgate/routing"
)

// Envoy refuses routes whose regular expressions compile to more than 100
// instructions, which the name of a cookie can reach. The expressions are
// written by those who configure headgate, so a larger limit is safe. Every
// layer says so, since none knows which others an Envoy has.
const (
	programSizeKey = "re2.max_program_size.error_level"
	programSize    = 100_000
)

// RuntimeLayerName returns the name of a runtime layer, "headgate-weights-07".
// shard is in [0, RuntimeShards).
func RuntimeLayerName(shard int) string { return fmt.Sprintf("headgate-weights-%02d", shard) }

// shardOf spreads models over the runtime layers.
func shardOf(model string) int { return int(xxhash.Sum64String(model) % RuntimeShards) }

// RuntimeLayer returns the runtime layer that carries the weights of those of
// models that belong to the shard.
//
// A weight that is missing in Envoy means the route's own: all users to the
// stable version. So a key must reach an Envoy before the route that reads it,
// and may be taken away only after that route is gone.
func RuntimeLayer(shard int, models []*ModelResources) Resource {
	fields := map[string]*structpb.Value{programSizeKey: structpb.NewNumberValue(programSize)}
	for _, m := range models {
		if m.Shard != shard {
			continue
		}
		for key, weight := range m.Weights {
			fields[key] = structpb.NewNumberValue(float64(weight))
		}
	}
	name := RuntimeLayerName(shard)
	r, err := resource(name, &runtimev3.Runtime{Name: name, Layer: &structpb.Struct{Fields: fields}})
	if err != nil {
		panic(err) // a map of numbers always marshals
	}
	return r
}

// splitPrefix is the runtime key prefix of a model's split. It changes with
// the salt, so that a new rollout never reads an old one's weights.
func splitPrefix(p *routing.ModelPlan) string {
	return "headgate." + p.Model.Name + "." + p.Split.Salt
}

// fallbackPrefix is the runtime key prefix for requests that nobody could
// decide on.
func fallbackPrefix(p *routing.ModelPlan) string {
	return "headgate-fallback." + p.Model.Name + "." + p.Split.Salt
}

// weights are the runtime values of a model.
func weights(p *routing.ModelPlan) map[string]uint32 {
	if len(p.Split.Ranges) == 1 {
		return nil
	}
	w := make(map[string]uint32)
	heaviest := p.Split.Heaviest()
	for _, r := range p.Split.Ranges {
		name := routing.ClusterName(p.Model.Name, r.Version)
		w[splitPrefix(p)+"."+name] = uint32(r.Weight)
		w[fallbackPrefix(p)+"."+name] = 0
		if r.Version == heaviest {
			w[fallbackPrefix(p)+"."+name] = 1
		}
	}
	return w
}
