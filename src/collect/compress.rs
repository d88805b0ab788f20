//! Makes gzip, brotli and zstd copies on all threads, and keeps those that are worth it.
//!
//! The same bytes and levels give the same copy, byte for byte, on any number of threads and at any
//! time: one copy is always made by one thread, and what the [`cache`](super::cache) remembers of earlier runs is
//! what would be made now. Equal bytes are compressed once, whatever names they have.
//! Each copy goes into the staging folder as soon as it is made, so that only those in the making are in
//! memory, and of large ones only so many at a time as a [`Budget`] allows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rayon::prelude::*;

use super::Workshop;
use super::budget::Budget;
use super::cache::{Answer, Cache, Key};
use super::codecs::{Codec, decodes_to};
use super::contents::Contents;
use super::error::CollectError;
use super::name::{Named, Output};
use super::staging::Staging;
use crate::config::values::Encoding;
use crate::http::encoding::Coding;
use crate::manifest::packed::{Name, Packed};
use crate::manifest::{Entry, ORIGINALS};

/// Memory for the files in compression: this, or more on a machine with many threads. Two of the largest files of
/// an ordinary site fit in.
const MEMORY: u64 = 144 << 20;
const MEMORY_OF_A_THREAD: u64 = 24 << 20;
/// Less than this cannot be compressed by as much as the header that would say so is long.
const SMALLEST: u64 = 32;

/// The compressed copies of one content, with their sizes in bytes. They are ready in the staging folder, under
/// the name under which the content is stored.
pub(super) use crate::manifest::packed::Copies;

/// Everything that will be in the output.
#[derive(Debug)]
pub(super) struct Compressed {
    /// What to write, each with its copies.
    pub(super) outputs: Vec<(Output, Copies)>,
    /// Plain name to the name that pages use.
    pub(super) paths: BTreeMap<Name, Name>,
    /// What to tell at the end.
    pub(super) totals: BTreeMap<Coding, Totals>,
}

/// What one coding brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// How many copies were kept. Bytes that have two names count once.
    pub copies: usize,
    /// The bytes of the files that have a copy.
    pub before: u64,
    /// The bytes of the copies.
    pub after: u64,
}

/// One content, with all outputs that have it, and a codec for it.
#[derive(Debug)]
struct Task {
    codec: Codec,
    outputs: Members,
    /// Whether it is the first with this content and codec, by which the content is counted.
    is_first: bool,
}

/// The outputs of a task. There is one of nearly every content, and of the tasks there are many.
#[derive(Debug)]
enum Members {
    One(usize),
    Many(Box<[usize]>),
}

impl std::ops::Deref for Members {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        match self {
            Self::One(index) => std::slice::from_ref(index),
            Self::Many(indices) => indices,
        }
    }
}

impl From<Vec<usize>> for Members {
    fn from(indices: Vec<usize>) -> Self {
        match indices[..] {
            [index] => Self::One(index),
            _ => Self::Many(indices.into()),
        }
    }
}

/// Compresses all contents. Copies that are not worth it are dropped, and the next coding is still tried.
pub(super) fn compress(named: Named, workshop: &Workshop<'_>) -> Result<Compressed, CollectError> {
    let Workshop { config, before, cache, staging, progress } = workshop;
    let published = Published::of(*before, staging);
    let codings: BTreeSet<Coding> = config.encodings.iter().map(|encoding| coding_of(*encoding)).collect();
    let codecs: Vec<Codec> = codings.iter().map(|coding| Codec::new(*coding, config)).collect();
    let tasks = tasks(&named, &codecs, &published, &config.skip_compression);
    progress.begin(tasks.iter().map(|task| named.outputs[task.outputs[0]].contents.size).sum());
    let threads = rayon::current_num_threads() as u64;
    let budget = Budget::new(MEMORY.max(threads * MEMORY_OF_A_THREAD));
    let mut tasks = VecDeque::from(tasks);
    let memory = |task: &Task| task.codec.memory(named.outputs[task.outputs[0]].contents.size);
    // `par_bridge` hands the tasks out in this order; an indexed iterator would cut them in halves.
    let copies: Vec<(Task, Option<u64>)> = std::iter::from_fn(|| budget.take_first(&mut tasks, memory))
        .par_bridge()
        .map(|(task, _share)| {
            let output = &named.outputs[task.outputs[0]];
            let copy = match published.copy(output, task.codec.coding) {
                Some(copy) => Some(copy),
                None => remembered_or_made(output, task.codec, config.keep_ratio, cache)?,
            };
            if let Some(copy) = &copy {
                write(copy, &task, &named, staging)?;
            }
            progress.advance(output.contents.size);
            Ok((task, copy.map(|copy| copy.len() as u64)))
        })
        .collect::<Result<_, CollectError>>()?;
    Ok(gather(named, &codings, copies))
}

