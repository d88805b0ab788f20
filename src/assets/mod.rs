//! The static kind of answer: a lookup among ready answers.

use ::http::request::Parts;

use crate::config::AssetsConfig;
use crate::http::{Response, answers};

/// Why a folder cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum AssetsError {}

/// Every static answer of one release.
#[derive(Debug)]
pub struct Assets {
    prefix: String,
}

impl Assets {
    /// Reads the manifest and prepares every answer.
    ///
    /// # Errors
    /// See [`AssetsError`].
    pub fn open(config: &AssetsConfig) -> Result<Self, AssetsError> {
        Ok(Self { prefix: config.prefix.as_str().to_owned() })
    }

    /// Whether a request's raw path is answered here and nowhere else.
    pub fn owns(&self, path: &str) -> bool {
        path.starts_with(&self.prefix)
    }

    /// Answers a request whose path [`Assets::owns`].
    pub async fn respond(&self, _head: &Parts) -> Response {
        answers::status(::http::StatusCode::NOT_FOUND)
    }
}
