//! Makes one HTML file of a report. Every text goes through the template's escaping: names of files are
//! whatever their authors wanted. It asks for nothing from anywhere, and runs nothing.
//!
//! Bars are pictures of numbers that stand beside them, so readers that cannot see lose nothing. On a
//! narrow screen each row of a table becomes a card; the roles are written out because browsers forget
//! that a table is one when it is laid out otherwise.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Asset, Change, Delta, Report, Saving, Twin, What, smallest};
use crate::collect::summary::{bytes, name};
use crate::finding::{Finding, counted};
use crate::http::encoding::{Coding, DictionaryCoding};
use crate::manifest::Entry;

const STYLE: &str = include_str!("page.css");
/// How many of the largest files are shown.
const LARGEST: usize = 25;
/// How many rows of any other list are seen at once. The others are folded away.
const SEEN: usize = 15;
/// How many rows such a list has at most.
const LISTED: usize = 500;
/// How many files of a group of files that lead to each other.
pub(super) const SEEN_OF_RING: usize = 50;
/// In the order in which people know them, which is that of their age.
const CODINGS: [Coding; 3] = [Coding::Gzip, Coding::Brotli, Coding::Zstd];

impl Report<'_> {
    /// The page.
    pub(in crate::collect) fn draw(&self) -> String {
        let title = format!("Static files, release {}", self.release);
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    // Should a name ever find a way out of its text, it still could do nothing.
                    meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    (self.show_head())
                    main {
                        (self.show_tiles())
                        (warnings(&self.summary.warnings))
                        div.pair { (self.show_savings()) (self.show_kinds()) }
                        (self.show_changes())
                        (self.show_largest())
                        (self.show_twins())
                        (self.show_deltas())
                        (self.show_rings())
                        (self.show_carried())
                    }
                    footer { "Written by vestibule " (env!("CARGO_PKG_VERSION")) "." }
                }
            }
        };
        page.into_string()
    }

    fn show_head(&self) -> Markup {
        let summary = self.summary;
        html! {
            header {
                h1 { "Static files " span.release { "release " code { (self.release) } } }
                p {
                    (counted(summary.files, "file")) " from " (counted(summary.sources, "folder")) ", collected into "
                    (path(&summary.output.to_string_lossy()))
                    @if let Some((time, machines)) = moment(self.time) { ", " time datetime=(machines) { (time) } }
                }
            }
        }
    }

    fn show_tiles(&self) -> Markup {
        let total = self.total();
        let summary = self.summary;
        html! {
            dl.tiles {
                (tile("Files", &total.files.to_string(), html! {
                    (summary.hashed) " with a hash in the name, " (counted(summary.references, "reference")) " rewritten"
                    @if summary.shadowed > 0 { ", " (summary.shadowed) " left out for an earlier source" }
                }))
                (tile("As they are", &bytes(total.size), html! { "all files, without compression" }))
                (tile("Over the wire", &bytes(total.smallest), html! {
                    (share(total.smallest, total.size)) " of that, the smallest copy of each"
                }))
                (tile("To fetch after this deploy", &bytes(self.to_fetch()), html! {
                    @match &self.before {
                        Some((release, _)) => { "by a browser that has all of release " code { (release) } }
                        None => { "by a browser, as there is no release before this one" }
                    }
                    @if self.has_source_maps() { ", source maps apart" }
                }))
            }
        }
    }

    fn show_changes(&self) -> Markup {
        let Some((release, size)) = &self.before else { return html! {} };
        let number = |what| self.changes.iter().filter(|change| change.what == what).count();
        let now = self.total().size;
        let sentence = html! {
            (number(What::Added)) " added, " (number(What::Changed)) " changed, " (number(What::Removed)) " removed since release "
            code { (release) } "."
            @if let Some(before) = size {
                " All files together: " (bytes(*before)) " before, " (bytes(now)) " now (" (difference(*before, now)) ")."
            }
        };
        if self.changes.is_empty() {
            return section("What has changed", html! { "No file, since release " code { (release) } "." }, html! {});
        }
        let columns = [
            text("File"),
            text("What"),
            number_of("Before"),
            number_of("Now"),
            number_of("Difference"),
            number_of("To fetch"),
        ];
        let rows = self.changes.iter().map(|change| {
            let Change { plain, what, before, after, to_fetch } = *change;
            let size = |size: Option<u64>| size.map_or_else(nothing, |size| html! { (bytes(size)) });
            let both = before.zip(after);
            vec![
                path(plain),
                badge(what),
                size(before),
                size(after),
                both.map_or_else(nothing, |(before, after)| html! { (difference(before, after)) }),
                if what == What::Removed {
                    nothing()
                } else {
                    html! { (bytes(to_fetch)) }
                },
            ]
        });
        section("What has changed", sentence, long_table("Changed files", &columns, rows, self.changes.len()))
    }

    fn show_savings(&self) -> Markup {
        let total = self.total();
        let savings = self.savings_by_coding();
        let columns = [
            text("Encoding"),
            number_of("Files"),
            number_of("Before"),
            number_of("After"),
            number_of("Saved"),
            picture("After, of before"),
        ];
        let row = |label: Markup, kind: &str, saving: Saving| {
            let Saving { number, before, after } = saving;
            vec![
                label,
                html! { (number) },
                html! { (bytes(before)) },
                html! { (bytes(after)) },
                html! { (share(before.saturating_sub(after), before)) },
                bars(&[(kind, after)], before),
            ]
        };
        let whole = CODINGS.iter().filter_map(|coding| Some((coding, savings.get(coding)?)));
        let mut rows: Vec<_> =
            whole.map(|(coding, saving)| row(html! { (name(*coding)) }, name(*coding), *saving)).collect();
        if !rows.is_empty() {
            let all = Saving { number: total.files, before: total.size, after: total.smallest };
            rows.push(row(html! { "the smallest of each" }, "best", all));
        }
        for (coding, saving) in self.delta_savings() {
            rows.push(row(html! { (delta_name(coding)) " deltas" }, "delta", saving));
        }
        let sentence = if rows.is_empty() {
            html! { "There are no compressed copies." }
        } else {
            html! {
                "Of the files that have such a copy, in use by this release."
                @if !self.deltas.is_empty() { " A delta stands against the smallest copy of the whole file." }
            }
        };
        section("What compression saves", sentence, table("Savings", &columns, rows))
    }

    fn show_kinds(&self) -> Markup {
        let total = self.total();
        let columns = [
            text("Kind"),
            number_of("Files"),
            number_of("As they are"),
            number_of("Over the wire"),
            picture("Share of the wire"),
        ];
        let rows = self.volumes().into_iter().map(|(kind, volume)| {
            vec![
                html! { (kind) },
                html! { (volume.files) },
                html! { (bytes(volume.size)) },
                html! { (bytes(volume.smallest)) },
                bars(&[("best", volume.smallest)], total.smallest),
            ]
        });
        section(
            "What kinds of files",
            html! { "By what they weigh for a visitor who fetches them all." },
            table("Kinds of files", &columns, rows),
        )
    }

    fn show_largest(&self) -> Markup {
        let shown = &self.assets[..self.assets.len().min(LARGEST)];
        let scale = shown.first().map_or(0, |asset| asset.entry.size);
        let has_deltas = shown.iter().any(|asset| !asset.entry.deltas.is_empty());
        let mut columns = vec![text("File"), picture("Compared"), number_of("As it is").of_kind("plain")];
        columns.extend(CODINGS.map(|coding| number_of(name(coding)).of_kind(name(coding))));
        columns.extend(has_deltas.then(|| number_of("smallest delta").of_kind("delta")));
        let rows = shown.iter().map(|Asset { plain, published, entry }| {
            let delta = smallest_delta(entry);
            let mut forms = vec![("plain", entry.size)];
            forms.extend(CODINGS.iter().filter_map(|coding| Some((name(*coding), *entry.variants.get(coding)?))));
            forms.extend(delta.map(|size| ("delta", size)));
            let best = smallest(entry);
            let size = |size: Option<u64>| match size {
                None => nothing(),
                Some(size) if size == best => html! { strong { (bytes(size)) } },
                Some(size) => html! { (bytes(size)) },
            };
            let file = html! { (path(plain)) @if plain != published { small { (path(published)) } } };
            let mut cells = vec![file, bars(&forms, scale), size(Some(entry.size))];
            cells.extend(CODINGS.map(|coding| size(entry.variants.get(&coding).copied())));
            cells.extend(has_deltas.then(|| delta.map_or_else(nothing, |size| html! { (bytes(size)) })));
            cells
        });
        let sentence = html! {
            "All bars have one scale, that of the largest file. The smallest whole form of each file is in bold."
        };
        let title = if self.assets.len() > LARGEST {
            format!("The {LARGEST} largest files")
        } else {
            "All files, by size".to_owned()
        };
        section(&title, sentence, table(&title, &columns, rows))
    }

    fn show_twins(&self) -> Markup {
        if self.twins.is_empty() {
            return html! {};
        }
        let columns = [
            text("Image"),
            text("In its place"),
            text("Type"),
            number_of("Image"),
            number_of("Other"),
            number_of("Saved"),
            picture("Other, of image"),
        ];
        let rows = self.twins.iter().map(|twin| {
            let Twin { of, plain, media_type, before, after } = *twin;
            vec![
                path(of),
                path(plain),
                html! { code { (media_type) } },
                html! { (bytes(before)) },
                html! { (bytes(after)) },
                html! { (bytes(twin.saved())) },
                bars(&[("best", after)], before),
            ]
        });
        let title = "Images in other formats";
        let sentence = html! { "Sent under the name of the image to browsers that name the type." };
        section(title, sentence, long_table(title, &columns, rows, self.twins.len()))
    }

    fn show_rings(&self) -> Markup {
        let rings = &self.summary.rings;
        if rings.is_empty() {
            return html! {};
        }
        let rows = rings.iter().map(|ring| {
            let files = html! {
                @for (place, name) in ring.iter().take(SEEN_OF_RING).enumerate() {
                    @if place > 0 { br; }
                    (path(name))
                }
                (and_more(ring.len(), SEEN_OF_RING))
            };
            vec![files, html! { (ring.len()) }]
        });
        let title = "Files that lead to each other";
        let sentence =
            html! { "Each group is named as one: a change to one of its files gives all of them new names." };
        section(title, sentence, long_table(title, &[text("Group"), number_of("Files")], rows, rings.len()))
    }

    fn show_deltas(&self) -> Markup {
        if self.deltas.is_empty() {
            return html! {};
        }
        let columns = [
            text("File"),
            text("From"),
            text("Coding"),
            number_of("Whole"),
            number_of("Delta"),
            number_of("Saved"),
            picture("Delta, of whole"),
        ];
        let rows = self.deltas.iter().map(|delta| {
            let Delta { plain, from, coding, size, whole } = *delta;
            vec![
                path(plain),
                path(from),
                html! { (delta_name(coding)) },
                html! { (bytes(whole)) },
                html! { (bytes(size)) },
                html! { (bytes(delta.saved())) },
                bars(&[("delta", size)], whole),
            ]
        });
        let sentence = html! { "For browsers that have an earlier version of the file." };
        section("Deltas", sentence, long_table("Deltas", &columns, rows, self.deltas.len()))
    }

    fn show_carried(&self) -> Markup {
        if self.carried.is_empty() {
            return html! {};
        }
        let size = self.carried.iter().map(|(_, entry)| entry.size).fold(0, u64::saturating_add);
        let columns = [
            text("File"),
            text("Version of"),
            number_of("Size"),
            text("Last release with it"),
            text("Out of use since"),
            number_of("Releases since"),
        ];
        let rows = self.carried.iter().filter_map(|(name, entry)| {
            let carried = entry.carried.as_ref()?;
            let since = UNIX_EPOCH.checked_add(Duration::from_secs(carried.since)).and_then(moment);
            Some(vec![
                path(name),
                path(&carried.plain),
                html! { (bytes(entry.size)) },
                html! { code { (carried.release) } },
                since.map_or_else(nothing, |(_, machines)| html! { time datetime=(machines) { (machines[..10]) } }),
                html! { (carried.releases) },
            ])
        });
        let sentence = html! {
            (counted(self.carried.len(), "file")) ", " (bytes(size)) " without copies, for pages of earlier releases that still ask for them."
            @if self.summary.dropped > 0 { " " (self.summary.dropped) " more were given up for their age." }
        };
        let table = long_table("Carried files", &columns, rows, self.carried.len());
        section("Kept from earlier releases", sentence, table)
    }
}

