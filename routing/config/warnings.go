package config

import (
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/routing"
)

// expiresSoon is how long before its end a certificate is warned of.
const expiresSoon = 14 * 24 * time.Hour

// Warnings tells what is not wrong and should be seen to: certificates that
// end soon, or have ended. They are no errors, because time passes without an
// edit: a certificate that ended must not keep a later edit, or a restart,
// from taking effect.
func Warnings(c *routing.Config, now time.Time) []string {
	var out []string
	add := func(what string, pem []byte) {
		if w := expiry(pem, now); w != "" {
			out = append(out, what+": "+w)
		}
	}
	for _, l := range c.Listeners {
		if l.TLS != nil {
			add(fmt.Sprintf("listener %s: certificate", l.Address), l.TLS.CertificateChain)
			add(fmt.Sprintf("listener %s: client authorities", l.Address), l.TLS.ClientCA)
		}
	}
	for _, m := range c.Models {
		for _, v := range m.Versions {
			if v.TLS != nil {
				add(fmt.Sprintf("model %s: version %s: client certificate", m.Name, v.Name), v.TLS.CertificateChain)
				add(fmt.Sprintf("model %s: version %s: authorities", m.Name, v.Name), v.TLS.CA)
			}
		}
	}
	return slices.Compact(out)
}

// expiry looks at the certificate that ends first.
func expiry(pem []byte, now time.Time) string {
	found, err := certificates(pem)
	if err != nil || len(found) == 0 {
		return ""
	}
	first := found[0]
	for _, c := range found {
		if c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	end := first.NotAfter.UTC().Format(time.RFC3339)
	switch {
	case now.After(first.NotAfter):
		return "expired at " + end
	case now.Add(expiresSoon).After(first.NotAfter):
		return "expires at " + end
	}
	return ""
}
