//! What holds for every language.

use proptest::prelude::*;

use super::form::Place;
use super::*;

const LANGUAGES: [Language; 5] =
    [Language::Css, Language::JavaScript, Language::Svg, Language::Html, Language::WebManifest];

/// Real pieces of each language, out of which odd texts are made.
const SNIPPETS: [&str; 24] = [
    "@import url(\"a.css\") layer(b) supports(c: d) screen;",
    "@font-face{src:url('a.eot?#iefix') format('x'),url(b.woff2)}",
    "a{b:image-set('a.png' 1x, url(b\\.png) 2x);--c:url( d.png )}",
    "@namespace url(http://www.w3.org/1999/xhtml);",
    "/*# sourceMappingURL=a.css.map */",
    "url(my file.png)",
    "import a, { b as c } from './a.js' with { type: 'json' };",
    "export * from \"../b.js\";",
    "const d = new Worker(new URL('./w.js', import.meta.url), { type: 'module' });",
    "`${a}` + import(`./c.js`) + /[\"'`]/.test(e)",
    "//# sourceMappingURL=a.js.map\n",
    "<svg xmlns:xlink='x'><image xlink:href='a&amp;b.png'/></svg>",
    "<rect fill='url(#a)' style=\"mask: url(&quot;b.svg#c&quot;)\"/>",
    "<style><![CDATA[a{b:url(c.png)}]]></style>",
    "<?xml-stylesheet href='a.css'?>",
    "<!DOCTYPE svg [<!ENTITY a 'b'>]>",
    "<img src=a.png srcset=\"b.png 1x, c.png 2x\">",
    "<link rel=\"icon stylesheet\" href='d.css'>",
    "<script type=module>import './a.js'</script>",
    "<script type=importmap>{\"imports\":{\"a\":\"./b.js\"}}</script>",
    "<!-- <img src=a.png> -->",
    "{\"icons\":[{\"src\":\"a\\/b\\u00e9.png\"}],\"shortcuts\":[{\"icons\":[{\"src\":\"c.png\"}]}]}",
    "é\u{feff}\0\r\n\u{10ffff}",
    "((([[[{{{\\\\\\\"''``",
];

/// Snippets one after the other, with some of their bytes cut out, doubled or changed.
fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let snippets = prop::collection::vec(prop::sample::select(&SNIPPETS[..]), 1..5);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..6);
    (snippets, changes).prop_map(|(snippets, changes)| {
        let mut bytes = snippets.concat().into_bytes();
        for (at, byte, kind) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte % 128,
                1 => bytes.insert(at, b"<>\"'(){}&;\\/*\n"[usize::from(byte) % 14]),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at),
            }
        }
        bytes
    })
}

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    for language in LANGUAGES {
        let mut end = 0;
        for link in find(language, bytes, Modules::Follow).links {
            let text = std::str::from_utf8(bytes).expect("links are found in text only");
            let written = text.get(link.span.clone());
            prop_assert!(written.is_some(), "{language:?} {link:?}");
            prop_assert!(link.span.start >= end && !link.span.is_empty(), "{language:?} {link:?}");
            prop_assert!(link.form != Form::AsItIs || written == Some(&link.url), "{language:?} {link:?}");
            end = link.span.end;
        }
    }
    Ok(())
}

/// Writes every URL anew and answers with what is found then.
fn rewritten(language: Language, bytes: &[u8], url: impl Fn(&str) -> String) -> Option<Vec<String>> {
    let links = find(language, bytes, Modules::Follow).links;
    let edits: Vec<_> = links.into_iter().map(|link| (link.span, link.form.write(&url(&link.url)))).collect();
    let bytes = crate::collect::rewrite::rewrite(bytes, &edits);
    let found = find(language, &bytes, Modules::Follow);
    found.refusal.is_none().then(|| found.links.into_iter().map(|link| link.url).collect())
}

