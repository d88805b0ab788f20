//! Content codings (RFC 9110, section 8.4.1) and their negotiation (section 12.5.3).

use std::fmt;

use ::http::HeaderMap;
use ::http::header::ACCEPT_ENCODING;

/// A content coding that vestibule can make beforehand.
///
/// The order is the order of preference among variants of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coding {
    /// RFC 7932, token `br`.
    Brotli,
    /// RFC 8878, token `zstd`.
    Zstd,
    /// RFC 1952, token `gzip`.
    Gzip,
}

impl Coding {
    /// Every coding, in order of preference.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// The token in `Accept-Encoding` and `Content-Encoding`.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What a compressed copy's file name ends in, as nginx, Caddy and WhiteNoise have it.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }

    /// The coding of a token, exactly as [`Coding::token`] spells it.
    pub fn from_token(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|coding| coding.token() == token)
    }
}

/// A content coding that refers to an earlier response that the client has (RFC 9842).
///
/// The order is the order of preference among deltas of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DictionaryCoding {
    /// RFC 9842, section 4, token `dcb`.
    Brotli,
    /// RFC 9842, section 5, token `dcz`.
    Zstd,
}

impl DictionaryCoding {
    /// Both, in order of preference.
    pub const ALL: [Self; 2] = [Self::Brotli, Self::Zstd];

    /// The token in `Accept-Encoding` and `Content-Encoding`.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Brotli => "dcb",
            Self::Zstd => "dcz",
        }
    }

    /// What a delta's file name ends in.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".dcb",
            Self::Zstd => ".dcz",
        }
    }

    /// The coding of a token, exactly as [`DictionaryCoding::token`] spells it.
    pub fn from_token(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|coding| coding.token() == token)
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// What is done to a body before it is sent: all that `Content-Encoding` can say here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentCoding {
    /// Nothing.
    Identity,
    /// A coding that needs nothing else to be read.
    Alone(Coding),
    /// A coding that needs the dictionary to be read.
    Delta(DictionaryCoding),
}

impl ContentCoding {
    /// The token in `Content-Encoding`; `None` where that is left out.
    pub const fn token(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Alone(coding) => Some(coding.token()),
            Self::Delta(coding) => Some(coding.token()),
        }
    }
}

impl From<Option<Coding>> for ContentCoding {
    fn from(coding: Option<Coding>) -> Self {
        coding.map_or(Self::Identity, Self::Alone)
    }
}

/// How welcome each coding is to a client, and no coding at all (`identity`), as its
/// `Accept-Encoding` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    identity: u16,
    codings: [u16; Coding::ALL.len()],
    /// Only what is asked for by name: who says `*` may never have heard of dictionaries.
    deltas: [u16; DictionaryCoding::ALL.len()],
}

/// Not to be sent.
const REFUSED: u16 = 0;
/// Acceptable because nothing speaks against it, and less welcome than whatever was asked for by name.
const UNMENTIONED: u16 = 1;

impl Accepted {
    /// Reads every `Accept-Encoding` line of a request as one list.
    ///
    /// Without any, only `identity` is sent: RFC 9110 would allow any coding, but a client that
    /// understands one says so. A member that breaks the grammar counts as absent, and of two
    /// members for one coding the first holds.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut listed = Listed::default();
        for line in headers.get_all(ACCEPT_ENCODING) {
            for member in line.as_bytes().split(|byte| *byte == b',') {
                listed.note(member);
            }
        }
        listed.weigh()
    }

    /// Whether a body in this coding may be sent; `None` is `identity`.
    pub fn allows(&self, coding: impl Into<ContentCoding>) -> bool {
        self.weight(coding.into()) != REFUSED
    }

    /// The place of the most welcome candidate; the first among equals, so put the smallest first.
    /// `None` when all are refused.
    pub fn best(&self, candidates: impl Iterator<Item: Into<ContentCoding>>) -> Option<usize> {
        let mut best = (REFUSED, None);
        for (place, coding) in candidates.enumerate() {
            let weight = self.weight(coding.into());
            if weight > best.0 {
                best = (weight, Some(place));
            }
        }
        best.1
    }

    fn weight(&self, coding: ContentCoding) -> u16 {
        match coding {
            ContentCoding::Identity => self.identity,
            ContentCoding::Alone(coding) => self.codings[coding as usize],
            ContentCoding::Delta(coding) => self.deltas[coding as usize],
        }
    }
}

