//! Finds the URLs of an SVG image by its XML: `href` and `xlink:href` of elements that load or use
//! something, `url(…)` in presentation attributes and in `style`, stylesheets inside of it and beside it.
//!
//! A link for people, `<a href>`, stays as it is, and so do what an editor keeps for itself and the inside
//! of scripts. Elements and attributes go by their local names: files from editors bind odd prefixes, and
//! there is no other `image` with an `href`. XML that is not well-formed is left alone, as no browser
//! shows it.

use std::ops::Range;

use quick_xml::Reader;
use quick_xml::events::{BytesEnd, BytesStart, Event};

use super::markup::{Value, moved, offset_in};
use super::{Found, css};

/// Elements that have what is behind their `href` loaded, or take a part of it.
const LOADING: [&str; 24] = [
    "altGlyph",
    "animate",
    "animateColor",
    "animateMotion",
    "animateTransform",
    "color-profile",
    "cursor",
    "discard",
    "feImage",
    "filter",
    "font-face-uri",
    "glyphRef",
    "hatch",
    "image",
    "linearGradient",
    "meshgradient",
    "mpath",
    "pattern",
    "radialGradient",
    "script",
    "set",
    "textPath",
    "tref",
    "use",
];

/// Attributes that are declarations or values of CSS, and can hold a URL.
const STYLING: [&str; 13] = [
    "clip-path",
    "color-profile",
    "cursor",
    "fill",
    "filter",
    "marker",
    "marker-end",
    "marker-mid",
    "marker-start",
    "mask",
    "mask-image",
    "stroke",
    "style",
];

/// Finds every URL.
pub(super) fn find(text: &str) -> Found {
    // Nearly every image has none of these, and need not be read.
    if !["href", "(", "import"].iter().any(|word| text.contains(word)) {
        return Found::default();
    }
    let mut finder = Finder { text, open: Vec::new(), style: None, found: Found::default() };
    let mut reader = Reader::from_str(text);
    match finder.read(&mut reader) {
        Ok(()) if finder.open.is_empty() => finder.found,
        Ok(()) => refused(text.len(), "an element is not closed"),
        Err(why) => {
            // An attribute's error is known only once its element has been read.
            let at = [reader.error_position(), reader.buffer_position()].into_iter().find(|at| *at > 0);
            let at = at.and_then(|at| usize::try_from(at).ok()).unwrap_or_default();
            refused(at.min(text.len()), &why.to_string())
        }
    }
}

fn refused(at: usize, why: &str) -> Found {
    Found::refused(at, format!("it is not well-formed XML ({why}); its references are published as they are"))
}

struct Finder<'t> {
    text: &'t str,
    open: Vec<String>,
    /// Where the text of a `style` element begins.
    style: Option<usize>,
    found: Found,
}

impl Finder<'_> {
    fn read(&mut self, reader: &mut Reader<&[u8]>) -> Result<(), quick_xml::Error> {
        loop {
            match reader.read_event()? {
                Event::Start(start) => {
                    self.element(&start)?;
                    let name = local(start.name().0);
                    if name == "style" {
                        self.style = offset_in(self.text, &start).map(|offset| offset + start.len() + ">".len());
                    }
                    self.open.push(name.to_owned());
                }
                Event::Empty(start) => self.element(&start)?,
                Event::End(end) => self.close(&end),
                Event::PI(instruction) if instruction.target() == "xml-stylesheet" => {
                    for attribute in instruction.attributes() {
                        let attribute = attribute?;
                        if attribute.key.0 == "href" {
                            self.value(&attribute.value, Kind::Url);
                        }
                    }
                }
                Event::Eof => return Ok(()),
                _ => {}
            }
        }
    }

    fn close(&mut self, end: &BytesEnd<'_>) {
        if self.open.pop().is_some_and(|name| name == "style") {
            let inside = self.style.take().zip(offset_in(self.text, end));
            self.style_element(inside.map(|(start, end)| start..end - "</".len()));
        }
    }

    fn element(&mut self, start: &BytesStart<'_>) -> Result<(), quick_xml::Error> {
        let is_loading = LOADING.contains(&local(start.name().0));
        for attribute in start.attributes() {
            let attribute = attribute?;
            match local(attribute.key.0) {
                "href" if is_loading => self.value(&attribute.value, Kind::Url),
                name if STYLING.contains(&name) => self.value(&attribute.value, Kind::Styles),
                _ => {}
            }
        }
        Ok(())
    }

    fn value(&mut self, raw: &str, kind: Kind) {
        let value = offset_in(self.text, raw).and_then(|offset| Value::of_xml(raw, offset));
        match (value, kind) {
            (Some(value), Kind::Url) => self.found.links.extend(value.link()),
            (Some(value), Kind::Styles) => self.found.links.extend(value.styles()),
            (None, _) => {
                let at = offset_in(self.text, raw);
                self.found.refuse(at, format!("it has entities in {raw:?}, which stays as it is"));
            }
        }
    }

    /// In XML, a comment inside of a stylesheet is no part of it, and CDATA has no references.
    fn style_element(&mut self, inside: Option<Range<usize>>) {
        const SECTION: &str = "<![CDATA[";
        let Some(range) = inside.filter(|range| self.text.get(range.clone()).is_some()) else { return };
        let inside = &self.text[range.clone()];
        let section = inside.trim().strip_prefix(SECTION).and_then(|rest| rest.strip_suffix("]]>"));
        if let Some(section) = section.filter(|section| !section.contains("]]>")) {
            let offset = range.start + inside.len() - inside.trim_start().len() + SECTION.len();
            self.found.links.extend(moved(css::find(section), offset).links);
        } else if inside.contains('<') {
            self.found.refuse(range.start, "its stylesheet has comments or several sections in it, and stays as it is");
        } else {
            self.value(inside, Kind::Styles);
        }
    }
}

