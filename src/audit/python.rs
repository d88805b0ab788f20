//! Finds the static files that a Python file names: `static("…")`, `staticfiles_storage.url("…")`, and the
//! lists of forms' media.
//!
//! `static` is a common word, so a call counts only if the file imports the name from where Django has it;
//! `django.conf.urls.static.static`, which makes URL patterns, does not. Of media, those that begin with `/`,
//! `http://` or `https://` are no static files, as for Django. They stand in a class `Media` inside of another
//! class, as `js` and `css`, or in calls of `forms.Media` and `forms.Script`.
//!
//! The parser goes on behind mistakes, and has a stack of its own, so no file is too deep for it.

use std::collections::BTreeSet;

use tree_sitter::{Node, Parser, Tree};

use super::{Name, Use};

/// How many lists may be inside each other among media. Nobody has two.
const DEPTH_LIMIT: usize = 20;

/// Every place where the file names a static file.
pub(super) fn uses(text: &str) -> Vec<Use> {
    // The parser is not needed for most files.
    if !["static", "Media", "Script"].iter().any(|word| text.contains(word)) {
        return Vec::new();
    }
    let Some(tree) = parse(text) else { return Vec::new() };
    let mut imports = Imports::default();
    each_node(&tree, |node| imports.note(node, text));
    let mut finder = Finder { text, imports, uses: Vec::new() };
    each_node(&tree, |node| match node.kind() {
        "call" => finder.call(node),
        "class_definition" => finder.class(node),
        _ => {}
    });
    finder.uses.sort_by_key(|found| found.offset);
    finder.uses
}

fn parse(text: &str) -> Option<Tree> {
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_python::LANGUAGE.into()).ok()?;
    parser.parse(text, None)
}

/// Goes through the whole tree, a node before what is in it.
fn each_node<'t>(tree: &'t Tree, mut look: impl FnMut(Node<'t>)) {
    let mut cursor = tree.walk();
    loop {
        look(cursor.node());
        if cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return;
            }
        }
    }
}

fn text_of<'s>(node: Node<'_>, text: &'s str) -> &'s str {
    text.get(node.byte_range()).unwrap_or("")
}

/// The names under which a file knows what it imports from Django.
#[derive(Debug, Default)]
struct Imports<'s> {
    static_functions: BTreeSet<&'s str>,
    static_modules: BTreeSet<&'s str>,
    storages: BTreeSet<&'s str>,
    forms: BTreeSet<&'s str>,
    media: BTreeSet<&'s str>,
    scripts: BTreeSet<&'s str>,
}

impl<'s> Imports<'s> {
    fn note(&mut self, node: Node<'_>, text: &'s str) {
        if node.kind() != "import_from_statement" {
            return;
        }
        let Some(module) = node.child_by_field_name("module_name").map(|module| text_of(module, text)) else { return };
        let mut cursor = node.walk();
        for imported in node.children_by_field_name("name", &mut cursor) {
            let (name, known_as) = match imported.child_by_field_name("alias") {
                Some(alias) => (imported.child_by_field_name("name").map_or("", |name| text_of(name, text)), alias),
                None => (text_of(imported, text), imported),
            };
            let known = match (module, name) {
                ("django.templatetags.static" | "django.contrib.staticfiles.templatetags.staticfiles", "static") => {
                    &mut self.static_functions
                }
                ("django.templatetags", "static") => &mut self.static_modules,
                ("django.contrib.staticfiles.storage", "staticfiles_storage") => &mut self.storages,
                ("django", "forms") => &mut self.forms,
                ("django.forms" | "django.forms.widgets", "Media") => &mut self.media,
                ("django.forms" | "django.forms.widgets", "Script") => &mut self.scripts,
                _ => continue,
            };
            known.insert(text_of(known_as, text));
        }
    }
}

/// What a call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Callee {
    /// A static file.
    File,
    /// A static file, or a path or URL.
    FileOfMedia,
    /// Lists of them.
    Media,
}

struct Finder<'s> {
    text: &'s str,
    imports: Imports<'s>,
    uses: Vec<Use>,
}

