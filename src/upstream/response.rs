//! What of an answer the client gets to see. Pure: it edits a head.

use ::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, SERVER, TRANSFER_ENCODING};
use ::http::response::Parts;
use ::http::{StatusCode, Version};

use super::failure::Failure;
use crate::http::{FileHeader, HandedOver, hop_by_hop};

/// Checks and cleans the head of an answer.
///
/// Fields that end at this hop go, and with them the framing, which hyper makes anew towards the
/// client. `Server` goes because it tells nobody anything good, `X-Accel-*` and `X-Sendfile` because they
/// are words between an application and its proxy; a file that they hand over is noted in the extensions.
pub(super) fn clean(head: &mut Parts) -> Result<(), Failure> {
    check_framing(head)?;
    hop_by_hop::remove(&mut head.headers);
    head.headers.remove(SERVER);
    if let Some(handed_over) = take_file(&mut head.headers) {
        head.extensions.insert(handed_over);
    }
    let accel: Vec<_> = head.headers.keys().filter(|name| name.as_str().starts_with("x-accel-")).cloned().collect();
    for name in accel {
        head.headers.remove(name);
    }
    if matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        head.headers.remove(CONTENT_LENGTH);
    }
    head.version = Version::HTTP_11;
    Ok(())
}

/// The file that the answer hands over. nginx's header wins where there are both.
fn take_file(headers: &mut HeaderMap) -> Option<HandedOver> {
    let accel = headers.remove("x-accel-redirect").map(|value| (FileHeader::XAccelRedirect, value));
    let named = headers.remove("x-sendfile").map(|value| (FileHeader::XSendfile, value));
    let charset = headers.remove("x-accel-charset");
    accel.or(named).map(|(header, value)| HandedOver { header, value, charset })
}

/// Whether an answer with this status may have a body at all (RFC 9110, section 6.4.1).
pub(super) fn may_have_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Whether the application wants its answer to go on as it comes and to know how far the client is: server-sent
/// events, and what says so as it would to nginx. Looked at before [`clean`] takes the word away.
pub(super) fn is_live(headers: &HeaderMap) -> bool {
    let says_so = headers.get("x-accel-buffering").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"no"));
    let events = b"text/event-stream";
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    says_so || kind.get(..events.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(events))
}

/// hyper has refused lengths that differ or are no numbers; what is left are the cases in which two
/// readers could still disagree about where the answer ends.
fn check_framing(head: &Parts) -> Result<(), Failure> {
    let malformed = |text: &str| Err(Failure::Malformed(text.to_owned()));
    let mut encodings = head.headers.get_all(TRANSFER_ENCODING).into_iter();
    if let Some(encoding) = encodings.next() {
        if encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return malformed("a Transfer-Encoding other than chunked");
        }
        if head.headers.contains_key(CONTENT_LENGTH) {
            return malformed("both Content-Length and Transfer-Encoding");
        }
    }
    if head.headers.get_all(CONTENT_LENGTH).into_iter().count() > 1 {
        return malformed("more than one Content-Length");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::{HeaderValue, Response};

    fn head(status: u16, fields: &[(&'static str, &'static str)]) -> Parts {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in fields {
            response.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        response.into_parts().0
    }

    #[test]
    fn what_is_between_proxy_and_application_stays_there() {
        let mut head = head(
            200,
            &[
                ("server", "gunicorn"),
                ("connection", "close, x-hop"),
                ("x-hop", "1"),
                ("keep-alive", "timeout=2"),
                ("transfer-encoding", "chunked"),
                ("x-accel-buffering", "no"),
                ("set-cookie", "a=1"),
                ("set-cookie", "b=2"),
                ("date", "now"),
            ],
        );
        clean(&mut head).unwrap();
        let mut left: Vec<_> =
            head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(left, [("date", "now"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]);
    }

    #[test]
    fn an_answer_that_two_readers_could_end_differently_is_refused() {
        for fields in [
            &[("content-length", "1"), ("content-length", "1")][..],
            &[("content-length", "1"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "gzip")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        ] {
            assert!(matches!(clean(&mut head(200, fields)), Err(Failure::Malformed(_))), "for {fields:?}");
        }
        for fields in [&[("content-length", "1")][..], &[("transfer-encoding", "Chunked")], &[]] {
            assert!(clean(&mut head(200, fields)).is_ok(), "for {fields:?}");
        }
    }

    #[test]
    fn events_and_what_says_so_are_live() {
        for (field, expected) in [
            (("content-type", "text/event-stream"), true),
            (("content-type", "Text/Event-Stream; charset=utf-8"), true),
            (("content-type", "text/html"), false),
            (("content-type", "text/event"), false),
            (("x-accel-buffering", "No"), true),
            (("x-accel-buffering", "yes"), false),
        ] {
            assert_eq!(is_live(&head(200, &[field]).headers), expected, "for {field:?}");
        }
    }

    #[test]
    fn an_answer_without_a_body_announces_none() {
        for (status, expected) in [(200, true), (204, false), (304, false)] {
            let mut head = head(status, &[("content-length", "5")]);
            clean(&mut head).unwrap();
            assert_eq!(head.headers.contains_key("content-length"), expected, "for {status}");
        }
    }
}