/// What a value is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A URL.
    Url,
    /// CSS.
    Styles,
}

/// A name without its prefix.
fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str) -> Vec<(&str, String)> {
        let found = find(text);
        assert_eq!(found.refusal, None, "for {text}");
        found.links.into_iter().map(|link| (&text[link.span], link.url)).collect()
    }

    #[test]
    fn each_form_of_reference_is_found_with_its_exact_bytes() {
        for (text, raw, url) in [
            ("<svg><image href='a.png'/></svg>", "a.png", "a.png"),
            ("<svg><image xlink:href = \"a.png\"></image></svg>", "a.png", "a.png"),
            ("<s:svg xmlns:s='x'><s:use x:href='a.svg#b'/></s:svg>", "a.svg#b", "a.svg#b"),
            ("<svg><filter><feImage href='a.png'/></filter></svg>", "a.png", "a.png"),
            ("<svg><script href='a.js'/></svg>", "a.js", "a.js"),
            ("<svg><image href='a&amp;b&#46;png'/></svg>", "a&amp;b&#46;png", "a&b.png"),
            ("<svg><rect fill='url(a.svg#b) red'/></svg>", "a.svg#b", "a.svg#b"),
            ("<svg><rect style='fill: url(&quot;a.svg#b&quot;)'/></svg>", "a.svg#b", "a.svg#b"),
            ("<svg><rect style=\"mask:URL( 'a.svg' )\"/></svg>", "a.svg", "a.svg"),
            ("<svg><style>a{b:url(a.png)}</style></svg>", "a.png", "a.png"),
            ("<svg><style>a &gt; b{b:url(a.png)}</style></svg>", "a.png", "a.png"),
            ("<svg><style>\n<![CDATA[ a>b{b:url('a&amp;.png')} ]]></style></svg>", "a&amp;.png", "a&amp;.png"),
            ("<?xml version='1.0'?><?xml-stylesheet type='text/css' href='a.css'?><svg/>", "a.css", "a.css"),
            ("\u{feff}<svg><image href='a.png'/></svg>", "a.png", "a.png"),
            ("<!DOCTYPE svg [<!ENTITY a 'b'>]><svg><image href='a.png' b='&a;'/></svg>", "a.png", "a.png"),
            ("<svg><g>é</g><image href='é.png'/></svg>", "é.png", "é.png"),
        ] {
            assert_eq!(urls(text), [(raw, url.to_owned())], "for {text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_reference_is_left_alone() {
        for text in [
            "<svg><a href='a.html' xlink:href='b.html'>href</a></svg>",
            "<svg><!-- <image href='a.png'/> --></svg>",
            "<svg><text>url(a.png) &lt;image href='a.png'/></text></svg>",
            "<svg><![CDATA[<image href='a.png'/>]]></svg>",
            "<svg><image absref='a.png' data-href='b.png'/></svg>",
            "<svg><text class='url(a.png)'/></svg>",
            "<svg><style>/* url(a.png) */</style></svg>",
            "<svg><script>import('./a.js')</script></svg>",
            "<svg><image href=''/></svg>",
            "<!DOCTYPE svg [<!ENTITY a \"<image href='a.png'/>\">]><svg/>",
        ] {
            assert!(urls(text).is_empty(), "for {text}");
        }
    }

    #[test]
    fn what_is_not_well_formed_is_told_and_has_no_links() {
        for text in [
            "<svg><image href='a.png'></svg>",
            "<svg><image href='a.png'/>",
            "<svg><image href='a.png' href='b.png'/></svg>",
            "<svg><image href=a.png/></svg>",
            "<svg><image href='a.png/></svg>",
        ] {
            let found = find(text);
            assert!(
                found.refusal.is_some_and(|refusal| refusal.why.starts_with("it is not well-formed XML")),
                "for {text}"
            );
            assert_eq!(found.links, [], "for {text}");
        }
    }

    #[test]
    fn what_is_only_partly_understood_is_told() {
        for text in [
            "<svg><image href='&base;a.png'/><image href='b.png'/></svg>",
            "<svg><style><!-- a{b:url(a.png)} --></style><image href='b.png'/></svg>",
            "<svg><style>a{b:url(<![CDATA[a.png)}]]></style><image href='b.png'/></svg>",
            "<svg><style>a{b:url(a.png)}<g></g></style><image href='b.png'/></svg>",
        ] {
            let found = find(text);
            assert!(found.refusal.is_some_and(|refusal| refusal.why.contains("as it is")), "for {text}");
            assert_eq!(found.links.iter().map(|link| &link.url).collect::<Vec<_>>(), ["b.png"], "for {text}");
        }
    }

    #[test]
    fn any_depth_is_read() {
        let text = format!("{}<image href='a.png'/>{}", "<g>".repeat(200_000), "</g>".repeat(200_000));
        assert_eq!(urls(&text).len(), 1);
    }
}
