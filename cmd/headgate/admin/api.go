package admin

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/headgate/headgate/compare"
	"github.com/headgate/headgate/routing"
	"github.com/headgate/headgate/routing/rollout"
)

// Controller moves models between versions.
type Controller interface {
	Status(model string) (rollout.Status, bool)
	// Statuses returns every model's status, sorted by model.
	Statuses() []rollout.Status
	// Do carries a command out and returns the status after it. It returns when
	// the command is durable. The error wraps [rollout.Refused] when the command
	// makes no sense now, [rollout.ErrUnknownModel] or [rollout.ErrJournal].
	Do(ctx context.Context, cmd rollout.Command) (rollout.Status, error)
	// History returns a model's newest records, newest first.
	History(ctx context.Context, model string, limit int) ([]rollout.Record, error)
	// Plan returns what was published last; nil: nothing yet.
	Plan() *routing.Plan
	// Subscribe returns what happens from now on, until ctx ends or the
	// subscriber is too slow to get all of it.
	Subscribe(ctx context.Context) <-chan rollout.Update
}

// Journal is asked for the records that a client has missed.
type Journal interface {
	// Replay calls fn for every record in order.
	Replay(ctx context.Context, fn func(rollout.Record) error) error
}

// Traffic is what the versions answered, see [compare.Ledger].
type Traffic interface {
	Totals(model string) []compare.VersionTotal
	AllTotals() []compare.VersionTotal
	Since(model, version string, from, to time.Time) compare.Window
	Lately(model, version string, from time.Time) compare.Counts
}

// Reachability is whether a version's endpoints answer.
type Reachability string

// What is known of a version's endpoints.
const (
	ReachabilityUnknown Reachability = "unknown"
	Reachable           Reachability = "answering"
	Unreachable         Reachability = "not_answering"
)

// Sources are what the API tells of. Nil ones but Controller are left out.
type Sources struct {
	Controller Controller
	Journal    Journal
	Traffic    Traffic
	// Endpoints tells whether a version's endpoints answer, and why not. It
	// must not wait for them.
	Endpoints func(model, version string) (Reachability, string)
	Envoys    func() Envoys
	Config    func() Config
	// Policy is how a model's candidates are judged by the file in force; nil:
	// there is no such model.
	Policy func(model string) *routing.Policy
	// Check tells why the files, by their names in a configuration directory,
	// would not be taken now. It changes nothing.
	Check func(ctx context.Context, files map[string][]byte) ([]ConfigLine, error)
	// Unready returns what is missing before headgate can do its work.
	Unready func() []string
	Metrics http.Handler
	Version Version
}

// Version is what GET /v1/version tells.
type Version struct {
	Version  string  `json:"version" doc:"of headgate"`
	Revision string  `json:"revision" doc:"of the source; empty: unknown"`
	Go       string  `json:"go" doc:"the compiler"`
	Uptime   float64 `json:"uptime_seconds,omitempty" doc:"since it began to answer"`
}

// Health is the answer of /livez and /readyz.
type Health struct {
	Status string `json:"status" doc:"ok"`
}

// Models is the answer of GET /v1/models.
type Models struct {
	Models []Model `json:"models"`
}

// Order is the body of a command.
type Order struct {
	Reason  string `json:"reason,omitempty" doc:"free text for the journal"`
	Version string `json:"version,omitempty" doc:"the version that serves; for adopt only"`
}

// maxReason is the longest reason of a command, in bytes.
const maxReason = 1024

type api struct {
	Sources

	began   time.Time
	streams chan struct{} // one value per event stream that is open
	closing <-chan struct{}
}

// AddAPI adds headgate's own routes to s.
func AddAPI(s *Server, sources Sources) {
	a := &api{Sources: sources, began: time.Now(), streams: make(chan struct{}, maxStreams), closing: s.closing}
	a.addHealth(s)
	a.addModels(s)
	a.addDecision(s)
	a.addCommands(s)
	a.addEvents(s)
	if a.Envoys != nil {
		s.Handle(Route{
			Method: http.MethodGet, Path: "/v1/envoys", Role: RoleViewer,
			Summary: "The Envoys that are connected.", Answer: Envoys{}, Handler: a.listEnvoys,
		})
	}
	if a.Config != nil {
		s.Handle(Route{
			Method: http.MethodGet, Path: "/v1/config", Role: RoleViewer,
			Summary: "The configuration in force, and what is wrong with the files as they are now.", Answer: Config{},
			Handler: a.showConfig,
		})
	}
	if a.Check != nil {
		s.Handle(Route{
			Method: http.MethodPost, Path: "/v1/config/check", Role: RoleOperator, MaxBody: maxFiles,
			Summary: "Whether files would be taken as the configuration now. Nothing changes.",
			Body:    ConfigFiles{}, Answer: ConfigCheck{}, Handler: a.checkConfig,
		})
	}
}

func (a *api) addHealth(s *Server) {
	s.Handle(Route{
		Method: http.MethodGet, Path: "/livez", Role: RoleNone, Summary: "Whether the process answers.", Answer: Health{},
		Handler: func(w http.ResponseWriter, _ *http.Request) error { return WriteJSON(w, Health{Status: "ok"}) },
	})
	s.Handle(Route{
		Method: http.MethodGet, Path: "/readyz", Role: RoleNone,
		Summary: "Whether headgate can do its work; 503 lists what is missing.", Answer: Health{}, Handler: a.ready,
	})
	s.Handle(Route{
		Method: http.MethodGet, Path: "/v1/version", Role: RoleViewer, Summary: "What is running.", Answer: Version{},
		Handler: func(w http.ResponseWriter, _ *http.Request) error {
			v := a.Version
			v.Uptime = time.Since(a.began).Seconds()
			return WriteJSON(w, v)
		},
	})
	if a.Metrics != nil {
		s.Handle(Route{
			Method: http.MethodGet, Path: "/metrics", Role: RoleViewer, Summary: "Prometheus metrics.", Media: "text/plain",
			Handler: func(w http.ResponseWriter, r *http.Request) error { a.Metrics.ServeHTTP(w, r); return nil },
		})
	}
}

func (a *api) ready(w http.ResponseWriter, _ *http.Request) error {
	if a.Unready != nil {
		if missing := a.Unready(); len(missing) > 0 {
			p := Problemf(http.StatusServiceUnavailable, "not ready: %s", strings.Join(missing, "; "))
			p.List = missing
			return p
		}
	}
	return WriteJSON(w, Health{Status: "ok"})
}
