//! The files, and where they lie.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::Deserialize;

use super::header_rule::PathGlob;
use super::values::{ByteSize, FilePath, HumanDuration, IndexName, Missing, MountPath, Preload, UrlPrefix};

/// `[static]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AssetsConfig {
    /// The folder that `collect` wrote: Django's `STATIC_ROOT`. No default; without it vestibule
    /// serves no static files.
    pub directory: Option<PathBuf>,
    /// The URL path under which the files appear: the path of Django's `STATIC_URL`. Default: "/static/".
    pub prefix: UrlPrefix,
    /// How long a browser may keep a file without a content hash in its name. Default: 60 seconds.
    ///
    /// Files with a hash are kept for ten years, as WhiteNoise has it.
    pub max_age: HumanDuration,
    /// Send `Access-Control-Allow-Origin: *` with static files, and with those of mounts. Default: true.
    ///
    /// Fonts and modules loaded from a CDN under another name need it. The files are public anyway.
    pub allow_all_origins: bool,
    /// Answer with deltas from versions that a browser has (RFC 9842), where `collect` made some. Default: true.
    pub deltas: bool,
    /// URL paths of images in folders without a manifest of `collect`, mounts too, as patterns. Default: none.
    ///
    /// A smaller `photo.jpg.avif` or `photo.avif` beside such a `photo.jpg`, or `.webp`, is sent in its place to browsers
    /// that name its type in `Accept`. Where there is such a manifest, `[collect] image_twins` decides.
    pub image_twins: Vec<PathGlob>,
    /// What to announce with a page that preloads a stylesheet in a `Link` header: the "styles" that this imports, its
    /// "fonts", or both. Default: nothing.
    ///
    /// Browsers then load them at once, and not when they have read the stylesheet. `collect` has found out which they
    /// are; a font counts if it is WOFF2, without `local()`, and for all characters (no `unicode-range`).
    pub preload: Vec<Preload>,
    /// How many of them one page may be given. Default: 8; 1 to 100.
    pub max_preloads: NonZeroUsize,
    /// How long the header with them may become. Default: 2 KiB; 64 KiB at most.
    ///
    /// Proxies before vestibule have bounds for all headers together, 4 or 8 KiB often.
    pub max_preload_size: ByteSize,
    /// How many bytes of files, compressed copies included, to hold in memory, those of all mounts together.
    /// Default: 64 MiB.
    ///
    /// The smallest files come first; the rest is read from disk when asked for. Those of 64 KiB and more count as shared
    /// memory of the system; at a reload, the old ones stay until the last answer from them is sent.
    pub memory: ByteSize,
    /// How many ranges of a file one request may ask for, as PDF readers do; also of uploads, and of files that the
    /// application hands over. Default: 32; 1 to 1000.
    ///
    /// Who asks for more gets the whole file.
    pub max_ranges: NonZeroUsize,
    /// How many different names of missing files to count, and to tell in the log. Default: 1000; 0 tells none.
    ///
    /// A name is told when it is asked for the first, the tenth, the hundredth time and so on, at most ten
    /// times a minute.
    pub missing_names: usize,
    /// How often to look whether there is a new release: another `staticfiles.json`, or a folder whose link
    /// leads elsewhere, of mounts too. Default: 2 seconds; 0 for never; otherwise at least 100 milliseconds.
    ///
    /// It is then read beside the old one, and replaces it if it is sound. The configuration is not read again.
    pub reload: HumanDuration,
    /// Look into the folders, those of mounts too, before each answer, for development. Default: false.
    ///
    /// A file that has come, gone or changed is then so for the next request. Files without a content hash in their
    /// names are sent with `Cache-Control: no-cache`, and texts that have no compressed copy get one in memory.
    pub watch: bool,
}

