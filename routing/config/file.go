package config

import (
	"reflect"
)

// The language: what a model's file can say. See shape for the tags.

// file is one model's file.
type file struct {
	_ struct{} `planned:"experiment,experiments,flag,flags,segments,protection" hint:"mirror|mirrors|shadows=write shadow: [{version: NAME, share: 10%}];name=the model's name is model: NAME;strategy|promise|at_most|on_timeout|mode|max_excess=write it in rollout;steps|gates=write them in rollout;metrics|analysis=write gates in rollout;canary=write rollout, with steps;canaryTrafficPercent=write rollout, with steps like {traffic: 10%, for: 1h}"`

	Model         name       `field:"model,required" doc:"Name of the model."`
	Listen        listen     `field:"listen,required" doc:"Address at which Envoy takes the model's requests. Several models may share one."`
	Match         match      `field:"match" doc:"Which of the requests at the address are the model's. All that is given must hold."`
	Protocol      protocol   `field:"protocol" default:"auto" doc:"How predictions are read."`
	Prediction    *jsonPath  `field:"prediction" doc:"Path of the prediction in an answer."`
	Repeatable    bool       `field:"repeatable" default:"false" doc:"A request may be sent twice."`
	Versions      versions   `field:"versions,required" doc:"The deployed versions, by name."`
	Release       name       `field:"release,required" doc:"The version that should serve. Changing it starts a rollout."`
	From          *name      `field:"from" doc:"The version that serves while nothing is known of the model. As release when absent."`
	Key           key        `field:"key" doc:"What identifies a user: the same user gets the same version."`
	Overrides     []override `field:"overrides" doc:"Requests that get a version whatever the shares. The first that holds counts."`
	Shadow        []standing `field:"shadow" doc:"Versions that get copies of requests, whatever is rolled out. Nobody sees what they answer."`
	Rollout       *rollout   `field:"rollout" doc:"How a new release takes over. All at once when absent."`
	Timeout       limit      `field:"timeout" default:"60s" doc:"Longest time from the end of a request to the beginning of its answer, in each try, or none. An answer that has begun may go on for as long as it likes."`
	Retries       retries    `field:"retries" doc:"When Envoy sends a request again."`
	Decide        decider    `field:"decide" default:"native" doc:"Who decides on a request's version: Envoy where it can, or always the ext_proc service."`
	VersionHeader bool       `field:"version_header" default:"true" doc:"Tell clients in the header x-headgate-version which version answered."`
}

// listen is an address; written as a mapping it can have TLS.
type listen struct {
	Address address    `field:"address,required" doc:"IP address and port."`
	TLS     *serverTLS `field:"tls" doc:"The identity that the listener shows. Every model of the listener must give the same."`
}

func (l *listen) short() text { return &l.Address }

type serverTLS struct {
	Cert     filename  `field:"cert,required" doc:"File of the certificate chain, PEM."`
	Key      filename  `field:"key,required" doc:"File of the private key, PEM."`
	ClientCA *filename `field:"client_ca" doc:"File of authorities, PEM. Clients must show a certificate signed by one of them."`
}

type match struct {
	_ struct{} `hint:"path=write prefix;method=write methods: [METHOD];header=write headers: [{header: NAME, equals: VALUE}];hosts=write host: NAME"`

	Host    *host             `field:"host" doc:"Name of the host, or *.suffix. Any when absent."`
	Prefix  prefix            `field:"prefix" default:"/" doc:"Beginning of the path, by whole segments."`
	Methods []method          `field:"methods" doc:"HTTP methods. Any when absent."`
	Headers []headerCondition `field:"headers" doc:"Conditions on headers, all of which must hold."`
}

type headerCondition struct {
	_ struct{} `needs:"comparison" hint:"cookie|query|body=a match reads headers only"`

	Header headerName `field:"header,required" doc:"Name of a request header."`
	comparison
}

type override struct {
	_ struct{} `needs:"source,comparison"`

	source
	comparison
	Version name `field:"version,required" doc:"The version that these requests get."`
}

type key struct {
	source
	Absent absent `field:"absent" default:"cookie" doc:"What happens to a request without the key."`
}

// versions is a mapping from names, in the order of the file.
type versions []namedVersion

type namedVersion struct {
	name string
	version
}

func (*versions) key() text    { return new(name) }
func (*versions) element() any { return new(version) }
func (*versions) doc() string  { return "A deployed version." }

func (vs *versions) add(k string) any {
	*vs = append(*vs, namedVersion{name: k})
	v := &(*vs)[len(*vs)-1].version
	fill(reflect.ValueOf(v).Elem())
	return v
}

