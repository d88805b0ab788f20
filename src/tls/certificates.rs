//! Reads a certificate and its key, and says what is wrong with them.

use std::fmt;
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
    #[error("cannot read the {what}{}", unreadable(.cause))]
    Unreadable {
        /// The certificate, or the private key.
        what: &'static str,
        /// Names the file.
        #[source]
        cause: std::io::Error,
    },
    /// The file has no part of the right kind.
    #[error("{} holds no {what} that can be used; {advice}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The certificate, or the private key.
        what: &'static str,
        /// What to do about it.
        advice: String,
    },
    /// The key is of a kind that the library does not know.
    #[error(
        "the private key in {} is of a kind that is not supported; take RSA of 2048 bits or more, ECDSA P-256, \
         P-384 or P-521, or Ed25519", .0.display()
    )]
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

impl CertificateError {
    /// Whether something else must be written in the configuration, as opposed to what it names or the
    /// system.
    pub fn is_operators_mistake(&self) -> bool {
        match self {
            Self::Unreadable { cause, .. } => cause.kind() == std::io::ErrorKind::NotFound,
            Self::SelfSigned(_) => false,
            Self::Malformed { .. } | Self::UnknownKey(..) | Self::Mismatch { .. } | Self::None | Self::Refused(_) => {
                true
            }
        }
    }
}

/// What to do about a file that cannot be read.
fn unreadable(cause: &std::io::Error) -> &'static str {
    match cause.kind() {
        std::io::ErrorKind::NotFound => "; correct its path",
        std::io::ErrorKind::PermissionDenied => "; let the user that vestibule runs as read it",
        _ => "",
    }
}

/// What to do about a file that holds something else than it should.
fn malformed(path: &Path, what: &'static str, text: &[u8]) -> CertificateError {
    let has = |word: &str| text.windows(word.len()).any(|part| part == word.as_bytes());
    let (command, label, other) = match what {
        CERTIFICATE => ("x509", "CERTIFICATE", PRIVATE_KEY),
        _ => ("pkey", "PRIVATE KEY", CERTIFICATE),
    };
    let shown = path.display();
    let advice = if what == PRIVATE_KEY && has("ENCRYPTED") {
        format!("it is encrypted; write it without its password with `openssl pkey -in {shown} -out plain.key`")
    } else if text.starts_with(&[0x30]) {
        // How every certificate and key begins in DER: with a SEQUENCE.
        format!("it is in DER form; make it PEM with `openssl {command} -inform der -in {shown} -out {shown}.pem`")
    } else if has(&format!("{}-----", other.to_uppercase())) && !has(&format!("{label}-----")) {
        format!("it holds a {other}; are the two files swapped?")
    } else {
        format!("give a PEM file with a part that begins with -----BEGIN {label}-----")
    };
    CertificateError::Malformed { path: path.to_owned(), what, advice }
}

const CERTIFICATE: &str = "certificate";
const PRIVATE_KEY: &str = "private key";

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
    let text = read(key, PRIVATE_KEY)?;
    let der = PrivateKeyDer::from_pem_slice(&text).map_err(|_| malformed(key, PRIVATE_KEY, &text))?;
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
    let text = read(path, CERTIFICATE)?;
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(malformed(path, CERTIFICATE, &text)),
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
    /// Whether no authority has signed it, but its own key.
    pub is_self_signed: bool,
}

/// What is wrong with the dates of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It has ended.
    Ended(SystemTime),
    /// It has not begun.
    NotBegun(SystemTime),
    /// It ends within two weeks; clients take it until then.
    EndsSoon(SystemTime),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = |time: &SystemTime| httpdate::fmt_http_date(*time);
        match self {
            Self::Ended(time) => write!(f, "the certificate ended on {}; renew it", date(time)),
            Self::NotBegun(time) => {
                write!(f, "the certificate begins on {} only; is the clock right?", date(time))
            }
            Self::EndsSoon(time) => write!(f, "the certificate ends on {}; renew it soon", date(time)),
        }
    }
}

impl Description {
    /// What is wrong with the certificate at `now`, if anything.
    pub fn trouble(&self, now: SystemTime) -> Option<Trouble> {
        const SOON: Duration = Duration::from_secs(14 * 86400);
        if self.not_after <= now {
            Some(Trouble::Ended(self.not_after))
        } else if self.not_before > now {
            Some(Trouble::NotBegun(self.not_before))
        } else if self.not_after < now + SOON {
            Some(Trouble::EndsSoon(self.not_after))
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
    let (_, certificate) = X509Certificate::from_der(&chain[0]).map_err(|_| malformed(path, CERTIFICATE, &[]))?;
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
        is_self_signed: certificate.issuer() == certificate.subject(),
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
        assert!(error.to_string().contains("swapped"), "{error}");
    }

    #[test]
    fn a_file_in_the_wrong_form_is_told_with_the_way_out() {
        for (what, text, expected) in [
            (PRIVATE_KEY, &b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA"[..], "openssl pkey -in a.pem -out"),
            (PRIVATE_KEY, b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", "openssl pkey -in a.pem"),
            (PRIVATE_KEY, b"\x30\x82\x01", "openssl pkey -inform der -in a.pem"),
            (CERTIFICATE, b"\x30\x82\x01", "openssl x509 -inform der -in a.pem"),
            (CERTIFICATE, b"-----BEGIN PRIVATE KEY-----\n", "it holds a private key; are the two files swapped?"),
            (PRIVATE_KEY, b"-----BEGIN CERTIFICATE-----\n", "it holds a certificate; are the two files swapped?"),
            (CERTIFICATE, b"", "-----BEGIN CERTIFICATE-----"),
            (PRIVATE_KEY, b"hello", "-----BEGIN PRIVATE KEY-----"),
        ] {
            let error = malformed(Path::new("a.pem"), what, text).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_encrypted_key_is_told_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = pair(folder.path(), "a");
        let text = fs_err::read_to_string(&key).unwrap();
        fs_err::write(&key, text.replace(" PRIVATE KEY", " ENCRYPTED PRIVATE KEY")).unwrap();
        let error = from_files(&certificate, &key, &aws_lc_rs::default_provider()).unwrap_err();
        assert!(error.to_string().contains("it is encrypted") && error.is_operators_mistake(), "{error}");
    }

    #[test]
    fn a_certificate_is_in_trouble_before_and_after_its_time() {
        const DAY: u64 = 86400;
        let at = |days| SystemTime::UNIX_EPOCH + Duration::from_secs(days * DAY);
        let description = Description { names: vec![], not_before: at(10), not_after: at(100), is_self_signed: false };
        for (now, expected) in [
            (0, Some(Trouble::NotBegun(at(10)))),
            (10, None),
            (86, None),
            (87, Some(Trouble::EndsSoon(at(100)))),
            (100, Some(Trouble::Ended(at(100)))),
        ] {
            assert_eq!(description.trouble(at(now)), expected, "on day {now}");
        }
    }
}
