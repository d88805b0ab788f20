//! TLS as vestibule speaks it: rustls with the certificate that the operator named.

pub mod certificates;

use std::sync::{Arc, OnceLock};

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::config::TlsConfig;
use crate::config::values::TlsVersion;

/// The application protocols that are offered, in order of preference (RFC 7301).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate or its key is not usable.
    #[error(transparent)]
    Certificate(#[from] certificates::CertificateError),
    /// The TLS library refuses the settings.
    #[error("the TLS library refuses these settings")]
    Library(#[from] rustls::Error),
}

/// What lives longer than one configuration: the keys that encrypt session tickets.
///
/// They are kept over a reload, so that clients can resume their sessions after it. They are made when first there is a
/// certificate: who needs none starts without the 65 ms or so that it takes to gather the randomness.
#[derive(Debug, Clone, Default)]
pub struct Tickets(Arc<OnceLock<Arc<dyn ProducesTickets>>>);

impl Tickets {
    /// The keys, which the library changes every few hours.
    fn keys(&self) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
        if let Some(keys) = self.0.get() {
            return Ok(Arc::clone(keys));
        }
        let made = aws_lc_rs::Ticketer::new()?;
        Ok(Arc::clone(self.0.get_or_init(|| made)))
    }
}

/// Reads the certificate and makes the settings for one listener.
///
/// # Errors
/// When the certificate or its key is missing, malformed, or does not fit the other.
pub fn server_config(config: &TlsConfig, tickets: &Tickets) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = certificates::load(config, &provider)?;
    let versions: &[_] = match config.minimum_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    build(key, versions, provider, tickets)
}

fn build(
    key: CertifiedKey,
    versions: &[&'static rustls::SupportedProtocolVersion],
    provider: Arc<CryptoProvider>,
    tickets: &Tickets,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    server.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    // Tickets let a client resume without any memory here, and after a reload. Early data stays off
    // (the default): it can be replayed, and an application behind a proxy cannot tell.
    server.ticketer = tickets.keys()?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(server))
}
