//! Finds the URLs of a page by the tokens of its HTML: what its elements load, its inline styles and
//! stylesheets, and, with modules followed, its inline scripts and import maps.
//!
//! Links for people stay as they are: `<a>`, `<area>`, forms, and a `<link>` that loads nothing. So does
//! what has a placeholder of a template in it, and an element with `integrity`, which holds for the
//! author's bytes only. Attributes count in lower case and the first of a name counts, as in browsers.
//!
//! The tokenizer follows the standard, but it does not build a tree: inside of `<svg>`, `<style>` and
//! `<script>` are taken for those of HTML, which differs in odd cases only.

use std::collections::BTreeMap;
use std::ops::Range;

use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};
use html5gum::{Span, Tokenizer};

use super::json;
use super::markup::{Value, moved};
use super::{Found, Link, Modules, Refusal, css, javascript};

/// Finds every URL.
pub(super) fn find(text: &str, modules: Modules) -> Found {
    let mut finder = Finder { text, modules, tag: None, inside: None, found: Found::default(), base: None };
    // The tokenizer gives nothing itself; all is done while it reads.
    let mut emitter = CallbackEmitter::new(|event: CallbackEvent<'_>, span: Span<usize>| -> Option<()> {
        finder.event(&event, span.start..span.end);
        None
    });
    emitter.naively_switch_states(true);
    for token in Tokenizer::new_with_emitter(text, emitter) {
        match token {
            Ok(()) => {}
        }
    }
    if let Some(base) = finder.base {
        return Found::refused(base, "it has a <base>, so its references are published as they are");
    }
    finder.found
}

/// A start tag that is being read.
#[derive(Debug)]
struct Tag {
    name: String,
    attributes: BTreeMap<String, Attribute>,
    last: Option<String>,
}

#[derive(Debug, Default)]
struct Attribute {
    value: String,
    span: Range<usize>,
}

/// What the text behind a start tag is.
#[derive(Debug, Clone, Copy)]
enum Text {
    Style,
    Script,
    ImportMap,
    /// What browsers without scripts read, as markup.
    Markup,
}

struct Finder<'t> {
    text: &'t str,
    modules: Modules,
    tag: Option<Tag>,
    inside: Option<(Text, usize)>,
    found: Found,
    /// Where a `<base>` has its URL.
    base: Option<usize>,
}

impl Finder<'_> {
    fn event(&mut self, event: &CallbackEvent<'_>, span: Range<usize>) {
        match event {
            CallbackEvent::OpenStartTag { name } => {
                self.tag = Some(Tag { name: lossy(name), attributes: BTreeMap::new(), last: None });
            }
            CallbackEvent::AttributeName { name } => {
                let Some(tag) = &mut self.tag else { return };
                let name = lossy(name);
                tag.last = (!tag.attributes.contains_key(&name)).then(|| name.clone());
                if tag.last.is_some() {
                    tag.attributes.insert(name, Attribute::default());
                }
            }
            CallbackEvent::AttributeValue { value } => {
                let Some(tag) = &mut self.tag else { return };
                if let Some(attribute) = tag.last.as_ref().and_then(|name| tag.attributes.get_mut(name)) {
                    *attribute = Attribute { value: lossy(value), span };
                }
            }
            CallbackEvent::CloseStartTag { .. } => {
                if let Some(tag) = self.tag.take() {
                    self.inside = tag.text().map(|text| (text, span.end));
                    self.element(&tag);
                }
            }
            CallbackEvent::EndTag { .. } => {
                // An end tag may have attributes, which mean nothing.
                self.tag = None;
                if let Some((text, start)) = self.inside.take() {
                    self.text(text, start..span.start);
                }
            }
            _ => {}
        }
    }

    fn element(&mut self, tag: &Tag) {
        if let Some(href) = tag.attributes.get("href").filter(|_| tag.name == "base") {
            self.base.get_or_insert(href.span.start);
        }
        let links: Vec<Link> =
            tag.attributes.iter().flat_map(|(name, attribute)| self.attribute(tag, name, attribute)).collect();
        if !links.is_empty() && tag.has("integrity") {
            self.found.refuse(
                links[0].span.start,
                format!("a <{}> has \"integrity\", so its reference stays as it is", tag.name),
            );
        } else {
            self.found.links.extend(links);
        }
    }

    fn attribute(&mut self, tag: &Tag, name: &str, attribute: &Attribute) -> Vec<Link> {
        let Some(kind) = tag.kind(name) else { return Vec::new() };
        if attribute.span.is_empty() || is_template(&attribute.value) {
            return Vec::new();
        }
        let raw = self.text.get(attribute.span.clone()).unwrap_or_default();
        let Some(value) = Value::of_html(raw, attribute.span.start, &attribute.value) else {
            let why = format!("it has character references in {raw:?}, which stays as it is");
            self.found.refuse(attribute.span.start, why);
            return Vec::new();
        };
        match kind {
            Kind::Url => value.link().into_iter().collect(),
            Kind::SourceSet => value.source_set(),
            Kind::Styles => value.styles(),
        }
    }

    fn text(&mut self, kind: Text, range: Range<usize>) {
        let Some(inside) = self.text.get(range.clone()) else { return };
        let found = match kind {
            Text::Markup => find(inside, self.modules),
            _ if is_template(inside) => return,
            Text::Style => css::find(inside),
            Text::Script if self.modules == Modules::Follow => javascript::find(inside, self.modules),
            Text::ImportMap if self.modules == Modules::Follow => import_map(inside),
            Text::Script | Text::ImportMap => return,
        };
        let found = moved(found, range.start);
        self.found.links.extend(found.links);
        if let Some(Refusal { why, at }) = found.refusal {
            let why = if let Text::Markup = kind { why } else { format!("an inline script cannot be read: {why}") };
            self.found.refuse(at, why);
        }
    }
}

