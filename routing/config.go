package routing

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Config is everything that a configuration directory says, checked and
// compiled. It is immutable.
type Config struct {
	Models    []*Model    // sorted by name
	Listeners []*Listener // sorted by address
	Hash      string      // hex SHA-256 over the names and contents of the files
}

// Model returns the model of that name, or nil.
func (c *Config) Model(name string) *Model {
	for _, m := range c.Models {
		if m.Name == name {
			return m
		}
	}
	return nil
}

// Listener is an address on which Envoy takes requests for one or more models.
type Listener struct {
	Address netip.AddrPort
	TLS     *ServerTLS // nil: plain text
}

// ServerTLS is the identity that a listener shows, as PEM. The contents are
// part of the configuration, so a rotated file is a new Config.
type ServerTLS struct {
	CertificateChain []byte
	PrivateKey       []byte
	ClientCA         []byte // not empty: clients must present a certificate signed by it
}

// Model is one served model: where its requests come in, which versions can
// answer them, and how traffic moves between versions.
type Model struct {
	Name       string
	Listen     netip.AddrPort
	Match      Match
	Protocol   string // json | openinference | tfserving | openai | auto
	Prediction Path   // what is compared in an answer; empty: not configured
	Repeatable bool   // a request may be sent twice
	Versions   []*Version
	Release    string // the version that should serve
	From       string // the version that serves while nothing is known; empty: Release
	Key        Key
	Overrides  []Override
	Steps      []Step
	Shadows    []Shadow // each version once
	Policy     Policy   // of the rollout
	// Timeout is the longest time from the end of a request to the beginning of
	// its answer, in each try. An answer that has begun may take as long as it
	// likes. 0: none.
	Timeout time.Duration
	Retry   Retry
	Decide  DecideMode
	// HideVersion leaves the version out of the answers to clients.
	HideVersion bool
	Source      Position
	Places      []Place // of what an edit can be refused for
}

// Place is where a value of a model's file stands.
type Place struct {
	Path string // as in errors, like rollout.steps[1]
	At   Position
}

// Place returns where a value stands, or else the nearest around it that is
// known, or else the model.
func (m *Model) Place(path string) Position {
	for path != "" {
		for _, p := range m.Places {
			if p.Path == path {
				return p.At
			}
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return m.Source
}

// Version returns the version of that name, or nil.
func (m *Model) Version(name string) *Version {
	for _, v := range m.Versions {
		if v.Name == name {
			return v
		}
	}
	return nil
}

// NeedsExtProc tells whether a request of the model has to be decided by the
// ext_proc service, and why: Envoy cannot read a body, and the file can ask
// for it.
func (m *Model) NeedsExtProc() (needed bool, why string) {
	if m.Decide == DecideExtProc {
		return true, "decide: ext_proc"
	}
	if m.Key.Source == SourceBody {
		return true, "the key " + m.Key.Name + " is in the body"
	}
	for i, o := range m.Overrides {
		if o.Condition.Source == SourceBody {
			return true, "overrides[" + strconv.Itoa(i) + "] reads the body"
		}
	}
	return false, ""
}

// NeedsBody tells whether deciding on a request of the model reads its body.
func (m *Model) NeedsBody() bool {
	if m.Key.Source == SourceBody {
		return true
	}
	for _, o := range m.Overrides {
		if o.Condition.Source == SourceBody {
			return true
		}
	}
	return false
}

// Position is a place in a configuration file. Line and Column count from 1.
type Position struct {
	File   string // relative to the configuration directory
	Line   int
	Column int
}

// Match selects the requests of a model. All that is set must hold.
type Match struct {
	Host    string // exact name, "*.suffix", or empty for any
	Prefix  string // of the path, by whole segments; "/" is every path
	Methods []string
	Headers []Condition // Source is SourceHeader in each
}

// DecideMode says who decides on a request's version.
type DecideMode string

// The ways to decide. DecideNative is what Envoy can do by itself; where it
// cannot (a key in the body), the ext_proc service decides all the same.
const (
	DecideNative  DecideMode = "native"
	DecideExtProc DecideMode = "ext_proc"
)

// Version is one deployed version of a model.
type Version struct {
	Name      string
	Endpoints []netip.AddrPort // empty: DNS is set
	DNS       HostPort         // resolved by Envoy, again and again
	TLS       *ClientTLS       // nil: plain text
	HTTP2     bool             // speak HTTP/2 (gRPC) to the endpoints
	Health    *HealthCheck     // nil: no active checks
	Outlier   *OutlierDetection
	Connect   time.Duration // timeout of a connection attempt
	// Definition is a hex hash of all of the above. A rollout is identified by
	// the version's name and this.
	Definition string
}

// HostPort is a DNS name and a port.
type HostPort struct {
	Host string
	Port uint16
}

// ClientTLS is how Envoy speaks TLS to a version's endpoints. Contents are PEM.
type ClientTLS struct {
	SNI              string
	CA               []byte // empty: the system's authorities, at SystemCA
	CertificateChain []byte // of the client certificate; empty: none
	PrivateKey       []byte
	Insecure         bool // do not verify the server
}

// HealthCheck is an active HTTP check of each endpoint.
type HealthCheck struct {
	Path               string
	Interval, Timeout  time.Duration
	Healthy, Unhealthy uint32 // thresholds, in consecutive checks
}

// OutlierDetection ejects an endpoint that keeps failing.
type OutlierDetection struct {
	Consecutive5xx uint32
	Interval       time.Duration
	BaseEjection   time.Duration
	MaxEjection    uint32 // percent of the endpoints
}

// Retry is how often Envoy sends a request again when a version cannot be
// reached or refuses it before it has worked on it.
type Retry struct {
	Attempts uint32        // 0: never
	PerTry   time.Duration // Timeout when it is shorter; 0: Timeout
	On       []string      // Envoy's retry conditions
}

// Step is one stage of a rollout.
type Step struct {
	Kind  StepKind
	Share Share         // for StepTraffic of the users, for StepShadow of the requests that are copied
	For   time.Duration // how long the step is held at least; 0 with Hold: until told
	Hold  bool          // the file gave no `for`: a person says when the step ends
	// AtMost is how long the step may wait for its gates; 0: for ever.
	AtMost    time.Duration
	OnTimeout OnTimeout // what follows then
	Control   Control   // for a step that gives everyone to the candidate
}

// StepKind names what a step does. The kinds that can run are registered in
// package rollout.
type StepKind string

// The kinds of steps.
const (
	StepTraffic StepKind = "traffic" // moves a share of the users to the candidate
	StepShadow  StepKind = "shadow"  // gives copies of a share of the requests to the candidate, and no user
)

// Shadow is a version that gets copies of a share of the model's requests,
// whatever is being rolled out.
type Shadow struct {
	Version string
	Share   Share // of the requests
}
