//! Finds the static files that a template names.
//!
//! A Django template is cut into tags as Django's own lexer cuts it: tags end on the line that they begin
//! on, `{% verbatim %}` and `{% comment %}` hide what is in them. In Jinja, tags may be long, and `{% raw %}`
//! hides. Which of the two a template is says its folder or extension; a call of `static()` is looked for
//! in both, because Jinja's templates may lie in a folder `templates` too.

use super::{Name, Use};

/// Whose template it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Engine {
    Django,
    Jinja,
}

/// Every place where the template names a static file.
pub(super) fn uses(text: &str, engine: Engine) -> Vec<Use> {
    let mut uses = Vec::new();
    // What the block that hides everything ends with.
    let mut hidden_until: Option<String> = None;
    let mut is_verbatim = false;
    let mut tags = Tags::new(text, engine);
    while let Some((start, inner)) = tags.next() {
        let kind = &text[start..start + 2];
        let content = trimmed(inner, engine);
        if let Some(ending) = &hidden_until {
            if kind == "{%" && content == ending {
                hidden_until = None;
                is_verbatim = false;
            } else if kind == "{%" && !is_verbatim && engine == Engine::Django && is_verbatim_tag(content) {
                // Django's lexer sees it before its parser sees the comment around it.
                tags.skip_verbatim(content);
            }
            continue;
        }
        // `content` is a part of `text`.
        let offset = content.as_ptr() as usize - text.as_ptr() as usize;
        match kind {
            "{%" => {
                let name = content.split_whitespace().next().unwrap_or("");
                match (name, engine) {
                    _ if engine == Engine::Django && is_verbatim_tag(content) => {
                        hidden_until = Some(format!("end{content}"));
                        is_verbatim = true;
                    }
                    ("comment", Engine::Django) => hidden_until = Some("endcomment".to_owned()),
                    ("raw", Engine::Jinja) => {
                        hidden_until = Some("endraw".to_owned());
                        is_verbatim = true;
                    }
                    ("static", Engine::Django) => uses.extend(static_tag(content, offset)),
                    ("get_static_prefix", Engine::Django) => {
                        uses.push(Use { offset, name: Name::Dynamic(shown(&format!("{{% {content} %}}"))) });
                    }
                    _ => calls(content, offset, &mut uses),
                }
            }
            "{{" => calls(content, offset, &mut uses),
            _ => {}
        }
    }
    uses
}

/// The tags of a template, one after the other, in one go through it: what was looked for in vain is not looked
/// for again, since a template may have any number of tags that do not end.
struct Tags<'t> {
    text: &'t str,
    /// Where to go on.
    from: usize,
    /// How far a tag that begins here may reach: to the end of its line, or of the text.
    reach: usize,
    /// The reach within which nothing ends a tag of each kind any more.
    unended: [Option<usize>; 3],
}

impl<'t> Tags<'t> {
    fn new(text: &'t str, engine: Engine) -> Self {
        let reach = if engine == Engine::Jinja { text.len() } else { 0 };
        Self { text, from: 0, reach, unended: [None; 3] }
    }

    /// The next tag: where it begins, and what is between its braces.
    fn next(&mut self) -> Option<(usize, &'t str)> {
        loop {
            let start = self.from + self.text[self.from..].find('{')?;
            self.from = start + 1;
            let (kind, close) = match self.text.as_bytes().get(start + 1) {
                Some(b'%') => (0, "%}"),
                Some(b'{') => (1, "}}"),
                Some(b'#') => (2, "#}"),
                _ => continue,
            };
            let inner = start + 2;
            if inner > self.reach {
                self.reach = self.text[inner..].find('\n').map_or(self.text.len(), |length| inner + length);
            }
            if self.unended[kind] == Some(self.reach) {
                continue;
            }
            match self.text[inner..self.reach].find(close) {
                Some(length) => {
                    self.from = inner + length + close.len();
                    return Some((start, &self.text[inner..inner + length]));
                }
                None => self.unended[kind] = Some(self.reach),
            }
        }
    }

    /// Goes on behind a verbatim block that is inside a comment.
    fn skip_verbatim(&mut self, content: &str) {
        let ending = format!("end{content}");
        while let Some((start, inner)) = self.next() {
            if self.text[start..].starts_with("{%") && inner.trim() == ending {
                return;
            }
        }
        self.from = self.text.len();
    }
}

