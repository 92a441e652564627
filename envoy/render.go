package envoy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
)

// remarks are written above the keys of a bootstrap that is printed for a
// person.
var remarks = map[string]string{
	"node":                  "Who this Envoy is. The metadata tells headgate what this bootstrap makes possible.",
	"static_resources":      "headgate itself: configuration, decisions on requests that Envoy cannot take alone, and access logs.",
	"dynamic_resources":     "Everything that serves users comes from headgate, over one stream. An Envoy that has not reached it yet is not ready.",
	"layered_runtime":       "The weights of versions are runtime values, sent in these layers; they are there before a listener opens.",
	"overload_manager":      "Connections of clients beyond this are refused.",
	"bootstrap_extensions":  "Copies of requests pass through listeners inside Envoy.",
	"admin":                 "Has no password: keep it on this machine.",
	"deferred_stat_options": "A cluster without traffic costs little memory.",
}

// YAML writes a bootstrap as people read it, with a remark on each part. Equal
// bootstraps give equal bytes.
func YAML(b *bootstrapv3.Bootstrap) ([]byte, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("write bootstrap: %w", err)
	}
	// JSON is YAML. Reading it into nodes keeps the order of the keys.
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("write bootstrap: %w", err)
	}
	plain(&doc)
	if len(doc.Content) == 1 {
		for i := 0; i < len(doc.Content[0].Content); i += 2 {
			key := doc.Content[0].Content[i]
			key.HeadComment = remarks[key.Value]
		}
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(&doc); err != nil {
		return nil, fmt.Errorf("write bootstrap: %w", err)
	}
	return out.Bytes(), nil
}

// plain drops the braces and quotes that JSON needs and YAML does not.
func plain(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		plain(child)
	}
}

// Hash tells two bootstraps apart.
func Hash(bootstrap []byte) string {
	sum := sha256.Sum256(bootstrap)
	return hex.EncodeToString(sum[:8])
}
