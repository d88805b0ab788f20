//! What a page is given to load early beside its stylesheets.
//!
//! A page that asks for a stylesheet in a `Link` header has it loaded while the page is still read. What the stylesheet
//! imports, and its fonts, a browser finds only once it has read that: one journey more, and another one for what those
//! import. `collect` knows all of it, so it is announced together with the stylesheet.
//!
//! Only `Link` headers count, as the application or a rule has set them: pages themselves are not looked into.

use std::collections::{BTreeSet, HashMap, VecDeque};

use ::http::header::{CONTENT_TYPE, LINK};
use ::http::{HeaderMap, HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::catalog;
use super::inventory::Listed;
use crate::config::AssetsConfig;
use crate::config::values::Preload;
use crate::http::links;

/// What means itself in the path of a URL (RFC 3986, section 3.3), but for what could end the target of a link.
const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'@').remove(b'+');

/// What goes with each stylesheet.
#[derive(Debug, Default)]
pub(super) struct Preloads {
    prefix: String,
    /// By the stylesheet's name, in the order in which a browser would find it.
    of: HashMap<String, Vec<Early>>,
    most: usize,
    longest: usize,
}

/// Something to load early.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Early {
    name: String,
    /// A whole member of a `Link` field.
    text: String,
}

impl Preloads {
    pub(super) fn new(files: &[Listed], config: &AssetsConfig) -> Self {
        let prefix = config.prefix.as_str();
        let (most, longest) = (config.max_preloads.get(), config.max_preload_size.0);
        let longest = usize::try_from(longest).unwrap_or(usize::MAX);
        let needy = || files.iter().filter(|file| !file.needs.is_empty() && !config.preload.is_empty());
        let is_wanted = needy().next().is_some();
        let by_name: HashMap<&str, &Listed> =
            files.iter().filter(|_| is_wanted).map(|file| (&*file.name, file)).collect();
        let all = needy().map(|file| (&*file.name, early(&file.name, &by_name, config, most)));
        let of = all.filter(|(_, early)| !early.is_empty()).map(|(name, early)| (name.to_owned(), early)).collect();
        Self { prefix: prefix.to_owned(), of, most, longest }
    }

    /// Adds to a page what its stylesheets need, as far as there is room for it. Nothing is named twice.
    pub(super) fn add(&self, status: StatusCode, headers: &mut HeaderMap) {
        if !self.of.is_empty() && status.is_success() && is_page(headers) {
            self.complete(headers);
        }
    }

    /// The same for what comes before an answer, of which it is not known yet what it is going to be.
    pub(super) fn complete(&self, headers: &mut HeaderMap) {
        if self.of.is_empty() || !headers.contains_key(LINK) {
            return;
        }
        let Some(line) = self.line(headers) else { return };
        headers.append(LINK, line);
    }

    fn line(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let preloads: Vec<_> = links::read(headers).filter(|link| link.is_preload).collect();
        let name = |target: &str| {
            let path = target.split(['?', '#']).next().unwrap_or_default();
            Some(catalog::decode(path)?.strip_prefix(&*self.prefix)?.to_owned())
        };
        let mut named: BTreeSet<String> = preloads.iter().filter_map(|link| name(link.target)).collect();
        let styles = preloads.iter().filter(|link| link.kind.eq_ignore_ascii_case("style"));
        let (mut line, mut count) = (String::new(), 0);
        for early in styles.filter_map(|link| self.of.get(&name(link.target)?)).flatten() {
            let is_full = count == self.most || line.len() + ", ".len() + early.text.len() > self.longest;
            if is_full || !named.insert(early.name.clone()) {
                continue;
            }
            line.push_str(if line.is_empty() { "" } else { ", " });
            line.push_str(&early.text);
            count += 1;
        }
        (count > 0).then(|| HeaderValue::try_from(line).ok()).flatten()
    }
}

