//! Content codings (RFC 9110, section 8.4.1) and their negotiation (section 12.5.3).

use std::fmt;

/// A content coding that vestibule can make beforehand.
///
/// The order is the order of preference among variants of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coding {
    /// RFC 7932, token `br`.
    Brotli,
    /// RFC 8878, token `zstd`.
    Zstd,
    /// RFC 1952, token `gzip`.
    Gzip,
}

impl Coding {
    /// Every coding, in order of preference.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// The token in `Accept-Encoding` and `Content-Encoding`.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What a compressed copy's file name ends in, as nginx, Caddy and WhiteNoise have it.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }

    /// The coding of a token, exactly as [`Coding::token`] spells it.
    pub fn from_token(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|coding| coding.token() == token)
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}
