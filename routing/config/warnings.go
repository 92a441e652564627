package config

import (
	"fmt"
	"slices"
	"time"

	"github.com/headgate/headgate/routing"
)

// expiresSoon is how long before its end a certificate is warned of.
const expiresSoon = 14 * 24 * time.Hour

// Warning is what is not wrong in a configuration and should be seen to.
type Warning struct {
	File    string `json:"file"`    // relative to the directory
	Line    int    `json:"line"`    // from 1
	Path    string `json:"path"`    // "rollout.steps[3]"
	Message string `json:"message"` // begins with the model's name
}

// String returns "file:line: path: message".
func (w Warning) String() string {
	return Error{File: w.File, Line: w.Line, Path: w.Path, Message: w.Message}.Error()
}

// Warnings tells what should be seen to, in the order of the models:
// certificates that end within two weeks or have ended, and gates that a long
// step cannot measure. Certificates are no errors, because time passes without
// an edit: one that ended must not keep a later edit, or a restart, from taking
// effect.
func Warnings(c *routing.Config, now time.Time) []Warning {
	var out []Warning
	listeners := map[*routing.Listener]bool{}
	for _, m := range c.Models {
		if l := listenerOf(c, m); l != nil && l.TLS != nil && !listeners[l] {
			listeners[l] = true
			out = append(out, expiring(m, "listen.tls", "certificate", l.TLS.CertificateChain, now)...)
			out = append(out, expiring(m, "listen.tls", "client authorities", l.TLS.ClientCA, now)...)
		}
		for _, v := range m.Versions {
			if v.TLS == nil {
				continue
			}
			p := (*path)(nil).in("versions").in(v.Name).in("tls").String()
			out = append(out, expiring(m, p, "client certificate", v.TLS.CertificateChain, now)...)
			out = append(out, expiring(m, p, "authorities", v.TLS.CA, now)...)
		}
		out = append(out, unmeasured(m)...)
	}
	return out
}

func listenerOf(c *routing.Config, m *routing.Model) *routing.Listener {
	i, ok := slices.BinarySearchFunc(c.Listeners, m, func(l *routing.Listener, m *routing.Model) int { return l.Address.Compare(m.Listen) })
	if !ok {
		return nil
	}
	return c.Listeners[i]
}

func warn(m *routing.Model, path, message string) Warning {
	at := m.Place(path)
	return Warning{File: at.File, Line: at.Line, Path: path, Message: "model " + m.Name + ": " + message}
}

// unmeasured tells of the steps in which gates cannot be measured, for as long
// as those last.
func unmeasured(m *routing.Model) []Warning {
	var out []Warning
	for i := range m.Steps {
		if m.Steps[i].Unwatched() {
			continue
		}
		var gates []string
		for j := range m.Policy.Gates {
			if g := &m.Policy.Gates[j]; !measures(&m.Steps[i], g) {
				gates = append(gates, fmt.Sprintf("%s %s", g.Metric, g.Bound))
			}
		}
		if len(gates) > 0 {
			at := (*path)(nil).in("rollout").in("steps").at(i)
			out = append(out, warn(m, at.String(), "this step cannot measure "+list(gates, "and")+
				": at traffic: 100% nobody is left to compare with; control: mirror or control: 1% changes that"))
		}
	}
	return out
}

// expiring looks at the certificate that ends first.
func expiring(m *routing.Model, path, what string, pem []byte, now time.Time) []Warning {
	found, err := certificates(pem)
	if err != nil || len(found) == 0 {
		return nil
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
		return []Warning{warn(m, path, what+" expired at "+end)}
	case now.Add(expiresSoon).After(first.NotAfter):
		return []Warning{warn(m, path, what+" expires at "+end)}
	}
	return nil
}