/// What an attribute's value is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Url,
    SourceSet,
    Styles,
}

impl Tag {
    fn has(&self, attribute: &str) -> bool {
        self.attributes.contains_key(attribute)
    }

    fn value(&self, attribute: &str) -> &str {
        self.attributes.get(attribute).map_or("", |attribute| attribute.value.as_str())
    }

    fn kind(&self, attribute: &str) -> Option<Kind> {
        match (self.name.as_str(), attribute) {
            (_, "style") => Some(Kind::Styles),
            ("img" | "source", "srcset") => Some(Kind::SourceSet),
            ("link", "imagesrcset") if self.is_loading_link() => Some(Kind::SourceSet),
            ("link", "href") if self.is_loading_link() => Some(Kind::Url),
            (
                "img" | "source" | "video" | "audio" | "track" | "embed" | "iframe" | "frame" | "script" | "input",
                "src",
            )
            | ("video", "poster")
            | ("object", "data")
            | ("body" | "table" | "td" | "th", "background")
            | ("image" | "use" | "feimage", "href" | "xlink:href") => Some(Kind::Url),
            _ => None,
        }
    }

    /// Whether a `<link>` has its resource loaded, as opposed to telling of a page.
    fn is_loading_link(&self) -> bool {
        let is_loading = |rel: &str| {
            const LOADING: [&str; 9] = [
                "apple-touch-icon",
                "apple-touch-icon-precomposed",
                "apple-touch-startup-image",
                "icon",
                "manifest",
                "mask-icon",
                "modulepreload",
                "preload",
                "stylesheet",
            ];
            LOADING.iter().any(|loading| rel.eq_ignore_ascii_case(loading))
        };
        self.value("rel").split_ascii_whitespace().any(is_loading)
    }

