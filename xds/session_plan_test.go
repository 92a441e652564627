package xds

import (
	"net/netip"
	"testing"

	"github.com/headgate/headgate/routing"
)

// planner makes plans. What it is not told to change stays the same pointer,
// as the rollout controller does it.
type planner struct {
	t      testing.TB
	build  *Builder
	models []*routing.ModelPlan
}

func newPlanner(t testing.TB) *planner { return &planner{t: t, build: NewBuilder(Options{})} }

// modelSpec is a model by its essentials.
type modelSpec struct {
	name      string
	listen    string            // 127.0.0.1:8080 by default
	prefix    string            // "/" + name by default
	endpoints map[string]string // version to address; "dns:host:port" is a name
	stable    string
	candidate string // empty: no rollout
	share     routing.Share
	salt      string
}

func (m modelSpec) plan() *routing.ModelPlan {
	listen, prefix := m.listen, m.prefix
	if listen == "" {
		listen = "127.0.0.1:8080"
	}
	if prefix == "" {
		prefix = "/" + m.name
	}
	model := &routing.Model{
		Name: m.name, Listen: netip.MustParseAddrPort(listen), Match: routing.Match{Prefix: prefix},
		Release: m.stable, Decide: routing.DecideNative,
		Key: routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCurrent},
	}
	for _, v := range []string{"v1", "v2", "v3"} {
		at, ok := m.endpoints[v]
		if !ok {
			continue
		}
		version := &routing.Version{Name: v}
		if len(at) > 4 && at[:4] == "dns:" {
			version.DNS = routing.HostPort{Host: at[4:], Port: 80}
		} else {
			version.Endpoints = []netip.AddrPort{netip.MustParseAddrPort(at)}
		}
		model.Versions = append(model.Versions, version)
	}
	split := routing.Split{Salt: m.salt, Ranges: []routing.Range{{Version: m.stable, Weight: routing.Whole}}}
	if m.candidate != "" {
		split.Ranges = []routing.Range{
			{Version: m.candidate, Weight: m.share},
			{Version: m.stable, Weight: routing.Whole - m.share},
		}
	}
	return &routing.ModelPlan{Model: model, Stable: m.stable, Split: split}
}

// set adds a model or replaces it.
func (p *planner) set(specs ...modelSpec) *planner {
	for _, spec := range specs {
		p.remove(spec.name)
		i := 0
		for i < len(p.models) && p.models[i].Model.Name < spec.name {
			i++
		}
		p.models = append(p.models[:i:i], append([]*routing.ModelPlan{spec.plan()}, p.models[i:]...)...)
	}
	return p
}

func (p *planner) remove(name string) *planner {
	for i, m := range p.models {
		if m.Model.Name == name {
			p.models = append(p.models[:i:i], p.models[i+1:]...)
			break
		}
	}
	return p
}

// weight changes the share of the candidate only.
func (p *planner) weight(name string, share routing.Share) *planner {
	for i, m := range p.models {
		if m.Model.Name == name {
			next := *m
			next.Split.Ranges = []routing.Range{
				{Version: m.Split.Ranges[0].Version, Weight: share},
				{Version: m.Split.Ranges[1].Version, Weight: routing.Whole - share},
			}
			p.models = append(p.models[:i:i], append([]*routing.ModelPlan{&next}, p.models[i+1:]...)...)
		}
	}
	return p
}

func (p *planner) plan() *routing.Plan {
	config := &routing.Config{}
	seen := map[netip.AddrPort]bool{}
	for _, m := range p.models {
		config.Models = append(config.Models, m.Model)
		if !seen[m.Model.Listen] {
			seen[m.Model.Listen] = true
			config.Listeners = append(config.Listeners, &routing.Listener{Address: m.Model.Listen})
		}
	}
	return &routing.Plan{Config: config, Models: p.models}
}

func (p *planner) snapshot() *Snapshot {
	p.t.Helper()
	s, err := p.build.Build(p.plan())
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// simple is a model with one version that serves.
func simple(name string) modelSpec {
	return modelSpec{name: name, endpoints: map[string]string{"v1": "127.0.0.1:9001"}, stable: "v1"}
}

// rolling is a model in the middle of a rollout.
func rolling(name string, share routing.Share) modelSpec {
	return modelSpec{
		name: name, endpoints: map[string]string{"v1": "127.0.0.1:9001", "v2": "127.0.0.1:9002"},
		stable: "v1", candidate: "v2", share: share, salt: name + "-1",
	}
}
