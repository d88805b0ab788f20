//! Where the body of an answer ends (RFC 9112, sections 6 and 7), and the pieces of which it is made.
//!
//! Pure: it takes bytes from a buffer and says whether it needs more. Two readers that disagree about the end of an
//! answer are how one client gets another's, so whatever could be read in two ways is refused.

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::response::Parts;
use http::{StatusCode, Version};
use httparse::Status;

use super::answer_head::Head;

/// The longest line between two chunks, extensions included. None is known to be longer than a signature.
const LONGEST_LINE: usize = 4 * 1024;
/// The most that trailers may have together. They are read, and dropped.
const MOST_TRAILERS: usize = 16 * 1024;

/// What is still to come of a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Framing {
    /// Nothing: there was none, or it has ended.
    #[default]
    Ended,
    /// So many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked(Chunked),
    /// Whatever comes until the application closes the connection.
    UntilClose,
}

/// What comes next of a body in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunked {
    /// The line with a chunk's size.
    Size,
    /// So many bytes of data.
    Data(u64),
    /// The end of a chunk's last line.
    DataEnd,
    /// What follows the last chunk.
    Trailers,
}

/// What was found in the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// A piece of the body; never empty.
    Piece(Bytes),
    /// Nothing that can be used without what comes next.
    More,
    /// The end of the body.
    End,
}

/// What is wrong with how an answer is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadFraming(&'static str);

