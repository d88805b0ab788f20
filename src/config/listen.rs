//! Where and as whom the site is served.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::values::{
    HostName, HostPattern, HumanDuration, ListenAddress, TlsVersion, TrustedHeader, TrustedPeer, UnixMode,
    UnknownHostStatus,
};

/// `[listen]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// Addresses for HTTP/1.1 and HTTP/2 in the clear: `HOST:PORT`, or `unix:PATH`. Default: none;
    /// with none here and none in `https`, 127.0.0.1:8080, or 0.0.0.0:$PORT where `PORT` is set.
    /// Changes at a restart only.
    pub http: Vec<ListenAddress>,
    /// Addresses for HTTP/1.1 and HTTP/2 over TLS: `HOST:PORT`, or `unix:PATH`. Default: none.
    /// Changes at a restart only.
    pub https: Vec<ListenAddress>,
    /// Those of these addresses whose connections begin with a header of the PROXY protocol, version 1 or 2, by which a
    /// balancer that hands connections through says whose they are. Default: none. Changes at a restart only.
    ///
    /// The balancer must be in `trusted_proxies`; every other connection to these addresses is closed, and so is one
    /// that has no such header. The header must come within `timeouts.handshake`.
    pub proxy_protocol: Vec<ListenAddress>,
    /// Access rights of unix sockets that vestibule makes. Default: "0660". Changes at a restart only.
    pub unix_mode: UnixMode,
    /// Networks whose word on the client is believed, in the fields of `trusted_headers`. Default: none.
    ///
    /// Name here the load balancer that stands before vestibule, and nothing else: whoever connects
    /// from one of these networks can claim any address. A peer on a unix socket counts as trusted
    /// only with `"unix"` in the list. "cloudflare", "fastly" and "cloudfront" stand for the networks that these name as
    /// theirs, from which everybody who has an account there can send, too.
    pub trusted_proxies: Vec<TrustedPeer>,
    /// The fields that these proxies write, each of them in every request. Default: "x-forwarded-for",
    /// "x-forwarded-proto", "x-request-id" and "x-request-start"; "forwarded" (RFC 7239) is read where it is named.
    ///
    /// A proxy hands on as it came what it does not write, and then it is the word of any client: leave out what yours
    /// does not set. For CloudFront write `["x-forwarded-for"]`, for one that writes `Forwarded` alone `["forwarded"]`.
    /// With both kinds the older fields are read
    /// first, and `Forwarded` where there are none.
    pub trusted_headers: Vec<TrustedHeader>,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            http: Vec::new(),
            https: Vec::new(),
            proxy_protocol: Vec::new(),
            unix_mode: UnixMode(0o660),
            trusted_proxies: Vec::new(),
            trusted_headers: TrustedHeader::usual(),
        }
    }
}

/// `[tls]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate and its chain, in one PEM file. No default; needed for `listen.https`.
    pub certificate: Option<PathBuf>,
    /// The certificate's private key, as PEM. No default; needed for `listen.https`.
    pub key: Option<PathBuf>,
    /// Make a certificate in memory at each start, for development. Default: false.
    ///
    /// Browsers warn of it. Cannot be set together with `certificate`.
    pub self_signed: bool,
    /// The oldest version of TLS to speak, "1.2" or "1.3". Default: "1.2".
    pub minimum_version: TlsVersion,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self { certificate: None, key: None, self_signed: false, minimum_version: TlsVersion::Tls12 }
    }
}

/// `[https]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpsConfig {
    /// Send plain HTTP requests to the same address under https, where vestibule listens for TLS.
    /// Default: true.
    ///
    /// The answer is 308. Health answers are never redirected.
    pub redirect: bool,
    /// The port that clients use for HTTPS. Default: the port of the first `listen.https` address.
    ///
    /// Set it where a container or a firewall maps another port to that one.
    pub port: Option<u16>,
    /// How long browsers shall insist on HTTPS (`Strict-Transport-Security`). Default: 0, no header.
    ///
    /// Start with a few minutes, and go to a year when all works: browsers do not forget it.
    pub hsts_max_age: HumanDuration,
    /// Extend it to every subdomain. Default: false.
    pub hsts_include_subdomains: bool,
    /// Ask for the name to be built into browsers. Default: false. Needs a year and the subdomains.
    pub hsts_preload: bool,
}

impl Default for HttpsConfig {
    fn default() -> Self {
        Self {
            redirect: true,
            port: None,
            hsts_max_age: HumanDuration(Duration::ZERO),
            hsts_include_subdomains: false,
            hsts_preload: false,
        }
    }
}

/// `[hosts]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostsConfig {
    /// The names this site answers to, as in Django's `ALLOWED_HOSTS`: `example.com`,
    /// `.example.com` for it and its subdomains, `*` for any. Default: none, which means any.
    ///
    /// Another name gets `unknown_status` without waking the application.
    pub allowed: Vec<HostPattern>,
    /// What a name that is not in `allowed` gets: 400, as from Django, or 421. Default: 400.
    ///
    /// 421 (Misdirected Request) is for certificates that also have names which other machines serve: browsers send requests
    /// for those over this site's HTTP/2 connection, and 421 makes them open another.
    pub unknown_status: UnknownHostStatus,
    /// The one name under which people shall find the site: what is asked for under another allowed one is redirected
    /// there (308). Default: none.
    ///
    /// As from www.example.com to example.com, or the other way round. Health answers stay.
    pub canonical: Option<HostName>,
}
