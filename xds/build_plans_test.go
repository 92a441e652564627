package xds_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/headgate/headgate/routing"
)

// goldenPlans are the plans whose resources are shown in testdata.
func goldenPlans(t *testing.T) map[string]*routing.Plan {
	t.Helper()
	header := routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCookie}
	user := mustPath(t, "$.user.id")
	edits := map[string]func(*routing.Model){
		"key-header": func(m *routing.Model) { m.Key = header },
		"key-cookie": func(m *routing.Model) {
			m.Key = routing.Key{Source: routing.SourceCookie, Name: "uid", Absent: routing.AbsentCurrent}
		},
		"key-query": func(m *routing.Model) {
			m.Key = routing.Key{Source: routing.SourceQuery, Name: "user", Absent: routing.AbsentRequest}
		},
		"key-none": func(m *routing.Model) { m.Key = routing.Key{Absent: routing.AbsentCookie} },
		"key-body": func(m *routing.Model) {
			m.Key = routing.Key{Source: routing.SourceBody, Name: "$.user.id", Path: user, Absent: routing.AbsentCookie}
		},
		"ext-proc":  func(m *routing.Model) { m.Key, m.Decide = header, routing.DecideExtProc },
		"hidden":    func(m *routing.Model) { m.Key, m.HideVersion = header, true },
		"overrides": overrides,
		"body-rule": func(m *routing.Model) { m.Key = header; bodyRule(m, user) },
		"match":     narrow,
		"endpoints": func(m *routing.Model) { m.Key = header; fullVersions(t, m) },
		"retry": func(m *routing.Model) {
			m.Key, m.Retry = header, routing.Retry{Attempts: 2, PerTry: time.Second, On: []string{"connect-failure", "refused-stream"}}
		},
		"slash":      func(m *routing.Model) { m.Key, m.Match.Prefix = header, "/models/churn/" },
		"every-path": func(m *routing.Model) { m.Key, m.Match.Prefix = header, "/" },
		"long-cookie": func(m *routing.Model) {
			m.Key = routing.Key{Source: routing.SourceCookie, Name: long, Absent: routing.AbsentCurrent}
		},
	}
	plans := make(map[string]*routing.Plan)
	for name, edit := range edits {
		plans[name] = planOf(goldenModel("churn", edit))
	}
	plans["single"] = planOf(alone(goldenModel("churn", func(m *routing.Model) { m.Key = header })))
	plans["no-models"] = planOf()
	plans["listener-tls"] = planOf(goldenModel("churn", func(m *routing.Model) { m.Key = header }))
	plans["listener-tls"].Config.Listeners = []*routing.Listener{{Address: secure, TLS: &routing.ServerTLS{
		CertificateChain: pem(t, "server.pem"), PrivateKey: pem(t, "server.key"), ClientCA: pem(t, "ca.pem"),
	}}}
	plans["listener-tls"].Models[0].Model.Listen = secure
	plans["hosts"] = hosts()
	plans["mirror"] = planOf(mirrored(goldenModel("churn", func(m *routing.Model) { m.Key, m.Repeatable = header, true }), "v1.0.0"))
	plans["mirror-decided"] = planOf(mirrored(alone(goldenModel("churn", func(m *routing.Model) {
		m.Key = header
		bodyRule(m, user)
	})), "v1.0.0", "v2.0.0"))
	plans["capture"] = planOf(captured(mirrored(alone(goldenModel("churn", func(m *routing.Model) { m.Key, m.Repeatable = header, true })), "v1.0.0", "v2.0.0")))
	plans["capture-only"] = planOf(captured(alone(goldenModel("churn", func(*routing.Model) {}))))
	plans["capture-decided"] = planOf(captured(mirrored(alone(goldenModel("churn", func(m *routing.Model) {
		m.Repeatable = true
		bodyRule(m, user)
	})), "v1.0.0")))
	return plans
}

const long = "a-rather-long-cookie-name-of-which-some-frameworks-are-fond-and-which-compiles-to-more-than-a-hundred-instructions"

var secure = netip.MustParseAddrPort("127.0.0.1:8443")

func goldenModel(name string, edit func(*routing.Model)) *routing.ModelPlan {
	m := &routing.Model{
		Name: name, Listen: anyPort, Match: routing.Match{Prefix: "/" + name}, Release: "v2.0.0", Timeout: time.Minute,
		Versions: []*routing.Version{
			{Name: "v1.0.0", Endpoints: addresses("127.0.0.1:9101"), Connect: time.Second},
			{Name: "v2.0.0", Endpoints: addresses("127.0.0.1:9102", "[::1]:9102"), Connect: 500 * time.Millisecond},
		},
	}
	edit(m)
	return &routing.ModelPlan{Model: m, Stable: "v1.0.0", Split: share(name, 1000)}
}

