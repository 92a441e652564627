package xds

import (
	"net"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/headgate/headgate/routing"
)

// Names of a listener's secrets. They don't change with the contents, so a
// rotated certificate leaves the listener and its connections alone.
func certificateName(listener string) string { return "certificate/" + listener }
func clientCAName(listener string) string    { return "client-ca/" + listener }

// secrets are what a listener with TLS refers to.
func secrets(l *routing.Listener) []*tlsv3.Secret {
	name := listenerName(l.Address)
	s := []*tlsv3.Secret{{
		Name: certificateName(name),
		Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: certificate(l.TLS.CertificateChain, l.TLS.PrivateKey)},
	}}
	if len(l.TLS.ClientCA) > 0 {
		s = append(s, &tlsv3.Secret{
			Name: clientCAName(name),
			Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
				TrustedCa: inline(l.TLS.ClientCA),
			}},
		})
	}
	return s
}

func certificate(chain, key []byte) *tlsv3.TlsCertificate {
	return &tlsv3.TlsCertificate{CertificateChain: inline(chain), PrivateKey: inline(key)}
}

func inline(pem []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: pem}}
}

// downstreamTLS is the transport socket of a listener.
func downstreamTLS(l *routing.Listener) *corev3.TransportSocket {
	name := listenerName(l.Address)
	common := &tlsv3.CommonTlsContext{
		AlpnProtocols: []string{"h2", "http/1.1"},
		TlsParams:     &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2},
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{
			Name: certificateName(name), SdsConfig: overADS(),
		}},
	}
	context := &tlsv3.DownstreamTlsContext{CommonTlsContext: common}
	if len(l.TLS.ClientCA) > 0 {
		context.RequireClientCertificate = yes()
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{
			ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: clientCAName(name), SdsConfig: overADS()},
		}
	}
	return tlsSocket(config(context))
}

// upstreamTLS is the transport socket towards a version's endpoints.
func upstreamTLS(v *routing.Version, o Options) *corev3.TransportSocket {
	sni := v.TLS.SNI
	if sni == "" {
		sni = v.DNS.Host
	}
	common := &tlsv3.CommonTlsContext{}
	if v.HTTP2 {
		common.AlpnProtocols = []string{"h2"}
	}
	if len(v.TLS.CertificateChain) > 0 {
		common.TlsCertificates = []*tlsv3.TlsCertificate{certificate(v.TLS.CertificateChain, v.TLS.PrivateKey)}
	}
	if !v.TLS.Insecure {
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{
			ValidationContext: serverValidation(v, sni, o),
		}
	}
	return tlsSocket(config(&tlsv3.UpstreamTlsContext{CommonTlsContext: common, Sni: sni}))
}

// serverValidation accepts certificates of a trusted authority for the name
// that is asked for; without a name, for any of the endpoints' addresses.
func serverValidation(v *routing.Version, sni string, o Options) *tlsv3.CertificateValidationContext {
	c := &tlsv3.CertificateValidationContext{
		TrustedCa: &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: o.SystemCA}},
	}
	if len(v.TLS.CA) > 0 {
		c.TrustedCa = inline(v.TLS.CA)
	}
	if sni != "" && net.ParseIP(sni) == nil {
		c.MatchTypedSubjectAltNames = append(c.MatchTypedSubjectAltNames, san(tlsv3.SubjectAltNameMatcher_DNS, sni))
		return c
	}
	for _, e := range v.Endpoints {
		c.MatchTypedSubjectAltNames = append(c.MatchTypedSubjectAltNames,
			san(tlsv3.SubjectAltNameMatcher_IP_ADDRESS, e.Addr().String()))
	}
	return c
}

func san(kind tlsv3.SubjectAltNameMatcher_SanType, value string) *tlsv3.SubjectAltNameMatcher {
	return &tlsv3.SubjectAltNameMatcher{
		SanType: kind,
		Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: value}},
	}
}
