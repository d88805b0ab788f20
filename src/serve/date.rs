//! The `Date` of an answer (RFC 9110, section 6.6.1).

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use ::http::header::HeaderValue;

/// The present time. Each thread writes it once a second.
pub(super) fn now() -> HeaderValue {
    thread_local! {
        static LATEST: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    LATEST.with_borrow_mut(|latest| match latest {
        Some((written, value)) if *written == second => value.clone(),
        _ => {
            let value = HeaderValue::try_from(httpdate::fmt_http_date(now)).expect("a date has nothing but ASCII");
            *latest = Some((second, value.clone()));
            value
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_http_wants_it() {
        let date = now();
        let time = httpdate::parse_http_date(date.to_str().expect("ASCII")).expect("a date");
        assert!(time.elapsed().expect("it is past").as_secs() < 60, "{date:?}");
    }
}