impl Finder<'_> {
    fn callee(&self, function: Node<'_>) -> Option<Callee> {
        let Imports { static_functions, static_modules, storages, forms, media, scripts } = &self.imports;
        if function.kind() == "identifier" {
            let name = text_of(function, self.text);
            return [(static_functions, Callee::File), (media, Callee::Media), (scripts, Callee::FileOfMedia)]
                .into_iter()
                .find_map(|(names, callee)| names.contains(name).then_some(callee));
        }
        let object = function.child_by_field_name("object").filter(|object| object.kind() == "identifier")?;
        let object = text_of(object, self.text);
        match text_of(function.child_by_field_name("attribute")?, self.text) {
            "static" if static_modules.contains(object) => Some(Callee::File),
            "url" if storages.contains(object) => Some(Callee::File),
            "Media" if forms.contains(object) => Some(Callee::Media),
            "Script" if forms.contains(object) => Some(Callee::FileOfMedia),
            _ => None,
        }
    }

    fn call(&mut self, call: Node<'_>) {
        let callee = call.child_by_field_name("function").and_then(|function| self.callee(function));
        let (Some(callee), Some(arguments)) = (callee, call.child_by_field_name("arguments")) else { return };
        let mut cursor = arguments.walk();
        let mut arguments = arguments.named_children(&mut cursor).filter(|argument| argument.kind() != "comment");
        if callee == Callee::Media {
            for argument in arguments.filter(|argument| argument.kind() == "keyword_argument") {
                self.media(argument.child_by_field_name("name"), argument.child_by_field_name("value"));
            }
        } else if let Some(first) = arguments.next() {
            let value = match first.kind() {
                "keyword_argument" => first.child_by_field_name("value"),
                _ => Some(first),
            };
            if let Some(value) = value {
                self.file(value, callee);
            }
        }
    }

    /// `class Media:` inside of another class.
    fn class(&mut self, class: Node<'_>) {
        let is_media = class.child_by_field_name("name").is_some_and(|name| text_of(name, self.text) == "Media");
        let outer = class.parent().and_then(|block| block.parent());
        let is_inside = outer.is_some_and(|outer| outer.kind() == "class_definition");
        let Some(body) = class.child_by_field_name("body").filter(|_| is_media && is_inside) else { return };
        let mut cursor = body.walk();
        for statement in body.named_children(&mut cursor) {
            let assignment = statement.named_child(0).filter(|inner| inner.kind() == "assignment");
            if let Some(assignment) = assignment {
                self.media(assignment.child_by_field_name("left"), assignment.child_by_field_name("right"));
            }
        }
    }

    /// `js` is a list, `css` a dictionary of lists.
    fn media(&mut self, name: Option<Node<'_>>, value: Option<Node<'_>>) {
        let (Some(name), Some(value)) = (name, value) else { return };
        match (text_of(name, self.text), value.kind()) {
            ("js", _) => self.files(value, 0),
            ("css", "dictionary") => {
                let mut cursor = value.walk();
                for pair in value.named_children(&mut cursor) {
                    match pair.child_by_field_name("value") {
                        Some(list) => self.files(list, 0),
                        None if pair.kind() == "comment" => {}
                        None => self.dynamic(pair),
                    }
                }
            }
            ("css", _) => self.dynamic(value),
            _ => {}
        }
    }

    /// A list, or lists added to each other.
    fn files(&mut self, value: Node<'_>, depth: usize) {
        if depth > DEPTH_LIMIT {
            return self.dynamic(value);
        }
        let is_list = |node: Option<Node<'_>>| {
            node.is_some_and(|node| {
                matches!(node.kind(), "list" | "tuple" | "binary_operator" | "parenthesized_expression")
            })
        };
        match value.kind() {
            "list" | "tuple" | "set" | "parenthesized_expression" | "expression_list" => {
                let mut cursor = value.walk();
                for item in value.named_children(&mut cursor) {
                    self.files(item, depth + 1);
                }
            }
            "binary_operator"
                if is_list(value.child_by_field_name("left")) || is_list(value.child_by_field_name("right")) =>
            {
                for side in ["left", "right"].into_iter().filter_map(|side| value.child_by_field_name(side)) {
                    self.files(side, depth + 1);
                }
            }
            "comment" => {}
            // One that names a file is looked at by itself.
            "call" if value.child_by_field_name("function").and_then(|function| self.callee(function)).is_some() => {}
            _ => self.file(value, Callee::FileOfMedia),
        }
    }

    fn file(&mut self, value: Node<'_>, callee: Callee) {
        match constant(value, self.text) {
            Some(name) if callee == Callee::FileOfMedia && is_path_or_url(&name) => {}
            Some(name) => self.uses.push(Use { offset: value.start_byte(), name: Name::Constant(name) }),
            None => self.dynamic(value),
        }
    }

    fn dynamic(&mut self, value: Node<'_>) {
        let text = text_of(value, self.text);
        let line = text.lines().next().unwrap_or("");
        let shown: String = line.chars().take(60).collect();
        let more = if shown.len() < text.len() { "…" } else { "" };
        self.uses.push(Use { offset: value.start_byte(), name: Name::Dynamic(format!("{shown}{more}")) });
    }
}

