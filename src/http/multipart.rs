//! Several parts of one representation in one answer: `multipart/byteranges` (RFC 9110, section 14.6).
//!
//! Only the text around the parts is made here. The parts themselves stay where they are until they are sent.

use std::fmt::Write as _;
use std::ops::Range;

use ::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use ::http::{HeaderMap, HeaderValue};
use bytes::Bytes;

use super::body::Piece;

/// Makes the headers of a whole file of `size` bytes those of an answer with some parts of it, and tells what this is
/// made of; each part as a piece of the file. The type and the place of each part stand before it, and only there
/// (RFC 9110, section 15.3.7.2).
pub fn frame(headers: &mut HeaderMap, parts: &[Range<u64>], size: u64) -> Vec<Piece> {
    let Multipart { content_type, length, pieces } =
        Multipart::new(parts, size, headers.get(CONTENT_TYPE), fastrand::u128(..));
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CONTENT_LENGTH, length.into());
    pieces
}

/// An answer of several parts.
#[derive(Debug)]
struct Multipart {
    /// The `Content-Type` of the whole answer.
    content_type: HeaderValue,
    /// The length of the whole answer.
    length: u64,
    /// What the answer is made of; each part as a piece of the file.
    pieces: Vec<Piece>,
}

impl Multipart {
    /// Frames parts of a representation of `size` bytes. A file that has `boundary` in it by chance could be
    /// misread, so let it be a random number.
    fn new(parts: &[Range<u64>], size: u64, media_type: Option<&HeaderValue>, boundary: u128) -> Self {
        let boundary = format!("{boundary:032x}");
        let media_type = media_type.and_then(|media_type| media_type.to_str().ok());
        let media_type = media_type.map(|media_type| format!("Content-Type: {media_type}\r\n")).unwrap_or_default();
        // All text lies in one allocation, of which each piece is a slice.
        let mut text = String::with_capacity(parts.len() * 160);
        let mut ends = Vec::with_capacity(parts.len() + 1);
        for Range { start, end } in parts {
            let last = end - 1;
            write!(text, "\r\n--{boundary}\r\n{media_type}Content-Range: bytes {start}-{last}/{size}\r\n\r\n")
                .expect("writing to a string never fails");
            ends.push(text.len());
        }
        write!(text, "\r\n--{boundary}--\r\n").expect("writing to a string never fails");
        let text = Bytes::from(text);
        let length = text.len() as u64 + parts.iter().map(|part| part.end - part.start).sum::<u64>();

        let mut pieces = Vec::with_capacity(2 * parts.len() + 1);
        let mut begin = 0;
        for (part, end) in parts.iter().zip(ends) {
            pieces.push(Piece::Ready(text.slice(begin..end)));
            pieces.push(Piece::OfFile(part.clone()));
            begin = end;
        }
        pieces.push(Piece::Ready(text.slice(begin..)));
        let content_type = format!("multipart/byteranges; boundary={boundary}");
        let content_type = HeaderValue::try_from(content_type).expect("letters and digits are a header value");
        Self { content_type, length, pieces }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_says_which_bytes_it_is_and_of_what_type() {
        let css = HeaderValue::from_static("text/css; charset=utf-8");
        let answer = Multipart::new(&[500..1000, 0..1], 8000, Some(&css), 0xabc);
        assert_eq!(answer.content_type, format!("multipart/byteranges; boundary={:032x}", 0xabc));
        let show = |piece: &Piece| match piece {
            Piece::Ready(text) => String::from_utf8(text.to_vec()).expect("text"),
            Piece::OfFile(part) => format!("<{}..{}>", part.start, part.end),
        };
        let whole: String = answer.pieces.iter().map(show).collect();
        let boundary = "00000000000000000000000000000abc";
        let expected = format!(
            "\r\n--{boundary}\r\nContent-Type: text/css; charset=utf-8\r\nContent-Range: bytes 500-999/8000\r\n\r\n<500..1000>\
             \r\n--{boundary}\r\nContent-Type: text/css; charset=utf-8\r\nContent-Range: bytes 0-0/8000\r\n\r\n<0..1>\
             \r\n--{boundary}--\r\n"
        );
        assert_eq!(whole, expected);
        let text = expected.len() - "<500..1000>".len() - "<0..1>".len();
        assert_eq!(answer.length, text as u64 + 501);
        let untyped = Multipart::new(&[500..1000, 0..1], 8000, None, 0xabc);
        assert_eq!(untyped.length, answer.length - 2 * "Content-Type: text/css; charset=utf-8\r\n".len() as u64);
    }
}