proptest! {
    #[test]
    fn no_finder_panics_on_any_bytes(bytes: Vec<u8>) {
        check(&bytes)?;
    }

    #[test]
    fn links_lie_inside_the_text_at_characters_and_in_order(bytes in mangled()) {
        check(&bytes)?;
    }

    #[test]
    fn a_url_that_is_written_anew_means_the_same(bytes in mangled()) {
        for language in LANGUAGES {
            let found = find(language, &bytes, Modules::Follow);
            if found.refusal.is_none() {
                let urls = found.links.into_iter().map(|link| link.url).collect();
                prop_assert_eq!(rewritten(language, &bytes, str::to_owned), Some(urls), "{:?}", language);
            }
        }
    }

    /// Whatever stands before and after it, a hash that is put into a URL is there when it is read again.
    #[test]
    fn a_hash_in_a_url_is_read_back(bytes in mangled()) {
        for language in LANGUAGES {
            let found = find(language, &bytes, Modules::Follow);
            if found.refusal.is_none() {
                let hashed = |url: &str| format!("{url}.0a1b2c3d4e5f");
                let urls = found.links.into_iter().map(|link| hashed(&link.url)).collect();
                prop_assert_eq!(rewritten(language, &bytes, hashed), Some(urls), "{:?}", language);
            }
        }
    }

    #[test]
    fn what_is_written_reads_back_as_itself(url in r#"[a-z/.\\"'() é$`{<>&=]{1,20}"#) {
        prop_assume!(!url.contains("{{")); // a template's
        let (plain, in_markup) = (Form::Plain, Form::InMarkup);
        let module = format!("./{url}");
        let svg = |form: Form, url: &str| format!("<svg><rect style='a:url({})'/></svg>", form.write(url));
        let string = |form: Form, url: &str| format!("<svg><rect style='a:url(\"{}\")'/></svg>", form.write(url));
        for (language, url, text) in [
            (Language::Css, &url, format!("a{{b:url({})}}", plain(Place::CssBare).write(&url))),
            (Language::Css, &url, format!("a{{b:url({})}}", plain(Place::CssBroken).write(&url))),
            (Language::Css, &url, format!("a{{b:url(\"{}\")}}", plain(Place::CssString('"')).write(&url))),
            (Language::Css, &url, format!("a{{b:url('{}')}}", plain(Place::CssString('\'')).write(&url))),
            (Language::JavaScript, &module, format!("import(\"{}\")", plain(Place::JavaScriptString('"')).write(&module))),
            (Language::JavaScript, &module, format!("import('{}')", plain(Place::JavaScriptString('\'')).write(&module))),
            (Language::JavaScript, &module, format!("import(`{}`)", plain(Place::JavaScriptString('`')).write(&module))),
            (Language::WebManifest, &url, format!("{{\"icons\":[{{\"src\":\"{}\"}}]}}", plain(Place::JsonString).write(&url))),
            (Language::Svg, &url, format!("<svg><image href='{}'/></svg>", in_markup(Place::Bare).write(&url))),
            (Language::Svg, &url, svg(in_markup(Place::CssBare), &url)),
            (Language::Svg, &url, string(in_markup(Place::CssString('"')), &url)),
            (Language::Html, &url, format!("<img src={}>", in_markup(Place::Bare).write(&url))),
            (Language::Html, &url, format!("<style>a{{b:url('{}')}}</style>", plain(Place::CssString('\'')).write(&url))),
            (Language::Html, &module, format!("<script>import('{}')</script>", plain(Place::JavaScriptString('\'')).write(&module))),
        ] {
            let found = find(language, text.as_bytes(), Modules::Follow);
            prop_assert_eq!(found.links.first().map(|link| &link.url), Some(url), "{}: {:?}", text, found);
        }
    }
}

#[test]
fn what_the_author_wrote_without_escapes_stays() {
    for (language, text) in [
        (Language::Css, "a{b:url(a.png)}"),
        (Language::Svg, "<svg><rect style='a:url(&quot;a.png&quot;)'/></svg>"),
        (Language::Html, "<img src=a.png>"),
    ] {
        let found = find(language, text.as_bytes(), Modules::Follow);
        assert_eq!(found.links.first().map(|link| link.form), Some(Form::AsItIs), "for {text}");
    }
}

#[test]
fn bytes_that_are_no_text_are_told() {
    for language in LANGUAGES {
        let found = find(language, b"a{b:url(x.png)} /* caf\xe9 */", Modules::Follow);
        assert!(
            found.refusal.is_some_and(|refusal| refusal.at == Some(22) && refusal.why.starts_with("it is not UTF-8"))
                && found.links.is_empty()
        );
    }
}

#[test]
fn a_refusal_says_where() {
    for (language, text, expected) in [
        (Language::JavaScript, "import './a.js';\nlet = = 1;", "= 1"),
        (Language::JavaScript, "import {a from './a.js'", "from"),
        (Language::Svg, "<svg>\n<use href='a.svg'></svg>", "</svg>"),
        (Language::Svg, "<svg>\n<use href='a.svg' href='b.svg'/></svg>", "</svg>"),
        (Language::WebManifest, "\u{feff}{\n \"icons\": [ü]}", "ü"),
        (Language::Html, "<p>\n<base href=a><img src=b.png>", "a>"),
        (Language::Html, "<p>\n<script type=module>import './a.js'; let = = 1</script>", "= 1"),
        (Language::Html, "<link rel=stylesheet integrity=x href=a.css>", "a.css"),
    ] {
        let refusal = find(language, text.as_bytes(), Modules::Follow).refusal.expect(text);
        assert!(text[refusal.at.expect(text)..].starts_with(expected), "{refusal:?} for {text}");
    }
}
