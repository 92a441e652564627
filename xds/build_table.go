package xds

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

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
			routing.HeaderDraw, routing.HeaderDecision, routing.HeaderReason, routing.HeaderKey, routing.HeaderModel,
		},
		ResponseHeadersToRemove: []string{
			routing.HeaderDraw, routing.HeaderDecision, routing.HeaderReason, routing.HeaderKey, routing.HeaderModel,
		},
	}
	seen := make(map[string]string, len(models))
	for _, d := range domains {
		host := &routev3.VirtualHost{Name: d, Domains: []string{d}}
		for _, cover := range covering(d, byDomain) {
			for _, m := range byDomain[cover] {
				host.Routes = append(host.Routes, m.Routes...)
			}
		}
		if lower := strings.ToLower(d); seen[lower] != "" {
			return Resource{}, fmt.Errorf("routes of %s: domain %s: stands there twice, as %s", listener, d, seen[lower])
		}
		seen[strings.ToLower(d)] = d
		table.VirtualHosts = append(table.VirtualHosts, host)
	}
	body, err := pack(table)
	if err != nil {
		return Resource{}, fmt.Errorf("routes of %s: %w", listener, err)
	}
	return Resource{Name: listener, Version: version(body.GetValue()), Body: body}, nil
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
