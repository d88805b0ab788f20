//! The vocabulary that all kinds of answer share: requests, responses, bodies, and the rules of
//! RFC 9110 that are the same for a file and for an application.
//!
//! Nothing here has state, reads a clock or knows the configuration. Only [`body`] does I/O, and only [`early_hints`]
//! are a place where two parts of the program meet. [`room`] is here because both ends read into it.

pub mod accept;
pub mod answers;
pub mod body;
pub mod conditional;
pub mod dictionary;
pub mod early_hints;
pub mod encoding;
pub mod fields;
pub mod forwarded;
pub mod header_rules;
pub mod hop_by_hop;
pub mod lines;
pub mod links;
pub mod media_type;
pub mod memory_file;
pub mod multipart;
pub mod navigation;
pub mod path;
pub mod range;
pub mod request_rules;
pub mod room;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderValue;
use ::http::request::Parts;

use self::body::Body;
use self::early_hints::EarlyHints;
use self::lines::Lines;

/// A request as every part of the program sees it: the head, the body, and who sent it.
///
/// The client and its early hints are fields and not extensions of the head, because a static answer then costs
/// no allocation for them.
#[derive(Debug)]
pub struct Request {
    /// Method, target and header fields as the client sent them.
    pub head: Parts,
    /// The body. Before the application is asked, `layers::body_limit` bounds it in size and in time.
    pub body: Body,
    /// Who sent it, and over what.
    pub client: Client,
    /// The name of this request in logs and in `X-Request-ID`.
    pub id: RequestId,
    /// Takes to the client what the application says before its answer; `None` if this client shall not hear it.
    pub early_hints: Option<EarlyHints>,
    /// Where the head of the answer may be written at once by whoever has it ready; `None` if the protocol takes fields
    /// only.
    pub lines: Option<Lines>,
}

/// What goes back to the client.
pub type Response = ::http::Response<Body>;

/// The sender of a request, as far as it is known and believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The client's address; `None` over a unix socket on which no trusted proxy named one.
    pub address: Option<IpAddr>,
    /// The client's port; 0 when unknown.
    pub port: u16,
    /// How the client came: what the application must hear in `X-Forwarded-Proto`.
    pub scheme: Scheme,
    /// The port on which the client's connection arrived; 0 on a unix socket.
    pub local_port: u16,
}

impl Client {
    /// The network by which a client is counted, if its address is known.
    pub fn network(&self) -> Option<IpAddr> {
        self.address.map(network_of)
    }

    /// Whether nobody between can have meddled: over TLS, or from this machine. Browsers see it alike
    /// (Secure Contexts, section 3.1).
    pub fn is_secure(&self) -> bool {
        self.scheme == Scheme::Https || self.address.is_some_and(|address| address.to_canonical().is_loopback())
    }
}

/// The network that one subscriber has: an IPv4 address, or an IPv6 network of 64 bits.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// How the client came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS, ours or a trusted proxy's.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// 128 random bits that name one request, printed as 32 hexadecimal digits, as nginx's `$request_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(pub u128);

impl RequestId {
    /// Its digits, from the first.
    pub fn digits(self) -> [u8; 32] {
        let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
        let mut digits = [0; 32];
        for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(self.0.to_be_bytes()) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        digits
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.digits()).expect("digits are text"))
    }
}

/// How long the application took from the first attempt to connect until its response head, for the
/// access log. `upstream` puts it into the extensions of every response that it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamTime(pub Duration);

/// Which of several servers of the application was asked last, for the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamServer(pub Arc<str>);

/// The file that an application names in its answer, to be sent in place of the answer's body. `upstream`
/// takes it out of the headers and puts it into the extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedOver {
    /// The header that named it.
    pub header: FileHeader,
    /// What it said.
    pub value: HeaderValue,
    /// The charset of the file, if it is text and the application says which one it is in (`X-Accel-Charset`).
    pub charset: Option<HeaderValue>,
}

/// A header with which an application hands a file over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileHeader {
    /// A path that is declared in the configuration, as in nginx's.
    XAccelRedirect,
    /// An absolute path on the disk.
    XSendfile,
}

impl fmt::Display for FileHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::XAccelRedirect => "X-Accel-Redirect",
            Self::XSendfile => "X-Sendfile",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_by_32_digits() {
        for (id, expected) in [
            (0, "00000000000000000000000000000000"),
            (0x0123_4567_89ab_cdef_fedc_ba98_7654_3210, "0123456789abcdeffedcba9876543210"),
        ] {
            assert_eq!(RequestId(id).to_string(), expected);
        }
    }
}
