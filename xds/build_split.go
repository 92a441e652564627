package xds

import (
	"fmt"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	keyfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/headgate/headgate/routing"
)

// byKey is the split by a value of the request, for requests that have it: the
// routes to be tried in their order.
func (c *routeCompiler) byKey(why routing.Reason, p place) []*routev3.Route {
	kept := c.hashed(string(why), p, p.present())
	enable(kept, filterKey, keyOnRoute(p))
	if p.before != "" {
		return []*routev3.Route{kept}
	}
	short := c.hashed(string(why), p, matchRegex(p.header, shortKey))
	short.RequestHeadersToAdd = append(short.RequestHeadersToAdd, tellKey(p))
	return []*routev3.Route{short, kept}
}

// shortKey matches the keys that the access log gets by a header: a UUID, a
// number, most names. The version gets that header as well, and a long one, a
// token perhaps, could be too much for it. More characters, or others than
// ASCII, would be more than the 100 instructions that Envoy allows an expression
// unless told.
const shortKey = "[ -~]{1,48}"

// tellKey repeats the header that is hashed under one name, which the access log
// knows. The filter that keeps a key as metadata costs far more.
func tellKey(p place) *corev3.HeaderValueOption {
	return set(routing.HeaderKey, "%REQ("+p.header+")%")
}

// byDraw is the split by the fresh id that every request has.
func (c *routeCompiler) byDraw() *routev3.Route {
	p := placeOf(routing.SourceHeader, routing.HeaderDraw)
	r := c.hashed(string(routing.ReasonDraw), p)
	r.RequestHeadersToAdd = append(r.RequestHeadersToAdd, tellKey(p))
	return r
}

// hashed is a route that splits by the hash of "salt/value".
func (c *routeCompiler) hashed(why string, p place, conditions ...*routev3.HeaderMatcher) *routev3.Route {
	r, action := c.route(why, conditions...)
	clusters := c.weighted(splitPrefix(c.plan))
	// Without this Envoy draws a random number of its own.
	clusters.RandomValueSpecifier = &routev3.WeightedCluster_UseHashPolicy{UseHashPolicy: yes()}
	action.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: clusters}
	action.HashPolicy = []*routev3.RouteAction_HashPolicy{{
		PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
			Header: &routev3.RouteAction_HashPolicy_Header{
				HeaderName:   p.header,
				RegexRewrite: substitute(p.capture(), c.plan.Split.Salt+`/\1`),
			},
		},
		Terminal: true,
	}}
	return r
}

// heaviest is a route to the version with the larger weight. Which one that
// is, is a runtime value, so that the route stays when it changes.
func (c *routeCompiler) heaviest() *routev3.Route {
	r, action := c.route(string(routing.ReasonUndecided))
	action.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: c.weighted(fallbackPrefix(c.plan))}
	return r
}

// weighted are the versions of the split in their order. The weights that
// stand in the route are the safe ones, for an Envoy that has none in its
// runtime: everyone to the stable version. With a runtime prefix Envoy takes
// the sum of the runtime's weights as the whole.
func (c *routeCompiler) weighted(prefix string) *routev3.WeightedCluster {
	w := &routev3.WeightedCluster{RuntimeKeyPrefix: prefix}
	for _, r := range c.plan.Split.Ranges {
		request, response := c.tell(r.Version)
		weight := uint32(0)
		if r.Version == c.plan.Stable {
			weight = uint32(routing.Whole)
		}
		w.Clusters = append(w.Clusters, &routev3.WeightedCluster_ClusterWeight{
			Name:                 routing.ClusterName(c.plan.Model.Name, r.Version),
			Weight:               wrapperspb.UInt32(weight),
			RequestHeadersToAdd:  request,
			ResponseHeadersToAdd: response,
		})
	}
	return w
}

// Where the draw of an anonymous user stands.
const (
	drawnByEnvoy   = "%REQ(" + routing.HeaderKey + ")%"
	drawnByService = keyInMetadata
)

// keyInMetadata is what was hashed, where the filter or the ext_proc service
// keeps it.
const keyInMetadata = "%DYNAMIC_METADATA(" + routing.MetadataNamespace + ":" + routing.MetadataKey + ")%"

// setCookie makes the draw of an anonymous user last.
func (c *routeCompiler) setCookie(draw string) *corev3.HeaderValueOption {
	value := fmt.Sprintf("%s=%s; Path=/; Max-Age=%d; HttpOnly; SameSite=Lax",
		routing.CookieName, draw, int(c.options.CookieAge.Seconds()))
	if c.secure {
		value += "; Secure"
	}
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: "set-cookie", Value: value},
		AppendAction: corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD,
	}
}

// keyOnRoute keeps what is hashed as dynamic metadata.
func keyOnRoute(p place) *anypb.Any {
	pair := &keyfilterv3.Config_KeyValuePair{
		MetadataNamespace: routing.MetadataNamespace,
		Key:               routing.MetadataKey,
	}
	if p.before != "" {
		pair.RegexValueRewrite = substitute(p.capture(), `\1`)
	}
	return config(&keyfilterv3.Config{RequestRules: []*keyfilterv3.Config_Rule{{
		Header: p.header, OnHeaderPresent: pair,
	}}})
}

func substitute(pattern, substitution string) *matcherv3.RegexMatchAndSubstitute {
	return &matcherv3.RegexMatchAndSubstitute{
		Pattern:      &matcherv3.RegexMatcher{Regex: pattern},
		Substitution: substitution,
	}
}
