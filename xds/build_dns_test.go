package xds_test

import (
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/headgate/headgate/envoy/envoytest"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/xds"
)

// A version whose name server is silent holds nobody else up for long.
func TestSilentNameServer(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	blue, green := envoytest.NewUpstream(t, "v1.0.0"), envoytest.NewUpstream(t, "v2.0.0")
	model := func(name string) *routing.ModelPlan {
		return rolling(name, blue, green, func(m *routing.Model) { m.Key = routing.Key{Absent: routing.AbsentRequest} })
	}
	first, second, lost := model("first"), model("second"), model("lost")
	lost.Model.Versions[1].Endpoints = nil
	lost.Model.Versions[1].DNS = routing.HostPort{Host: "nowhere.example.org", Port: 80}

	c := newControl(t, planOf(first))
	c.builder = xds.NewBuilder(xds.Options{NameServers: []netip.AddrPort{netip.MustParseAddrPort(silent.LocalAddr().String())}})
	addr := c.start().Listener(anyPort.String())
	w := dial(t, addr)
	began := time.Now()
	round := c.publish(planOf(first, lost, second))
	envoytest.Eventually(t, 10*time.Second, "the model beside it serves", func() bool {
		return w.send(request{method: "GET", path: "/second"}).code == http.StatusOK
	})
	// Two queries of one second, the second for IPv6. By Envoy's defaults it
	// would be forty.
	c.await(round)
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("acknowledged after %v", took)
	}
}