fn warnings(warnings: &[Finding]) -> Markup {
    if warnings.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { (counted(warnings.len(), "warning")) }
            ul.warnings {
                @for warning in warnings.iter().take(LISTED) {
                    li {
                        span.place {
                            (path(&warning.file))
                            @if let Some(position) = warning.position { ":" (position.line) ":" (position.column) }
                        }
                        " " (warning.message) " " span.rule { (warning.rule.name()) }
                    }
                }
            }
            (and_more(warnings.len(), LISTED))
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "what is drawn is made where it is called")]
fn section(title: &str, sentence: Markup, content: Markup) -> Markup {
    html! { section { h2 { (title) } p { (sentence) } (content) } }
}

#[allow(clippy::needless_pass_by_value, reason = "what is drawn is made where it is called")]
fn tile(title: &str, number: &str, explanation: Markup) -> Markup {
    html! { div { dt { (title) } dd { strong { (number) } " " span { (explanation) } } } }
}

/// The head of a column.
#[derive(Clone, Copy)]
struct Column {
    title: &'static str,
    class: &'static str,
    /// The colour of its bars, if it has one.
    kind: Option<&'static str>,
}

impl Column {
    fn of_kind(self, kind: &'static str) -> Self {
        Self { kind: Some(kind), ..self }
    }
}

