//! How deep a script may nest, found without parsing it.
//!
//! The parser calls itself for whatever nests, and has no limit of its own: a script that nests deeper than its stack
//! has room would end the whole program. So the stack is made for the script. Too much costs nothing but address space,
//! until there is no more of that to be had; then a script is refused that would have done no harm.
//!
//! A look at the text cannot tell for sure where a string or a comment begins, because it cannot tell a regular
//! expression from a division. What looks like one counts for less, and brackets count everywhere.

/// What the parser may need of its stack for an open bracket, and for anything else that can nest. Generous also in a
/// debug build.
const BRACKET: usize = 64 << 10;
const WORD: usize = 4 << 10;

/// How much stack, in bytes, the parser can need for a text at most.
pub(super) fn stack_for(text: &str) -> usize {
    let mut nesting = Nesting { bytes: text.as_bytes(), ..Nesting::default() };
    (0..text.len()).for_each(|at| nesting.take(at));
    nesting.most
}

/// What is going on between two brackets.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    /// What nests until the end of a statement: `if (a) for (;;)`, and an `else`, which nests in the one before.
    statements: usize,
    /// What nests until the end of an expression: `!!a`, `a => b`, `a ? b : c`, `a + b`, and labels.
    words: usize,
}

impl Level {
    fn depth(self) -> usize {
        self.statements + self.words
    }
}

/// What a bracket has interrupted.
#[derive(Debug, Clone, Copy)]
struct Outer {
    level: Level,
    /// The bracket is that of `${` in a template.
    is_in_template: bool,
}

/// What the text at a place looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Looks {
    #[default]
    Code,
    /// A string in these quotes, or a template.
    Quoted(u8),
    LineComment,
    BlockComment,
}

/// What came last that is neither a blank nor a comment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Last {
    /// Something behind which an expression cannot end.
    #[default]
    Open,
    /// A word, a string or a bracket, with which an expression may end.
    End,
    /// The brace of a block, or of an object.
    Block,
    /// A semicolon.
    Semicolon,
}

#[derive(Debug, Default)]
struct Nesting<'t> {
    bytes: &'t [u8],
    outer: Vec<Outer>,
    outer_depth: usize,
    level: Level,
    looks: Looks,
    last: Last,
    is_escaped: bool,
    is_in_word: bool,
    is_on_new_line: bool,
    most: usize,
}

impl Nesting<'_> {
    fn take(&mut self, at: usize) {
        let byte = self.bytes[at];
        let is_word = byte.is_ascii_alphanumeric() || !byte.is_ascii() || matches!(byte, b'_' | b'$');
        match byte {
            b'(' | b'[' | b'{' => self.open(at),
            b')' | b']' | b'}' => self.close(byte),
            _ if self.looks != Looks::Code => self.pass(at),
            b'"' | b'\'' | b'`' => {
                self.begin_token(at);
                self.looks = Looks::Quoted(byte);
            }
            b'/' if self.bytes.get(at + 1) == Some(&b'/') => self.looks = Looks::LineComment,
            b'/' if self.bytes.get(at + 1) == Some(&b'*') => self.looks = Looks::BlockComment,
            b'\n' => self.is_on_new_line = true,
            b';' => {
                // An `else` that follows it is for the next token to see.
                self.level.words = 0;
                self.last = Last::Semicolon;
            }
            b',' => {
                self.level.words = 0;
                self.last = Last::Open;
            }
            _ if is_word && !self.is_in_word => self.word(at),
            _ if !is_word && !byte.is_ascii_whitespace() => self.operator(at),
            _ => {}
        }
        self.is_in_word = is_word && self.looks == Looks::Code;
        let depth = self.outer_depth + self.level.depth();
        self.most = self.most.max(self.outer.len() * BRACKET + depth * WORD);
    }

    fn open(&mut self, at: usize) {
        let is_in_template = self.looks == Looks::Quoted(b'`') && at > 0 && self.bytes[at - 1] == b'$';
        if is_in_template {
            self.looks = Looks::Code;
        } else if self.looks == Looks::Code && (self.bytes[at] == b'{' || self.last == Last::Semicolon) {
            self.begin_token(at);
        }
        self.outer_depth += self.level.depth();
        self.outer.push(Outer { level: std::mem::take(&mut self.level), is_in_template });
        self.is_escaped = false;
        if self.looks == Looks::Code {
            self.last = Last::Open;
            self.is_on_new_line = false;
        }
    }

    fn close(&mut self, byte: u8) {
        self.is_escaped = false;
        if let Some(outer) = self.outer.pop() {
            self.outer_depth -= outer.level.depth();
            self.level = outer.level;
            self.level.words += 1;
            if outer.is_in_template {
                self.looks = Looks::Quoted(b'`');
            }
        }
        if self.looks == Looks::Code {
            self.last = if byte == b'}' { Last::Block } else { Last::End };
            self.is_on_new_line = false;
        }
    }

    /// Goes on in what looks like a string or a comment.
    fn pass(&mut self, at: usize) {
        let byte = self.bytes[at];
        let is_escaped = std::mem::take(&mut self.is_escaped);
        match self.looks {
            Looks::Quoted(_) if is_escaped => {}
            Looks::Quoted(_) if byte == b'\\' => self.is_escaped = true,
            Looks::Quoted(quote) if byte == quote || byte == b'\n' && quote != b'`' => {
                self.looks = Looks::Code;
                self.last = Last::End;
                self.is_on_new_line = byte == b'\n';
            }
            Looks::LineComment if byte == b'\n' => {
                self.looks = Looks::Code;
                self.is_on_new_line = true;
            }
            Looks::BlockComment if byte == b'/' && self.bytes[at - 1] == b'*' => self.looks = Looks::Code,
            _ => {}
        }
    }

    fn word(&mut self, at: usize) {
        self.begin_token(at);
        let word = word_at(self.bytes, at);
        match word {
            b"if" | b"for" | b"while" | b"with" | b"do" => self.level.statements += 1,
            // It nests in its `if`, which may stand in something else that it does not end.
            b"else" => self.level.statements += 2,
            _ => self.level.words += 1,
        }
        self.last = if WANTS_MORE.contains(&word) { Last::Open } else { Last::End };
        self.is_on_new_line = false;
    }

    fn operator(&mut self, at: usize) {
        if self.last == Last::Semicolon {
            self.begin_token(at);
        }
        self.level.words += 1;
        self.last = Last::Open;
        self.is_on_new_line = false;
    }

    /// Ends what ended before the token that begins here.
    fn begin_token(&mut self, at: usize) {
        let goes_on = || GOES_ON.contains(&word_at(self.bytes, at));
        match self.last {
            Last::Semicolon | Last::Block if !goes_on() => self.level = Level::default(),
            // No operator stands between the two, so a semicolon is put there.
            Last::End if self.is_on_new_line && !goes_on() => self.level.words = 0,
            _ => {}
        }
        self.last = Last::End;
        self.is_on_new_line = false;
    }
}