/// What Django leaves as it is among media.
fn is_path_or_url(name: &str) -> bool {
    ["http://", "https://", "/"].iter().any(|start| name.starts_with(start))
}

/// The value of a string that is known before the program runs.
fn constant(node: Node<'_>, text: &str) -> Option<String> {
    match node.kind() {
        "string" => string(node, text),
        "concatenated_string" => {
            let mut cursor = node.walk();
            let strings = node.named_children(&mut cursor).filter(|part| part.kind() != "comment");
            strings.map(|part| string(part, text)).collect()
        }
        "parenthesized_expression" if node.named_child_count() == 1 => node
            .named_child(0)
            .filter(|inner| inner.kind() != "parenthesized_expression")
            .and_then(|inner| constant(inner, text)),
        _ => None,
    }
}

fn string(node: Node<'_>, text: &str) -> Option<String> {
    let count = node.child_count();
    let (open, close) = (node.child(0)?, node.child(count.checked_sub(1)?)?);
    if open.kind() != "string_start" || close.kind() != "string_end" {
        return None;
    }
    let prefix = text_of(open, text).trim_end_matches(['"', '\'']).to_ascii_lowercase();
    let inner = text.get(open.end_byte()..close.start_byte())?;
    let is_format = prefix.contains(['f', 't']);
    // Bytes are no name, and what is in braces is not known yet.
    if prefix.contains('b') || (is_format && inner.contains(['{', '}'])) {
        return None;
    }
    if prefix.contains('r') { Some(inner.to_owned()) } else { unescaped(inner) }
}

