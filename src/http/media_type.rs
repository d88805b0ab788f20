//! From a file name to a whole `Content-Type` value.
//!
//! The table of `mime_guess` answers for most extensions. It is partly old, so a table of ours goes
//! before it: what browsers insist on (module scripts, WebAssembly), what came later (AVIF, JPEG XL),
//! and what means something else on the web than in a mail (`.ts`, `.map`).
//! Nothing looks at contents, and nothing depends on the machine, as Python's `mimetypes` does.

use std::borrow::Cow;

use ::http::HeaderValue;

use super::fields::{parameter, split};

/// What a browser shall not guess from.
const UNKNOWN: &str = "application/octet-stream";

/// Extensions in lower case, with the type without its charset.
const OURS: &[(&str, &str)] = &[
    ("7z", "application/x-7z-compressed"),
    ("apng", "image/apng"),
    ("atom", "application/atom+xml"),
    ("avif", "image/avif"),
    ("br", UNKNOWN), // a compressed copy by itself has no type of its own
    ("cjs", "text/javascript"),
    ("eot", "application/vnd.ms-fontobject"),
    ("geojson", "application/geo+json"),
    ("glb", "model/gltf-binary"),
    ("gltf", "model/gltf+json"),
    ("gz", "application/gzip"),
    ("htc", "text/x-component"),
    ("ico", "image/x-icon"),
    ("importmap", "application/importmap+json"),
    ("js", "text/javascript"),
    ("json5", "application/json5"),
    ("jsonld", "application/ld+json"),
    ("jsx", "text/javascript"),
    ("jxl", "image/jxl"),
    ("less", "text/plain"),
    ("map", "application/json"),
    ("markdown", "text/markdown"),
    ("md", "text/markdown"),
    ("mjs", "text/javascript"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("rss", "application/rss+xml"),
    ("sass", "text/plain"),
    ("scss", "text/plain"),
    ("topojson", "application/json"),
    ("ts", "text/plain"), // TypeScript; nobody puts single MPEG transport streams among static files
    ("ttc", "font/collection"),
    ("ttf", "font/ttf"),
    ("tsx", "text/plain"),
    ("vtt", "text/vtt"),
    ("wasm", "application/wasm"),
    ("webmanifest", "application/manifest+json"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xml", "text/xml"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zst", "application/zstd"),
];

/// The `Content-Type` of a file with this name, with `charset=utf-8` where the type is text.
pub fn content_type(name: &str) -> Cow<'static, str> {
    let base_name = name.rsplit('/').next().unwrap_or(name);
    if base_name == "apple-app-site-association" {
        return "application/json; charset=utf-8".into(); // Apple wants it so, and without an extension
    }
    let Some((_, extension)) = base_name.rsplit_once('.') else { return UNKNOWN.into() };
    let extension = extension.to_ascii_lowercase();
    let ours = OURS.iter().find(|(known, _)| *known == extension).map(|(_, media_type)| *media_type);
    let media_type = ours.or_else(|| mime_guess::from_ext(&extension).first_raw()).unwrap_or(UNKNOWN);
    if is_text(media_type) { format!("{media_type}; charset=utf-8").into() } else { media_type.into() }
}

/// The same `Content-Type` with another charset in place of its own, if it is text and that is a charset's name.
pub fn with_charset(media_type: &HeaderValue, charset: &HeaderValue) -> Option<HeaderValue> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(byte);
    let charset = charset.as_bytes();
    let mut parts = split(media_type.as_bytes(), b';');
    let essence = parts.next().filter(|essence| is_text(&String::from_utf8_lossy(essence).to_ascii_lowercase()))?;
    if charset.is_empty() || charset.len() > 40 || !charset.iter().all(is_name) {
        return None;
    }
    let mut written = essence.to_vec();
    let is_charset = |part: &[u8]| parameter(part).is_some_and(|(name, _)| name.eq_ignore_ascii_case(b"charset"));
    for part in parts.filter(|part| !part.is_empty() && !is_charset(part)).chain([&[b"charset=", charset].concat()[..]])
    {
        written.extend([b"; ", part].concat());
    }
    HeaderValue::try_from(written).ok()
}

fn is_text(media_type: &str) -> bool {
    const TEXTS: [&str; 5] =
        ["application/json", "application/json5", "application/javascript", "application/xml", "application/yaml"];
    media_type.starts_with("text/")
        || media_type.ends_with("+json")
        || media_type.ends_with("+xml")
        || TEXTS.contains(&media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_gets_another_charset_and_keeps_the_rest() {
        for (media_type, charset, expected) in [
            ("text/plain", "koi8-r", Some("text/plain; charset=koi8-r")),
            ("text/html; charset=utf-8", "ISO-8859-1", Some("text/html; charset=ISO-8859-1")),
            ("Text/CSV;header=present ; Charset=\"utf-8\"", "koi8-r", Some("Text/CSV; header=present; charset=koi8-r")),
            ("application/json", "utf-16", Some("application/json; charset=utf-16")),
            ("image/svg+xml", "utf-16", Some("image/svg+xml; charset=utf-16")),
            ("text/plain;", "utf-8", Some("text/plain; charset=utf-8")),
            ("image/png", "utf-8", None),
            ("application/pdf; charset=x", "utf-8", None),
            ("", "utf-8", None),
            ("text/plain", "", None),
            ("text/plain", "utf-8; x=y", None),
            ("text/plain", "\"utf-8\"", None),
            ("text/plain", "a-name-that-is-longer-than-any-charset-has", None),
        ] {
            let found = with_charset(&HeaderValue::from_static(media_type), &HeaderValue::from_static(charset));
            assert_eq!(found.as_ref().map(|found| found.to_str().unwrap()), expected, "for {media_type} in {charset}");
        }
    }

    #[test]
    fn the_extension_decides_and_text_has_its_charset() {
        for (name, expected) in [
            ("a.css", "text/css; charset=utf-8"),
            ("a.0123456789ab.js", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("a.cjs", "text/javascript; charset=utf-8"),
            ("a.js.map", "application/json; charset=utf-8"),
            ("a.json", "application/json; charset=utf-8"),
            (".well-known/apple-app-site-association", "application/json; charset=utf-8"),
            ("a.jsonld", "application/ld+json; charset=utf-8"),
            ("a.html", "text/html; charset=utf-8"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.ts", "text/plain; charset=utf-8"), // not video/mp2t
            ("a.md", "text/markdown; charset=utf-8"),
            ("a.xml", "text/xml; charset=utf-8"),
            ("a.svg", "image/svg+xml; charset=utf-8"),
            ("a.webmanifest", "application/manifest+json; charset=utf-8"),
            ("A.PNG", "image/png"),
            ("a.ico", "image/x-icon"),
            ("a.avif", "image/avif"),
            ("a.webp", "image/webp"),
            ("a.jxl", "image/jxl"),
            ("a.woff", "font/woff"),
            ("a.woff2", "font/woff2"),
            ("a.ttf", "font/ttf"),
            ("a.otf", "font/otf"),
            ("a.eot", "application/vnd.ms-fontobject"),
            ("a.wasm", "application/wasm"),
            ("a.mp4", "video/mp4"),
            ("a.opus", "audio/ogg"),
            ("a.glb", "model/gltf-binary"),
            ("a.pdf", "application/pdf"),
            ("a.gz", "application/gzip"),
            ("a.unheardof", "application/octet-stream"),
            ("noext", "application/octet-stream"),
            ("css.d/noext", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(content_type(name), expected, "for {name:?}");
        }
    }
}
