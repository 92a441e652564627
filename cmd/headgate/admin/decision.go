package admin

import (
	"net/http"
	"strings"

	"github.com/headgate/headgate/routing"
)

// Request is the body of a question: which version would it get?
type Request struct {
	Key     string            `json:"key,omitempty" doc:"the user's key, wherever the file says that it stands"`
	Path    string            `json:"path,omitempty" doc:"path and query; / when not given"`
	Headers map[string]string `json:"headers,omitempty" doc:"of the request, by name"`
}

// Decision is the answer: the version of a request, and why.
type Decision struct {
	Model   string  `json:"model"`
	Version string  `json:"version"`
	Reason  string  `json:"reason" doc:"override, only, key, cookie, draw, current or undecided"`
	Rule    int     `json:"rule" doc:"index of the override; -1 without one"`
	Key     string  `json:"key,omitempty" doc:"what was hashed"`
	Salt    string  `json:"salt,omitempty"`
	Bucket  int     `json:"bucket" doc:"xxhash64(salt/key) mod 10000; -1 without a key"`
	Ranges  []Range `json:"ranges" doc:"which buckets get which version"`
}

// Range is the buckets of a version, From ≤ bucket < To.
type Range struct {
	Version string `json:"version"`
	From    int    `json:"from"`
	To      int    `json:"to"`
}

func (a *api) addDecision(s *Server) {
	s.Handle(Route{
		Method: http.MethodPost, Path: "/v1/models/{model}/decision", Role: RoleViewer,
		Summary: "Which version a request would get by the present weights, and why.",
		Params:  []Param{modelParam}, Body: Request{}, Answer: Decision{}, Handler: a.decide,
	})
}

func (a *api) decide(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("model")
	var question Request
	if err := ReadJSON(r, &question); err != nil {
		return err
	}
	plan := a.Controller.Plan()
	if plan == nil || plan.Model(name) == nil {
		return Problemf(http.StatusNotFound, "there is no model %q that is served", name)
	}
	return WriteJSON(w, DecisionOf(plan.Model(name), question))
}

// DecisionOf returns which version a request would get by a plan.
func DecisionOf(p *routing.ModelPlan, question Request) Decision {
	d := routing.Decide(p, subjectOf(&p.Model.Key, question))
	out := Decision{
		Model: p.Model.Name, Version: d.Version, Reason: string(d.Reason), Rule: -1, Key: d.Key, Bucket: d.Bucket, Ranges: []Range{},
	}
	if d.Reason == routing.ReasonOverride {
		out.Rule = d.Rule
	}
	if d.Bucket >= 0 {
		out.Salt = p.Split.Salt
	}
	from := 0
	for _, r := range p.Split.Ranges {
		to := from + int(r.Weight)
		out.Ranges = append(out.Ranges, Range{Version: r.Version, From: from, To: to})
		from = to
	}
	return out
}

// subject is a request as it was described.
type subject struct {
	headers map[string]string
	body    string // the key in a body; empty: none
	at      routing.Path
}

// subjectOf puts the key where the model looks for it. A request without a key
// and without our cookie draws anew each time: nobody can tell which version.
func subjectOf(k *routing.Key, question Request) subject {
	s := subject{headers: map[string]string{":path": question.Path, ":method": http.MethodPost}, at: k.Path}
	if question.Path == "" {
		s.headers[":path"] = "/"
	}
	for name, value := range question.Headers {
		s.headers[strings.ToLower(name)] = value
	}
	if question.Key == "" {
		return s
	}
	switch k.Source {
	case routing.SourceHeader:
		s.headers[strings.ToLower(k.Name)] = question.Key
	case routing.SourceCookie:
		s.headers["cookie"] = strings.TrimPrefix(s.headers["cookie"]+"; "+k.Name+"="+question.Key, "; ")
	case routing.SourceQuery:
		path, query, _ := strings.Cut(s.headers[":path"], "?")
		s.headers[":path"] = path + "?" + strings.TrimPrefix(query+"&"+k.Name+"="+question.Key, "&") // hashed as it stands, not decoded
	case routing.SourceBody:
		s.body = question.Key
	}
	return s
}

// Header returns a header; none comes twice.
func (s subject) Header(name string, i int) (string, bool) {
	v, ok := s.headers[name]
	return v, ok && i == 0
}

// Body returns the key at the path of the key.
func (s subject) Body(path routing.Path) (string, bool) {
	return s.body, s.body != "" && path.String() == s.at.String()
}
