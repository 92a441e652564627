package routing

import (
	"testing"

	"pgregory.net/rapid"
)

// request is a Subject written down.
type request struct {
	headers [][2]string // names and values, in order
	body    map[string]string
}

func (r request) Header(name string, i int) (string, bool) {
	for _, h := range r.headers {
		if h[0] != name {
			continue
		}
		if i == 0 {
			return h[1], true
		}
		i--
	}
	return "", false
}

func (r request) Body(path Path) (string, bool) {
	v, ok := r.body[path.String()]
	return v, ok
}

func with(pairs ...string) request {
	var r request
	for i := 0; i < len(pairs); i += 2 {
		r.headers = append(r.headers, [2]string{pairs[i], pairs[i+1]})
	}
	return r
}

func withBody(path, value string) request { return request{body: map[string]string{path: value}} }

func mustPath(t testing.TB, s string) Path {
	t.Helper()
	p, err := ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// requests draws requests of the headers that plans and mischief are about.
func requests() *rapid.Generator[request] {
	return rapid.Custom(func(t *rapid.T) request {
		var r request
		names := rapid.SampledFrom([]string{"x-user-id", "x-user-id", "cookie", "cookie", "canary", HeaderDraw})
		for range rapid.IntRange(0, 5).Draw(t, "headers") {
			r.headers = append(r.headers, [2]string{names.Draw(t, "name"), values().Draw(t, "value")})
		}
		if rapid.Bool().Draw(t, "has a path") {
			r.headers = append(r.headers, [2]string{":path", "/p" + values().Draw(t, "path")})
		}
		if rapid.Bool().Draw(t, "has a body") {
			r.body = map[string]string{"$.id": values().Draw(t, "id")}
		}
		return r
	})
}

// values draws text that is mostly made of what cookies and queries mean
// something by.
func values() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringOf(rapid.SampledFrom([]rune("uid=hg;& ?,\t/#ab1"))),
		rapid.StringMatching(`(uid|hg|a)=[a-z]{0,2}([;&] ?(uid|hg|uidx)=[a-z=]{0,2}){0,3}`),
		rapid.StringMatching(`\?(uid|a)=[a-z]{0,2}([;&?](uid|xuid)=[a-z=]{0,2}){0,3}`),
		rapid.String(),
	)
}