impl Framing {
    /// How the answer with this head is framed. `is_head` says that the request's method was HEAD.
    pub(super) fn of(is_head: bool, head: &Head) -> Result<Self, BadFraming> {
        let Head { parts: Parts { status, version, headers, .. }, ours } = head;
        let mut lengths = headers.get_all(CONTENT_LENGTH).into_iter();
        let (length, another) = (lengths.next(), lengths.next());
        if another.is_some() {
            return Err(BadFraming("more than one Content-Length"));
        }
        let length = match length.map(|length| digits(length.as_bytes())) {
            Some(None) => return Err(BadFraming("a Content-Length that is no number")),
            Some(length) => length,
            None => None,
        };
        let mut codings = ours.all(&TRANSFER_ENCODING);
        let is_chunked = match (codings.next(), codings.next()) {
            (None, _) => false,
            (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
            _ => return Err(BadFraming("a Transfer-Encoding other than chunked")),
        };
        if is_chunked && length.is_some() {
            return Err(BadFraming("both Content-Length and Transfer-Encoding"));
        }
        if is_chunked && *version == Version::HTTP_10 {
            return Err(BadFraming("a Transfer-Encoding in HTTP/1.0"));
        }
        let is_bare = is_head || status.is_informational();
        Ok(match length {
            _ if is_bare || matches!(*status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => Self::Ended,
            Some(0) => Self::Ended,
            Some(length) => Self::Length(length),
            None if is_chunked => Self::Chunked(Chunked::Size),
            None => Self::UntilClose,
        })
    }

    /// Takes what is there of the body.
    pub(super) fn take(&mut self, buffer: &mut BytesMut) -> Result<Taken, BadFraming> {
        loop {
            let taken = match self {
                Self::Ended => Taken::End,
                Self::UntilClose => piece(buffer, u64::MAX),
                Self::Length(left) => {
                    let taken = piece(buffer, *left);
                    if let Taken::Piece(bytes) = &taken {
                        *left -= bytes.len() as u64;
                        if *left == 0 {
                            *self = Self::Ended;
                        }
                    }
                    taken
                }
                Self::Chunked(chunked) => match chunked.take(buffer)? {
                    Step::Taken(taken) => {
                        if taken == Taken::End {
                            *self = Self::Ended;
                        }
                        taken
                    }
                    Step::Next(next) => {
                        *chunked = next;
                        continue;
                    }
                },
            };
            return Ok(taken);
        }
    }

    /// Notes that the application has closed the connection; the answer is whether that is the body's end.
    pub(super) fn end_with_connection(&mut self) -> bool {
        match self {
            Self::Ended => true,
            Self::UntilClose => {
                *self = Self::Ended;
                true
            }
            Self::Length(_) | Self::Chunked(_) => false,
        }
    }

    pub(super) fn has_ended(self) -> bool {
        self == Self::Ended
    }

    /// How long what is left is, if that is known.
    pub(super) fn remaining(self) -> Option<u64> {
        match self {
            Self::Ended => Some(0),
            Self::Length(left) => Some(left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }
}

enum Step {
    Taken(Taken),
    Next(Chunked),
}

impl Chunked {
    fn take(&mut self, buffer: &mut BytesMut) -> Result<Step, BadFraming> {
        Ok(match self {
            Self::Size => match chunk_size(buffer)? {
                None => Step::Taken(Taken::More),
                Some((line, 0)) => {
                    buffer.advance(line);
                    Step::Next(Self::Trailers)
                }
                Some((line, size)) => {
                    buffer.advance(line);
                    Step::Next(Self::Data(size))
                }
            },
            Self::Data(0) => Step::Next(Self::DataEnd),
            Self::Data(left) => {
                let taken = piece(buffer, *left);
                if let Taken::Piece(bytes) = &taken {
                    *left -= bytes.len() as u64;
                }
                Step::Taken(taken)
            }
            Self::DataEnd => match &buffer[..buffer.len().min(2)] {
                b"" | b"\r" => Step::Taken(Taken::More),
                b"\r\n" => {
                    buffer.advance(2);
                    Step::Next(Self::Size)
                }
                _ => return Err(BadFraming("a chunk that is longer than its size")),
            },
            Self::Trailers => match trailers(buffer)? {
                None => Step::Taken(Taken::More),
                Some(length) => {
                    buffer.advance(length);
                    Step::Taken(Taken::End)
                }
            },
        })
    }
}

/// What is there of the next so many bytes.
fn piece(buffer: &mut BytesMut, left: u64) -> Taken {
    if buffer.is_empty() {
        return Taken::More;
    }
    let length = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
    Taken::Piece(buffer.split_to(length).freeze())
}

/// The length of the line that begins a chunk, and the size that it says.
fn chunk_size(buffer: &[u8]) -> Result<Option<(usize, u64)>, BadFraming> {
    // The parser takes a line without any digit for a 0.
    if buffer.first().is_some_and(|first| !first.is_ascii_hexdigit()) {
        return Err(BadFraming("a chunk without a size"));
    }
    match httparse::parse_chunk_size(buffer) {
        Err(_) => Err(BadFraming("a chunk whose size is no number")),
        Ok(Status::Complete((line, _))) if line > LONGEST_LINE => {
            Err(BadFraming("a chunk whose first line is too long"))
        }
        // Who ends lines at a line feed alone sees other chunks in this.
        Ok(Status::Complete((line, _)))
            if buffer[..line - 2].iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') =>
        {
            Err(BadFraming("a control character between chunks"))
        }
        Ok(Status::Complete(found)) => Ok(Some(found)),
        Ok(Status::Partial) if buffer.len() >= LONGEST_LINE => Err(BadFraming("a chunk whose first line is too long")),
        Ok(Status::Partial) => Ok(None),
    }
}

/// How long the trailers are, with the empty line behind them.
fn trailers(buffer: &[u8]) -> Result<Option<usize>, BadFraming> {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    match httparse::parse_headers(buffer, &mut fields) {
        Ok(Status::Complete((length, _))) if length <= MOST_TRAILERS => Ok(Some(length)),
        Ok(Status::Partial) if buffer.len() < MOST_TRAILERS => Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(BadFraming("too many trailers")),
        Err(_) => Err(BadFraming("trailers that are no header fields")),
    }
}

/// A number, and nothing beside it: a sign, a space or a list could be read in two ways.
fn digits(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(start: &str, fields: &[(&str, &str)]) -> Head {
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        super::super::answer_head::take(&mut format!("{start}\r\n{lines}\r\n").as_bytes().into(), 1000)
            .unwrap()
            .unwrap()
    }

    #[test]
    fn the_head_says_where_the_body_ends() {
        const CHUNKED: Framing = Framing::Chunked(Chunked::Size);
        for (is_head, status, fields, expected) in [
            (false, 200, &[("content-length", "5")][..], Framing::Length(5)),
            (false, 200, &[("content-length", "0")], Framing::Ended),
            (false, 200, &[("transfer-encoding", "chunked")], CHUNKED),
            (false, 200, &[("transfer-encoding", "Chunked")], CHUNKED),
            (false, 200, &[], Framing::UntilClose),
            (false, 500, &[], Framing::UntilClose),
            (true, 200, &[("content-length", "5")], Framing::Ended),
            (true, 200, &[("transfer-encoding", "chunked")], Framing::Ended),
            (false, 204, &[("content-length", "5")], Framing::Ended),
            (false, 304, &[("content-length", "5")], Framing::Ended),
            (false, 304, &[], Framing::Ended),
            (false, 103, &[], Framing::Ended),
            (false, 200, &[("content-length", "18446744073709551615")], Framing::Length(u64::MAX)),
        ] {
            let found = Framing::of(is_head, &head(&format!("HTTP/1.1 {status} so"), fields));
            assert_eq!(found, Ok(expected), "for {status}, {fields:?}");
        }
    }

    #[test]
    fn what_two_readers_could_end_differently_is_refused() {
        for (version, fields) in [
            (Version::HTTP_11, &[("content-length", "1"), ("content-length", "1")][..]),
            (Version::HTTP_11, &[("content-length", "1"), ("content-length", "2")]),
            (Version::HTTP_11, &[("content-length", "1"), ("transfer-encoding", "chunked")]),
            (Version::HTTP_11, &[("content-length", "1, 1")]),
            (Version::HTTP_11, &[("content-length", "+1")]),
            (Version::HTTP_11, &[("content-length", "-1")]),
            (Version::HTTP_11, &[("content-length", "0x1")]),
            (Version::HTTP_11, &[("content-length", "")]),
            (Version::HTTP_11, &[("content-length", "18446744073709551616")]),
            (Version::HTTP_11, &[("transfer-encoding", "gzip")]),
            (Version::HTTP_11, &[("transfer-encoding", "gzip, chunked")]),
            (Version::HTTP_11, &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]),
            (Version::HTTP_10, &[("transfer-encoding", "chunked")]),
        ] {
            for is_head in [false, true] {
                assert!(Framing::of(is_head, &head(&format!("{version:?} 200 OK"), fields)).is_err(), "for {fields:?}");
            }
        }
    }

    /// What is read of a body that comes in these pieces: the body, whether it has ended, and what is left over.
    fn read(mut framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, bool, Vec<u8>), BadFraming> {
        let (mut buffer, mut body, mut has_ended) = (BytesMut::new(), Vec::new(), false);
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while !has_ended {
                match framing.take(&mut buffer)? {
                    Taken::Piece(bytes) => {
                        assert!(!bytes.is_empty());
                        body.extend_from_slice(&bytes);
                    }
                    Taken::More => break,
                    Taken::End => has_ended = true,
                }
            }
        }
        Ok((body, has_ended, buffer.to_vec()))
    }

    const CHUNKS: Framing = Framing::Chunked(Chunked::Size);

    #[test]
    fn a_body_ends_where_it_says_and_not_earlier() {
        for (framing, bytes, body, has_ended, left) in [
            (Framing::Length(3), &b"abcd"[..], &b"abc"[..], true, &b"d"[..]),
            (Framing::Length(3), b"ab", b"ab", false, b""),
            (Framing::UntilClose, b"ab", b"ab", false, b""),
            (Framing::Ended, b"ab", b"", true, b"ab"),
            (CHUNKS, b"3\r\nabc\r\n0\r\n\r\nX", b"abc", true, b"X"),
            (CHUNKS, b"3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n000\r\n\r\n", b"abc0123456789", true, b""),
            (CHUNKS, b"0\r\nA: b\r\nC: d\r\n\r\nX", b"", true, b"X"),
            (CHUNKS, b"0\r\nA: b\r\n", b"", false, b"A: b\r\n"),
            (CHUNKS, b"3\r\nabc\r\n", b"abc", false, b""),
            (CHUNKS, b"3\r\nabc", b"abc", false, b""),
        ] {
            let expected = (body.to_vec(), has_ended, left.to_vec());
            assert_eq!(read(framing, &[bytes]), Ok(expected.clone()), "for {}", bytes.escape_ascii());
            let single: Vec<_> = bytes.chunks(1).collect();
            assert_eq!(read(framing, &single), Ok(expected), "byte by byte, for {}", bytes.escape_ascii());
        }
    }

    #[test]
    fn chunks_that_are_none_are_refused() {
        for bytes in [
            "\r\nabc\r\n",
            ";x\r\nabc\r\n",
            " 3\r\nabc\r\n",
            "3\nabc\n",
            "3 3\r\nabc\r\n",
            "-3\r\nabc\r\n",
            "0x3\r\nabc\r\n",
            "g\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3\r\nabc\r0\r\n\r\n",
            "11111111111111111\r\n",
            "2;a\nb\r\nok\r\n0\r\n\r\n",
            "2;a\0\r\nok\r\n0\r\n\r\n",
            "0\r\nno field\r\n\r\n",
        ] {
            assert!(read(CHUNKS, &[bytes.as_bytes()]).is_err(), "for {bytes:?}");
        }
        let long = format!("3;{}\r\n", "x".repeat(LONGEST_LINE));
        assert!(read(CHUNKS, &[long.as_bytes()]).is_err());
        assert!(read(CHUNKS, &[&long.as_bytes()[..LONGEST_LINE + 1]]).is_err(), "before it has ended");
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(MOST_TRAILERS / 6 + 1));
        assert!(read(CHUNKS, &[trailers.as_bytes()]).is_err());
    }

    #[test]
    fn only_what_has_no_other_end_ends_with_the_connection() {
        for (mut framing, expected) in
            [(Framing::UntilClose, true), (Framing::Ended, true), (Framing::Length(1), false), (CHUNKS, false)]
        {
            assert_eq!(framing.end_with_connection(), expected, "for {framing:?}");
        }
    }

    proptest! {
        #[test]
        fn however_it_is_cut_into_chunks_and_reads_the_body_is_the_same(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..10),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
            rest in prop::collection::vec(any::<u8>(), 0..10),
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            bytes.extend_from_slice(&rest);
            let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let pieces: Vec<_> = places.windows(2).map(|two| &bytes[two[0]..two[1]]).collect();
            prop_assert_eq!(read(CHUNKS, &pieces), Ok((chunks.concat(), true, rest)));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, piece in 1usize..9) {
            let _ = read(CHUNKS, &bytes.chunks(piece).collect::<Vec<_>>());
        }
    }
}
