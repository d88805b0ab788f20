//! What an application says of its answer before it has one: `103 Early Hints` (RFC 8297).
//!
//! A request carries [`EarlyHints`] if its client can use them, which is one of HTTP/2: over HTTP/1.1 a client that
//! does not know 103 may take it for the answer (RFC 8297, section 3), and browsers ignore it there. Who asks the
//! application puts in what it says; the stream of the request takes it out and sends it. What else an application says
//! before its answer (100, 102) is for vestibule, which has sent it a whole request and waits anyway.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use ::http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, HeaderMap, HeaderName, LINK, REFERRER_POLICY,
};

use super::hop_by_hop;

/// How many an application may send before one answer. Each is work for a browser, and one is the rule.
const MOST: usize = 4;

/// How large the fields of all of them may be together, as HTTP/2 counts: a hundred links or so.
const LARGEST: usize = 16 * 1024;

/// Takes early hints from who asks the application to the client. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct EarlyHints {
    shared: Arc<Shared>,
    completes: Option<Arc<dyn Completes>>,
}

/// Adds to a hint what the application does not know of.
pub trait Completes: fmt::Debug + Send + Sync {
    /// Adds it to the fields.
    fn complete(&self, fields: &mut HeaderMap);
}

#[derive(Debug, Default)]
struct Shared {
    /// Whether there ever was one, so that whoever finds none need not lock for it.
    has_had_some: AtomicBool,
    mailbox: Mutex<Mailbox>,
}

#[derive(Debug, Default)]
struct Mailbox {
    waiting: VecDeque<HeaderMap>,
    /// How many there have been, and how large they were.
    count: usize,
    size: usize,
    is_closed: bool,
    /// Who waits for one.
    taker: Option<Waker>,
}

impl EarlyHints {
    /// Sends the fields of a 103 to the client, as far as [`relayed`] lets them through. It never waits. What is too
    /// much, or comes when the answer has begun, is dropped without a word: a hint is no promise.
    pub fn send(&self, fields: HeaderMap) {
        let mut fields = relayed(fields);
        if let Some(completes) = &self.completes {
            completes.complete(&mut fields);
        }
        let size: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        let mut mailbox = self.lock();
        let is_too_much = mailbox.count == MOST || mailbox.size + size > LARGEST;
        if fields.is_empty() || is_too_much || mailbox.is_closed {
            return;
        }
        mailbox.count += 1;
        mailbox.size += size;
        mailbox.waiting.push_back(fields);
        self.shared.has_had_some.store(true, Ordering::Release);
        let taker = mailbox.taker.take();
        drop(mailbox);
        if let Some(taker) = taker {
            taker.wake();
        }
    }

    /// Has each that comes from here on completed.
    pub fn complete_with(&mut self, completes: Arc<dyn Completes>) {
        self.completes = Some(completes);
    }

