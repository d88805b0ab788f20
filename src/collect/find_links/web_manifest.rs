//! Finds the images of a web app manifest: the `src` of `icons`, of `screenshots`, and of the icons of
//! `shortcuts` and `file_handlers` (W3C Web Application Manifest, sections on image resources).
//!
//! `start_url`, `scope`, `id`, and the URLs of shortcuts and share targets are pages of the site that a
//! user opens. They are not files to load, and must stay the same from release to release.

use super::json::Value;
use super::{Found, Link};

/// Finds every URL.
pub(super) fn find(text: &str) -> Found {
    let manifest = match Value::read(text) {
        Ok(manifest) => manifest.members(),
        Err(refusal) => return Found { links: Vec::new(), refusal: Some(refusal) },
    };
    let mut links = Vec::new();
    for name in ["icons", "screenshots"] {
        links.extend(manifest.get(name).into_iter().flat_map(|list| images(*list)));
    }
    for name in ["shortcuts", "file_handlers"] {
        for entry in manifest.get(name).into_iter().flat_map(|list| list.entries()) {
            links.extend(entry.members().get("icons").into_iter().flat_map(|list| images(*list)));
        }
    }
    Found { links, refusal: None }
}

fn images(list: Value<'_>) -> Vec<Link> {
    list.entries().into_iter().filter_map(|image| image.members().get("src")?.link()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_and_pages_are_not() {
        let text = r#"{
            "id": "a", "start_url": "b.html", "scope": "c/",
            "icons": [{ "src": "d.png", "sizes": "1x1" }, { "src": "é\/f.png" }, { "sizes": "g.png" }, "h.png"],
            "screenshots": [{"src":"i.png"}],
            "shortcuts": [{ "url": "j.html", "icons": [{ "src": "k.png" }] }, {}],
            "file_handlers": [{ "action": "/l", "icons": [{ "src": "m.png" }] }],
            "related_applications": [{ "url": "n.png" }], "src": "o.png"
        }"#;
        let found = find(text);
        assert_eq!(found.refusal, None);
        let mut urls: Vec<_> = found.links.iter().map(|link| (&text[link.span.clone()], link.url.as_str())).collect();
        urls.sort_unstable();
        let expected =
            [("d.png", "d.png"), ("i.png", "i.png"), ("k.png", "k.png"), ("m.png", "m.png"), (r"é\/f.png", "é/f.png")];
        assert_eq!(urls, expected);
    }

    #[test]
    fn what_has_another_shape_has_no_links() {
        for text in [
            "[]",
            "1",
            "{}",
            r#"{"icons": {}}"#,
            r#"{"icons": [1, [], null]}"#,
            r#"{"icons": [{"src": 1}]}"#,
            r#"{"shortcuts": "a"}"#,
        ] {
            assert_eq!(find(text), Found::default(), "for {text}");
        }
    }

    #[test]
    fn of_two_members_with_one_name_the_last_counts() {
        let text = r#"{"icons":[{"src":"a.png"}],"icons":[{"src":"b.png","src":"c.png"}]}"#;
        assert_eq!(find(text).links.iter().map(|link| link.url.as_str()).collect::<Vec<_>>(), ["c.png"]);
    }

    #[test]
    fn what_is_not_json_is_told() {
        for text in ["", "{", "{,}", "{\"icons\": [}", "\0"] {
            assert!(
                find(text).refusal.is_some_and(|refusal| refusal.why.starts_with("it is not JSON")),
                "for {text:?}"
            );
        }
        assert_eq!(find(&format!("{{\"icons\":{}", "[".repeat(200_000))).links, []);
        assert_eq!(find("\u{feff}{}"), Found::default());
    }
}