/// The copies in the output. Under a name there is only ever one set of bytes: a server that has not been reloaded
/// still reads them, and caches know them by a tag that says nothing of levels. So they are kept, sound as they
/// are, whatever the levels are by now.
struct Published<'a> {
    before: Option<&'a Packed>,
    /// Those of the bytes that have only a plain name, by where they are.
    originals: BTreeMap<String, Copies>,
    staging: &'a Staging,
}

impl<'a> Published<'a> {
    fn of(before: Option<&'a Packed>, staging: &'a Staging) -> Self {
        let copies = |entry: Entry| {
            let home = entry.stored.filter(|home| home.starts_with(ORIGINALS))?;
            Some((home, entry.variants.into_iter().collect()))
        };
        let entries = before.into_iter().flat_map(Packed::entries);
        Self { before, originals: entries.filter_map(|(_, entry)| copies(entry)).collect(), staging }
    }

    fn size(&self, output: &Output, coding: Coding) -> Option<u64> {
        let copies = match &output.hashed {
            Some(name) => {
                self.before?.entry(name).filter(|entry| entry.stored.is_none())?.variants.into_iter().collect()
            }
            None => *self.originals.get(&*output.stored())?,
        };
        copies.iter().find(|(other, _)| *other == coding).map(|(_, size)| size)
    }

    fn copy(&self, output: &Output, coding: Coding) -> Option<Vec<u8>> {
        let size = self.size(output, coding)?;
        let copy = self.staging.published(&Entry::copy_name(&output.stored(), coding)).ok()?;
        let Contents { size: length, fingerprint, .. } = &output.contents;
        (copy.len() as u64 == size && decodes_to(&copy, coding, *length, fingerprint)).then_some(copy)
    }
}

/// What is to be done, the largest first, so that no thread begins with it when all others are done.
fn tasks(named: &Named, codecs: &[Codec], published: &Published<'_>, skipped: &[String]) -> Vec<Task> {
    let fingerprint = |index: usize| &named.outputs[index].contents.fingerprint;
    let all = named.outputs.iter().enumerate();
    let mut worth: Vec<usize> =
        all.filter(|(_, output)| is_worth_trying(output, skipped)).map(|(index, _)| index).collect();
    worth.sort_by_key(|&index| (fingerprint(index), index));
    let mut tasks = Vec::with_capacity(worth.len() * codecs.len());
    for equal in worth.chunk_by(|&one, &other| fingerprint(one) == fingerprint(other)) {
        for &codec in codecs {
            let free = equal.iter().copied().filter(|&index| is_free(named, index, codec.coding));
            // One that is published has its own copy already.
            let (alone, together): (Vec<usize>, Vec<usize>) =
                free.partition(|&index| published.size(&named.outputs[index], codec.coding).is_some());
            let alone = alone.into_iter().map(Members::One);
            let together = Some(together).filter(|together| !together.is_empty()).map(Members::from);
            let members = alone.chain(together).enumerate();
            tasks.extend(members.map(|(number, outputs)| Task { codec, outputs, is_first: number == 0 }));
        }
    }
    tasks.sort_by_key(|task| (std::cmp::Reverse(named.outputs[task.outputs[0]].contents.size), task.outputs[0]));
    tasks
}

fn write(copy: &[u8], task: &Task, named: &Named, staging: &Staging) -> Result<(), CollectError> {
    let mut written = BTreeSet::new();
    for output in task.outputs.iter().map(|index| &named.outputs[*index]) {
        // Equal originals have one home.
        let name = Entry::copy_name(&output.stored(), task.codec.coding);
        if !written.contains(&name) {
            staging.write(&name, copy, output.modified)?;
            written.insert(name);
        }
    }
    Ok(())
}

/// A name that belongs to a file of the sources, as `a.js.gz` beside `a.js`, is the author's.
fn is_free(named: &Named, index: usize, coding: Coding) -> bool {
    let output = &named.outputs[index];
    !named.paths.contains_key(&*Entry::copy_name(&output.stored(), coding))
}