fn trimmed(inner: &str, engine: Engine) -> &str {
    match engine {
        Engine::Django => inner.trim(),
        // `{%-` and `-%}` take white space away around a tag.
        Engine::Jinja => inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim(),
    }
}

/// As Django has it: the first nine characters, which `verbatim` alone does not fill.
fn is_verbatim_tag(content: &str) -> bool {
    content == "verbatim" || content.starts_with("verbatim ")
}

/// `{% static "a.css" %}` and `{% static "a.css" as x %}`.
fn static_tag(content: &str, offset: usize) -> Option<Use> {
    let rest = content.strip_prefix("static")?;
    let argument = rest.trim_start();
    let offset = offset + content.len() - argument.len();
    // Without an argument it is a mistake that Django tells when the template is loaded.
    if argument.is_empty() {
        return None;
    }
    let constant =
        quoted(argument).filter(|(_, length)| argument[*length..].chars().next().is_none_or(char::is_whitespace));
    let name = match constant {
        Some((name, _)) => Name::Constant(name),
        None => Name::Dynamic(shown(&format!("{{% {content} %}}"))),
    };
    Some(Use { offset, name })
}

/// The string that a text begins with, its escapes taken out as Django does, and its length in the text.
fn quoted(text: &str) -> Option<(String, usize)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => {
                let inner = text[1..at].replace(&format!("\\{quote}"), &quote.to_string());
                return Some((inner.replace(r"\\", r"\"), at + 1));
            }
            _ => {}
        }
    }
    None
}

/// Calls of `static(…)` in an expression of Jinja.
fn calls(expression: &str, offset: usize, uses: &mut Vec<Use>) {
    let mut position = 0;
    let mut before = ' ';
    while let Some(c) = expression[position..].chars().next() {
        let rest = &expression[position..];
        let mut length = c.len_utf8();
        if matches!(c, '"' | '\'') {
            length = quoted(rest).map_or(rest.len(), |(_, length)| length);
        } else if is_word(c) {
            length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let arguments = rest[length..].trim_start();
            if &rest[..length] == "static" && before != '.' && arguments.starts_with('(') {
                uses.push(call(&arguments[1..], offset + expression.len() - arguments.len() + 1));
            }
        }
        before = if c.is_whitespace() { before } else { c };
        position += length;
    }
}