/// A string literal without its escapes (Python's reference, section 2.4.1.1). A name of a character is left
/// to Python.
fn unescaped(literal: &str) -> Option<String> {
    let mut value = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some(at) = rest.find('\\') {
        value.push_str(&rest[..at]);
        let escape = rest[at + 1..].chars().next()?;
        let after = &rest[at + 1 + escape.len_utf8()..];
        let (digits, radix) = match escape {
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => {
                let more = after.bytes().take(2).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
                let octal = &rest[at + 1..at + 2 + more];
                value.push(char::from_u32(u32::from_str_radix(octal, 8).ok()?)?);
                rest = &after[more..];
                continue;
            }
            'N' => return None,
            _ => {
                match escape {
                    '\n' => {}
                    '\\' | '\'' | '"' => value.push(escape),
                    'a' => value.push('\x07'),
                    'b' => value.push('\x08'),
                    'f' => value.push('\x0C'),
                    'n' => value.push('\n'),
                    'r' => value.push('\r'),
                    't' => value.push('\t'),
                    'v' => value.push('\x0B'),
                    other => value.extend(['\\', other]),
                }
                rest = after;
                continue;
            }
        };
        let code = after.get(..digits)?;
        value.push(char::from_u32(u32::from_str_radix(code, radix).ok()?)?);
        rest = &after[digits..];
    }
    value.push_str(rest);
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Vec<String> {
        let shown = |found: Use| match found.name {
            Name::Constant(name) => name,
            Name::Dynamic(what) => format!("? {what}"),
        };
        uses(text).into_iter().map(shown).collect()
    }

    #[test]
    fn calls_of_what_django_has_are_found() {
        for (text, expected) in [
            ("from django.templatetags.static import static\nx = static('a.css')", "a.css"),
            ("from django.templatetags.static import static as s\nx = s(\n  # here\n  'a.css',\n)", "a.css"),
            (
                "from django.templatetags.static import (\n    static,\n)\ndef f():\n    return g(static(path='a.css'))",
                "a.css",
            ),
            ("from django.templatetags import static\nstatic.static('a.css')", "a.css"),
            ("def f():\n    from django.templatetags.static import static\n    return static('a' '.css')", "a.css"),
            (
                "from django.contrib.staticfiles.storage import staticfiles_storage\nstaticfiles_storage.url('a.css')",
                "a.css",
            ),
            ("from django.templatetags.static import static\nstatic(r'a\\b')", "a\\b"),
            ("from django.templatetags.static import static\nstatic(u'\\x61\\u0062\\143\\\n\\'')", "abc'"),
            ("from django.templatetags.static import static\nstatic(f'a.css')", "a.css"),
            ("from django.templatetags.static import static\nstatic(f'{a}.css')", "? f'{a}.css'"),
            ("from django.templatetags.static import static\nstatic('a%s' % b)", "? 'a%s' % b"),
            ("from django.templatetags.static import static\nstatic('\\N{DIGIT ONE}')", "? '\\N{DIGIT ONE}'"),
            ("from django.templatetags.static import static\nx = (\ny = static('a.css')", "a.css"), // a mistake
            ("from django import forms\nforms.Script('a.js', defer=True)", "a.js"),
        ] {
            assert_eq!(found(text), [expected], "for {text}");
        }
    }

    #[test]
    fn media_are_found() {
        let text = "
from django import forms
class Widget(forms.TextInput):
    class Media:
        css = {'all': ['a.css', '/b.css'], 'print': ('c.css',)}
        js = ['d.js', 'https://example.com/e.js', f'{x}.js', forms.Script('f.js'), JS('g.js')] + more
class Page:
    @property
    def media(self):
        return forms.Media(js=('h.js',), css={'all': ['i' + '.css']})
";
        let expected =
            ["a.css", "c.css", "d.js", "? f'{x}.js'", "f.js", "? JS('g.js')", "? more", "h.js", "? 'i' + '.css'"];
        assert_eq!(found(text), expected);
    }

    #[test]
    fn what_only_looks_like_it_is_left_alone() {
        for text in [
            "x = static('a.css')",
            "from django.conf.urls.static import static\nstatic('/media/', document_root=x)",
            "from mine import static\nstatic('a.css')",
            "from django.templatetags.static import static\nx.static('a.css')\n# static('a.css')\n'''static('a.css')'''",
            "class Media:\n    js = ['a.js']",
            "class A:\n    class Media:\n        title = 'a'",
            "from django.templatetags.static import static\nstatic()",
            "class Media(Model):\n    def js(self): pass",
        ] {
            assert_eq!(found(text), [""; 0], "for {text}");
        }
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = "[".repeat(100_000);
        assert_eq!(found(&format!("class A:\n  class Media:\n    js = {deep}'a.js'")).len().min(1), 0);
        let text = format!("class A:\n  class Media:\n    js = {0}'a.js'{1}", "[".repeat(1000), "]".repeat(1000));
        assert_eq!(found(&text).len(), 1);
        found(&format!(
            "from django.templatetags.static import static\n{}1{}",
            "static(".repeat(5000),
            ")".repeat(5000)
        ));
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(
            text in r#"(from django.templatetags.static import static\n|static\(|\)|class A:\n class Media:\n  js = |\[|\]|'|"|\\|f'|é|\{|\}|\n|x|\\x6|\\u00){0,30}"#,
        ) {
            for found in uses(&text) {
                prop_assert!(text.is_char_boundary(found.offset));
            }
        }
    }
}
