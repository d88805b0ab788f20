//! Finds the URLs of a script by parsing it: source-map comments always, the rest on demand.
//!
//! The rest is: the specifiers of `import` (with attributes or without), `export … from`, `import()` and
//! `import.meta.resolve()`, and the URL of `new URL("…", import.meta.url)`, inside of `new Worker(…)` or
//! not. Only specifiers that begin with `.` or `/` are URLs of ours; bare ones are for import maps. Other
//! strings may be anything, so that `new Worker("x.js")` and `fetch("x.json")` stay as they are. The parser
//! is `oxc`, whose interface changes with every release, so nothing else names it.
//!
//! No browser runs JSX, but scripts with it are delivered to be translated there, and Django follows their
//! imports. So what is no JavaScript is tried once more as JSX.
//!
//! A script that has neither word in it is not parsed at all. One that the parser refuses keeps its
//! imports; a source-map comment on its last line, where tools put it, is still found.

use std::sync::{Mutex, PoisonError};
use std::thread;

use oxc_allocator::Allocator;
use oxc_ast::ast::{
    Argument, CallExpression, ExportAllDeclaration, ExportFromDeclaration, Expression, ImportDeclaration,
    ImportExpression, NewExpression, StringLiteral,
};
use oxc_ast_visit::{Visit, walk};
use oxc_parser::Parser;
use oxc_span::{SourceType, Span};

use super::form::Place;
use super::nesting::stack_for;
use super::{Form, Found, Link, Modules, Purpose, Refusal, source_map};

/// Up to here, the stack of any thread of `collect` suffices.
const HALF_A_STACK: usize = crate::collect::STACK_SIZE / 2;

/// The largest stack to ask for. It is address space, and becomes memory only where it is used.
const LARGEST_STACK: usize = 2 << 30;

/// Of larger scripts, in bytes, one is parsed at a time: its tree takes some twenty times as much memory.
const LARGE: usize = 2 << 20;
static TURN: Mutex<()> = Mutex::new(());

/// Finds every URL.
pub(super) fn find(text: &str, modules: Modules) -> Found {
    let has_imports = modules == Modules::Follow && ["import", "export"].iter().any(|word| text.contains(word));
    if !has_imports && !text.contains("sourceMappingURL=") {
        return Found::default();
    }
    let stack = stack_for(text);
    if stack > LARGEST_STACK {
        return refused(text, None, "it may have too many brackets or operators inside each other");
    }
    if stack <= HALF_A_STACK {
        return parse(text, has_imports);
    }
    let thread = thread::Builder::new().stack_size(HALF_A_STACK + stack);
    thread::scope(|scope| match thread.spawn_scoped(scope, || parse(text, has_imports)).map(|thread| thread.join()) {
        Ok(Ok(found)) => found,
        Ok(Err(_)) => refused(text, None, "the parser broke down over it"),
        Err(why) => refused(text, None, &format!("the system gives no stack to read it with ({why})")),
    })
}

fn parse(text: &str, has_imports: bool) -> Found {
    let _turn = (text.len() > LARGE).then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner));
    let plain = SourceType::unambiguous();
    match links_of(text, plain, has_imports).or_else(|why| {
        // The first answer is about what is most likely meant.
        links_of(text, plain.with_jsx(true), has_imports).map_err(|_| why)
    }) {
        Ok(links) => Found { links, refusal: None },
        Err((why, at)) => refused(text, at, &format!("it is not JavaScript ({why})")),
    }
}

fn links_of(text: &str, kind: SourceType, has_imports: bool) -> Result<Vec<Link>, (String, Option<usize>)> {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, text, kind).parse();
    if parsed.panicked {
        let Some(first) = parsed.diagnostics.iter().next() else { return Err(("no reason given".to_owned(), None)) };
        let at = first.labels.iter().next().map(|label| text.len().min(label.offset() as usize));
        return Err((first.to_string(), at));
    }
    let mut finder = Finder { text, links: Vec::new() };
    for comment in &parsed.program.comments {
        finder.comment(comment.content_span());
    }
    if has_imports {
        finder.visit_program(&parsed.program);
    }
    Ok(finder.links)
}

