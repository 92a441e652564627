package xds

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"

	"github.com/headgate/headgate/routing"
)

// LoggedKey returns the key by which the version of a logged request was
// chosen: a user's key, our cookie or a fresh draw. It is empty when no key
// was needed.
func LoggedKey(e *accesslogv3.HTTPAccessLogEntry) string {
	md := e.GetCommonProperties().GetMetadata().GetFilterMetadata()[routing.MetadataNamespace]
	return md.GetFields()[routing.MetadataKey].GetStringValue()
}