/// The q-values of a list, in thousandths.
#[derive(Default)]
struct Listed {
    codings: [Option<u16>; Coding::ALL.len()],
    deltas: [Option<u16>; DictionaryCoding::ALL.len()],
    identity: Option<u16>,
    others: Option<u16>,
    /// Whether some coding besides the file itself, known here or not, is asked for, or `*` is listed.
    wants_one: bool,
}

impl Listed {
    fn note(&mut self, member: &[u8]) {
        let Some((name, quality)) = parse_member(member) else { return };
        let is = |token: &str| name.eq_ignore_ascii_case(token.as_bytes());
        self.wants_one |= name == b"*" || quality > 0 && !is("identity");
        let slot = if let Some(coding) = Coding::ALL.into_iter().find(|coding| is(coding.token())) {
            &mut self.codings[coding as usize]
        } else if let Some(coding) = DictionaryCoding::ALL.into_iter().find(|coding| is(coding.token())) {
            &mut self.deltas[coding as usize]
        } else if is("x-gzip") {
            &mut self.codings[Coding::Gzip as usize]
        } else if is("identity") {
            &mut self.identity
        } else if name == b"*" {
            &mut self.others
        } else {
            return;
        };
        slot.get_or_insert(quality);
    }

    fn weigh(self) -> Accepted {
        // A client that refuses the file itself and names no coding wants any coding there is: with no
        // name at all, "what is not listed is refused" would leave it nothing, ever.
        let unlisted = if self.identity == Some(0) && !self.wants_one { UNMENTIONED } else { REFUSED };
        let asked = |quality: u16| if quality == 0 { REFUSED } else { UNMENTIONED + quality };
        Accepted {
            identity: self.identity.or(self.others).map_or(UNMENTIONED, asked),
            codings: self.codings.map(|quality| quality.or(self.others).map_or(unlisted, asked)),
            deltas: self.deltas.map(|quality| quality.map_or(REFUSED, asked)),
        }
    }
}

/// A member's name and its q-value in thousandths: `codings [ OWS ";" OWS "q=" qvalue ]`; `None` for what is no member.
fn parse_member(member: &[u8]) -> Option<(&[u8], u16)> {
    let member = member.trim_ascii();
    let (name, quality) = match member.iter().position(|byte| *byte == b';') {
        None => (member, 1000),
        Some(semicolon) => match member[semicolon + 1..].trim_ascii_start() {
            [b'q' | b'Q', b'=', quality @ ..] => (member[..semicolon].trim_ascii_end(), parse_quality(quality)?),
            _ => return None,
        },
    };
    let is_token = !name.is_empty() && name.iter().all(|byte| is_tchar(*byte));
    is_token.then_some((name, quality))
}