    /// The fields of the next one. While there is none, `cx` is woken when there is.
    pub fn poll_next(&self, cx: &Context<'_>) -> Poll<HeaderMap> {
        let mut mailbox = self.lock();
        if let Some(fields) = mailbox.waiting.pop_front() {
            return Poll::Ready(fields);
        }
        if !mailbox.taker.as_ref().is_some_and(|taker| taker.will_wake(cx.waker())) {
            mailbox.taker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Takes no further one, now that the answer begins. What has come before it still goes out.
    pub fn close(&self) -> impl Iterator<Item = HeaderMap> + use<> {
        let mut mailbox = self.lock();
        mailbox.is_closed = true;
        std::mem::take(&mut mailbox.waiting).into_iter()
    }

    /// Whether nobody else has a hold of it and it never had a hint: then it is as good as new.
    pub fn is_unused(&mut self) -> bool {
        Arc::get_mut(&mut self.shared).is_some_and(|shared| !*shared.has_had_some.get_mut())
    }

    fn lock(&self) -> MutexGuard<'_, Mailbox> {
        self.shared.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of an early hint the client gets to see: what browsers act on before there is an answer (HTML, section 2.4.5),
/// and nothing else. Whatever the operator takes off an answer, or is for the answer alone, as a cookie or a redirect,
/// would get out here.
pub fn relayed(mut fields: HeaderMap) -> HeaderMap {
    hop_by_hop::remove(&mut fields);
    let gone: Vec<_> = fields.keys().filter(|name| !is_relayed(name)).cloned().collect();
    for name in gone {
        fields.remove(name);
    }
    fields
}

fn is_relayed(name: &HeaderName) -> bool {
    matches!(*name, LINK | CONTENT_SECURITY_POLICY | CONTENT_SECURITY_POLICY_REPORT_ONLY | REFERRER_POLICY)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use ::http::HeaderValue;

    use super::*;

    fn fields(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a sound value"))
        };
        fields.iter().map(field).collect()
    }

    fn link(name: &str) -> HeaderMap {
        fields(&[("link", &format!("</static/{name}>; rel=preload; as=style"))])
    }

    fn next(hints: &EarlyHints) -> Option<HeaderMap> {
        match hints.poll_next(&Context::from_waker(Waker::noop())) {
            Poll::Ready(fields) => Some(fields),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_says_how_the_answer_is_going_to_be_goes_on() {
        for (name, goes_on) in [
            ("link", true),
            ("content-security-policy", true),
            ("referrer-policy", true),
            ("x-of-the-site", false),
            ("location", false),
            ("strict-transport-security", false),
            ("connection", false),
            ("content-encoding", false),
            ("content-length", false),
            ("content-range", false),
            ("date", false),
            ("keep-alive", false),
            ("server", false),
            ("set-cookie", false),
            ("transfer-encoding", false),
            ("upgrade", false),
            ("x-accel-redirect", false),
            ("x-sendfile", false),
        ] {
            assert_eq!(relayed(fields(&[(name, "1")])).contains_key(name), goes_on, "for {name}");
        }
        assert!(relayed(fields(&[("connection", "x-hop"), ("x-hop", "1")])).is_empty());
    }

    #[test]
    fn hints_come_out_in_their_order() {
        let hints = EarlyHints::default();
        let sender = hints.clone();
        assert_eq!(next(&hints), None);
        sender.send(link("a.css"));
        sender.send(link("b.css"));
        assert_eq!((next(&hints), next(&hints), next(&hints)), (Some(link("a.css")), Some(link("b.css")), None));
    }

    #[test]
    fn one_that_says_nothing_is_none() {
        let hints = EarlyHints::default();
        hints.send(HeaderMap::new());
        hints.send(fields(&[("set-cookie", "a=1")]));
        assert_eq!(next(&hints), None);
    }

    #[test]
    fn when_the_answer_begins_those_before_it_go_out_and_those_after_it_do_not() {
        let hints = EarlyHints::default();
        hints.send(link("a.css"));
        assert_eq!(hints.close().collect::<Vec<_>>(), [link("a.css")]);
        hints.send(link("b.css"));
        assert_eq!((next(&hints), hints.close().count()), (None, 0));
    }

    #[test]
    fn there_are_never_too_many_nor_too_large_ones() {
        let hints = EarlyHints::default();
        for _ in 0..2 * MOST {
            hints.send(link("a.css"));
        }
        assert_eq!(hints.close().count(), MOST);
        let hints = EarlyHints::default();
        hints.send(link(&"a".repeat(LARGEST / 2)));
        hints.send(link(&"b".repeat(LARGEST / 2)));
        hints.send(link("c.css"));
        assert_eq!(hints.close().last(), Some(link("c.css")), "what is small enough still comes");
    }

    #[test]
    fn who_waits_for_one_is_woken() {
        #[derive(Default)]
        struct Bell(AtomicUsize);
        impl Wake for Bell {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (hints, bell) = (EarlyHints::default(), Arc::new(Bell::default()));
        let waker = Waker::from(bell.clone());
        assert!(hints.poll_next(&Context::from_waker(&waker)).is_pending());
        hints.send(HeaderMap::new());
        assert_eq!(bell.0.load(Ordering::Relaxed), 0);
        hints.send(link("a.css"));
        hints.send(link("b.css"));
        assert_eq!(bell.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn it_serves_the_next_request_if_this_one_never_touched_it() {
        let mut hints = EarlyHints::default();
        let sender = hints.clone();
        assert!(!hints.is_unused(), "somebody has a hold of it");
        drop(sender);
        assert!(hints.is_unused());
        hints.clone().send(link("a.css"));
        assert!(!hints.is_unused());
    }
}
