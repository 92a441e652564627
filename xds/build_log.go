package xds

import (
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"

	"github.com/headgate/headgate/routing"
)

// LoggedKey returns the key by which the version of a logged request was
// chosen: a user's key, our cookie or a fresh draw. It is empty when no key
// was needed.
func LoggedKey(e *accesslogv3.HTTPAccessLogEntry) string {
	if key := e.GetRequest().GetRequestHeaders()[routing.HeaderKey]; key != "" {
		return key
	}
	return logged(e, routing.MetadataKey)
}

// LoggedReason returns how the version of a logged request was chosen, or the
// empty reason when the entry does not tell. Where the ext_proc service should
// have decided and did not, it is how Envoy chose by itself.
func LoggedReason(e *accesslogv3.HTTPAccessLogEntry) routing.Reason {
	return ReasonOf(e.GetCommonProperties().GetRouteName(), logged(e, routing.MetadataReason))
}

// LoggedMirror tells whether a logged request is a copy.
func LoggedMirror(e *accesslogv3.HTTPAccessLogEntry) bool {
	_, why, _ := ParseRouteName(e.GetCommonProperties().GetRouteName())
	return why == routeMirror
}

// LoggedCopied tells whether a logged request is one of those of which each
// mirror gets its share, drawn for each request and apart from the split.
func LoggedCopied(e *accesslogv3.HTTPAccessLogEntry) bool {
	_, why, _ := ParseRouteName(e.GetCommonProperties().GetRouteName())
	return strings.HasPrefix(why, routeCopied+"/")
}

func logged(e *accesslogv3.HTTPAccessLogEntry, field string) string {
	md := e.GetCommonProperties().GetMetadata().GetFilterMetadata()[routing.MetadataNamespace]
	return md.GetFields()[field].GetStringValue()
}