fn refused(text: &str, at: Option<usize>, why: &str) -> Found {
    let kept = "its references are published as they are";
    Found {
        links: last_line_comment(text).into_iter().collect(),
        refusal: Some(Refusal { why: format!("{why}; {kept}"), at }),
    }
}

fn last_line_comment(text: &str) -> Option<Link> {
    let trimmed = text.trim_end();
    let start = trimmed.rfind('\n').map_or(0, |newline| newline + 1);
    let comment = trimmed[start..].strip_prefix("//")?;
    Some(source_map_link(comment, start + 2, source_map::url_in_comment(comment)?))
}

fn source_map_link(comment: &str, start: usize, range: std::ops::Range<usize>) -> Link {
    Link {
        url: comment[range.clone()].to_owned(),
        span: start + range.start..start + range.end,
        form: Form::Plain(Place::Bare),
        purpose: Purpose::SourceMap,
    }
}

struct Finder<'t> {
    text: &'t str,
    links: Vec<Link>,
}

impl Finder<'_> {
    fn comment(&mut self, span: Span) {
        // Comments that HTML brings in (`<!--`) are longer than their marker; their spans may not be.
        let Some(comment) = self.text.get(span.start as usize..span.end as usize) else { return };
        if let Some(range) = source_map::url_in_comment(comment) {
            self.links.push(source_map_link(comment, span.start as usize, range));
        }
    }

    fn specifier(&mut self, literal: &StringLiteral<'_>) {
        if !literal.lone_surrogates && is_path(literal.value.as_str()) {
            self.url(literal.span, literal.value.as_str());
        }
    }

    fn url(&mut self, span: Span, url: &str) {
        let (start, end) = (span.start as usize, span.end as usize);
        let quote = self.text.get(start..end).and_then(|raw| raw.chars().next());
        let Some(quote @ ('"' | '\'' | '`')) = quote else { return };
        if end - start >= 2 {
            self.links.push(Link {
                span: start + 1..end - 1,
                url: url.to_owned(),
                form: Form::Plain(Place::JavaScriptString(quote)),
                purpose: Purpose::Content,
            });
        }
    }
}

/// Whether a specifier is a URL of ours, as opposed to a name in an import map.
fn is_path(specifier: &str) -> bool {
    specifier.starts_with(['.', '/'])
}

/// The text of a string, or of a template without expressions.
fn text_of<'e>(expression: Option<&'e Expression<'_>>) -> Option<(Span, &'e str)> {
    match expression? {
        Expression::StringLiteral(literal) if !literal.lone_surrogates => Some((literal.span, literal.value.as_str())),
        Expression::TemplateLiteral(literal) if literal.expressions.is_empty() => {
            let cooked = literal.quasis.first()?.value.cooked.as_ref()?;
            Some((literal.span, cooked.as_str()))
        }
        _ => None,
    }
}

fn is_import_meta_member(expression: &Expression<'_>, name: &str) -> bool {
    let Expression::StaticMemberExpression(member) = expression else { return false };
    matches!(member.object, Expression::ImportMeta(_)) && member.property.name == name
}

