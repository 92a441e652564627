package xds

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/envoy/envoytest"
)

// answers waits until the address answers, and returns the version.
func answers(t *testing.T, listen, path string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	version := ""
	envoytest.Eventually(t, 20*time.Second, "an answer of "+listen, func() bool {
		r, err := client.Get("http://" + listen + path)
		if err != nil {
			return false
		}
		_ = r.Body.Close()
		version = r.Header.Get("x-headgate-version")
		return r.StatusCode == http.StatusOK
	})
	return version
}

// Two Envoys cannot have one address: the second is told so, and takes it over
// when the first one is dead.
func TestAddressBelongsToOneEnvoy(t *testing.T) {
	p := NewPublisher(PublisherOptions{})
	ads := startADS(t, p, "127.0.0.1:0")
	listen := freeListener(t)
	p.Publish(newPlanner(t).set(served(t, "a", listen, upstreams(t, "v1"))).plan(), nil)
	first := startEnvoy(t, "first", ads.addr)
	delivered(t, p, 20*time.Second, "a")
	answers(t, listen, "/a")
	startEnvoy(t, "second", ads.addr)
	var d Delivery
	envoytest.Eventually(t, 20*time.Second, "the second is refused", func() bool {
		d = p.Delivery("a")
		return d.Rejected != ""
	})
	if !strings.HasSuffix(d.Rejected, "Address already in use") || len(d.Waiting) != 1 || d.Waiting[0] != "second" {
		t.Errorf("delivery %+v", d)
	}
	first.Kill()
	envoytest.Eventually(t, 40*time.Second, "the second has the address", func() bool {
		d = p.Delivery("a")
		return d.Rejected == "" && !strings.Contains(strings.Join(d.Waiting, " "), "second")
	})
	answers(t, listen, "/a")
}

// A listener that changes in place, one that comes, one that goes, on an Envoy
// that shares no port: the first one's clients notice nothing.
func TestListenersChangeWithoutSharedPorts(t *testing.T) {
	p := NewPublisher(PublisherOptions{RemovalDelay: 200 * time.Millisecond})
	ads := startADS(t, p, "127.0.0.1:0")
	us, one, two := upstreams(t, "v1"), freeListener(t), freeListener(t)
	plans := newPlanner(t).set(served(t, "a", one, us))
	p.Publish(plans.plan(), nil)
	e := startEnvoy(t, "one", ads.addr)
	delivered(t, p, 20*time.Second, "a")
	answers(t, one, "/a")
	l := load(t, one, "/a")
	for range 3 {
		p.Publish(plans.set(served(t, "b", two, us)).plan(), nil)
		delivered(t, p, 20*time.Second, "a", "b")
		answers(t, two, "/b")
		// The address stays, everything else of the listener is another one.
		p.build = NewBuilder(Options{IdleTimeout: time.Duration(2+p.Metrics().Responses["listener"]) * time.Minute}).Build
		p.Publish(plans.plan(), nil)
		delivered(t, p, 20*time.Second, "a", "b")
		answers(t, one, "/a")
		answers(t, two, "/b")
		p.Publish(plans.remove("b").plan(), nil)
		envoytest.Eventually(t, 20*time.Second, "the port is closed", func() bool {
			conn, err := net.Dial("tcp", two)
			if err == nil {
				_ = conn.Close()
			}
			return err != nil
		})
	}
	flawless(t, l)
	if n := p.Metrics().NACKs["listener"]; n > 0 {
		t.Errorf("%d listeners refused:\n%s", n, e.Log())
	}
}