fn gather(named: Named, codings: &BTreeSet<Coding>, copies: Vec<(Task, Option<u64>)>) -> Compressed {
    let mut outputs: Vec<_> = named.outputs.into_iter().map(|output| (output, Copies::default())).collect();
    let mut totals: BTreeMap<Coding, Totals> = codings.iter().map(|coding| (*coding, Totals::default())).collect();
    for (task, copy) in copies {
        let totals = totals.entry(task.codec.coding).or_default();
        let Some(copy) = copy else { continue };
        if task.is_first {
            totals.copies += 1;
            totals.before += outputs[task.outputs[0]].0.contents.size;
            totals.after += copy;
        }
        for &index in &*task.outputs {
            outputs[index].1.insert(task.codec.coding, copy);
        }
    }
    Compressed { outputs, paths: named.paths, totals }
}

fn coding_of(encoding: Encoding) -> Coding {
    match encoding {
        Encoding::Gzip => Coding::Gzip,
        Encoding::Brotli => Coding::Brotli,
        Encoding::Zstd => Coding::Zstd,
    }
}

fn is_worth_trying(output: &Output, skipped: &[String]) -> bool {
    may_have_copies(output.name(), output.contents.size, skipped)
}

/// Whether a file of this name and size, in bytes, is compressed at all.
pub(super) fn may_have_copies(name: &str, size: u64, skipped: &[String]) -> bool {
    let base_name = name.rsplit('/').next().unwrap_or_default();
    let extension = base_name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let is_skipped = skipped.iter().any(|skipped| skipped.trim_start_matches('.').eq_ignore_ascii_case(extension));
    size >= SMALLEST && !is_skipped
}

/// A copy, if it is worth keeping.
fn remembered_or_made(
    output: &Output,
    codec: Codec,
    keep_ratio: f64,
    cache: &Cache,
) -> Result<Option<Vec<u8>>, CollectError> {
    let contents = &output.contents;
    let size = contents.size;
    let is_worth_keeping = |copy: u64| is_worth_keeping(copy, size, keep_ratio);
    let key = Key::new("copy", &[&contents.fingerprint, codec.recipe().as_bytes()]);
    let is_sound = |copy: &[u8]| decodes_to(copy, codec.coding, size, &contents.fingerprint);
    match cache.find(&key, size, is_sound) {
        Some(Answer::Copy(copy)) if is_worth_keeping(copy.len() as u64) => return Ok(Some(copy)),
        Some(Answer::Copy(_)) => return Ok(None),
        // With another ratio than that of the earlier run, it may be worth it now.
        Some(Answer::NotWorthKeeping(copy)) if !is_worth_keeping(copy) => return Ok(None),
        Some(Answer::NotWorthKeeping(_)) | None => {}
    }
    let copy = codec.encode(contents, output.name())?;
    let is_kept = is_worth_keeping(copy.len() as u64);
    cache.keep(&key, &if is_kept { Answer::Copy(&copy) } else { Answer::NotWorthKeeping(copy.len() as u64) });
    Ok(is_kept.then_some(copy))
}

/// A copy that is not smaller is never kept, whatever the ratio.
#[allow(clippy::cast_precision_loss, reason = "a file has less than 2^52 bytes")]
fn is_worth_keeping(copy: u64, original: u64, keep_ratio: f64) -> bool {
    copy < original && copy as f64 <= original as f64 * keep_ratio
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::collect::contents::Contents;

    #[test]
    fn a_copy_is_kept_only_where_it_is_smaller_by_the_ratio() {
        for (copy, original, ratio, expected) in [
            (95, 100, 0.95, true),
            (96, 100, 0.95, false),
            (100, 100, 1.0, false), // not smaller
            (120, 100, 2.0, false),
            (0, 0, 0.95, false),
        ] {
            assert_eq!(is_worth_keeping(copy, original, ratio), expected, "for {copy} of {original}");
        }
    }

    #[test]
    fn compressed_types_and_tiny_files_are_skipped() {
        let output = |name: &str, bytes: &[u8]| Output {
            hashed: None,
            plain: Some(name.into()),
            contents: Contents::of(bytes, Path::new("a")),
            modified: std::time::SystemTime::UNIX_EPOCH,
        };
        let skipped = ["png".to_owned(), "WOFF2".to_owned()];
        for (name, bytes, expected) in [
            ("a.css", &[b'x'; 32][..], true),
            ("a.css", &[b'x'; 31], false),
            ("a.css", b"", false),
            ("a.PNG", &[b'x'; 32], false),
            ("a.woff2", &[b'x'; 32], false),
            ("png", &[b'x'; 32], true), // a name, not an extension
            ("a.png/b", &[b'x'; 32], true),
        ] {
            assert_eq!(is_worth_trying(&output(name, bytes), &skipped), expected, "for {name}");
        }
    }
}
