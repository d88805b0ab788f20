//! What can go wrong between a request and the application's answer: whose fault it is, whether it
//! may be tried again, what the client is told and what the log.

use std::error::Error;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use std::{fmt, io};

use ::http::StatusCode;
use ::http::header::{HeaderValue, RETRY_AFTER};
use tracing::{debug, warn};

use crate::http::body::SlowBody;
use crate::http::{RequestId, Response, answers};
use crate::logging::seldom::Seldom;

/// What went wrong between vestibule and the application.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// All connections are in use, and as many requests as may wait do.
    #[error("all connections to the application are in use and the queue is full")]
    QueueFull,
    /// All connections stayed in use.
    #[error("no connection to the application became free")]
    QueueTooSlow {
        /// How long the request waited for one.
        waited: Duration,
    },
    /// Other requests have taken all memory for bodies of unknown length, and no disk is to be used.
    #[error("too much of request bodies is held at once ([upstream] request_buffer_memory)")]
    MemoryTaken,
    /// Other bodies have taken the memory, and all of the disk that they may.
    #[error("too much of bodies is held at once ([upstream] request_buffer_memory and buffer_disk)")]
    DiskTaken,
    /// Other bodies of the same client network have taken what these may of memory and disk.
    #[error("bodies from {0} have taken their share of what is held ([upstream] request_buffer_share)")]
    ShareTaken(IpAddr),
    /// The body cannot be written to a file.
    #[error("a request's body cannot be held in a file ([upstream] buffer_directory)")]
    Disk(#[source] io::Error),
    /// Nobody has listened on the socket for longer than requests are held.
    #[error("the application is not there ([upstream] hold)")]
    Away {
        /// Since when it is known.
        waited: Duration,
        /// What the last try met.
        source: io::Error,
    },
    /// As many connections as the application lets wait are waiting on its socket.
    #[error("the application accepts no connection, and the backlog of its socket is full")]
    BacklogFull {
        /// How long it was tried.
        waited: Duration,
    },
    /// The socket is missing, refuses, or may not be opened.
    #[error("cannot connect to the application")]
    Connect(#[source] io::Error),
    /// The application did not accept the connection.
    #[error("the application did not accept the connection in time")]
    ConnectTooSlow {
        /// How long that was tried.
        waited: Duration,
    },
    /// The application stopped reading the request.
    #[error("the application stopped reading the request")]
    NotReading {
        /// How long it has read nothing.
        waited: Duration,
    },
    /// The application had the whole request and did not answer, or did not begin to read it.
    #[error("the application did not answer in time")]
    TooSlow {
        /// How long the answer was waited for.
        waited: Duration,
    },
    /// The application closed the connection instead of answering.
    #[error("the application closed the connection {}{}", answered.how_far(), hint.unwrap_or_default())]
    Closed {
        /// How much of an answer there was.
        answered: Answered,
        /// Whether the connection had served a request before.
        reused: bool,
        /// What else is worth knowing.
        hint: Option<&'static str>,
        /// How the closing was noticed.
        #[source]
        source: Option<io::Error>,
    },
    /// What the application sent is not an HTTP answer.
    #[error("the application's answer is not HTTP as it should be: {0}")]
    Malformed(String),
    /// The head of the answer is larger than `upstream.response_header_size`, or has over 100 fields.
    #[error(
        "the head of the application's answer is too large ([upstream] response_header_size), or has over 100 fields"
    )]
    HeadTooLarge,
    /// The client is to blame.
    #[error("the request's body {0}")]
    Client(ClientFault),
    /// The body is longer than what may be held of all bodies together.
    #[error("the request's body is larger than [upstream] buffer_disk")]
    TooLongToHold,
    /// The body has no length and is not gathered, or is too long for that.
    #[error("the uwsgi protocol needs a length, and the body is not gathered whole ([upstream] buffer_disk)")]
    LengthRequired,
    /// The request's head does not fit into a uwsgi packet.
    #[error("the request's head does not fit into the 65,535 bytes of a uwsgi packet")]
    PacketTooLarge,
}

/// How much of an answer came before the application closed the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// No byte, and nobody had read the request.
    Unread,
    /// No byte.
    Nothing,
    /// Interim answers (1xx), and no byte of the one that counts.
    Interim,
    /// A part of the head.
    InPart,
}

impl Answered {
    fn how_far(self) -> &'static str {
        match self {
            Self::Unread => "before it read the request",
            Self::Nothing => "without an answer",
            Self::Interim => "after an interim answer (1xx), without the answer itself",
            Self::InPart => "in the middle of its answer's head",
        }
    }
}

/// What a client can do wrong while it sends a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientFault {
    /// It sent more than `limits.body_size`.
    TooLarge,
    /// It paused for longer than `timeouts.body`.
    TooSlow,
    /// Less of it came than `limits.body_rate`.
    BelowRate,
    /// It went away, or broke the rules of its protocol.
    Broken,
}

