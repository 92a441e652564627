package simulate

import (
	"math"
	"sort"

	"github.com/headgate/headgate/routing"
)

// population is who asks in all runs: how busy each user is.
type population struct {
	busy []float64 // parts of the requests, which add up to 1
	draw *alias
}

func newPopulation(u Users) *population {
	if u.Number == 0 {
		return nil
	}
	p := &population{busy: make([]float64, u.Number)}
	var sum float64
	for i := range p.busy {
		p.busy[i] = math.Pow(float64(i+1), -u.Zipf)
		sum += p.busy[i]
	}
	for i := range p.busy {
		p.busy[i] /= sum
	}
	p.draw = newAlias(p.busy)
	return p
}

// crowd is the population in one run: whom the hash gives to the candidate at
// which share, and whose requests fail.
type crowd struct {
	all      *population
	salt     uint64
	unlucky  uint64
	failing  float64 // part of the users
	place    placement
	arms     [2]crowdArm // of place
	prepared bool
}

// placement is who gets the requests.
type placement struct {
	share routing.Share // of the users, to the candidate; the others get stable
	// copies is the share of the candidate's requests of which stable gets a copy.
	copies routing.Share
	// shadow is the share of stable's requests of which the candidate, who has no
	// user, gets a copy.
	shadow routing.Share
}

// placed is where a step sends requests.
func placed(step routing.Step, share routing.Share) placement {
	if step.Kind == routing.StepShadow {
		return placement{shadow: step.Share}
	}
	p := placement{share: share}
	switch c := step.Control; {
	case share < routing.Whole || c.Share == 0:
	case c.Mirror:
		p.copies = c.Share
	default:
		p.share -= c.Share
	}
	return p
}

// parts are the parts of the requests that candidate and stable get.
func (p placement) parts() [2]float64 {
	if p.shadow > 0 {
		return [2]float64{float64(p.shadow) / float64(routing.Whole), 1}
	}
	c := float64(p.share) / float64(routing.Whole)
	return [2]float64{c, 1 - c + c*float64(p.copies)/float64(routing.Whole)}
}

// The versions of a rollout, as indices.
const (
	candidate = iota
	stable
)

// crowdArm is what a version has of the crowd.
type crowdArm struct {
	weight  float64   // of all its users
	failing float64   // of those whose requests fail
	users   []int32   // those
	sums    []float64 // running sums of their weights
}

func newCrowd(all *population, failing float64, src source) *crowd {
	return &crowd{all: all, salt: src.pcg.Uint64(), unlucky: src.pcg.Uint64(), failing: failing}
}

// arm tells which version a user asks at the present share. A larger share
// moves users to the candidate and none away from it.
func (c *crowd) arm(user int) int {
	if unit(mix(c.salt^uint64(user))) < float64(c.place.share)/float64(routing.Whole) {
		return candidate
	}
	return stable
}

// fails tells whether a user's requests fail beyond what others see.
func (c *crowd) fails(user int) bool {
	return c.failing > 0 && unit(mix(c.unlucky^uint64(user))) < c.failing
}

// at moves the crowd.
func (c *crowd) at(p placement) {
	if c.prepared && c.place == p {
		return
	}
	c.prepared, c.place = true, p
	for i := range c.arms {
		c.arms[i] = crowdArm{users: c.arms[i].users[:0], sums: c.arms[i].sums[:0]}
	}
	for user, w := range c.all.busy {
		arm := c.arm(user)
		c.arms[arm].add(user, w, c.fails(user))
		if p.shadow > 0 {
			c.arms[candidate].add(user, w*float64(p.shadow)/float64(routing.Whole), c.fails(user))
		}
		if p.copies > 0 && arm == candidate {
			c.arms[stable].add(user, w*float64(p.copies)/float64(routing.Whole), c.fails(user))
		}
	}
}

func (a *crowdArm) add(user int, weight float64, fails bool) {
	a.weight += weight
	if fails {
		a.failing += weight
		a.users, a.sums = append(a.users, int32(user)), append(a.sums, a.failing)
	}
}

// sender draws who sent one of a version's requests.
func (c *crowd) sender(src source, arm int) int {
	for {
		user := c.all.draw.draw(src)
		if c.arm(user) == arm || arm == stable && c.place.copies > 0 || arm == candidate && c.place.shadow > 0 {
			return user
		}
	}
}

// unluckySender draws who sent one of a version's requests that failed because
// of its user.
func (c *crowd) unluckySender(src source, arm int) int {
	a := &c.arms[arm]
	i := sort.SearchFloat64s(a.sums, src.uniform()*a.failing)
	return int(a.users[min(i, len(a.users)-1)])
}

// seen is a set of users.
type seen []uint64

// add tells whether the user is new.
func (s seen) add(user int) bool {
	word, bit := &s[user/64], uint64(1)<<(user%64)
	fresh := *word&bit == 0
	*word |= bit
	return fresh
}
