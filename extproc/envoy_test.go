package extproc_test

import (
	"fmt"
	"testing"

	"github.com/headgate/headgate/routing"
)

func TestBodyKey(t *testing.T) {
	socket := socketPath(t)
	model := churn(t, 3000, bodyKey(t))
	service := serve(t, socket, model)
	p := startProxy(t, socket)
	for _, user := range users(500) {
		got, _ := p.ask(t, "POST", "/", fmt.Sprintf(`{"x":[1,2],"user":{"id":%q}}`, user), nil)
		want := model.Split.Version(routing.Bucket(model.Split.Salt, user))
		if (got != reply{200, want}) {
			t.Fatalf("user %s: %+v, want %s", user, got, want)
		}
	}
	t.Logf("%+v", service.Counters())
	t.Log(p.Stats("http.churn.ext_proc"))
	t.Logf("%v", p.stable.Requests()[0].Header)
}