/// Words that go on with a statement or an expression that might have ended before them.
const GOES_ON: [&[u8]; 8] = [b"as", b"catch", b"else", b"finally", b"from", b"in", b"instanceof", b"of"];

/// Words behind which no expression ends.
const WANTS_MORE: [&[u8]; 15] = [
    b"async",
    b"await",
    b"case",
    b"delete",
    b"do",
    b"else",
    b"extends",
    b"in",
    b"instanceof",
    b"new",
    b"of",
    b"throw",
    b"typeof",
    b"void",
    b"yield",
];

/// The word that begins there; empty if none does.
fn word_at(bytes: &[u8], at: usize) -> &[u8] {
    // None of those that count is longer.
    let end = bytes.len().min(at + 11);
    let rest = &bytes[at..end];
    let length = rest.iter().position(|byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'_' | b'$'));
    &rest[..length.unwrap_or(rest.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_row_needs_no_more_than_one_of_it() {
        for piece in [
            "a;",
            "a\n",
            "const a = b.c(1) ? d[1] : e + 1\n",
            "a = 'b'\n",
            "a()\n",
            "function f(){}",
            "{a()}",
            "if(a){b()}else{c()}",
            "if(a)b();else c();",
            "class A{b=1\nc=2}\n",
            "for(a of b){c}",
            "case 1:a();break;",
            "a:1,",
            "(function(){if(a){b}})();",
            "while(a)b();",
            "// it's a word, and another\n",
            "/* it's */",
            "'a+b/c ',",
            "`a+b/c ${d} e+f`;",
        ] {
            let (few, many) = (stack_for(&piece.repeat(50)), stack_for(&piece.repeat(5_000)));
            assert!(many <= few, "for {piece:?}: {few} and {many}");
        }
    }

    #[test]
    fn what_nests_needs_more_each_time() {
        for (piece, least) in [
            ("[", BRACKET),
            ("`${", BRACKET),
            ("'(", BRACKET), // it may be a regular expression before it
            ("a+", WORD),
            ("!", WORD),
            ("typeof\n", WORD),
            ("a=>\n", WORD),
            ("a?b:", WORD),
            ("a\n?\nb\n:", WORD),
            ("a?';':", WORD),
            ("a?`;${b}`:", WORD),
            ("a?{}:", WORD),
            ("if(a)\n", WORD),
            ("if(a);else ", WORD),
            ("if(a)b;else\n", WORD),
            ("if(a){}else ", WORD),
            ("if(a){}\n//\nelse ", WORD),
            ("for(;;)while(b)", WORD),
            ("a:", WORD),
        ] {
            let more = stack_for(&piece.repeat(2_000)) - stack_for(&piece.repeat(1_000));
            assert!(more >= 1_000 * least, "for {piece:?}: {more}");
        }
    }
}