impl Default for AssetsConfig {
    fn default() -> Self {
        Self {
            directory: None,
            prefix: UrlPrefix::default(),
            max_age: HumanDuration::seconds(60),
            allow_all_origins: true,
            deltas: true,
            image_twins: Vec::new(),
            preload: Vec::new(),
            max_preloads: NonZeroUsize::new(8).expect("8 is not zero"),
            max_preload_size: ByteSize(2 << 10),
            memory: ByteSize::mebibytes(64),
            max_ranges: NonZeroUsize::new(32).expect("32 is not zero"),
            missing_names: 1000,
            reload: HumanDuration::seconds(2),
            watch: false,
        }
    }
}

/// `[[mounts]]`, one for each folder
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MountConfig {
    /// The URL path under which the folder's files appear, as "/" or "/docs/". Default: "/".
    ///
    /// Where several fit, the longest comes first. `static.prefix` comes before all of them.
    pub path: MountPath,
    /// The folder. No default, and needed.
    ///
    /// With a `staticfiles.json` from `collect` its hashed names are kept for ten years, as under `[static]`.
    pub directory: Option<PathBuf>,
    /// How long a browser may keep a file without a content hash in its name. Default: 60 seconds.
    pub max_age: HumanDuration,
    /// The file that answers for the folder that it lies in. Default: "index.html"; "" for none.
    ///
    /// `/docs/` is then `docs/index.html`, and `/docs` is redirected to it.
    pub index: IndexName,
    /// The page that answers when a browser opens any other address below `path`, for a single-page
    /// application. Default: none.
    ///
    /// To open a page, browsers ask with `Accept: text/html`; what a page loads by itself they do not.
    pub fallback: Option<FilePath>,
    /// Prefixes below `path` that are the application's, as ["/admin/", "/api/"]; "/admin/" covers "/admin" too.
    /// Default: none.
    ///
    /// Needed where `fallback`, or `missing = "404"`, would stand before it.
    pub except: Vec<UrlPrefix>,
    /// What becomes of a request for which there is no file: "next", it goes on to the mount with the next
    /// shorter path, and then to the application; or "404". Default: "next".
    pub missing: Missing,
}

impl Default for MountConfig {
    fn default() -> Self {
        Self {
            path: MountPath::default(),
            directory: None,
            max_age: HumanDuration::seconds(60),
            index: IndexName(Some("index.html".into())),
            fallback: None,
            except: Vec::new(),
            missing: Missing::Next,
        }
    }
}

/// `[media]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MediaConfig {
    /// The folder of uploads: Django's `MEDIA_ROOT`. No default; without it the application is asked for
    /// them, as for any page.
    ///
    /// Everybody may read what is in it. Files may come and go at any time; hidden ones, and links that lead
    /// out of the folder, are not served.
    pub directory: Option<PathBuf>,
    /// The URL path under which they appear: the path of Django's `MEDIA_URL`. Default: "/media/".
    pub prefix: UrlPrefix,
    /// How long a browser may keep a file before it asks again. Default: 1 hour.
    ///
    /// Lower it if files are replaced under the same name; Django's own storage never does that.
    pub max_age: HumanDuration,
    /// Extensions of files to show in the browser although their type could be a page or a script of the
    /// site: ["svg", "html"]. Default: none; they are sent for saving.
    ///
    /// They are shown in a sandbox, without scripts. A script or a stylesheet that is named here can be
    /// loaded by pages of the site.
    pub inline: Vec<String>,
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self {
            directory: None,
            prefix: "/media/".parse().expect("it begins and ends with a slash"),
            max_age: HumanDuration::seconds(3600),
            inline: Vec::new(),
        }
    }
}

/// `[[send_file]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendFileConfig {
    /// What the application's `X-Accel-Redirect` begins with, as nginx's `internal` location: "/protected/".
    /// Default: none; then only `X-Sendfile` leads here.
    ///
    /// No client can ask for it: it is no address of the site.
    #[serde(default)]
    pub path: Option<UrlPrefix>,
    /// The folder of these files. It must be given.
    ///
    /// Hidden files, and links that lead out of the folder, are not sent. Of nginx's further words to these files
    /// `X-Accel-Charset` is heeded, for texts; `X-Accel-Limit-Rate` and `X-Accel-Expires` have no effect.
    pub directory: PathBuf,
}
