package config

import (
	"slices"

	"github.com/headgate/headgate/routing"
)

// standing is a shadow that does not belong to a rollout.
type standing struct {
	_ struct{} `hint:"traffic|shadow|percent|weight=write share;name=write version;for=a shadow for a time is a step of rollout"`

	Version name  `field:"version,required" doc:"The version that gets the copies."`
	Share   share `field:"share,required" doc:"Share of the requests that are copied."`
}

// shadows compiles the standing shadows, and checks that what shadows of steps
// and of the model copy may be copied.
func (c *compiler) shadows(f *file, steps []routing.Step) []routing.Shadow {
	var top *path
	rollout := top.in("rollout")
	for i := range steps {
		if steps[i].Kind != routing.StepShadow || mayCopy(f) {
			continue
		}
		if f.Rollout.Strategy != nil {
			c.d.reject(rollout.in("strategy"), string(*f.Rollout.Strategy), needsRepeatable)
			continue
		}
		c.d.reject(rollout.in("steps").at(i).in("shadow"), steps[i].Share.String(), needsRepeatable)
	}
	if len(f.Shadow) > 0 && !mayCopy(f) {
		c.d.reject(top.in("shadow"), "", needsRepeatable)
	}
	var out []routing.Shadow
	for i := range f.Shadow {
		s, p := &f.Shadow[i], top.in("shadow").at(i).in("version")
		c.knownVersion(f, p, string(s.Version))
		if slices.ContainsFunc(out, func(o routing.Shadow) bool { return o.Version == string(s.Version) }) {
			c.d.reject(p, shown(string(s.Version)), "is there twice")
		}
		out = append(out, routing.Shadow{Version: string(s.Version), Share: routing.Share(s.Share)})
	}
	return out
}