fn call(arguments: &str, offset: usize) -> Use {
    let argument = arguments.trim_start();
    let offset = offset + arguments.len() - argument.len();
    // Escapes other than of quotes are Python's, which no name of a file needs.
    let constant = quoted(argument)
        .filter(|(name, length)| !name.contains('\\') && argument[*length..].trim_start().starts_with(')'));
    let name = match constant {
        Some((name, _)) => Name::Constant(name),
        None => Name::Dynamic(shown(&format!("static({}", beginning(argument)))),
    };
    Use { offset, name }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The longest piece of a template that is shown.
const LONGEST: usize = 60;

/// No more of a text than could be shown.
fn beginning(text: &str) -> &str {
    text.char_indices().nth(LONGEST).map_or(text, |(end, _)| &text[..end])
}

/// A piece of a template, short and on one line.
fn shown(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str, engine: Engine) -> Vec<String> {
        let shown = |found: Use| {
            assert!(text.is_char_boundary(found.offset), "{text}");
            match found.name {
                Name::Constant(name) => {
                    assert!(text[found.offset..].starts_with(['"', '\'']), "{text}");
                    name
                }
                Name::Dynamic(what) => format!("? {what}"),
            }
        };
        uses(text, engine).into_iter().map(shown).collect()
    }

    #[test]
    fn the_tag_of_django_is_found() {
        for (text, expected) in [
            (r#"{% static "a.css" %}"#, "a.css"),
            (r"{%static 'a.css'%}", "a.css"),
            (r#"<a href="{% static 'a b.css' as x %}">"#, "a b.css"),
            (r#"{% static "a\"b.css" %}"#, "a\"b.css"),
            (r#"{%   static	"a.css"%}"#, "a.css"),
            ("{{% static 'a.css' %}", "a.css"), // the first brace is text
            ("{ {% static 'a.css' %}", "a.css"),
            ("{% static 'x{{ y }}' %}", "x{{ y }}"),
            ("{# a\n{% static 'a.css' %} #}", "a.css"), // a comment ends on its line
            ("{% static a %}", "? {% static a %}"),
            ("{% static 'a'|add:b %}", "? {% static 'a'|add:b %}"),
            ("{% static _('a.css') %}", "? {% static _('a.css') %}"),
            ("{% static 'a %}", "? {% static 'a %}"),
            ("{% get_static_prefix as x %}", "? {% get_static_prefix as x %}"),
            ("{% verbatim x %}{% endverbatim %}{% endverbatim x %}{% static 'a' %}", "a"),
            ("{% verbatim %}{% comment %}{% endverbatim %}{% static 'a' %}", "a"),
            ("{% comment %}{% endcomment x %}{% endcomment %}{% static 'a' %}", "a"),
            ("{% comment %}{% verbatim %}{% endcomment %}{% endverbatim %}{% endcomment %}{% static 'a' %}", "a"),
            ("{{ static('a') }}", "a"),
        ] {
            assert_eq!(found(text, Engine::Django), [expected], "for {text}");
        }
    }

    #[test]
    fn what_is_hidden_or_another_tag_is_left_alone() {
        for text in [
            "{# {% static 'a' %} #}",
            "{% comment %}{% static 'a' %}{% endcomment %}",
            "{% comment 'why' %}{{ static('a') }}{% endcomment %}",
            "{% verbatim %}{% static 'a' %}{% endverbatim %}",
            "{% verbatim x %}{% static 'a' %}{% endverbatim %}{% static 'b' %}{% endverbatim x %}",
            "{% statics 'a' %}",
            "{% load static %}",
            "{% static\n'a' %}", // a tag ends on its line
            "{% static %}",
            "static('a')",
            "{{ x.static('a') }}{{ \"static('a')\" }}{{ mystatic('a') }}{{ static }}",
            "{% trans \"static('a')\" %}",
            "{% comment %}{% static 'a' %}",
            "{%",
            "{{",
        ] {
            assert_eq!(found(text, Engine::Django), [""; 0], "for {text}");
        }
    }

    #[test]
    fn a_hundred_thousand_tags_that_do_not_end_take_no_time() {
        // Each to the end of its line, or of the file, would be ten thousand million characters.
        for piece in ["{%", "{{", "{#", "{% {{ {# ", "{% x %}", "{% comment %}{% verbatim %}"] {
            let text = piece.repeat(100_000);
            for engine in [Engine::Django, Engine::Jinja] {
                assert_eq!(uses(&text, engine).len(), 0, "for {piece}");
            }
        }
        // The one that does end is found behind them.
        for (engine, between) in [(Engine::Django, "\n"), (Engine::Jinja, " #}")] {
            let text = format!("{}{between}{{{{ static('a') }}}}", "{#".repeat(1000));
            assert_eq!(found(&text, engine), ["a"]);
        }
        let calls = format!("{{{{ {} }}}}", "static(x ".repeat(100_000));
        assert_eq!(uses(&calls, Engine::Jinja).len(), 100_000);
    }

    #[test]
    fn the_call_of_jinja_is_found() {
        for (text, expected) in [
            ("{{ static('a.css') }}", "a.css"),
            ("{{static( \"a.css\" )}}", "a.css"),
            ("{{ static\n('a.css') | safe }}", "a.css"),
            ("{%- set x = static('a.css') -%}", "a.css"),
            ("{{ f(static('a.css'), 'b') }}", "a.css"),
            ("{% if x %}\n{{\n static('a.css') }}", "a.css"),
            ("{% raw %}{{ static('b') }}{%- endraw %}{{ static('a.css') }}", "a.css"),
            ("{# {{ static('b')\n }} #}{{ static('a.css') }}", "a.css"),
            ("{{ static(x) }}", "? static(x)"),
            ("{{ static('a' ~ x) }}", "? static('a' ~ x)"),
        ] {
            assert_eq!(found(text, Engine::Jinja), [expected], "for {text}");
        }
        assert_eq!(found("{{ x['static'] }}{{ url.static('a') }}", Engine::Jinja), [""; 0]);
    }

    proptest! {
        #[test]
        fn no_template_makes_it_panic(text in r#"(\{%|%\}|\{\{|\}\}|\{#|#\}| |\n|static|verbatim|endverbatim|comment|'|"|\\|\(|\)|é|raw|-){0,40}"#) {
            for engine in [Engine::Django, Engine::Jinja] {
                for found in uses(&text, engine) {
                    prop_assert!(text.is_char_boundary(found.offset));
                }
            }
        }
    }
}
