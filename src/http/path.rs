//! The path that decisions are made on: what an application will take the raw path for.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The path decoded once, with runs of slashes as one. The raw path is what is forwarded.
///
/// Dot segments are in no path that has been admitted. An application may take `//admin` or `/%61dmin` for `/admin`,
/// and a rule for one of them holds for all.
pub fn decided(raw: &str) -> Cow<'_, str> {
    if !raw.contains('%') && !raw.contains("//") {
        return Cow::Borrowed(raw);
    }
    let decoded = percent_decode_str(raw).decode_utf8_lossy();
    let mut path = String::with_capacity(decoded.len());
    for letter in decoded.chars() {
        if letter != '/' || !path.ends_with('/') {
            path.push(letter);
        }
    }
    Cow::Owned(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_application_may_take_for_one_path_is_one() {
        for (raw, expected) in [
            ("/admin/", "/admin/"),
            ("/%61dmin/", "/admin/"),
            ("//admin///x", "/admin/x"),
            ("/a%2F%2Fb", "/a/b"),
            ("/%2561", "/%61"), // once
            ("/caf%C3%A9", "/café"),
            ("/%ff", "/\u{fffd}"),
        ] {
            assert_eq!(decided(raw), expected, "for {raw}");
        }
    }
}