/// What a stylesheet needs, and what that needs, and so on; the nearest first, and at most so much. What is not there
/// any more, as may happen to an earlier release, is left out.
fn early(name: &str, files: &HashMap<&str, &Listed>, config: &AssetsConfig, most: usize) -> Vec<Early> {
    let is_wanted = |kind| config.preload.contains(&kind);
    let (mut seen, mut next) = (BTreeSet::from([name]), VecDeque::from([name]));
    let mut all = Vec::new();
    while let Some(style) = next.pop_front() {
        let Some(file) = files.get(style) else { continue };
        let mut is_new = |name: &&str| files.contains_key(name) && seen.insert(&*files[name].name);
        for import in file.needs.styles.iter().map(String::as_str).filter(&mut is_new) {
            next.push_back(import);
            if is_wanted(Preload::Styles) {
                all.push(link(import, "style", config));
            }
        }
        if is_wanted(Preload::Fonts) {
            // Fonts are loaded without cookies from wherever they come, and a preload that is not so is one for nothing.
            let fonts = file.needs.fonts.iter().map(String::as_str).filter(&mut is_new);
            all.extend(fonts.map(|font| link(font, "font; type=\"font/woff2\"; crossorigin", config)));
        }
        if all.len() >= most {
            break;
        }
    }
    all.truncate(most);
    all
}

fn link(name: &str, kind: &str, config: &AssetsConfig) -> Early {
    let url = url(config.prefix.as_str(), name);
    Early { name: name.to_owned(), text: format!("<{url}>; rel=preload; as={kind}") }
}

/// The URL path of a file.
pub(super) fn url(prefix: &str, name: &str) -> String {
    format!("{prefix}{}", utf8_percent_encode(name, PATH))
}

