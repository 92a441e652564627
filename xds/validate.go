package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/headgate/headgate/routing"
)

// resource validates a message and makes it ready to be sent.
func resource(name string, m proto.Message) (Resource, error) {
	if err := validate(m); err != nil {
		return Resource{}, fmt.Errorf("%s: %w", name, err)
	}
	body, err := pack(m)
	if err != nil {
		return Resource{}, fmt.Errorf("%s: %w", name, err)
	}
	return Resource{Name: name, Version: version(body.GetValue()), Body: body}, nil
}

// pack marshals so that equal messages give equal bytes.
func pack(m proto.Message) (*anypb.Any, error) {
	body := new(anypb.Any)
	if err := anypb.MarshalFrom(body, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, fmt.Errorf("marshal: %w", err)
	}
	return body, nil
}

// config validates and packs an extension's configuration. It is called deep
// within what builds a resource, so what is wrong travels as a panic to the
// function that builds it, see caught.
func config(m proto.Message) *anypb.Any {
	if err := validate(m); err != nil {
		panic(invalid{err})
	}
	body, err := pack(m)
	if err != nil {
		panic(invalid{err})
	}
	return body
}

// invalid is what config panics with.
type invalid struct{ error }

// caught turns the panic of a config into an error. It is deferred.
func caught(err *error) {
	switch r := recover().(type) {
	case nil:
	case invalid:
		*err = r.error
	default:
		panic(r)
	}
}

func version(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:8])
}

// Numbers of the fields that tables of routes are put together from.
const (
	hostRoutes = 3 // VirtualHost.routes
	tableHosts = 2 // RouteConfiguration.virtual_hosts
)

// encodeRoutes is the part of a virtual host that routes are.
func encodeRoutes(routes []*routev3.Route) ([]byte, error) {
	var part []byte
	for _, r := range routes {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("marshal route: %w", err)
		}
		part = protowire.AppendTag(part, hostRoutes, protowire.BytesType)
		part = protowire.AppendBytes(part, b)
	}
	return part, nil
}

// validate checks a message by the rules that Envoy itself checks. What is
// packed in it was checked when it was packed.
func validate(m proto.Message) error {
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		return v.ValidateAll()
	}
	return nil
}

// safeName is what names must be made of that become part of cluster names,
// runtime keys, header values and regular expressions' substitutions.
var safeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~:@-]*$`)

// checkPlan reports what no resources can be made of.
func checkPlan(p *routing.ModelPlan) error {
	m := p.Model
	if !safeName.MatchString(m.Name) {
		return fmt.Errorf("name: %q: must be letters, digits and . _ + ~ : @ -", m.Name)
	}
	if err := p.Split.Validate(); err != nil {
		return fmt.Errorf("split: %w", err)
	}
	if len(p.Split.Ranges) > 1 && !safeName.MatchString(p.Split.Salt) {
		return fmt.Errorf("split.salt: %q: must be letters, digits and . _ + ~ : @ -", p.Split.Salt)
	}
	seen := make(map[string]bool)
	for i, r := range p.Split.Ranges {
		if m.Version(r.Version) == nil {
			return fmt.Errorf("split.ranges[%d]: %s: is no version of the model", i, r.Version)
		}
		if seen[r.Version] {
			return fmt.Errorf("split.ranges[%d]: %s: stands there twice, and Envoy knows one weight per version", i, r.Version)
		}
		seen[r.Version] = true
	}
	if len(p.Split.Ranges) > 1 && !seen[p.Stable] {
		return fmt.Errorf("stable: %q: has no range in the split", p.Stable)
	}
	if err := checkMirrors(p); err != nil {
		return err
	}
	for _, v := range p.Uses() {
		if !safeName.MatchString(v.Name) {
			return fmt.Errorf("versions.%s: must be letters, digits and . _ + ~ : @ -", v.Name)
		}
	}
	for i := range m.Overrides {
		if v := m.Overrides[i].Version; m.Version(v) == nil {
			return fmt.Errorf("overrides[%d]: version: %s: is no version of the model", i, v)
		}
	}
	return nil
}

func checkMirrors(p *routing.ModelPlan) error {
	seen := make(map[string]bool)
	for i, m := range p.Mirrors {
		switch {
		case p.Model.Version(m.Version) == nil:
			return fmt.Errorf("mirrors[%d]: %s: is no version of the model", i, m.Version)
		case seen[m.Version]:
			return fmt.Errorf("mirrors[%d]: %s: stands there twice", i, m.Version)
		case m.Share > routing.Whole:
			return fmt.Errorf("mirrors[%d]: share: %s: must be at most 100%%", i, m.Share)
		}
		seen[m.Version] = true
	}
	if c := p.Capture; c != nil && c.Share > routing.Whole {
		return fmt.Errorf("capture: share: %s: must be at most 100%%", c.Share)
	}
	return nil
}

// checkRoutes reports a route that Envoy would refuse or could not serve.
func checkRoutes(p *routing.ModelPlan, routes []*routev3.Route) error {
	known := make(map[string]bool)
	for _, v := range p.Uses() {
		known[routing.ClusterName(p.Model.Name, v.Name)] = true
	}
	for _, r := range routes {
		if err := validate(r); err != nil {
			return fmt.Errorf("route %s: %w", r.GetName(), err)
		}
		if name := r.GetRoute().GetCluster(); name != "" && !known[name] {
			return fmt.Errorf("route %s: cluster %s: is not among the model's clusters", r.GetName(), name)
		}
		if w := r.GetRoute().GetWeightedClusters(); w != nil {
			if err := checkWeighted(w, known); err != nil {
				return fmt.Errorf("route %s: %w", r.GetName(), err)
			}
		}
	}
	return nil
}

func checkWeighted(w *routev3.WeightedCluster, known map[string]bool) error {
	var sum uint32
	for _, c := range w.GetClusters() {
		if !known[c.GetName()] {
			return fmt.Errorf("cluster %s: is not among the model's clusters", c.GetName())
		}
		sum += c.GetWeight().GetValue()
	}
	if sum != uint32(routing.Whole) {
		return fmt.Errorf("weights sum to %d, must be %d", sum, routing.Whole)
	}
	return nil
}