    /// What the text behind this tag is. A script of a type that no browser runs is data.
    fn text(&self) -> Option<Text> {
        match self.name.as_str() {
            "style" => Some(Text::Style),
            "noscript" => Some(Text::Markup),
            "script" if self.has("src") => None,
            "script" => match self.value("type").trim().to_ascii_lowercase().as_str() {
                "" | "module" | "text/javascript" | "application/javascript" => Some(Text::Script),
                "importmap" => Some(Text::ImportMap),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The URLs of an import map, in `imports` and in each of the `scopes` (HTML, section 8.1.6.2).
///
/// The names on the left stay: those that are URLs are compared with what scripts ask for.
fn import_map(text: &str) -> Found {
    let map = match json::Value::read(text) {
        Ok(map) => map.members(),
        Err(refusal) => return Found { links: Vec::new(), refusal: Some(refusal) },
    };
    let scopes = map.get("scopes").map(|scopes| scopes.members()).unwrap_or_default();
    let maps = map.get("imports").into_iter().copied().chain(scopes.into_values());
    let links = maps.flat_map(|map| map.members().into_values().filter_map(json::Value::link)).collect();
    Found { links, refusal: None }
}

/// Whether something will still be put in by a template, here or in the browser.
fn is_template(text: &str) -> bool {
    ["{{", "{%", "<%"].iter().any(|mark| text.contains(mark))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str) -> Vec<(&str, String)> {
        let mut found = find(text, Modules::Follow);
        assert_eq!(found.refusal, None, "for {text}");
        found.links.sort_by_key(|link| link.span.start);
        found.links.into_iter().map(|link| (&text[link.span], link.url)).collect()
    }

    #[test]
    fn each_form_of_reference_is_found_with_its_exact_bytes() {
        for (text, raw, url) in [
            ("<img src=a.png>", "a.png", "a.png"),
            ("<IMG\n SRC = 'a.png' >", "a.png", "a.png"),
            ("<p>é<img alt=\"é\" src=\"é.png\">", "é.png", "é.png"),
            ("<img src='a&amp;b.png'>", "a&amp;b.png", "a&b.png"),
            ("<img src='a.png?b&copy=c&d'>", "a.png?b&copy=c&d", "a.png?b&copy=c&d"), // no references
            ("<img src='a\r\nb.png'>", "a\r\nb.png", "a\r\nb.png"),
            ("<img src='a.png?b&copy=c&d'>", "a.png?b&copy=c&d", "a.png?b&copy=c&d"), // no references
            ("<link rel=stylesheet href=a.css>", "a.css", "a.css"),
            ("<link href='a.ico' rel='shortcut ICON'>", "a.ico", "a.ico"),
            ("<link rel=preload as=image imagesrcset='a.png 2x'>", "a.png", "a.png"),
            ("<script src=a.js></script>", "a.js", "a.js"),
            ("<video poster=a.png></video>", "a.png", "a.png"),
            ("<object data=a.svg></object>", "a.svg", "a.svg"),
            ("<div style=\"background: url('a.png')\">", "a.png", "a.png"),
            ("<div style='background: url(&quot;a.png&quot;)'>", "a.png", "a.png"),
            ("<style>a > b{c:url(a.png)}</style>", "a.png", "a.png"),
            ("<svg><use xlink:href='a.svg#b'/></svg>", "a.svg#b", "a.svg#b"),
            ("<script type=module>import './a.js'</script>", "./a.js", "./a.js"),
            ("<script>if (1 < 2) import('./a.js')</script>", "./a.js", "./a.js"),
            ("<script type=importmap>{\"imports\":{\"b\":\"./a.js\"}}</script>", "./a.js", "./a.js"),
            ("<script type=importmap>{\"scopes\":{\"/c/\":{\"b\":\"./a.js\"}}}</script>", "./a.js", "./a.js"),
            ("<img src=a.png src=b.png>", "a.png", "a.png"),
        ] {
            assert_eq!(urls(text), [(raw, url.to_owned())], "for {text}");
        }
    }

    #[test]
    fn every_image_of_a_source_set_is_found() {
        let text = "<img src=a.png srcset='b.png 1x, c&#46;png 2x'><source srcset=d.png>";
        let expected = [("a.png", "a.png"), ("b.png", "b.png"), ("c&#46;png", "c.png"), ("d.png", "d.png")];
        assert_eq!(urls(text), expected.map(|(raw, url)| (raw, url.to_owned())));
    }

    #[test]
    fn what_only_looks_like_a_reference_is_left_alone() {
        for text in [
            "<a href=a.html>b</a><form action=c.html></form><area href=d.html>",
            "<link rel=canonical href=a.html><link rel=next href=b.html><link href=c.html>",
            "<!-- <img src=a.png> -->",
            "<textarea><img src=a.png></textarea><title><img src=b.png></title>",
            "<script>'<img src=a.png>'</script>",
            "<script type='text/template'>import './a.js'</script>",
            "<script type=importmap>{\"imports\":{\"./a.js\":null}}</script>",
            "<img data-src=a.png src=''>",
            "<img src='{{ url }}/a.png'><img src=\"{% static 'a.png' %}\">",
            "</img src=a.png>",
            "<img src=a.png",
        ] {
            assert!(urls(text).is_empty(), "for {text}");
        }
    }

    #[test]
    fn without_modules_scripts_and_import_maps_are_left_alone() {
        let text = "<script type=module>import './a.js'</script><script type=importmap>{\"imports\":{\"b\":\"./a.js\"}}</script>";
        assert_eq!(find(text, Modules::Leave), Found::default());
    }

    #[test]
    fn what_cannot_be_told_for_sure_stays_and_is_told() {
        for (text, why) in [
            ("<base href='/other/'><img src=a.png>", "<base>"),
            ("<script src=a.js integrity='sha256-x'></script>", "integrity"),
            ("<img src='a&nbsp;b.png'>", "character references"),
            ("<img src='a?b&copy'>", "character references"),
            ("<script type=module>import './a.js' ((</script>", "not JavaScript"),
            ("<script type=importmap>{</script>", "not JSON"),
        ] {
            let found = find(text, Modules::Follow);
            assert!(found.refusal.as_ref().is_some_and(|told| told.why.contains(why)), "for {text}: {found:?}");
            assert_eq!(found.links, [], "for {text}");
        }
        assert_eq!(urls("<base target=_blank><img src=a.png>").len(), 1);
    }
}