fn text(title: &'static str) -> Column {
    Column { title, class: "text", kind: None }
}

fn number_of(title: &'static str) -> Column {
    Column { title, class: "number", kind: None }
}

fn picture(title: &'static str) -> Column {
    Column { title, class: "picture", kind: None }
}

/// A table of which the first column names the rows.
fn table(caption: &str, columns: &[Column], rows: impl IntoIterator<Item = Vec<Markup>>) -> Markup {
    html! {
        table role="table" {
            caption.unseen { (caption) }
            thead role="rowgroup" {
                tr role="row" {
                    @for column in columns {
                        th.(column.class) role="columnheader" scope="col" {
                            @if let Some(kind) = column.kind { span.swatch.(kind) {} } (column.title)
                        }
                    }
                }
            }
            tbody role="rowgroup" {
                @for cells in rows {
                    tr role="row" {
                        @for (place, (cell, column)) in cells.iter().zip(columns).enumerate() {
                            @if place == 0 {
                                th role="rowheader" scope="row" { (cell) }
                            } @else {
                                td.(column.class) role="cell" {
                                    // Seen where the head of the table is not.
                                    span.label aria-hidden="true" {
                                        @if let Some(kind) = column.kind { span.swatch.(kind) {} } (column.title)
                                    }
                                    span.value { (cell) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The same for any number of rows: the first ones, then those that are folded away, then how many there are still.
fn long_table(caption: &str, columns: &[Column], rows: impl IntoIterator<Item = Vec<Markup>>, number: usize) -> Markup {
    let mut rows = rows.into_iter();
    let first: Vec<_> = rows.by_ref().take(SEEN).collect();
    let folded: Vec<_> = rows.take(LISTED - SEEN).collect();
    html! {
        (table(caption, columns, first))
        @if !folded.is_empty() {
            details {
                summary { (folded.len()) " more" }
                (table(&format!("{caption}, continued"), columns, folded))
            }
        }
        (and_more(number, LISTED))
    }
}

/// One bar below the other, each a share of `scale`.
fn bars(forms: &[(&str, u64)], scale: u64) -> Markup {
    const BAR: usize = 6;
    const GAP: usize = 2;
    let height = forms.len() * (BAR + GAP) - GAP;
    html! {
        svg aria-hidden="true" viewBox=(format!("0 0 100 {height}")) height=(height) preserveAspectRatio="none" {
            @for (place, (kind, size)) in forms.iter().enumerate() {
                @let y = place * (BAR + GAP);
                @if forms.len() == 1 { rect.track y=(y) width="100" height=(BAR) {} }
                rect.(kind) y=(y) width=(format!("{:.2}", percent(*size, scale).max(0.4))) height=(BAR) {}
            }
        }
    }
}

fn badge(what: What) -> Markup {
    let word = match what {
        What::Added => "added",
        What::Changed => "changed",
        What::Removed => "removed",
    };
    html! { span.badge.(word) { (word) } }
}

fn nothing() -> Markup {
    html! { span.none { span aria-hidden="true" { "–" } span.unseen { "none" } } }
}

fn and_more(number: usize, shown: usize) -> Markup {
    html! { @if number > shown { p.more { "And " (number - shown) " more, which are not shown." } } }
}

/// A name or a path, which may break after each slash, and keeps the direction of its letters to itself.
fn path(text: &str) -> Markup {
    html! { bdi.path { @for part in text.split_inclusive('/') { (part) wbr; } } }
}

fn delta_name(coding: DictionaryCoding) -> &'static str {
    match coding {
        DictionaryCoding::Brotli => "brotli",
        DictionaryCoding::Zstd => "zstd",
    }
}

fn smallest_delta(entry: &Entry) -> Option<u64> {
    entry.deltas.values().flat_map(|sizes| sizes.values().copied()).min()
}

#[allow(clippy::cast_precision_loss, reason = "it is shown with two decimals at most")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 100.0).min(100.0) }
}

fn share(part: u64, whole: u64) -> String {
    format!("{:.0} %", percent(part, whole))
}

fn difference(before: u64, after: u64) -> String {
    let sign = match before.cmp(&after) {
        std::cmp::Ordering::Less => "+",
        std::cmp::Ordering::Equal => "±",
        std::cmp::Ordering::Greater => "−",
    };
    format!("{sign}{}", bytes(before.abs_diff(after)))
}

/// For people and for machines; nothing for times that have no date of four digits.
fn moment(time: SystemTime) -> Option<(String, String)> {
    const YEAR_10000: u64 = 253_402_300_800;
    time.duration_since(UNIX_EPOCH).ok().filter(|since| since.as_secs() < YEAR_10000)?;
    Some((httpdate::fmt_http_date(time), humantime::format_rfc3339_seconds(time).to_string()))
}
