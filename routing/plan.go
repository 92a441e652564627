package routing

import (
	"slices"
	"strings"
)

// Plan is what should be served at one moment: the configuration, and for each
// model the split that its rollout has reached. It is immutable. A ModelPlan
// that did not change is the same pointer in the next Plan, so whoever
// compiles plans can compare pointers instead of contents.
type Plan struct {
	Config *Config
	Models []*ModelPlan // sorted by model name
}

// Model returns the plan of a model, or nil.
func (p *Plan) Model(name string) *ModelPlan {
	for _, m := range p.Models {
		if m.Model.Name == name {
			return m
		}
	}
	return nil
}

// ModelPlan is what should be served for one model.
type ModelPlan struct {
	Model  *Model
	Stable string // the version that serves when nothing else is said
	// Split has one range while nothing is being rolled out. In a rollout the
	// candidate is first and stable second, whatever their weights.
	Split Split
	// Mirrors are the versions that get copies of the model's requests. Nobody
	// sees what they answer; the access log tells.
	Mirrors []Mirror
	// Capture is nil while nobody looks into answers.
	Capture *Capture
}

// Mirror is a version that gets copies of requests.
type Mirror struct {
	Version string
	Share   Share // of the requests
	// Credentials says that copies keep the user's credentials: the headers
	// authorization, proxy-authorization, cookie and x-api-key. Without them
	// the stable version may answer otherwise than it did to the user.
	Credentials bool
	// Floor says that the copies are there to tell how much the stable version
	// differs from itself.
	Floor bool
}

// Capture is what is captured of a model's requests and answers: those of the
// versions that serve users and, of the same requests, what the mirrors answer.
// One random number per request decides whether it is captured and which
// mirrors get a copy, so a mirror whose share is smaller than the capture's gets
// a part of the captured requests, and no others.
type Capture struct {
	Share   Share  // of the requests; what no mirror gets is captured all the same
	MaxBody uint32 // bytes kept of each body; 0: 1 MiB
}

// Uses returns the versions that requests can reach, each once, in the order
// of the model's versions: those of the split, those of overrides, and those of
// mirrors.
func (p *ModelPlan) Uses() []*Version {
	var used []*Version
	for _, v := range p.Model.Versions {
		if p.uses(v.Name) {
			used = append(used, v)
		}
	}
	return used
}

func (p *ModelPlan) uses(version string) bool {
	for _, r := range p.Split.Ranges {
		if r.Version == version {
			return true
		}
	}
	for i := range p.Model.Overrides {
		if p.Model.Overrides[i].Version == version {
			return true
		}
	}
	return slices.ContainsFunc(p.Mirrors, func(m Mirror) bool { return m.Version == version })
}

// ClusterName is the name of a version's cluster, "churn/v2.0.0", in Envoy, in
// its statistics and in its access log.
func ClusterName(model, version string) string { return model + "/" + version }

// ParseClusterName is the reverse of ClusterName.
func ParseClusterName(name string) (model, version string, ok bool) {
	return strings.Cut(name, "/")
}

// Names of the headers and the cookie that headgate and its Envoys use. Every
// header that begins with HeaderPrefix is removed from what clients send.
const (
	HeaderPrefix   = "x-headgate-"
	HeaderVersion  = "x-headgate-version"  // who answers, to the model and to the client
	HeaderDecision = "x-headgate-decision" // from the ext_proc service to the route table
	HeaderDraw     = "x-headgate-draw"     // a fresh id per request: the key of those who have none
	HeaderReason   = "x-headgate-reason"   // the Reason of a decision, from the ext_proc service to the route table
	HeaderModel    = "x-headgate-model"    // gRPC metadata that tells the ext_proc service whose request it is
	HeaderKey      = "x-headgate-key"      // the key that was hashed, for the access log; the version that answers sees it too
	HeaderPair     = "x-headgate-pair"     // a fresh id per captured request, which its copies have too
	HeaderSide     = "x-headgate-side"     // gRPC metadata that tells the capture service whose answer it gets
	HeaderMaxBody  = "x-headgate-max-body" // gRPC metadata that tells the capture service how much to keep, in bytes
	HeaderCopies   = "x-headgate-copies"   // gRPC metadata that tells the capture service how many versions may get a copy
	HeaderShadow   = "x-headgate-shadow"   // "true" tells a version that the request is a copy, whose answer nobody sees
	CookieName     = "hg"                  // the first draw of an anonymous user
)

// The dynamic metadata in which an Envoy keeps the key that was hashed, of
// users and of anonymous requests alike, and the [Reason] of what the ext_proc
// service decided. It stands in the access log, and no model and no client sees
// it.
const (
	MetadataNamespace = "headgate"
	MetadataKey       = "key"
	MetadataReason    = "reason"
)