impl ClientFault {
    /// The fault behind an error of the request's body, which the frame wraps in a limit and a deadline.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<http_body_util::LengthLimitError>() {
                return Self::TooLarge;
            }
            match error.downcast_ref() {
                Some(SlowBody::Paused) => return Self::TooSlow,
                Some(SlowBody::BelowRate) => return Self::BelowRate,
                None => {}
            }
            cause = error.source();
        }
        Self::Broken
    }
}

impl fmt::Display for ClientFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "is larger than limits.body_size",
            Self::TooSlow => "paused for longer than timeouts.body",
            Self::BelowRate => "came more slowly than limits.body_rate",
            Self::Broken => "ended early: the client went away",
        })
    }
}

impl Failure {
    /// Whether the client sent what cannot be served.
    pub fn is_clients_fault(&self) -> bool {
        matches!(self, Self::Client(_) | Self::TooLongToHold | Self::LengthRequired | Self::PacketTooLarge)
    }

    /// Whether a request that can be repeated without harm may be tried once more on a fresh
    /// connection: when the connection was closed without a word. An idle one may have been closed just
    /// before; a fresh one may have waited on a socket whose application is being restarted.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Closed { answered: Answered::Nothing | Answered::Unread, hint: None, .. })
    }

    /// Whether it means that nobody listens, as opposed to one that waiting does not mend.
    pub(super) fn is_absence(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound};
        matches!(self, Self::Connect(error) if matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset))
    }

    /// The same after a wait that was in vain.
    pub(super) fn after(self, waited: Duration) -> Self {
        match self {
            Self::Connect(source) => Self::Away { waited, source },
            other => other,
        }
    }

    /// Whether the server is to blame, and not this request: another server may do better. An idle connection is
    /// closed by servers that are well, and a head that is too large is this request's or its answer's.
    pub(super) fn is_servers_fault(&self) -> bool {
        match self {
            Self::BacklogFull { .. }
            | Self::Connect(_)
            | Self::ConnectTooSlow { .. }
            | Self::NotReading { .. }
            | Self::TooSlow { .. }
            | Self::Malformed(_) => true,
            Self::Closed { reused, hint, .. } => !reused && hint.is_none(),
            _ => false,
        }
    }

    /// Whether it is certain that nobody read the request, so that any may be sent again.
    pub(super) fn is_unread(&self) -> bool {
        matches!(self, Self::Closed { answered: Answered::Unread, .. })
    }

    /// What the client is told.
    ///
    /// As with nginx, 502 means that the application is not there or talks nonsense, 504 that it is
    /// too slow. 503 is kept for our own limits and for an application that is away or full: it is the one
    /// where trying again soon helps.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::QueueFull
            | Self::QueueTooSlow { .. }
            | Self::MemoryTaken
            | Self::DiskTaken
            | Self::ShareTaken(_)
            | Self::Disk(_)
            | Self::Away { .. }
            | Self::BacklogFull { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Connect(_) | Self::Closed { .. } | Self::Malformed(_) | Self::HeadTooLarge => StatusCode::BAD_GATEWAY,
            Self::ConnectTooSlow { .. } | Self::NotReading { .. } | Self::TooSlow { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Client(ClientFault::TooLarge) | Self::TooLongToHold => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Client(ClientFault::TooSlow | ClientFault::BelowRate) => StatusCode::REQUEST_TIMEOUT,
            Self::Client(ClientFault::Broken) => StatusCode::BAD_REQUEST,
            Self::LengthRequired => StatusCode::LENGTH_REQUIRED,
            Self::PacketTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        }
    }

    /// The answer to the client.
    pub(super) fn answer(&self) -> Response {
        let mut response = answers::status(self.status());
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        // With the others the rest of the body is still read, and the connection goes on. What did not come in time
        // does not come now (RFC 9110, section 15.5.9).
        if matches!(self, Self::Client(ClientFault::Broken | ClientFault::TooSlow | ClientFault::BelowRate)) {
            return answers::last(response);
        }
        response
    }

    /// Tells the log all that the client is not told. A client's own fault is no warning, and what clients can bring
    /// about as often as they like is one now and then.
    pub(super) fn log(&self, socket: &dyn fmt::Display, id: RequestId) {
        let cause = self.source().map(innermost);
        let waited = self.waited();
        match self.told_seldom().map(|kind| kind.note(Instant::now())) {
            None if self.is_clients_fault() => debug!(%socket, %id, "{self}"),
            None => warn!(%socket, %id, waited, cause, "{self}"),
            Some(Some(untold)) => warn!(%socket, %id, waited, cause, untold, "{self}"),
            Some(None) => debug!(%socket, %id, waited, cause, "{self}"),
        }
    }

    /// Our own limits, which a crowd of clients can hold at their end: each kind is told by itself.
    fn told_seldom(&self) -> Option<&'static Seldom> {
        static KINDS: [Seldom; 7] = [const { Seldom::new() }; 7];
        let kind = match self {
            Self::QueueFull => 0,
            Self::QueueTooSlow { .. } => 1,
            Self::MemoryTaken => 2,
            Self::DiskTaken => 3,
            Self::ShareTaken(_) => 4,
            Self::Disk(_) => 5,
            // Any client can send a large head.
            Self::Closed { hint: Some(_), .. } => 6,
            _ => return None,
        };
        Some(&KINDS[kind])
    }

    fn waited(&self) -> Option<String> {
        match self {
            Self::QueueTooSlow { waited }
            | Self::Away { waited, .. }
            | Self::BacklogFull { waited }
            | Self::ConnectTooSlow { waited }
            | Self::NotReading { waited }
            | Self::TooSlow { waited } => Some(format!("{waited:.1?}")),
            _ => None,
        }
    }
}

