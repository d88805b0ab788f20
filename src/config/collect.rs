//! How the folder of static files is built.

use std::path::PathBuf;

use serde::Deserialize;

use super::values::{ByteSize, Encoding, HumanDuration, Severities, Severity, Source};

/// `[collect]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CollectConfig {
    /// The source trees, as Django's `STATICFILES_DIRS`: `DIR`, or `PREFIX=DIR`. No default.
    ///
    /// The first one that has a path wins, as with Django's finders.
    pub sources: Vec<Source>,
    /// Django apps whose `static` folders are further sources, by module name, as "django.contrib.admin".
    /// Default: none.
    ///
    /// They are looked for here, beside the configuration file, in a folder right below with a `manage.py`,
    /// and in the virtual environment with what its `.pth` files add; nothing is imported. They come after
    /// `sources`, as `AppDirectoriesFinder` comes after `FileSystemFinder`.
    pub apps: Vec<String>,
    /// The virtual environment with those apps, and whose Python `--django` asks. Default: `VIRTUAL_ENV`, else
    /// `.venv` or `venv` here, else where `python3` is installed.
    ///
    /// Any folder with `lib/python3.X/site-packages` in it will do for the apps, as `/usr/local` in an image.
    pub virtual_env: Option<PathBuf>,
    /// The output folder. Default: `static.directory`.
    ///
    /// Whatever the umask, published files get mode 0644, as with Django's `FILE_UPLOAD_PERMISSIONS`, and
    /// folders that are made 0755.
    pub output: Option<PathBuf>,
    /// The output of the release before, if it is not the output folder itself. Default: the output folder.
    ///
    /// Its files with content hashes are carried over, so that pages of the release before find them.
    pub previous: Option<PathBuf>,
    /// For how many further releases to keep a file with a content hash that is no longer in use.
    /// Default: 10; 0 carries nothing over.
    pub keep_releases: u32,
    /// For how long to keep it at most. Default: 30 days.
    ///
    /// With `SOURCE_DATE_EPOCH` in the environment, time goes by from one such date to the next. A release by the
    /// other clock begins the count anew, so that no file goes early; `keep_releases` still ends it.
    pub keep_for: HumanDuration,
    /// Publish files under their plain names too. Default: true.
    ///
    /// Without them the output is half the size, and a URL that was not made by `{% static %}` is a 404.
    /// What imports name that are not rewritten (see `javascript_modules`) keeps its plain name.
    pub keep_originals: bool,
    /// File and folder names to leave out, as globs. Default: "CVS", ".*" and "*~", as in Django.
    pub ignore: Vec<String>,
    /// Give files content-hash names and rewrite the references between them. Default: true.
    pub hash: bool,
    /// Also rewrite `import`, `export … from` and `import()` in JavaScript. Default: false, as
    /// Django's `support_js_module_import_aggregation`.
    ///
    /// With them come `import.meta.resolve("…")` and `new URL("…", import.meta.url)`, as for workers, and the
    /// inline scripts and import maps of the pages under `html`.
    pub javascript_modules: bool,
    /// HTML files in which references are rewritten, as globs. Default: none.
    ///
    /// For pages that are static themselves. Links for people (`<a href>`, forms) stay as they are, and so
    /// do elements with `integrity`, and what has a template's placeholder in it.
    pub html: Vec<String>,
    /// Web app manifests in which references are rewritten, as globs. Default: "*.webmanifest".
    ///
    /// Only their images are files; `start_url` and other pages of the site stay as they are.
    pub web_manifests: Vec<String>,
    /// Manifests of bundlers (Vite, webpack, esbuild, Parcel, Rollup) inside the sources. Default: none.
    ///
    /// A file that one of them lists has its hash already: it keeps its name and its bytes, and is cached for
    /// ever. A listed file that is not there stops the run; one with no hash in its name is told, and treated
    /// as any other.
    pub bundler_manifests: Vec<PathBuf>,
    /// What a reference to a file that is not there means: "error", "warn" or "ignore", or a list of
    /// patterns with one of them each. Default: "error".
    ///
    /// A pattern fits the file that refers, or the name that is missing: `["vendor/*=warn", "error"]`.
    pub missing_reference: Severities,
    /// The same for source maps, which many packages name but do not ship. Default: "warn".
    pub missing_source_map: Severities,
    /// Images of which an AVIF or WebP twin is sent to browsers that name its type in `Accept`, as globs. Default: none.
    ///
    /// A twin is `photo.jpg.avif` or `photo.avif` beside `photo.jpg`, with the same picture, and smaller. An image's hash
    /// is then one of its twins too, since browsers keep under its name what they got. A CDN in front must heed
    /// `Vary: Accept`, or it gives one browser's format to all.
    pub image_twins: Vec<String>,
    /// What it means that such an image has no twin at all, as for `missing_reference`. Default: "ignore".
    pub missing_image_twin: Severities,
    /// The compressed copies to make. Default: "gzip", "brotli" and "zstd".
    pub encodings: Vec<Encoding>,
    /// 1 to 12. Default: 10.
    ///
    /// From 10 on, libdeflate searches for the shortest encoding. 10 takes a twentieth of the time of brotli and saves
    /// 4 % over zlib's 9; 12 takes twice that and saves another 0.3 %.
    pub gzip_level: u32,
    /// 0 to 11. Default: 11.
    pub brotli_level: u32,
    /// 1 to 22. Default: 19.
    pub zstd_level: u32,
    /// Keep a compressed copy only if it is at most this much of the original. Default: 0.95, as in
    /// WhiteNoise.
    pub keep_ratio: f64,
    /// Extensions of files that are compressed already. Default: the usual image, audio, video,
    /// font and archive types.
    pub skip_compression: Vec<String>,
    /// Where to keep compressed copies and deltas for the next run. Default: `vestibule` in `$XDG_CACHE_HOME`,
    /// or else in `~/.cache`; "" keeps none.
    ///
    /// Safe to share between projects and to lose. In CI, mount it.
    pub cache: Option<PathBuf>,
    /// How large that folder may grow; what was not used for longest goes first. Default: 1 GiB.
    pub cache_size: ByteSize,
    /// Make deltas from earlier versions of a file, for browsers that have one of them (RFC 9842).
    /// Default: true.
    pub deltas: bool,
    /// Keep a delta only if it is at most this much of the smallest compressed copy. Default: 0.8.
    pub delta_ratio: f64,
    /// From how many earlier versions of a file to make deltas. Default: 3.
    pub delta_versions: u32,
    /// A page to write about the release: sizes, what compression saves, and what has changed since the
    /// release before. Default: none.
    ///
    /// One HTML file that needs nothing else. It must lie outside of the output and of every source.
    pub report: Option<PathBuf>,
    /// Threads for compression. Default: 0, one per core; 1024 at most.
    pub threads: usize,
}

