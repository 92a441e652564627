package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/headgate/headgate/routing"
)

// definition hashes what a file says of a version, defaults included. It names
// TLS files and does not contain them: a certificate that rotates is not a new
// version, and must not begin a rollout again. Fields that are not set leave
// no trace, so the language can grow without changing what is already known.
func definition(v *routing.Version, tls *clientTLS) string {
	form := map[string]any{"connect": v.Connect}
	set := func(there bool, name string, value any) {
		if there {
			form[name] = value
		}
	}
	set(len(v.Endpoints) > 0, "endpoints", v.Endpoints)
	set(v.DNS.Host != "", "dns", v.DNS)
	set(v.HTTP2, "http2", true)
	set(v.Health != nil, "health", v.Health)
	set(v.Outlier != nil, "outlier", v.Outlier)
	if tls != nil {
		form["tls"] = map[string]any{
			"sni": v.TLS.SNI, "insecure": v.TLS.Insecure,
			"ca": tls.CA.orEmpty(), "cert": tls.Cert.orEmpty(), "key": tls.Key.orEmpty(),
		}
	}
	return hashJSON(form)[:32]
}

// fingerprint tells two models apart.
func fingerprint(m *routing.Model) string { return hashJSON(m) }

// hashJSON hashes a value's JSON form, in which maps are sorted.
func hashJSON(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("config: hash: %v", err))
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