/// Whether a byte may stand in a token (RFC 9110, section 5.6.2).
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `0`, `1`, or one of them with a point and up to three digits, and never more than 1.
pub(super) fn parse_quality(text: &[u8]) -> Option<u16> {
    let (whole, fraction): (_, &[u8]) = match text {
        [whole] => (whole, &[]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let mut thousandths = 0;
    for place in 0..4 {
        let digit = if place == 0 { *whole } else { fraction.get(place - 1).copied().unwrap_or(b'0') };
        digit.is_ascii_digit().then_some(())?;
        thousandths = thousandths * 10 + u16::from(digit - b'0');
    }
    (thousandths <= 1000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::HeaderValue;
    use proptest::prelude::{Strategy, prop};
    use proptest::{prop_assert_eq, prop_oneof, proptest};

    const BR: Option<Coding> = Some(Coding::Brotli);
    const ZSTD: Option<Coding> = Some(Coding::Zstd);
    const GZIP: Option<Coding> = Some(Coding::Gzip);
    const IDENTITY: Option<Coding> = None;

    fn request(lines: &[&str]) -> HeaderMap {
        let value = |line: &&str| (ACCEPT_ENCODING, HeaderValue::from_str(line).expect("a header value"));
        lines.iter().map(value).collect()
    }

    #[test]
    fn a_delta_is_sent_only_to_who_names_its_coding() {
        let (dcb, dcz) = (ContentCoding::Delta(DictionaryCoding::Brotli), ContentCoding::Delta(DictionaryCoding::Zstd));
        let (br, identity) = (ContentCoding::Alone(Coding::Brotli), ContentCoding::Identity);
        for (line, expected) in [
            ("gzip, deflate, br, zstd, dcb, dcz", Some(dcb)),
            ("gzip, deflate, br, zstd, dcz", Some(dcz)),
            ("DCZ", Some(dcz)),
            ("br, dcb;q=0.9", Some(br)), // less welcome, however small
            ("br;q=0.5, dcb;q=0.9", Some(dcb)),
            ("br, dcb;q=0", Some(br)),
            ("dcb;q=0, dcz;q=0.1", Some(dcz)),
            ("dcb;q=2, br", Some(br)),
            ("br", Some(br)),
            ("*", Some(br)),
            ("*;q=1, br;q=0", Some(identity)),
            ("dcb;q=0, *", Some(br)),
            ("identity;q=0", Some(br)),
            ("identity;q=0, dcz", Some(dcz)),
            ("*;q=0", None),
            ("*;q=0, dcb", Some(dcb)),
            ("", Some(identity)),
        ] {
            let candidates = [dcb, dcz, br, identity];
            let best = Accepted::read(&request(&[line])).best(candidates.into_iter());
            assert_eq!(best.map(|place| candidates[place]), expected, "for {line:?}");
        }
    }

    /// What is sent of a file with every variant: brotli the smallest, then zstd, gzip, and the file.
    fn sent(lines: &[&str]) -> Option<Option<Coding>> {
        let candidates = [BR, ZSTD, GZIP, IDENTITY];
        Accepted::read(&request(lines)).best(candidates.into_iter()).map(|place| candidates[place])
    }

    #[test]
    fn the_most_welcome_coding_is_sent_and_the_smallest_among_equals() {
        for (line, expected) in [
            ("gzip, deflate, br, zstd", Some(BR)),
            ("gzip, deflate, zstd", Some(ZSTD)),
            ("gzip", Some(GZIP)),
            ("GZip", Some(GZIP)),
            ("x-gzip", Some(GZIP)),
            ("deflate", Some(IDENTITY)),
            ("", Some(IDENTITY)),
            ("*", Some(BR)),
            ("gzip;q=1, br;q=0.5", Some(GZIP)),
            ("br ;\tq=0.5", Some(BR)),
            ("br;Q=0.1", Some(BR)),
            ("br;q=0.001", Some(BR)), // asked for by name, so before identity, which was not
            ("br;q=0, gzip", Some(GZIP)),
            ("gzip;q=0", Some(IDENTITY)), // q=0 is a refusal, not a low preference
            ("gzip;q=0, *", Some(BR)),
            ("identity, br", Some(BR)), // equals: the smallest
            ("identity, br;q=0.9", Some(IDENTITY)),
            ("identity;q=0.5, br;q=0.4, *;q=0.6", Some(ZSTD)),
            ("gzip;q=0.5, *;q=0.8", Some(BR)),
            ("identity;q=0", Some(BR)), // anything but the file itself
            ("identity;q=0, br;q=0", Some(ZSTD)),
            ("identity;q=0, gzip", Some(GZIP)),
            ("identity;q=0, *", Some(BR)),
            ("*;q=0", None),
            ("*;q=0, identity", Some(IDENTITY)),
            ("*;q=0, gzip;q=0.2", Some(GZIP)),
            ("gzip;q=0, gzip", Some(IDENTITY)), // the first holds
            ("gzip, gzip;q=0", Some(GZIP)),
            (",, gzip ,", Some(GZIP)),
            // What is no member, or names no coding, changes nothing.
            ("identity;q=0,", Some(BR)),
            (",identity;q=0", Some(BR)),
            ("identity;q=0, b r", Some(BR)),
            ("identity;q=0, \"br\"", Some(BR)),
            ("identity;q=0, ;q=1", Some(BR)),
            ("identity;q=0, identity", Some(BR)),
            ("identity;q=0, foo", None),
        ] {
            assert_eq!(sent(&[line]), expected, "for {line:?}");
        }
    }

    #[test]
    fn a_malformed_member_counts_as_absent() {
        for member in [
            "br;q=1.001",
            "br;q=2",
            "br;q=0.1234",
            "br;q=-0",
            "br;q=.5",
            "br;q=",
            "br;q",
            "br;",
            "br;q=1;x=1",
            "br;level=3",
            "br q=1",
            "br;q =1",
            "br;q= 1",
            "br;q=0..5",
            "br;q=a",
            "\"br\"",
            "b r",
        ] {
            let line = format!("{member}, gzip;q=0.5");
            assert_eq!(sent(&[&line]), Some(GZIP), "for {line:?}");
        }
    }

    #[test]
    fn a_quality_has_up_to_three_digits() {
        for (text, expected) in
            [("0", 0), ("1", 1000), ("0.", 0), ("1.", 1000), ("0.5", 500), ("0.05", 50), ("0.001", 1), ("1.000", 1000)]
        {
            assert_eq!(parse_quality(text.as_bytes()), Some(expected), "for {text:?}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        assert_eq!(sent(&["gzip", "br"]), Some(BR));
        assert_eq!(sent(&["br;q=0", "br, gzip"]), Some(GZIP));
    }

    #[test]
    fn without_the_header_nothing_is_encoded() {
        assert_eq!(sent(&[]), Some(IDENTITY));
    }

    /// RFC 9110, section 12.5.3, said slowly: every rule is looked up in the text of the list again.
    mod reference {
        use super::{Coding, IDENTITY};

        fn qvalue(text: &str) -> Option<f64> {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            let well_formed = matches!(whole, "0" | "1")
                && fraction.len() <= 3
                && fraction.chars().all(|c| c.is_ascii_digit())
                && (whole == "0" || fraction.chars().all(|c| c == '0'));
            well_formed.then(|| text.trim_end_matches('.').parse().expect("digits and at most one point"))
        }

        fn members(list: &str) -> Vec<(String, f64)> {
            let blank = |c| c == ' ' || c == '\t';
            let member = |text: &str| {
                let text = text.trim_matches(blank).to_lowercase();
                match text.split_once(';') {
                    None => Some((text, 1.0)),
                    Some((name, weight)) => {
                        let value = qvalue(weight.trim_start_matches(blank).strip_prefix("q=")?)?;
                        Some((name.trim_end_matches(blank).to_owned(), value))
                    }
                }
            };
            list.split(',').filter_map(member).collect()
        }

        /// The q-value that the list gives a name, through its own entry or through the asterisk.
        fn given(list: &str, coding: Option<Coding>) -> Option<f64> {
            let names: &[&str] = match coding {
                Some(Coding::Brotli) => &["br"],
                Some(Coding::Zstd) => &["zstd"],
                Some(Coding::Gzip) => &["gzip", "x-gzip"],
                None => &["identity"],
            };
            let members = members(list);
            let entry = |names: &[&str]| members.iter().find(|(name, _)| names.contains(&name.as_str()));
            entry(names).or_else(|| entry(&["*"])).map(|(_, value)| *value)
        }

        /// The file itself is refused, and nothing is asked for instead.
        fn wants_anything_else(list: &str) -> bool {
            let is_token = |name: &str| {
                let is_tchar = |letter: char| letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter);
                !name.is_empty() && name.chars().all(is_tchar)
            };
            let is_coding = |name: &str| is_token(name) && name != "identity";
            let members = members(list);
            given(list, IDENTITY) == Some(0.0)
                && members.iter().filter(|(name, _)| is_coding(name)).all(|(name, value)| name != "*" && *value == 0.0)
        }

        pub(super) fn best(list: &str, candidates: &[Option<Coding>]) -> Option<Option<Coding>> {
            let is_acceptable = |coding: &Option<Coding>| match given(list, *coding) {
                Some(value) => value > 0.0,
                None => *coding == IDENTITY || wants_anything_else(list),
            };
            let acceptable: Vec<_> = candidates.iter().copied().filter(is_acceptable).collect();
            // What nobody mentioned is less welcome than the smallest q-value there is.
            let value = |coding: &Option<Coding>| given(list, *coding).unwrap_or(0.0001);
            let highest = acceptable.iter().map(value).fold(0.0, f64::max);
            acceptable.into_iter().find(|coding| value(coding) == highest)
        }
    }

    fn list() -> impl Strategy<Value = String> {
        let name = prop_oneof![
            prop::sample::select(vec![
                "br", "zstd", "gzip", "x-gzip", "identity", "*", "deflate", "BR", "Identity", "", "dcb", "dcz",
            ])
            .prop_map(str::to_owned),
            "[a-z*-]{0,4}",
        ];
        let weight = prop_oneof![
            prop::sample::select(vec!["", "", ";q=0", ";q=1", " ; q=0.5", ";Q=0.9", ";q=0.", ";q=1.001", ";q", ";x=1"])
                .prop_map(str::to_owned),
            ";q=[01]\\.[0-9]{0,4}",
            "[; q=01.]{0,6}",
        ];
        let blank = prop::sample::select(vec!["", " ", "\t", "  "]);
        let member =
            (blank.clone(), name, weight, blank).prop_map(|(a, name, weight, b)| format!("{a}{name}{weight}{b}"));
        prop::collection::vec(member, 0..7).prop_map(|members| members.join(","))
    }

    proptest! {
        #[test]
        fn the_choice_is_the_one_of_the_rfc(
            list in list(),
            candidates in prop::sample::subsequence(vec![BR, ZSTD, GZIP, IDENTITY], 1..=4).prop_shuffle(),
        ) {
            let accepted = Accepted::read(&request(&[&list]));
            let chosen = accepted.best(candidates.iter().copied()).map(|place| candidates[place]);
            prop_assert_eq!(chosen, reference::best(&list, &candidates), "for {:?}", list);
        }

        #[test]
        fn what_is_said_of_deltas_changes_nothing_for_other_codings(
            list in list(),
            delta in prop::sample::select(vec!["dcb", "dcz", "DCB", "dcz;q=0.5", "dcb;q=0"]),
        ) {
            // A coding that is asked for is one that the client wants instead of the file itself.
            let other = if delta.ends_with("q=0") { "unknown;q=0" } else { "unknown" };
            let (with, without) = (Accepted::read(&request(&[&format!("{list},{delta}")])), Accepted::read(&request(&[&format!("{list},{other}")])));
            prop_assert_eq!((with.codings, with.identity), (without.codings, without.identity));
        }

        #[test]
        fn where_the_list_is_cut_into_lines_does_not_matter(lists in prop::collection::vec(list(), 1..4)) {
            let lines: Vec<_> = lists.iter().map(String::as_str).collect();
            prop_assert_eq!(Accepted::read(&request(&lines)), Accepted::read(&request(&[&lists.join(",")])));
        }
    }
}
