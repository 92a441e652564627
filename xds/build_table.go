package xds

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/headgate/headgate/routing"
)

// RouteTable returns the route configuration of a listener, made of the models
// given, which may be any. Models of other listeners are left out. Equal
// models give equal tables, in whatever order they come.
//
// A host has its models first, the longest prefix before the shorter, more
// conditions before fewer, then the models of the wildcards that cover it, and
// those for any host.
func RouteTable(listener string, models []*ModelResources) (Resource, error) {
	byDomain := make(map[string][]*ModelResources)
	for _, m := range models {
		if m.Listener == listener && len(m.Routes) > 0 {
			byDomain[m.Domain] = append(byDomain[m.Domain], m)
		}
	}
	domains := make([]string, 0, len(byDomain))
	for d := range byDomain {
		slices.SortFunc(byDomain[d], specificFirst)
		domains = append(domains, d)
	}
	slices.Sort(domains)
	table := &routev3.RouteConfiguration{
		Name: listener,
		// The server sends clusters before the routes that name them; a table
		// with a cluster that is gone must still be accepted.
		ValidateClusters:         wrapperspb.Bool(false),
		IgnorePortInHostMatching: true,
		RequestHeadersToRemove: []string{
			routing.HeaderDraw, routing.HeaderDecision, routing.HeaderReason, routing.HeaderModel,
		},
		ResponseHeadersToRemove: []string{
			routing.HeaderDraw, routing.HeaderDecision, routing.HeaderReason, routing.HeaderKey, routing.HeaderModel,
		},
	}
	body, err := pack(table)
	if err != nil {
		return Resource{}, fmt.Errorf("routes of %s: %w", listener, err)
	}
	seen := make(map[string]string, len(domains))
	for _, d := range domains {
		if other, twice := seen[strings.ToLower(d)]; twice {
			return Resource{}, fmt.Errorf("routes of %s: domain %s: stands there twice, as %s", listener, d, other)
		}
		seen[strings.ToLower(d)] = d
		host, err := virtualHost(d, byDomain)
		if err != nil {
			return Resource{}, fmt.Errorf("routes of %s: domain %s: %w", listener, d, err)
		}
		body.Value = protowire.AppendTag(body.Value, tableHosts, protowire.BytesType)
		body.Value = protowire.AppendBytes(body.Value, host)
	}
	return Resource{Name: listener, Version: version(body.GetValue()), Body: body}, nil
}

// virtualHost is a domain with its routes, as bytes: with 10,000 models,
// putting them together costs a tenth of marshalling them again.
func virtualHost(domain string, byDomain map[string][]*ModelResources) ([]byte, error) {
	host, err := proto.Marshal(&routev3.VirtualHost{Name: domain, Domains: []string{domain}})
	if err != nil {
		return nil, fmt.Errorf("marshal: %w", err)
	}
	for _, cover := range covering(domain, byDomain) {
		for _, m := range byDomain[cover] {
			part := m.routes
			if part == nil {
				if part, err = encodeRoutes(m.Routes); err != nil {
					return nil, fmt.Errorf("models.%s: %w", m.Model, err)
				}
			}
			host = append(host, part...)
		}
	}
	return host, nil
}

// covering returns the domains whose models take requests for a domain, the
// most specific first: itself, wildcards that cover it, any. Envoy looks into
// one virtual host only.
func covering(domain string, byDomain map[string][]*ModelResources) []string {
	covers := []string{domain}
	if domain == "*" {
		return covers
	}
	rest := strings.TrimPrefix(domain, "*")
	for i := 1; i < len(rest); i++ {
		if rest[i] != '.' {
			continue
		}
		if wildcard := "*" + rest[i:]; byDomain[wildcard] != nil {
			covers = append(covers, wildcard)
		}
	}
	if byDomain["*"] != nil {
		covers = append(covers, "*")
	}
	return covers
}

// specificFirst orders models whose routes stand in one virtual host.
func specificFirst(x, y *ModelResources) int {
	mx, my := x.Routes[len(x.Routes)-1].GetMatch(), y.Routes[len(y.Routes)-1].GetMatch()
	return cmp.Or(
		cmp.Compare(len(prefixOf(my)), len(prefixOf(mx))),
		cmp.Compare(len(my.GetHeaders()), len(mx.GetHeaders())),
		cmp.Compare(x.Model, y.Model),
	)
}