/// The text of the error at the end of the chain: the operating system's, mostly.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_status_and_its_fault() {
        let waited = Duration::from_secs(1);
        let closed = |answered, reused| Failure::Closed { answered, reused, hint: None, source: None };
        for (failure, status, is_clients, is_servers, may_retry) in [
            (Failure::QueueFull, 503, false, false, false),
            (Failure::QueueTooSlow { waited }, 503, false, false, false),
            (Failure::MemoryTaken, 503, false, false, false),
            (Failure::DiskTaken, 503, false, false, false),
            (Failure::ShareTaken([192, 0, 2, 1].into()), 503, false, false, false),
            (Failure::Disk(io::ErrorKind::StorageFull.into()), 503, false, false, false),
            (Failure::TooLongToHold, 413, true, false, false),
            (Failure::Connect(io::ErrorKind::NotFound.into()), 502, false, true, false),
            (Failure::ConnectTooSlow { waited }, 504, false, true, false),
            (Failure::NotReading { waited }, 504, false, true, false),
            (Failure::TooSlow { waited }, 504, false, true, false),
            (closed(Answered::Nothing, true), 502, false, false, true),
            (closed(Answered::Nothing, false), 502, false, true, true),
            (closed(Answered::Unread, false), 502, false, true, true),
            (Failure::Away { waited, source: io::ErrorKind::NotFound.into() }, 503, false, false, false),
            (Failure::BacklogFull { waited }, 503, false, true, false),
            (closed(Answered::InPart, true), 502, false, false, false),
            (closed(Answered::Interim, true), 502, false, false, false),
            (closed(Answered::Interim, false), 502, false, true, false),
            (Failure::Malformed(String::new()), 502, false, true, false),
            (Failure::HeadTooLarge, 502, false, false, false),
            (Failure::Client(ClientFault::TooLarge), 413, true, false, false),
            (Failure::Client(ClientFault::TooSlow), 408, true, false, false),
            (Failure::Client(ClientFault::BelowRate), 408, true, false, false),
            (Failure::Client(ClientFault::Broken), 400, true, false, false),
            (Failure::LengthRequired, 411, true, false, false),
            (Failure::PacketTooLarge, 431, true, false, false),
        ] {
            let faults = (failure.is_clients_fault(), failure.is_servers_fault());
            let found = (failure.status().as_u16(), faults, failure.may_retry());
            assert_eq!(found, (status, (is_clients, is_servers), may_retry), "for {failure:?}");
        }
    }

    #[test]
    fn what_clients_can_bring_about_is_told_seldom_and_what_the_application_does_always() {
        let waited = Duration::from_secs(1);
        let client = IpAddr::from([192, 0, 2, 1]);
        for (failure, is_seldom) in [
            (Failure::QueueFull, true),
            (Failure::QueueTooSlow { waited }, true),
            (Failure::MemoryTaken, true),
            (Failure::DiskTaken, true),
            (Failure::ShareTaken(client), true),
            (Failure::Disk(io::ErrorKind::StorageFull.into()), true),
            (Failure::TooSlow { waited }, false),
            (Failure::Connect(io::ErrorKind::NotFound.into()), false),
            (Failure::Client(ClientFault::Broken), false),
        ] {
            assert_eq!(failure.told_seldom().is_some(), is_seldom, "for {failure:?}");
        }
        let (full, taken) = (Failure::QueueFull.told_seldom(), Failure::DiskTaken.told_seldom());
        let now = Instant::now();
        assert_eq!(
            (full.unwrap().note(now), full.unwrap().note(now), taken.unwrap().note(now)),
            (Some(0), None, Some(0))
        );
    }

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        assert_eq!(Failure::QueueFull.answer().headers()["retry-after"], "1");
    }
}
