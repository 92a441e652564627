package traffic

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"sync"
)

// headerUser is the header by which users name themselves.
const headerUser = "x-user-id"

// visits is how many requests an anonymous visitor makes at most before
// another one, without a cookie, comes in their place.
const visits = 40

// user is someone who sends requests, one at a time.
type user struct {
	id   string         // unique
	name string         // value of the user header; empty: anonymous
	jar  http.CookieJar // of an anonymous one
	left int            // visits left, of an anonymous one
	busy bool
}

// population hands out users.
type population struct {
	mu        sync.Mutex
	random    *rand.Rand
	zipf      *rand.Zipf // ranks of named
	named     []*user
	anonymous []*user
	share     float64 // of the requests that are anonymous
	visitors  int     // anonymous users so far
}

func newPopulation(named, anonymous int, share float64, random *rand.Rand) *population {
	p := &population{random: random, share: share}
	// (50+k)^-1.2: the first of a thousand users sends about 1 % of the
	// requests, forty times as many as the last.
	p.zipf = rand.NewZipf(random, 1.2, 50, uint64(named-1))
	for i := range named {
		id := fmt.Sprintf("user-%04d", i+1)
		p.named = append(p.named, &user{id: id, name: id})
	}
	for range anonymous {
		p.anonymous = append(p.anonymous, p.visitor())
	}
	return p
}

func (p *population) visitor() *user {
	p.visitors++
	jar, _ := cookiejar.New(nil) // never fails
	return &user{
		id: fmt.Sprintf("visitor-%04d", p.visitors), jar: jar,
		left: 1 + p.random.IntN(2*visits-1),
	}
}

// take returns a user who has no request under way.
func (p *population) take() *user {
	p.mu.Lock()
	defer p.mu.Unlock()
	// More requests can be under way than there are users of a kind only when
	// all of them hang; then the draw goes on until one is back.
	for range 10_000 {
		if u := p.draw(); !u.busy {
			u.busy = true
			return u
		}
	}
	return nil
}

func (p *population) draw() *user {
	if len(p.anonymous) == 0 || p.random.Float64() >= p.share {
		return p.named[p.zipf.Uint64()]
	}
	i := p.random.IntN(len(p.anonymous))
	u := p.anonymous[i]
	if u.busy {
		return u
	}
	if u.left == 0 {
		u = p.visitor()
		p.anonymous[i] = u
	}
	u.left--
	return u
}

func (p *population) giveBack(u *user) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u.busy = false
}
