//! What of an answer the client gets to see. Pure: it edits a head.

use ::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use ::http::response::Parts;
use ::http::{StatusCode, Version};

use super::answer_head::{Head, Ours};
use crate::http::{FileHeader, HandedOver};

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const X_ACCEL_CHARSET: HeaderName = HeaderName::from_static("x-accel-charset");
const X_ACCEL_REDIRECT: HeaderName = HeaderName::from_static("x-accel-redirect");
const X_SENDFILE: HeaderName = HeaderName::from_static("x-sendfile");

/// The head of an answer as the client gets it, without the fields that end here: the framing is made anew towards the
/// client, and a file that they hand over is noted in the extensions.
pub(super) fn for_client(head: Head) -> Parts {
    let Head { parts: mut head, ours } = head;
    if let Some(handed_over) = handed_over(&ours) {
        head.extensions.insert(handed_over);
    }
    if matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        head.headers.remove(CONTENT_LENGTH);
    }
    head.version = Version::HTTP_11;
    head
}

/// Whether this is a word between an application and its proxy.
pub(super) fn is_for_a_proxy(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-accel-") || name == X_SENDFILE.as_str()
}

/// The file that the answer hands over. nginx's header wins where there are both.
fn handed_over(ours: &Ours) -> Option<HandedOver> {
    let accel = ours.get(&X_ACCEL_REDIRECT).map(|value| (FileHeader::XAccelRedirect, value.clone()));
    let named = || ours.get(&X_SENDFILE).map(|value| (FileHeader::XSendfile, value.clone()));
    let (header, value) = accel.or_else(named)?;
    Some(HandedOver { header, value, charset: ours.get(&X_ACCEL_CHARSET).cloned() })
}

/// Whether an answer with this status may have a body at all (RFC 9110, section 6.4.1).
pub(super) fn may_have_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Whether the application wants its answer to go on as it comes and to know how far the client is: server-sent
/// events, and what says so as it would to nginx.
pub(super) fn is_live(head: &Head) -> bool {
    let says_so = head.ours.get(&X_ACCEL_BUFFERING).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"no"));
    let events = b"text/event-stream";
    let kind = head.parts.headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    says_so || kind.get(..events.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(events))
}

#[cfg(test)]
mod tests {
    use super::super::answer_head;
    use super::*;

    fn head(status: u16, fields: &[(&str, &str)]) -> Head {
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!("HTTP/1.1 {status} so\r\n{lines}\r\n");
        answer_head::take(&mut text.as_bytes().into(), 1000).unwrap().unwrap()
    }

    #[test]
    fn what_is_between_proxy_and_application_stays_there() {
        let head = head(
            200,
            &[
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
        let head = for_client(head);
        let mut left: Vec<_> =
            head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(left, [("date", "now"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]);
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
            assert_eq!(is_live(&head(200, &[field])), expected, "for {field:?}");
        }
    }

    #[test]
    fn an_answer_without_a_body_announces_none() {
        for (status, expected) in [(200, true), (204, false), (304, false)] {
            let head = for_client(head(status, &[("content-length", "5")]));
            assert_eq!(head.headers.contains_key("content-length"), expected, "for {status}");
        }
    }
}