impl<'a> Visit<'a> for Finder<'_> {
    fn visit_import_declaration(&mut self, it: &ImportDeclaration<'a>) {
        self.specifier(&it.source);
    }

    fn visit_export_from_declaration(&mut self, it: &ExportFromDeclaration<'a>) {
        self.specifier(&it.source);
    }

    fn visit_export_all_declaration(&mut self, it: &ExportAllDeclaration<'a>) {
        self.specifier(&it.source);
    }

    fn visit_import_expression(&mut self, it: &ImportExpression<'a>) {
        if let Some((span, url)) = text_of(Some(&it.source)).filter(|(_, url)| is_path(url)) {
            self.url(span, url);
        }
        walk::walk_import_expression(self, it);
    }

    fn visit_call_expression(&mut self, it: &CallExpression<'a>) {
        let argument = it.arguments.first().and_then(Argument::as_expression);
        if is_import_meta_member(&it.callee, "resolve")
            && let Some((span, url)) = text_of(argument).filter(|(_, url)| is_path(url))
        {
            self.url(span, url);
        }
        walk::walk_call_expression(self, it);
    }

    fn visit_new_expression(&mut self, it: &NewExpression<'a>) {
        let mut arguments = it.arguments.iter().map(Argument::as_expression);
        let (url, base) = (arguments.next().flatten(), arguments.next().flatten());
        if matches!(&it.callee, Expression::Identifier(callee) if callee.name == "URL")
            && base.is_some_and(|base| is_import_meta_member(base, "url"))
            && let Some((span, url)) = text_of(url)
        {
            self.url(span, url);
        }
        walk::walk_new_expression(self, it);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str, modules: Modules) -> Vec<String> {
        find(text, modules).links.into_iter().map(|link| text[link.span].to_owned()).collect()
    }

    #[test]
    fn each_form_of_import_is_found() {
        for (text, expected) in [
            ("import a from './x.js'", "./x.js"),
            ("import * as a from \"./x.js\";", "./x.js"),
            ("import{a}from'./x.js'", "./x.js"),
            ("import './x.js'", "./x.js"),
            ("import d from './x.json' with { type: 'json' }", "./x.json"),
            ("export * from '/static/x.js'", "/static/x.js"),
            ("export { a } from '../x.js'", "../x.js"),
            ("const a = () => import( './x.js' )", "./x.js"),
            ("import(`./x.js`)", "./x.js"),
            ("export const a = import('./x.js')", "./x.js"),
            ("var r = /\"/; import d from './x.js'", "./x.js"), // the quote in the regular expression
            ("if (a) { import('./x.js') } with (b) {}", "./x.js"), // a script, not a module
            ("import{a as b}from\"./x.js\"with{type:\"css\"}", "./x.js"),
            ("export * as a from './x.js'", "./x.js"),
            ("import a, * as b from './x.js'", "./x.js"),
            ("import(/* webpackIgnore: true */ './x.js', { with: {} })", "./x.js"),
            ("import.meta.resolve('./x.js')", "./x.js"),
            ("new URL('./x.js', import.meta.url)", "./x.js"),
            ("new URL('x.png', import.meta.url).href", "x.png"), // relative to the script, with or without a dot
            ("new URL(`x.png`, import.meta.url)", "x.png"),
            ("new Worker(new URL('./x.js', import.meta.url), { type: 'module' })", "./x.js"),
            ("new SharedWorker(new URL('./x.js', import.meta.url))", "./x.js"),
            ("navigator.serviceWorker.register(new URL('./x.js', import.meta.url))", "./x.js"),
            ("import './x.js'; const a = <b c='./y.js'>import './z.js'</b>", "./x.js"), // JSX
            ("#!/usr/bin/env node\nimport './x.js'", "./x.js"),
            ("import '\\x2e/x.js'", "\\x2e/x.js"),
            ("class A { static { import('./x.js') } #b = /[/'\"`]/ }", "./x.js"),
            ("a = `${import('./x.js')}`", "./x.js"),
        ] {
            assert_eq!(urls(text, Modules::Follow), [expected], "for {text}");
            assert!(urls(text, Modules::Leave).is_empty(), "for {text}");
        }
    }

    #[test]
    fn what_only_looks_like_an_import_is_left_alone() {
        for text in [
            "// import './x.js'",
            "/* import './x.js' */",
            "var a = \"import './x.js'\"",
            "var a = `import './x.js'`",
            "import a from 'bare'",
            "import(name)",
            "import(`./${name}.js`)",
            "a.import('./x.js')",
            "import source a from 'bare'",
            "import.meta.resolve('bare')",
            "import.meta.resolve(name)",
            "a.resolve('./x.js', import.meta.url)",
            "new URL('./x.js', document.baseURI); import.meta",
            "new URL(name, import.meta.url)",
            "new URL(`./${name}.js`, import.meta.url)",
            "new URL('./x.js'); import.meta.url",
            "new Foo('./x.js', import.meta.url)",
            "new Worker('./x.js'); import.meta.url",
            "importScripts('./x.js')",
            "var a = /import '.\\/x.js'/",
        ] {
            assert!(urls(text, Modules::Follow).is_empty(), "for {text}");
        }
    }

    #[test]
    fn a_source_map_comment_is_found_in_a_comment_only() {
        for (text, expected) in [
            ("a()\n//# sourceMappingURL=x.js.map\n", Some("x.js.map")),
            ("a()\r\n//# sourceMappingURL=x.js.map\r\n", Some("x.js.map")),
            ("a() //# sourceMappingURL=x.js.map", Some("x.js.map")),
            ("a()\n/*# sourceMappingURL=x.js.map */", Some("x.js.map")),
            ("a()\n//@ sourceMappingURL=x.js.map", Some("x.js.map")), // the older form
            ("  //# sourceMappingURL=x.js.map\nb()", Some("x.js.map")), // in the middle
            ("a = /'/ //# sourceMappingURL=x.js.map", Some("x.js.map")),
            ("a = /\\/\\/# sourceMappingURL=x.js.map/", None),
            ("a = `${b //# sourceMappingURL=x.js.map\n}`", Some("x.js.map")),
            ("a = <b>//# sourceMappingURL=x.js.map</b>", None), // the text of JSX
            ("a = '//# sourceMappingURL=x.js.map'", None),
            ("a = `\n//# sourceMappingURL=x.js.map\n`", None),
        ] {
            assert_eq!(urls(text, Modules::Leave).first().map(String::as_str), expected, "for {text}");
        }
    }

    #[test]
    fn a_script_that_does_not_parse_keeps_all_but_its_last_line() {
        let found = find("import a from './x.js'; ((\n//# sourceMappingURL=x.map\n", Modules::Follow);
        assert!(found.refusal.is_some_and(|refusal| refusal.why.starts_with("it is not JavaScript")));
        assert_eq!(found.links.len(), 1);
        assert_eq!(found.links[0].url, "x.map");
    }

    /// Pieces of which each nests in the one before, and what closes one.
    const NESTING: [(&str, &str); 22] = [
        ("[", "]"),
        ("(", ")"),
        ("{", "}"),
        ("a(", ")"),
        ("`${", "}`"),
        ("!", ""),
        ("- ", ""),
        ("new ", ""),
        ("typeof\n", ""),
        ("a=>", ""),
        ("()=>", ""),
        ("a=", ""),
        ("a**", ""),
        ("a+", ""),
        ("a.", ""),
        ("a?b:", ""),
        ("a?(b):", ""),
        ("a?b[0]:", ""),
        ("if(a)", ""),
        ("if(a){}else ", ""),
        ("a?`${b}c`:", ""),
        ("for(;;)", ""),
    ];

    #[test]
    fn nesting_without_end_is_refused_and_does_not_crash() {
        for piece in ["[", "`${", "!", "a=>", "a?(b):", "if(a)", "if(a){}else "] {
            let text = format!("import './x.js';{}a", piece.repeat(600_000));
            assert!(find(&text, Modules::Follow).refusal.is_some(), "for {piece:?}");
        }
    }

    #[test]
    fn what_is_only_long_is_read() {
        for (piece, times) in [
            ("function f(){}", 150_000),
            ("if(a){b()}else{c()}", 80_000),
            ("const a = b.c(1) ? d[1] : e + 1\n", 40_000),
            ("/* it's a word, and another */", 100_000),
        ] {
            let text = format!("import './x.js';{}", piece.repeat(times));
            let found = find(&text, Modules::Follow);
            assert_eq!((found.links.len(), found.refusal), (1, None), "for {piece:?}");
        }
        for quote in ["'", "\"", "`"] {
            let text = format!("import './x.js';a={quote}{}{quote}", "AGFzbQEAAAAB/+ ".repeat(400_000));
            let found = find(&text, Modules::Follow);
            assert_eq!((found.links.len(), found.refusal), (1, None), "for {quote}");
        }
    }

    #[test]
    fn deep_nesting_gets_the_stack_that_it_needs() {
        for (piece, close) in NESTING {
            let times = if close.is_empty() { 20_000 } else { 3_000 };
            let text = format!("import './x.js';{}a{}", piece.repeat(times), close.repeat(times));
            let found = find(&text, Modules::Follow);
            assert_eq!((found.links.len(), found.refusal), (1, None), "for {piece:?}");
        }
    }
}
