// Package admin is headgate's one HTTP surface for people and scripts: status,
// commands, history, events, metrics, health.
//
// Other features add their routes with [Server.Handle]; a route says which role
// it needs and which types it takes and answers, and the OpenAPI document is
// generated from that.
//
// Every request passes the same checks, in this order, before a handler sees
// it: the Host header names this server (a page in a browser cannot reach it by
// rebinding DNS), the page that sent it has the same origin, its token has the
// role, its body is JSON of bounded size. Errors have one form, RFC 9457's
// application/problem+json, see [Problem].
//
// Without a tokens file everybody who can connect may do everything, therefore
// [CheckExposure] lets such a server listen on loopback and unix sockets only.
package admin
