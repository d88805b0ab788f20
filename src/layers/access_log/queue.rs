//! What is to be told of requests that have ended, and the thread that writes their lines.
//!
//! A request puts what its line says with the others; the thread makes lines of all that has come together within a
//! moment, and writes them. So a busy site pays neither a system call nor a wake-up per line, and the making of a line,
//! which between two requests would find nothing of itself in the processor's cache, is done for many at once. When
//! standard output takes nothing for so long that the bound is reached, lines are dropped and counted: a stuck log must
//! not stop the site.

use std::io::{self, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tracing::warn;

use super::entry::{Facts, Line, TEXTS, Told};

/// How many bytes may wait for the writer.
const BOUND: usize = 4 << 20;

/// How long lines come together before they are written. Measured: at full load it saves two context
/// switches per request, which were a third of the request's cost.
const GATHER: Duration = Duration::from_millis(20);

/// How many bytes of lines are written at a time, so that they are still in the processor's cache.
const PIECE: usize = 64 << 10;

/// How long the last lines may take to be written.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// What waits for the writer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Rung when the first line comes, and at the end.
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    told: Kept,
    dropped: u64,
    ended: bool,
}

/// What is told of many requests.
#[derive(Debug, Default)]
struct Kept {
    each: Vec<(Facts, Lengths)>,
    /// The texts of all, one behind the other.
    texts: Vec<u8>,
}

/// Those of a request's texts.
type Lengths = [Option<u32>; TEXTS];

impl Kept {
    fn size(&self) -> usize {
        self.texts.len() + self.each.len() * size_of::<(Facts, Lengths)>()
    }

    fn push(&mut self, told: &Told<'_>) {
        let lengths = told.texts.map(|text| {
            let text = text?;
            // No head is as large as that.
            let length = u32::try_from(text.len()).ok()?;
            self.texts.extend_from_slice(text);
            Some(length)
        });
        self.each.push((told.facts, lengths));
    }

    fn iter(&self) -> impl Iterator<Item = Told<'_>> {
        let mut rest = &*self.texts;
        self.each.iter().map(move |(facts, lengths)| {
            let texts = lengths.map(|length| {
                let (text, others) = rest.split_at(length? as usize);
                rest = others;
                Some(text)
            });
            Told { facts: *facts, texts }
        })
    }

    /// Clears it, and gives back what room only a crowd needs.
    fn clear(&mut self) {
        self.each.clear();
        self.texts.clear();
        self.each.shrink_to(BOUND / 4 / size_of::<(Facts, Lengths)>());
        self.texts.shrink_to(BOUND / 4);
    }
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writer(Option<(Arc<Queue>, JoinHandle<()>)>);

impl Writer {
    /// Writes what comes into a queue.
    pub(super) fn start(queue: &Arc<Queue>, form: Line) -> io::Result<Self> {
        let written = Arc::clone(queue);
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || written.write_lines(form))?;
        Ok(Self(Some((Arc::clone(queue), thread))))
    }

    /// Where nothing is to be written.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Waits until every line so far is written, even if somebody still holds the log.
    pub fn finish(self) {
        if let Some((queue, thread)) = self.0 {
            queue.lock().ended = true;
            queue.bell.notify_one();
            // A standard output that takes nothing must not keep the program from ending.
            let deadline = Instant::now() + LAST_WRITE;
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(GATHER / 4);
            }
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what is told of a request.
    pub(super) fn push(&self, told: &Told<'_>) {
        let mut waiting = self.lock();
        if waiting.told.size() > BOUND {
            waiting.dropped += 1;
            return;
        }
        let is_first = waiting.told.each.is_empty();
        waiting.told.push(told);
        drop(waiting);
        if is_first {
            self.bell.notify_one();
        }
    }

    /// The lines of what waits now.
    #[cfg(test)]
    pub(super) fn lines(&self, form: Line) -> Vec<u8> {
        let mut lines = Vec::new();
        let write = |told: Told<'_>| told.write(form, SystemTime::now(), &mut lines);
        self.lock().told.iter().map(write).for_each(|written| written.expect("writing to memory never fails"));
        lines
    }

    fn write_lines(&self, form: Line) {
        let mut output = io::stdout();
        let (mut told, mut lines) = (Kept::default(), Vec::with_capacity(PIECE));
        loop {
            let idle = |waiting: &mut Waiting| waiting.told.each.is_empty() && !waiting.ended;
            let waiting = self.bell.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            let gathered = self.bell.wait_timeout_while(waiting, GATHER, |waiting| !waiting.ended);
            let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
            // The two take turns, so neither is allocated anew.
            std::mem::swap(&mut waiting.told, &mut told);
            let (dropped, is_last) = (std::mem::take(&mut waiting.dropped), waiting.ended);
            drop(waiting);
            // Whoever reads the log may be gone; the site goes on.
            let mut write = |lines: &mut Vec<u8>| {
                let _ = output.write_all(lines).and_then(|()| output.flush());
                lines.clear();
            };
            // Requests look at one clock only, and the other is derived here.
            let (now, time) = (Instant::now(), SystemTime::now());
            for told in told.iter() {
                let ended = time.checked_sub(now.saturating_duration_since(told.facts.ended)).unwrap_or(time);
                told.write(form, ended, &mut lines).expect("writing to memory never fails");
                if lines.len() >= PIECE {
                    write(&mut lines);
                }
            }
            write(&mut lines);
            told.clear();
            if dropped > 0 {
                warn!(dropped, "standard output was stuck; these access-log lines are lost");
            }
            if is_last {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::entry;
    use super::*;

    #[test]
    fn a_stuck_writer_costs_lines_and_not_memory() {
        let queue = Queue::default();
        let entry = entry();
        let most = BOUND / size_of::<(Facts, Lengths)>();
        (0..2 * most).for_each(|_| queue.push(&entry.told()));
        let waiting = queue.lock();
        assert!(waiting.told.size() <= BOUND + 1000);
        assert_eq!(waiting.told.each.len() + waiting.dropped as usize, 2 * most);
    }

    #[test]
    fn what_was_told_comes_back_in_order() {
        let mut kept = Kept::default();
        let mut told =
            [entry(), entry()].map(|entry| entry.told().facts).map(|facts| Told { facts, texts: [None; TEXTS] });
        (told[0].texts[1], told[0].texts[3]) = (Some(&b"/one"[..]), Some(&b""[..]));
        (told[1].texts[0], told[1].texts[7]) = (Some(&b"GET"[..]), Some(&b"two"[..]));
        told.iter().for_each(|told| kept.push(told));
        assert!(kept.iter().map(|told| told.texts).eq(told.map(|told| told.texts)));
    }
}
