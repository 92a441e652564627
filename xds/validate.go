package xds

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
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

// config packs an extension's configuration. Messages made here always
// marshal; what they hold is checked by validate, with the rest.
func config(m proto.Message) *anypb.Any {
	body, err := pack(m)
	if err != nil {
		panic(err)
	}
	return body
}

func version(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:8])
}

func routeVersion(domain string, routes []*routev3.Route) (string, error) {
	h := sha256.New()
	h.Write([]byte(domain))
	for _, r := range routes {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
		if err != nil {
			return "", fmt.Errorf("marshal route: %w", err)
		}
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// validate checks a message and all messages within it, those packed as
// extensions included, by the rules that Envoy itself checks.
func validate(m proto.Message) error {
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		if err := v.ValidateAll(); err != nil {
			return err
		}
	}
	var errs []error
	walk(m.ProtoReflect(), func(a *anypb.Any) {
		inner, err := a.UnmarshalNew()
		if err == nil {
			err = validate(inner)
		}
		if err != nil {
			errs = append(errs, err)
		}
	})
	return errors.Join(errs...)
}

// walk calls fn for every extension in a message.
func walk(m protoreflect.Message, fn func(*anypb.Any)) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		fn(a)
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap() && f.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				walk(v.Message(), fn)
				return true
			})
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				walk(v.List().Get(i).Message(), fn)
			}
		case !f.IsMap() && !f.IsList() && f.Message() != nil:
			walk(v.Message(), fn)
		}
		return true
	})
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
