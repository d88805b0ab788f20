//! Reads a certificate and its key, and says what is wrong with them.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::config::TlsConfig;

/// Why a certificate cannot be used.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// The file is not there or may not be read.
    #[error("cannot read the {what}")]
    Unreadable {
        /// The certificate, or the private key.
        what: &'static str,
        /// Names the file.
        #[source]
        cause: std::io::Error,
    },
    /// The file has no part of the right kind.
    #[error("{} holds no {what} in PEM form", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The certificate, or the private key.
        what: &'static str,
    },
    /// The key is of a kind that the library does not know.
    #[error("the private key in {} is of a kind that is not supported", .0.display())]
    UnknownKey(PathBuf, #[source] rustls::Error),
    /// The key belongs to another certificate.
    #[error("the certificate in {} does not belong to the key in {}", .certificate.display(), .key.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Neither a certificate nor leave to make one.
    #[error("no certificate is configured; give [tls] certificate and key, or self_signed = true")]
    None,
    /// Making one failed.
    #[error("cannot make a self-signed certificate")]
    SelfSigned(#[from] rcgen::Error),
    /// The library refuses the pair.
    #[error("the TLS library refuses the certificate")]
    Refused(#[source] rustls::Error),
}

/// The certificate and key of the configuration.
///
/// # Errors
/// See [`CertificateError`].
pub fn load(config: &TlsConfig, provider: &CryptoProvider) -> Result<CertifiedKey, CertificateError> {
    match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => from_files(certificate, key, provider),
        _ if config.self_signed => self_signed(provider),
        _ => Err(CertificateError::None),
    }
}

fn from_files(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, CertificateError> {
    let chain = read_chain(certificate)?;
    let text = read(key, "private key")?;
    let der = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| CertificateError::Malformed { path: key.to_owned(), what: "private key" })?;
    let signer = provider
        .key_provider
        .load_private_key(der)
        .map_err(|cause| CertificateError::UnknownKey(key.to_owned(), cause))?;
    let pair = CertifiedKey::new(chain, signer);
    match pair.keys_match() {
        Ok(()) => Ok(pair),
        // The library cannot tell for this kind of key; the handshake will.
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(CertificateError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() })
        }
        Err(cause) => Err(CertificateError::Refused(cause)),
    }
}

fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, CertificateError> {
    fs_err::read(path).map_err(|cause| CertificateError::Unreadable { what, cause })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let text = read(path, "certificate")?;
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(CertificateError::Malformed { path: path.to_owned(), what: "certificate" }),
    }
}

/// A certificate for this machine alone, made anew at each start.
fn self_signed(provider: &CryptoProvider) -> Result<CertifiedKey, CertificateError> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names)?;
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let signer = provider.key_provider.load_private_key(der).map_err(CertificateError::Refused)?;
    Ok(CertifiedKey::new(vec![made.cert.der().clone()], signer))
}

/// What a certificate says of itself, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The names it is made for.
    pub names: Vec<String>,
    /// When it ends.
    pub not_after: SystemTime,
    /// When it begins.
    pub not_before: SystemTime,
}

impl Description {
    /// What is wrong with the certificate at `now`, if anything: it ended, has not begun, or ends
    /// within `soon`.
    pub fn trouble(&self, now: SystemTime, soon: Duration) -> Option<String> {
        let date = |time| httpdate::fmt_http_date(time);
        if self.not_after <= now {
            Some(format!("the certificate ended on {}; renew it", date(self.not_after)))
        } else if self.not_before > now {
            Some(format!("the certificate begins on {} only; is the clock right?", date(self.not_before)))
        } else if self.not_after < now + soon {
            Some(format!("the certificate ends on {}; renew it soon", date(self.not_after)))
        } else {
            None
        }
    }
}

/// Describes the certificate of a file.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn describe(path: &Path) -> Result<Description, CertificateError> {
    let chain = read_chain(path)?;
    let malformed = || CertificateError::Malformed { path: path.to_owned(), what: "certificate" };
    let (_, certificate) = X509Certificate::from_der(&chain[0]).map_err(|_| malformed())?;
    let time = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0));
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    });
    let validity = certificate.validity();
    Ok(Description {
        names: names.collect(),
        not_before: time(validity.not_before.timestamp()),
        not_after: time(validity.not_after.timestamp()),
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string())
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs;

    use super::*;

    fn pair(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec!["example.com".to_owned()]).unwrap();
        let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        fs_err::write(&certificate, made.cert.pem()).unwrap();
        fs_err::write(&key, made.signing_key.serialize_pem()).unwrap();
        (certificate, key)
    }

    #[test]
    fn a_certificate_and_its_key_are_read_and_described() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(folder.path(), "a");
        from_files(&certificate, &key, &aws_lc_rs::default_provider()).unwrap();
        assert_eq!(describe(&certificate).unwrap().names, ["example.com"]);
    }

    #[test]
    fn a_certificate_with_another_ones_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let ((certificate, _), (_, key)) = (pair(folder.path(), "a"), pair(folder.path(), "b"));
        let error = from_files(&certificate, &key, &aws_lc_rs::default_provider()).unwrap_err();
        assert!(matches!(error, CertificateError::Mismatch { .. }), "{error}");
    }

    #[test]
    fn two_swapped_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(folder.path(), "a");
        let error = from_files(&key, &certificate, &aws_lc_rs::default_provider()).unwrap_err();
        assert!(error.to_string().contains("holds no certificate"), "{error}");
    }

    #[test]
    fn a_certificate_is_in_trouble_before_and_after_its_time() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let description = Description { names: vec![], not_before: at(1000), not_after: at(9000) };
        for (now, expected) in [(0, Some("begins")), (2000, None), (8500, Some("ends")), (9000, Some("ended"))] {
            let trouble = description.trouble(at(now), Duration::from_secs(600));
            match expected {
                Some(word) => assert!(trouble.is_some_and(|text| text.contains(word)), "at {now}"),
                None => assert_eq!(trouble, None, "at {now}"),
            }
        }
    }
}