type version struct {
	_ struct{} `needs:"place" hint:"shadow|mirror=write shadow: [{version: NAME, share: 10%}] beside versions;traffic|weight|percent=write shares in the steps of rollout;url|endpoint|address=write endpoints: [ADDRESS:PORT], or dns: NAME:PORT"`

	Endpoints []endpoint        `field:"endpoints" one:"place" doc:"IP addresses and ports of the version's instances."`
	DNS       *dnsAddress       `field:"dns" one:"place" doc:"DNS name and port, resolved again and again."`
	TLS       *clientTLS        `field:"tls" doc:"How Envoy speaks TLS to the version. Plain text when absent."`
	HTTP2     bool              `field:"http2" default:"false" doc:"Speak HTTP/2 (gRPC) to the version."`
	Health    *healthCheck      `field:"health_check" doc:"Active checks of each instance."`
	Outlier   *outlierDetection `field:"outlier_detection" doc:"Leaves out instances that keep failing."`
	Connect   duration          `field:"connect_timeout" default:"2s" doc:"Longest time for a connection to be made."`
}

type clientTLS struct {
	SNI      *serverName `field:"sni" doc:"Name that the server's certificate must carry. As dns when absent."`
	CA       *filename   `field:"ca" doc:"File of the authorities that are trusted, PEM. The system's when absent."`
	Cert     *filename   `field:"cert" doc:"File of the client certificate chain, PEM."`
	Key      *filename   `field:"key" doc:"File of the client's private key, PEM."`
	Insecure bool        `field:"insecure" default:"false" doc:"Do not verify the server."`
}

type healthCheck struct {
	Path      checkPath `field:"path,required" doc:"Path that answers 200 when the instance is healthy."`
	Interval  duration  `field:"interval" default:"5s" doc:"Time between checks."`
	Timeout   duration  `field:"timeout" default:"1s" doc:"Longest time for an answer."`
	Healthy   uint32    `field:"healthy" default:"2" min:"1" max:"100" doc:"Good checks in a row that make an instance healthy."`
	Unhealthy uint32    `field:"unhealthy" default:"3" min:"1" max:"100" doc:"Bad checks in a row that make it unhealthy."`
}

type outlierDetection struct {
	Consecutive5xx uint32   `field:"consecutive_5xx" default:"5" min:"1" max:"1000" doc:"Server errors in a row after which an instance is left out."`
	Interval       duration `field:"interval" default:"10s" doc:"Time between looks at who may come back."`
	BaseEjection   duration `field:"base_ejection" default:"30s" doc:"How long an instance is left out, times how often it was."`
	MaxEjection    percent  `field:"max_ejection" default:"50%" doc:"Largest part of the instances that may be left out."`
}

type retries struct {
	Attempts uint32    `field:"attempts" default:"1" min:"0" max:"10" doc:"How often a request is sent again."`
	PerTry   *duration `field:"per_try_timeout" doc:"A shorter timeout of each try."`
	On       []retryOn `field:"on" doc:"What makes Envoy try again. connect-failure and refused-stream when absent."`
}

type rollout struct {
	_ struct{} `needs:"course" planned:"smoke,experiment,flag,flags" hint:"shadow|mirror=write a step like {shadow: 10%, for: 1h}, or shadow beside versions for one without a rollout;step=write steps;canary=write strategy: canary, or steps;blueGreen=write steps: [{traffic: 100%, for: 24h}];control=write it in the step of traffic: 100%;for|traffic=write it in a step;gate=write gates;on_breach|resolution=write it in a gate;dry_run|dryRun|observe=write mode: observe"`
	_ struct{} `hint:"metrics|analysis|thresholdRange|successRate|successCondition|failureCondition=write gates like {metric: error_rate, max: 1%};threshold|failureLimit=leave it out, a gate looks at every moment and keeps the promise all the same;interval=leave it out, a gate looks at every moment;skipAnalysis=leave out gates, or write mode: observe;webhooks=is not implemented in this version of headgate"`
	_ struct{} `hint:"iterations=write for in a step;stepWeight|stepWeights|maxWeight|setWeight|canaryTrafficPercent=write steps like {traffic: 10%, for: 1h};progressDeadlineSeconds=write at_most: 10m;timeout=write at_most;autoPromotionEnabled=a step without for waits for a person"`

	Strategy  *strategy  `field:"strategy" one:"course" doc:"Steps with the usual figures."`
	Steps     []step     `field:"steps" one:"course" doc:"The stages, in order."`
	Gates     []gate     `field:"gates" doc:"Limits that a candidate must keep: a step waits until it is shown that it does, and the rollout goes back when it is shown that it does not."`
	Promise   promise    `field:"promise" doc:"How often a whole rollout may end wrongly, all gates together and however often they look."`
	AtMost    *duration  `field:"at_most" doc:"How long each step may wait for its gates, from its beginning. For ever when absent."`
	OnTimeout *onTimeout `field:"on_timeout" doc:"What follows then: pause, promote (the next step begins) or rollback. pause when absent."`
	Mode      mode       `field:"mode" default:"act" doc:"Whether verdicts move traffic, or are only told."`
	MaxExcess uint32     `field:"max_excess" min:"1" doc:"How many more errors than at stable's rate a candidate may give in a rollout. Any number when absent."`
}
