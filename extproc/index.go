package extproc

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/headgate/headgate/routing"
)

// index finds a model by its name at the same cost however many there are.
//
// The names are a map that is replaced when a model comes or goes. A weight
// that moves replaces one model and leaves the map as it is.
type index struct {
	slots atomic.Pointer[map[string]*slot]

	publishing sync.Mutex
	published  []*routing.ModelPlan // guarded by publishing
}

// slot is the place of one model over all of its plans.
type slot struct{ model atomic.Pointer[model] }

func (x *index) model(name string) *model {
	slots := x.slots.Load()
	if slots == nil {
		return nil
	}
	if s := (*slots)[name]; s != nil {
		return s.model.Load()
	}
	return nil
}

func (x *index) publish(plan *routing.Plan) {
	x.publishing.Lock()
	defer x.publishing.Unlock()
	if x.sameModels(plan.Models) {
		slots := *x.slots.Load()
		for i, p := range plan.Models {
			if x.published[i] != p {
				s := slots[p.Model.Name]
				s.model.Store(compile(p, s.model.Load()))
			}
		}
	} else {
		x.replace(plan.Models)
	}
	x.published = plan.Models
}

// sameModels tells whether the plan has the models of the one before. Both
// are sorted by name.
func (x *index) sameModels(plans []*routing.ModelPlan) bool {
	return x.slots.Load() != nil && slices.EqualFunc(x.published, plans, func(a, b *routing.ModelPlan) bool {
		return a == b || a.Model.Name == b.Model.Name
	})
}

func (x *index) replace(plans []*routing.ModelPlan) {
	next := make(map[string]*slot, len(plans))
	for _, p := range plans {
		old := x.model(p.Model.Name)
		s := &slot{}
		if old != nil && old.plan == p {
			s.model.Store(old)
		} else {
			s.model.Store(compile(p, old))
		}
		next[p.Model.Name] = s
	}
	x.slots.Store(&next)
}

// model is one model's plan, with what would otherwise be found out again for
// every request.
type model struct {
	plan     *routing.ModelPlan
	paths    []routing.Path // that decisions read in a body, each once
	versions []*version
}

// version is a version's name as it goes out, and its counters, which go on
// from plan to plan.
type version struct {
	name  string
	raw   []byte
	count [len(reasons)]atomic.Uint64 // by the index in reasons
}

// compile prepares a plan. The counters go on from old, which may be nil.
func compile(p *routing.ModelPlan, old *model) *model {
	m := &model{plan: p, paths: bodyPaths(p.Model)}
	for _, v := range p.Model.Versions {
		known := old.version(v.Name)
		if known == nil {
			known = &version{name: v.Name, raw: []byte(v.Name)}
		}
		m.versions = append(m.versions, known)
	}
	return m
}

func (m *model) version(name string) *version {
	if m == nil {
		return nil
	}
	for _, v := range m.versions {
		if v.name == name {
			return v
		}
	}
	return nil
}

// bodyPaths returns the paths that decisions on the model read in a body.
func bodyPaths(m *routing.Model) []routing.Path {
	var paths []routing.Path
	add := func(p routing.Path) {
		if !slices.ContainsFunc(paths, func(q routing.Path) bool { return slices.Equal(p, q) }) {
			paths = append(paths, p)
		}
	}
	for i := range m.Overrides {
		if c := &m.Overrides[i].Condition; c.Source == routing.SourceBody {
			add(c.Path)
		}
	}
	if m.Key.Source == routing.SourceBody {
		add(m.Key.Path)
	}
	return paths
}