fn is_page(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = media_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(b"text/html")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::ByteSize;
    use crate::manifest::Needs;

    /// Stylesheets with what they need, as "a.css: b.css c.woff2", and all of that but "gone.css".
    fn preloads(lines: &[&str], change: impl FnOnce(&mut AssetsConfig)) -> Preloads {
        let file = |name: &str, needs: Needs| Listed {
            location: name.into(),
            name: name.into(),
            sha256: [0; 32],
            media_type: HeaderValue::from_static("text/css"),
            size: 1,
            modified: None,
            variants: Vec::new(),
            deltas: Vec::new(),
            spare: Vec::new(),
            dictionary_for: None,
            is_fingerprinted: true,
            twins: Vec::new(),
            needs,
            first_body: 0,
        };
        let mut files: Vec<Listed> = Vec::new();
        for line in lines {
            let (name, needs) = line.split_once(": ").expect("a name and its needs");
            let (fonts, styles) = needs.split(' ').map(str::to_owned).partition(|name| name.ends_with(".woff2"));
            files.extend(needs.split(' ').filter(|name| *name != "gone.css").map(|name| file(name, Needs::default())));
            files.push(file(name, Needs { styles, fonts }));
        }
        // Of two with one name that counts which has needs.
        files.sort_by_key(|file| !file.needs.is_empty());
        let preload = vec![Preload::Styles, Preload::Fonts];
        let mut config = AssetsConfig { preload, ..AssetsConfig::default() };
        change(&mut config);
        Preloads::new(&files, &config)
    }

    /// What is added to a page with these links, each as its name and kind.
    fn added(preloads: &Preloads, links: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))]);
        for link in links {
            headers.append(LINK, HeaderValue::try_from(*link).expect("a header value"));
        }
        preloads.add(StatusCode::OK, &mut headers);
        assert_eq!(headers.get_all(LINK).iter().take(links.len()).collect::<Vec<_>>(), links, "what was there stays");
        let line = headers.get_all(LINK).iter().nth(links.len()).map(|line| line.to_str().expect("text"));
        line.into_iter().flat_map(|line| line.split(", ")).map(str::to_owned).collect()
    }

    const A: &str = "</static/a.css>; rel=preload; as=style";

    fn style(name: &str) -> String {
        format!("</static/{name}>; rel=preload; as=style")
    }

    fn font(name: &str) -> String {
        format!("</static/{name}>; rel=preload; as=font; type=\"font/woff2\"; crossorigin")
    }

    #[test]
    fn a_stylesheet_brings_what_it_needs_and_what_that_needs() {
        let site = ["a.css: b.css gone.css f.woff2", "b.css: d/\u{fc} c.css a.css g.woff2", "x.css: y.css"];
        let all = preloads(&site, |_| {});
        let expected = [style("b.css"), font("f.woff2"), style("d/%C3%BC"), style("c.css"), font("g.woff2")];
        assert_eq!(added(&all, &[A]), expected);
        assert_eq!(added(&all, &[&format!("{A}, </static/x.css>; as=style; rel=preload")])[5..], [style("y.css")]);
        // What is announced already is not announced again.
        assert_eq!(
            added(&all, &[A, &font("f.woff2"), &style("c.css"), A]),
            [&expected[0], &expected[2], &expected[4]].map(Clone::clone)
        );
        let styles = preloads(&site, |config| config.preload = vec![Preload::Styles]);
        assert_eq!(added(&styles, &[A]), [&expected[0], &expected[2], &expected[3]].map(Clone::clone));
        let fonts = preloads(&site, |config| config.preload = vec![Preload::Fonts]);
        assert_eq!(added(&fonts, &[A]), [&expected[1], &expected[4]].map(Clone::clone));
        assert!(added(&preloads(&site, |config| config.preload = Vec::new()), &[A]).is_empty());
    }

    #[test]
    fn only_stylesheets_that_are_preloaded_count() {
        let all = preloads(&["a.css: b.css", "my a.css: b.css"], |_| {});
        for (link, is_one) in [
            (A, true),
            ("</static/a.css?v=1#x>; rel=preload; as=style; crossorigin", true),
            ("</static/my%20a.css>; rel=preload; as=style", true),
            ("</%73tatic/a.css>; rel=\"preload\"; as=\"STYLE\"", true),
            ("</static/a.css>; rel=stylesheet", false),
            ("</static/a.css>; rel=preload; as=fetch", false),
            ("</static/a.css>; rel=prefetch; as=style", false),
            ("<a.css>; rel=preload; as=style", false),
            ("<https://other.test/static/a.css>; rel=preload; as=style", false),
            ("</static/b.css>; rel=preload; as=style", false),
            ("</static/%ff.css>; rel=preload; as=style", false),
        ] {
            assert_eq!(!added(&all, &[link]).is_empty(), is_one, "for {link}");
        }
        for (status, kind, is_page) in [
            (200, "text/html", true),
            (200, "Text/HTML; charset=utf-8", true),
            (200, "application/json", false),
            (404, "text/html", false),
            (304, "text/html", false),
        ] {
            let kind = (CONTENT_TYPE, HeaderValue::from_static(kind));
            let mut headers = HeaderMap::from_iter([kind, (LINK, HeaderValue::from_static(A))]);
            all.add(StatusCode::from_u16(status).expect("a status"), &mut headers);
            assert_eq!(headers.get_all(LINK).iter().count() == 2, is_page, "for {status}");
        }
    }

    #[test]
    fn there_is_a_bound_for_their_number_and_for_their_length() {
        let needs: Vec<_> = (0..50).map(|n| format!("{n}.css")).collect();
        let line = format!("a.css: {}", needs.join(" "));
        let site = [line.as_str(), "0.css: deep.css", "z.css: x.css y.css"];
        let of = |most: usize, longest| {
            let preloads = preloads(&site, |config| {
                config.max_preloads = most.try_into().expect("not zero");
                config.max_preload_size = ByteSize(longest);
            });
            added(&preloads, &[A, "</static/z.css>; rel=preload; as=style"])
        };
        assert_eq!(of(3, 1000), [style("0.css"), style("1.css"), style("2.css")]);
        let two = format!("{}, {}", style("0.css"), style("1.css")).len() as u64;
        assert_eq!((of(100, two).len(), of(100, two - 1).len(), of(100, 0).len()), (2, 1, 0));
        assert_eq!(of(100, 65536).len(), 53, "each once");
    }

    #[test]
    fn stylesheets_that_import_each_other_come_to_an_end() {
        let all = preloads(&["a.css: b.css", "b.css: a.css"], |_| {});
        assert_eq!(added(&all, &[A]), [style("b.css")]);
    }
}