func captured(p *routing.ModelPlan) *routing.ModelPlan {
	p.Capture = &routing.Capture{Share: 500, MaxBody: 64 << 10}
	return p
}

func alone(p *routing.ModelPlan) *routing.ModelPlan {
	p.Split = routing.Split{Ranges: []routing.Range{{Version: p.Stable, Weight: routing.Whole}}}
	return p
}

// mirrored is a plan with copies for versions, each a share of its own.
func mirrored(p *routing.ModelPlan, versions ...string) *routing.ModelPlan {
	for i, v := range versions {
		p.Mirrors = append(p.Mirrors, routing.Mirror{Version: v, Share: routing.Share(1 + i)})
	}
	return p
}

func addresses(all ...string) []netip.AddrPort {
	var parsed []netip.AddrPort
	for _, a := range all {
		parsed = append(parsed, netip.MustParseAddrPort(a))
	}
	return parsed
}

func pem(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "tls", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func overrides(m *routing.Model) {
	m.Key = routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCurrent}
	for i, c := range []routing.Condition{
		{Source: routing.SourceHeader, Name: "canary", Op: routing.OpEquals, Value: "true"},
		{Source: routing.SourceCookie, Name: "beta", Op: routing.OpPresent},
		{Source: routing.SourceQuery, Name: "v", Op: routing.OpIn, Values: []string{"1", "old"}},
		{Source: routing.SourceHeader, Name: "never", Op: routing.OpEquals, Value: ""},
	} {
		m.Overrides = append(m.Overrides, routing.Override{Condition: c, Version: []string{"v2.0.0", "v1.0.0"}[i%2]})
	}
}

func bodyRule(m *routing.Model, path routing.Path) {
	m.Overrides = []routing.Override{
		{Condition: routing.Condition{Source: routing.SourceHeader, Name: "x-old", Op: routing.OpPresent}, Version: "v1.0.0"},
		{Condition: routing.Condition{Source: routing.SourceBody, Name: "$.user.id", Path: path, Op: routing.OpEquals, Value: "7"}, Version: "v2.0.0"},
		{Condition: routing.Condition{Source: routing.SourceHeader, Name: "x-new", Op: routing.OpPresent}, Version: "v2.0.0"},
	}
}

func narrow(m *routing.Model) {
	m.Key = routing.Key{Source: routing.SourceHeader, Name: "x-user-id", Absent: routing.AbsentCurrent}
	m.Match.Host = "Churn.Example.com"
	m.Match.Methods = []string{"POST", "PUT"}
	m.Match.Headers = []routing.Condition{{Source: routing.SourceHeader, Name: "x-tenant", Op: routing.OpPrefix, Value: "eu-"}}
}

func fullVersions(t *testing.T, m *routing.Model) {
	m.Versions[0].Endpoints = nil
	m.Versions[0].DNS = routing.HostPort{Host: "churn-v1.ml.svc", Port: 8443}
	m.Versions[0].TLS = &routing.ClientTLS{CA: pem(t, "ca.pem"), CertificateChain: pem(t, "server.pem"), PrivateKey: pem(t, "server.key")}
	m.Versions[0].HTTP2 = true
	m.Versions[0].Health = &routing.HealthCheck{Path: "/healthz", Interval: 5 * time.Second, Timeout: time.Second, Healthy: 1, Unhealthy: 3}
	m.Versions[1].TLS = &routing.ClientTLS{CA: pem(t, "ca.pem")}
	m.Versions[1].Outlier = &routing.OutlierDetection{Consecutive5xx: 5, Interval: 10 * time.Second, BaseEjection: 30 * time.Second, MaxEjection: 50}
	m.Versions = append(m.Versions, &routing.Version{Name: "v3-unused", Endpoints: addresses("127.0.0.1:9103")})
}

// hosts is a table in which order matters.
func hosts() *routing.Plan {
	var models []*routing.ModelPlan
	for _, m := range []struct{ name, host, prefix string }{
		{"any", "", "/"}, {"any-deep", "", "/predict/deep"}, {"exact", "a.example.com", "/predict"},
		{"exact-root", "a.example.com", "/private/"}, {"far", "*.com", "/"}, {"suffix", "*.example.com", "/predict"},
	} {
		models = append(models, alone(goldenModel(m.name, func(x *routing.Model) { x.Match = routing.Match{Host: m.host, Prefix: m.prefix} })))
	}
	return planOf(models...)
}
