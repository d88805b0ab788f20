//! What of an answer the client gets to see. Pure: it edits a head.

use ::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName};
use ::http::response::Parts;
use ::http::{StatusCode, Version};

use crate::http::{FileHeader, HandedOver, hop_by_hop};

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const X_ACCEL_CHARSET: HeaderName = HeaderName::from_static("x-accel-charset");
const X_ACCEL_REDIRECT: HeaderName = HeaderName::from_static("x-accel-redirect");
const X_SENDFILE: HeaderName = HeaderName::from_static("x-sendfile");

/// Cleans the head of an answer.
///
/// Fields that end at this hop go, and with them the framing, which is made anew towards the
/// client. `X-Accel-*` and `X-Sendfile` go because they are words between an application and its proxy; a file that they
/// hand over is noted in the extensions.
pub(super) fn clean(head: &mut Parts) {
    let gone = hop_by_hop::gone(&head.headers, is_for_a_proxy);
    if gone.iter().any(is_for_a_proxy)
        && let Some(handed_over) = handed_over(&head.headers)
    {
        head.extensions.insert(handed_over);
    }
    for name in gone {
        head.headers.remove(name);
    }
    if matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        head.headers.remove(CONTENT_LENGTH);
    }
    head.version = Version::HTTP_11;
}

fn is_for_a_proxy(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-accel-") || name == X_SENDFILE.as_str()
}

/// The file that the answer hands over. nginx's header wins where there are both.
fn handed_over(headers: &HeaderMap) -> Option<HandedOver> {
    let accel = headers.get(X_ACCEL_REDIRECT).map(|value| (FileHeader::XAccelRedirect, value.clone()));
    let named = || headers.get(X_SENDFILE).map(|value| (FileHeader::XSendfile, value.clone()));
    let (header, value) = accel.or_else(named)?;
    Some(HandedOver { header, value, charset: headers.get(X_ACCEL_CHARSET).cloned() })
}

/// Whether an answer with this status may have a body at all (RFC 9110, section 6.4.1).
pub(super) fn may_have_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Whether the application wants its answer to go on as it comes and to know how far the client is: server-sent
/// events, and what says so as it would to nginx. Looked at before [`clean`] takes the word away.
pub(super) fn is_live(headers: &HeaderMap) -> bool {
    let says_so = headers.get(X_ACCEL_BUFFERING).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"no"));
    let events = b"text/event-stream";
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    says_so || kind.get(..events.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(events))
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
        clean(&mut head);
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
            assert_eq!(is_live(&head(200, &[field]).headers), expected, "for {field:?}");
        }
    }

    #[test]
    fn an_answer_without_a_body_announces_none() {
        for (status, expected) in [(200, true), (204, false), (304, false)] {
            let mut head = head(status, &[("content-length", "5")]);
            clean(&mut head);
            assert_eq!(head.headers.contains_key("content-length"), expected, "for {status}");
        }
    }
}
