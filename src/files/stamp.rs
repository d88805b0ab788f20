//! By what a file on the disk is known, and when that may be told.
//!
//! A tag is made from what the disk says of a file: its number, its length, and when its contents and its
//! entry were last changed, to the nanosecond. That finds every change but one: disks keep time in ticks of
//! some milliseconds, a few in whole seconds, so that a file which is written twice within one tick looks
//! the same before and after. Therefore a file that changed only just now has neither tag nor date.
//! Once a tick has surely passed, the next change can no longer fall into the same one, and from then
//! on the tag is strong. The moment of the last change of the entry cannot be set by a program, as that of the
//! contents can (`cp -p`, `rsync -t`).

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::http::HeaderValue;
use sha2::{Digest as _, Sha256};

/// For how long a file that was changed may be changed once more without its times showing it: the coarsest
/// disks in use keep whole seconds, or two (FAT).
const UNCERTAIN: Duration = Duration::from_secs(3);

/// What the disk says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    /// The strong tag, if there can be one already.
    pub(super) tag: Option<HeaderValue>,
    /// When the contents were last modified, in whole seconds, if that says anything already.
    pub(super) modified: Option<SystemTime>,
}

impl Stamp {
    pub(super) fn of(found: &Metadata, now: SystemTime) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self::new(
            found.ino(),
            found.len(),
            nanoseconds(found.mtime(), found.mtime_nsec()),
            nanoseconds(found.ctime(), found.ctime_nsec()),
            now,
        )
    }

    /// Times are nanoseconds since 1970.
    fn new(inode: u64, size: u64, modified: i128, changed: i128, now: SystemTime) -> Self {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos()) as i128;
        let is_settled = |moment: i128| moment + (UNCERTAIN.as_nanos() as i128) < now;
        // A time to come says nothing of when the file changed; the entry's time still does.
        if !is_settled(changed) {
            return Self { size, tag: None, modified: None };
        }
        let mut hash = Sha256::new();
        hash.update(inode.to_be_bytes());
        hash.update(size.to_be_bytes());
        hash.update(modified.to_be_bytes());
        hash.update(changed.to_be_bytes());
        // Hashed, since the number of a file is nobody's business.
        let digits: String = hash.finalize()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        let tag = HeaderValue::try_from(format!("\"{digits}\"")).expect("hexadecimal digits are a header value");
        let seconds = u64::try_from(modified / 1_000_000_000).ok().filter(|seconds| *seconds > 0);
        let modified =
            seconds.filter(|_| is_settled(modified)).map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        Self { size, tag: Some(tag), modified }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i128 = 1_000_000_000;

    fn stamp(inode: u64, size: u64, modified: i128, changed: i128) -> Stamp {
        Stamp::new(inode, size, modified, changed, UNIX_EPOCH + Duration::from_secs(1_000_000))
    }

    #[test]
    fn every_change_that_the_disk_shows_changes_the_tag() {
        let then = 900_000 * SECOND;
        let first = stamp(1, 10, then, then);
        assert!(first.tag.is_some());
        for other in [
            stamp(2, 10, then, then),
            stamp(1, 11, then, then),
            stamp(1, 10, then + 1, then),
            stamp(1, 10, then, then + 1), // written within the same second, and its date put back
        ] {
            assert_ne!(other.tag, first.tag);
        }
        assert_eq!(stamp(1, 10, then, then), first);
        assert_eq!(first.modified, Some(UNIX_EPOCH + Duration::from_secs(900_000)));
    }

    #[test]
    fn a_file_that_changed_just_now_is_known_by_nothing() {
        for (modified, changed, has_tag, has_date) in [
            (900_000, 900_000, true, true),
            (999_996, 999_996, true, true),
            (999_998, 999_998, false, false),
            (1_000_000, 1_000_000, false, false),
            (900_000, 999_999, false, false), // moved here just now, or written and its date put back
            (2_000_000, 900_000, true, false), // a date in the future
            (2_000_000, 2_000_000, false, false), // a clock that was put back
            (0, 900_000, true, false),
            (-5, 900_000, true, false),
        ] {
            let stamp = stamp(1, 1, modified * SECOND, changed * SECOND);
            assert_eq!(
                (stamp.tag.is_some(), stamp.modified.is_some()),
                (has_tag, has_date),
                "for {modified}, {changed}"
            );
        }
    }
}
