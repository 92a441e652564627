package xds

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

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
	var mine []*ModelResources
	for _, m := range models {
		if m.Shard == shard && len(m.Weights) > 0 {
			mine = append(mine, m)
		}
	}
	slices.SortFunc(mine, func(x, y *ModelResources) int { return cmp.Compare(x.Model, y.Model) })
	layer := appendField(nil, programSizeKey, numberValue(programSize))
	for _, m := range mine {
		if m.layer == nil {
			layer = append(layer, layerOf(m.Weights)...)
		}
		layer = append(layer, m.layer...)
	}
	name := RuntimeLayerName(shard)
	body := protowire.AppendTag(nil, fieldName, protowire.BytesType)
	body = protowire.AppendString(body, name)
	body = protowire.AppendTag(body, fieldLayer, protowire.BytesType)
	body = protowire.AppendBytes(body, layer)
	return Resource{Name: name, Version: version(body), Body: &anypb.Any{TypeUrl: runtimeType, Value: body}}
}

// A layer carries the weights of hundreds of models and is made anew whenever
// one of them moves, so it is put together from bytes and not from a Struct.
const (
	runtimeType = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
	fieldName   = 1 // Runtime.name
	fieldLayer  = 2 // Runtime.layer, a Struct
	fieldFields = 1 // Struct.fields, a map
	fieldKey    = 1
	fieldValue  = 2
	fieldNumber = 2 // Value.number_value
	fieldString = 3 // Value.string_value
	fieldStruct = 5 // Value.struct_value
)

// layerOf is the part of a layer that a model's weights are.
func layerOf(weights map[string]uint32) []byte {
	var part []byte
	for _, key := range slices.Sorted(maps.Keys(weights)) {
		value := numberValue(weights[key])
		if strings.HasPrefix(key, mirrorKeys) || strings.HasPrefix(key, captureKeys) {
			value = fractionValue(weights[key])
		}
		part = appendField(part, key, value)
	}
	return part
}

// numberValue is a Value.
func numberValue(n uint32) []byte {
	value := protowire.AppendTag(nil, fieldNumber, protowire.Fixed64Type)
	return protowire.AppendFixed64(value, math.Float64bits(float64(n)))
}

// fractionValue is a Value that Envoy takes for hundredths of a percent. A
// number would be whole percents to it.
func fractionValue(n uint32) []byte {
	unit := protowire.AppendTag(nil, fieldString, protowire.BytesType)
	unit = protowire.AppendString(unit, "TEN_THOUSAND")
	fraction := appendField(nil, "denominator", unit)
	fraction = appendField(fraction, "numerator", numberValue(n))
	value := protowire.AppendTag(nil, fieldStruct, protowire.BytesType)
	return protowire.AppendBytes(value, fraction)
}

// appendField appends a field to a Struct.
func appendField(layer []byte, key string, value []byte) []byte {
	entry := protowire.AppendTag(nil, fieldKey, protowire.BytesType)
	entry = protowire.AppendString(entry, key)
	entry = protowire.AppendTag(entry, fieldValue, protowire.BytesType)
	entry = protowire.AppendBytes(entry, value)
	layer = protowire.AppendTag(layer, fieldFields, protowire.BytesType)
	return protowire.AppendBytes(layer, entry)
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
	if len(p.Split.Ranges) == 1 && len(p.Mirrors) == 0 && p.Capture == nil {
		return nil
	}
	w := make(map[string]uint32)
	if p.Capture != nil {
		w[captureKey(p.Model.Name)] = uint32(p.Capture.Share)
	}
	for _, m := range p.Mirrors {
		w[mirrorKey(p.Model.Name, m.Version)] = uint32(m.Share)
	}
	if len(p.Split.Ranges) == 1 {
		return w
	}
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