impl Default for CollectConfig {
    fn default() -> Self {
        let words = |list: &str| list.split_whitespace().map(str::to_owned).collect();
        Self {
            sources: Vec::new(),
            apps: Vec::new(),
            virtual_env: None,
            output: None,
            previous: None,
            keep_releases: 10,
            keep_for: HumanDuration::seconds(30 * 86400),
            keep_originals: true,
            ignore: words("CVS .* *~"),
            hash: true,
            javascript_modules: false,
            html: Vec::new(),
            web_manifests: words("*.webmanifest"),
            bundler_manifests: Vec::new(),
            missing_reference: Severity::Error.into(),
            missing_source_map: Severity::Warn.into(),
            image_twins: Vec::new(),
            missing_image_twin: Severity::Ignore.into(),
            encodings: vec![Encoding::Gzip, Encoding::Brotli, Encoding::Zstd],
            gzip_level: 10,
            brotli_level: 11,
            zstd_level: 19,
            keep_ratio: 0.95,
            skip_compression: words(
                "jpg jpeg png gif webp avif heic jxl zip gz tgz bz2 tbz xz br zst 7z rar swf flv woff woff2 \
                 3gp 3gpp asf avi m4v m4a mov mp3 mp4 mpeg mpg ogg opus webm wmv",
            ),
            cache: None,
            cache_size: ByteSize::mebibytes(1024),
            deltas: true,
            delta_ratio: 0.8,
            delta_versions: 3,
            report: None,
            threads: 0,
        }
    }
}
