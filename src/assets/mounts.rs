//! All folders of files, and which of them answers a path.
//!
//! The folder of `[static]` comes first, and what is not in it is nowhere: it holds all that pages load, and
//! a wrong name must not wake the application. The others are told apart by their paths, the longest first.
//! How many there are costs a request nothing: one lookup for its path, and one for each folder of that, down to the
//! deepest that has a mount.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use ::http::Method;
use ::http::header::{ACCEPT, VARY};
use ::http::request::Parts;
use ::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use rustc_hash::FxHashMap;

use super::asset::Asset;
use super::catalog::{self, Entry};
use super::made::{self, Made};
use super::marks::{Mark, Sign, all_below};
use super::{Assets, AssetsError, Folder, Role, choose, respond};
use crate::config::values::Missing;
use crate::config::{AssetsConfig, Config, MountConfig};
use crate::http::early_hints::Completes;
use crate::http::header_rules::HeaderRules;
use crate::http::lines::Lines;
use crate::http::{Client, Response, navigation};

/// Every folder of files that the configuration names.
#[derive(Debug, Default)]
pub struct Mounts {
    assets: Option<Assets>,
    mounts: Vec<Mount>,
    /// By path, without its last slash: "" for the whole site.
    places: FxHashMap<String, Owner>,
    /// How many slashes the longest of these paths has.
    deepest: usize,
    /// The release in each folder, as it was before it was read.
    signs: Signs,
    /// What development needs besides; nothing otherwise.
    watched: Watched,
    /// The operator's rules, with the names of this release in them.
    rules: Arc<HeaderRules>,
}

/// What there was in the folders before they were read, and the copies that were made of it.
#[derive(Debug, Default)]
struct Watched {
    seen: Vec<BTreeMap<PathBuf, Mark>>,
    made: Made,
}

impl Watched {
    fn look(config: &Config) -> Vec<BTreeMap<PathBuf, Mark>> {
        let mounts = config.mounts.iter().filter_map(|mount| mount.directory.as_ref());
        let folders = config.assets.directory.iter().chain(mounts);
        folders.map(|folder| fs_err::canonicalize(folder).map(|path| all_below(&path)).unwrap_or_default()).collect()
    }
}

/// Which release lies in each folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signs(Vec<Sign>);

impl Signs {
    /// Looks at the folders that the configuration names. It reads no contents.
    pub fn look(config: &Config) -> Self {
        let mounts = config.mounts.iter().filter_map(|mount| mount.directory.as_deref());
        Self(config.assets.directory.as_deref().into_iter().chain(mounts).map(Sign::look).collect())
    }
}

/// What has a path of its own.
#[derive(Debug)]
enum Owner {
    /// The mount with this number.
    Mount(usize),
    /// The application, in spite of the mount around it.
    Application,
}

/// One of `[[mounts]]`.
#[derive(Debug)]
struct Mount {
    assets: Assets,
    fallback: Option<String>,
    missing: Missing,
}

/// The answer to a request that no application needs to see, found and not yet made.
#[derive(Debug)]
pub struct Found<'m> {
    assets: &'m Assets,
    what: What<'m>,
}

#[derive(Debug)]
enum What<'m> {
    /// A file.
    File(&'m Asset),
    /// The page for an address that is no file's.
    Fallback(&'m Asset),
    /// A folder, asked for without its last slash.
    Folder,
    /// Nothing.
    Missing,
}

impl Mounts {
    /// Reads every folder, and prepares every answer.
    ///
    /// # Errors
    /// See [`AssetsError`]. The first folder that is not sound is told.
    pub fn open(config: &Config, rules: &Arc<HeaderRules>) -> Result<Self, AssetsError> {
        Self::open_after(config, rules, &Self::default())
    }

    /// The same in place of `before`, where no folder may have lost its manifest: that would be a release that is still on
    /// its way, or half gone.
    ///
    /// # Errors
    /// As for [`Mounts::open`], and when one has.
    pub fn open_in_place_of(before: &Self, config: &Config, rules: &Arc<HeaderRules>) -> Result<Self, AssetsError> {
        let opened = Self::open(config, rules)?;
        let had_one = |now: &&Assets| before.folders().any(|then| then.has_manifest() && then.is_same_folder(now));
        let lost = opened.folders().find(|now| !now.has_manifest() && had_one(now));
        match lost.map(|now| now.folder().to_owned()) {
            Some(folder) => Err(AssetsError::LostManifest { folder }),
            None => Ok(opened),
        }
    }

    /// While somebody develops: everything anew if a file has come, gone or changed. `None` if all is as it was.
    ///
    /// # Errors
    /// As for [`Mounts::open`].
    pub fn refreshed(&self, config: &Config, rules: &Arc<HeaderRules>) -> Result<Option<Self>, AssetsError> {
        if Watched::look(config) == self.watched.seen {
            return Ok(None);
        }
        Self::open_after(config, rules, self).map(Some)
    }

    fn open_after(config: &Config, rules: &Arc<HeaderRules>, before: &Self) -> Result<Self, AssetsError> {
        let seen = if config.assets.watch { Watched::look(config) } else { Vec::new() };
        let signs = Signs::look(config);
        let mut folders = Vec::new();
        let assets = config.assets.directory.as_ref();
        folders.extend(assets.map(|_| Folder::list(&config.assets, Role::Static, None)).transpose()?);
        for mount in &config.mounts {
            folders.push(Folder::list(&as_assets(mount, &config.assets), Role::Mount, mount.index.0.clone())?);
        }
        let rules = match (assets, folders.first()) {
            (Some(_), Some(folder)) => folder.name_in(rules)?,
            _ => Arc::clone(rules),
        };
        let mut made = Made::new();
        if config.assets.watch {
            let mut budget = config.assets.memory.0;
            for folder in &mut folders {
                folder.made = made::make(&folder.path, &mut folder.files, &before.watched.made, &mut budget)?;
                made.extend(folder.made.clone());
            }
        }
        let mut prepared = Assets::prepare(folders, config.assets.memory.0, &rules)?.into_iter();
        let assets = assets.and_then(|_| prepared.next());
        let mounts = prepared.zip(&config.mounts).map(|(assets, mount)| Mount::new(assets, mount));
        let mut all = Self {
            assets,
            mounts: mounts.collect::<Result<_, _>>()?,
            signs,
            watched: Watched { seen, made },
            rules,
            ..Self::default()
        };
        all.place(&config.mounts);
        Ok(all)
    }

    fn place(&mut self, mounts: &[MountConfig]) {
        let without_slash = |path: &str| path.trim_end_matches('/').to_owned();
        for (n, mount) in mounts.iter().enumerate() {
            self.places.insert(without_slash(mount.path.0.as_str()), Owner::Mount(n));
            let excepted = mount.except.iter().map(|except| (without_slash(except.as_str()), Owner::Application));
            self.places.extend(excepted);
        }
        self.deepest = self.places.keys().map(|path| path.matches('/').count()).max().unwrap_or(0);
    }

    /// What answers a request; `None` when that is the application's to do.
    pub fn find(&self, head: &Parts) -> Option<Found<'_>> {
        let raw_path = head.uri.path();
        if let Some(assets) = self.assets.as_ref().filter(|assets| assets.owns(raw_path)) {
            let file = assets.below_prefix(raw_path).and_then(|name| assets.file(&name));
            return Some(Found { assets, what: file.map_or(What::Missing, What::File) });
        }
        if self.mounts.is_empty() {
            return None;
        }
        let path = catalog::decode_lossy(raw_path);
        // "/docs" has no slash at its end and is so below no "/docs/".
        if let Some(Owner::Mount(n)) = self.places.get(&*path)
            && self.mounts[*n].assets.file("").is_some()
            && is_reading(&head.method)
        {
            return Some(Found { assets: &self.mounts[*n].assets, what: What::Folder });
        }
        for (place, name) in self.places_of(&path) {
            let Owner::Mount(n) = place else { return None };
            let mount = &self.mounts[*n];
            let missing = (mount.missing == Missing::NotFound).then_some(What::Missing);
            if let Some(what) = mount.find(name, head).or(missing) {
                return Some(Found { assets: &mount.assets, what });
            }
        }
        None
    }

    /// Whether the answer to a request that no file answers depends on its `Accept`: with `text/html` it would be the page
    /// of a single-page application.
    pub fn depends_on_accept(&self, head: &Parts) -> bool {
        if self.mounts.is_empty() || !is_reading(&head.method) {
            return false;
        }
        let path = catalog::decode_lossy(head.uri.path());
        let mut places = self.places_of(&path).map(|(place, _)| place);
        places
            .by_ref()
            .take_while(|place| !matches!(place, Owner::Application))
            .any(|place| matches!(place, Owner::Mount(n) if self.mounts[*n].fallback.is_some()))
    }

    /// The places under which a decoded path lies, the longest first, each with the rest of the path. What is the
    /// application's is so without its last slash too.
    fn places_of<'p>(&self, path: &'p str) -> impl Iterator<Item = (&Owner, &'p str)> {
        let end = path.match_indices('/').nth(self.deepest).map_or(path.len(), |(at, _)| at + 1);
        let slashes = path[..end].rmatch_indices('/');
        let own = self.places.get(path).filter(|owner| matches!(owner, Owner::Application)).map(|owner| (owner, ""));
        own.into_iter().chain(slashes.filter_map(move |(at, _)| Some((self.places.get(&path[..at])?, &path[at + 1..]))))
    }

    /// Whether these are still the releases in the folders, as far as `now` and the requests so far can tell.
    pub fn are_current(&self, now: &Signs) -> bool {
        self.signs == *now && !self.folders().any(Assets::has_changed)
    }

    /// The operator's rules for headers. What they say of files, these have already.
    pub fn header_rules(&self) -> &HeaderRules {
        &self.rules
    }

    /// Adds to the head of a page what its stylesheets need, as `[static] preload` says.
    pub fn add_preloads(&self, status: StatusCode, headers: &mut HeaderMap) {
        if let Some(assets) = &self.assets {
            assets.preloads.add(status, headers);
        }
    }

    /// Every folder: that of `[static]` first, and then the mounts in their order.
    pub fn folders(&self) -> impl Iterator<Item = &Assets> {
        self.assets.iter().chain(self.mounts.iter().map(|mount| &mount.assets))
    }

    /// The folder of `[static]`.
    pub fn assets(&self) -> Option<&Assets> {
        self.assets.as_ref()
    }
}

/// An early hint of a page is given what the page itself is given.
impl Completes for Mounts {
    fn complete(&self, fields: &mut HeaderMap) {
        if let Some(assets) = &self.assets {
            assets.preloads.complete(fields);
        }
    }
}

/// A mount's options, with those of `[static]` that hold for every folder.
fn as_assets(mount: &MountConfig, assets: &AssetsConfig) -> AssetsConfig {
    let prefix = mount.path.0.clone();
    let preload = Vec::new();
    AssetsConfig { directory: mount.directory.clone(), prefix, max_age: mount.max_age, preload, ..assets.clone() }
}

impl Mount {
    fn new(assets: Assets, config: &MountConfig) -> Result<Self, AssetsError> {
        let fallback = config.fallback.as_ref().map(|page| page.0.clone());
        match fallback {
            Some(name) if assets.file(&name).is_none() => Err(AssetsError::NoFallback { folder: assets.folder, name }),
            fallback => Ok(Self { assets, fallback, missing: config.missing }),
        }
    }

    fn find(&self, name: &str, head: &Parts) -> Option<What<'_>> {
        match self.assets.catalog.find(name) {
            // Whatever the method: a file answers 405 to what does not read, as in nginx.
            Some(Entry::File(asset)) => Some(What::File(asset)),
            // Only who reads is sent on: another method is the application's, if it wants it.
            Some(Entry::Folder) if is_reading(&head.method) => Some(What::Folder),
            _ => {
                let page = self.fallback.as_ref().and_then(|page| self.assets.file(page))?;
                (is_reading(&head.method) && navigation::opens_page(&head.headers)).then_some(What::Fallback(page))
            }
        }
    }
}

fn is_reading(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

impl Found<'_> {
    /// The answer, if nothing must be read from the disk for it; `None` otherwise. Its head is in `lines`, if they may be
    /// used and it was ready, and in its fields otherwise.
    pub fn respond_at_once(&self, head: &Parts, client: &Client, lines: Option<&mut Lines>) -> Option<Response> {
        match self.what {
            What::File(asset) => {
                let asset = asset.suited(&head.headers);
                respond::respond(choose::choose(asset, head, client), asset, head, lines).ok()
            }
            What::Fallback(asset) => {
                let asset = asset.suited(&head.headers);
                let response = respond::respond(choose::choose(asset, head, client), asset, head, None).ok()?;
                Some(self.finish(response))
            }
            What::Folder => Some(respond::to_folder(location(&head.uri), head, &self.assets.policy)),
            What::Missing => Some(self.assets.not_found(head)),
        }
    }

    /// The answer.
    pub async fn respond(&self, head: &Parts, client: &Client) -> Response {
        let (What::File(asset) | What::Fallback(asset)) = self.what else {
            return self.respond_at_once(head, client, None).expect("only files are on the disk");
        };
        let asset = asset.suited(&head.headers);
        match respond::respond(choose::choose(asset, head, client), asset, head, None) {
            Ok(response) => self.finish(response),
            Err(unread) => self.finish(respond::read(unread, asset, head).await),
        }
    }

    fn finish(&self, mut response: Response) -> Response {
        if matches!(self.what, What::Fallback(_)) {
            // Whoever asks for something else than a page gets another answer here.
            response.headers_mut().append(VARY, HeaderValue::from_name(ACCEPT));
        }
        response
    }
}

/// The folder of a path without its last slash, relative to that path. So it names no host, whatever the path
/// is, and stays right behind a proxy that takes a prefix off.
fn location(uri: &Uri) -> String {
    let last = uri.path().rsplit('/').next().unwrap_or_default();
    match uri.query() {
        Some(query) => format!("./{last}/?{query}"),
        None => format!("./{last}/"),
    }
}

/// For the start-up lines and for `check`.
impl fmt::Display for Mounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, folder) in self.folders().enumerate() {
            write!(f, "{}{folder}", if n == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ::http::header::{ALLOW, CACHE_CONTROL, LOCATION};
    use http_body_util::BodyExt as _;
    use proptest::{prop_assert_eq, proptest};
    use tempfile::TempDir;

    use super::*;
    use crate::config::values::{ByteSize, FilePath, IndexName};
    use crate::http::Scheme;

    /// What every browser sends when somebody opens an address.
    const PAGE: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

    /// Files with their own names as contents.
    fn folder(names: &[&str]) -> TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in names {
            let path = folder.path().join(name);
            fs_err::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs_err::write(path, name).expect("a file");
        }
        folder
    }

    fn mount(path: &str, folder: &Path) -> MountConfig {
        let path = path.parse().expect("a path");
        MountConfig { path, directory: Some(folder.to_owned()), ..MountConfig::default() }
    }

    fn open(mounts: Vec<MountConfig>) -> Mounts {
        Mounts::open(&Config { mounts, ..Config::default() }, &Arc::default()).expect("folders that can be served")
    }

    fn head(method: &str, path: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = ::http::Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    async fn respond(mounts: &Mounts, method: &str, path: &str, fields: &[(&str, &str)]) -> Option<Response> {
        let client = Client { address: None, port: 0, scheme: Scheme::Https, local_port: 443 };
        let head = head(method, path, fields);
        Some(mounts.find(&head)?.respond(&head, &client).await)
    }

    /// The answer in few words: its status, and its body or where it leads.
    async fn ask(mounts: &Mounts, method: &str, path: &str, fields: &[(&str, &str)]) -> String {
        let Some(response) = respond(mounts, method, path, fields).await else { return "application".into() };
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        let said = match head.headers.get(LOCATION) {
            Some(location) => location.to_str().expect("readable"),
            None => std::str::from_utf8(&body).expect("text"),
        };
        format!("{} {}", head.status.as_u16(), said.trim_end()).trim_end().to_owned()
    }

    async fn check(mounts: &Mounts, table: &[(&str, &str)]) {
        for (path, expected) in table {
            assert_eq!(ask(mounts, "GET", path, &[PAGE]).await, *expected, "for {path}");
        }
    }

    #[tokio::test]
    async fn files_of_the_root_are_served_and_the_rest_is_the_applications() {
        let root = folder(&["robots.txt", ".well-known/security.txt", ".env", "a/.well-known/x", ".git/config"]);
        let mounts = open(vec![mount("/", root.path())]);
        check(
            &mounts,
            &[
                ("/robots.txt", "200 robots.txt"),
                ("/robots%2Etxt?x", "200 robots.txt"),
                ("/.well-known/security.txt", "200 .well-known/security.txt"),
                ("/.env", "application"),
                ("/.git/config", "application"),
                ("/a/.well-known/x", "application"), // it has a meaning at the root only
                ("/", "application"),
                ("/a", "application"),
                ("//robots.txt", "application"),
                ("/../robots.txt", "application"),
                ("/%ff", "application"),
                ("/robots.txt/", "application"),
                ("/static/x", "application"),
            ],
        )
        .await;
        let answer = respond(&mounts, "GET", "/robots.txt", &[]).await.expect("an answer");
        assert_eq!(answer.headers()[CACHE_CONTROL], "max-age=60, public");
    }

    #[tokio::test]
    async fn the_longest_path_comes_first_and_what_it_lacks_goes_on() {
        let root = folder(&["index.html", "docs/old.html", "docs/api/x.html", "docsx.html"]);
        let (docs, api) = (folder(&["index.html", "new.html"]), folder(&["y.html"]));
        let ending = MountConfig { missing: Missing::NotFound, ..mount("/docs/api/", api.path()) };
        let mounts = open(vec![mount("/", root.path()), ending, mount("/docs/", docs.path())]);
        check(
            &mounts,
            &[
                ("/", "200 index.html"),
                ("/docs/", "200 index.html"),
                ("/docs", "301 ./docs/"),
                ("/docs/new.html", "200 new.html"),
                ("/docs/old.html", "200 docs/old.html"),
                ("/docsx.html", "200 docsx.html"),
                ("/docs/api/y.html", "200 y.html"),
                ("/docs%2Fapi/y.html", "200 y.html"),
                ("/docs/api/x.html", "404 404 Not Found"),
                ("/docs/api/%ff", "404 404 Not Found"),
                ("/docs/api/", "404 404 Not Found"),
                ("/docs/api", "application"), // the folder has no index, so this is not its name
                ("/docs/none", "application"),
            ],
        )
        .await;
    }

    #[tokio::test]
    async fn the_static_folder_answers_for_all_below_its_prefix() {
        let (root, public) = (folder(&["static/a.css", "b.css"]), folder(&["b.css"]));
        let mut config = Config { mounts: vec![mount("/", root.path())], ..Config::default() };
        config.assets.directory = Some(public.path().to_owned());
        let mounts = Mounts::open(&config, &Arc::default()).expect("folders that can be served");
        check(
            &mounts,
            &[("/static/a.css", "404 404 Not Found"), ("/static/b.css", "200 b.css"), ("/b.css", "200 b.css")],
        )
        .await;
    }

    #[tokio::test]
    async fn a_folder_is_its_index_and_its_name_without_a_slash_leads_there() {
        let root = folder(&["docs/index.html", "docs/a b/index.html", "c:d/index.html", "plain/page.html"]);
        let mounts = open(vec![mount("/", root.path())]);
        check(
            &mounts,
            &[
                ("/docs/", "200 docs/index.html"),
                ("/docs/index.html", "200 docs/index.html"),
                ("/docs", "301 ./docs/"),
                ("/docs?q=1&r=//evil.test", "301 ./docs/?q=1&r=//evil.test"),
                ("/docs/a%20b", "301 ./a%20b/"),
                ("/docs/a%20b/", "200 docs/a b/index.html"),
                ("/c:d", "301 ./c:d/"), // "c:d/" alone would be a scheme
                ("/docs//", "application"),
                ("//docs", "application"),
                ("//evil.test/docs", "application"),
                ("/%2Fevil.test%2Fdocs", "application"),
                ("/plain", "application"),
                ("/plain/", "application"),
            ],
        )
        .await;
        let answer = respond(&mounts, "GET", "/docs", &[]).await.expect("an answer");
        assert_eq!(answer.headers()[CACHE_CONTROL], "max-age=60, public", "a browser must not keep it for ever");
        assert_eq!(ask(&mounts, "HEAD", "/docs", &[]).await, "301 ./docs/");
        assert_eq!(ask(&mounts, "POST", "/docs", &[]).await, "application");

        let without = MountConfig { index: IndexName(None), ..mount("/", root.path()) };
        let table = [("/docs/", "application"), ("/docs", "application"), ("/docs/index.html", "200 docs/index.html")];
        check(&open(vec![without]), &table).await;
    }

    #[tokio::test]
    async fn a_file_is_never_answered_to_what_does_not_read_and_never_passes_on_either() {
        let root = folder(&["robots.txt", "index.html"]);
        let mounts = open(vec![mount("/", root.path())]);
        for path in ["/robots.txt", "/"] {
            for method in ["POST", "PUT", "DELETE"] {
                let answer = respond(&mounts, method, path, &[]).await.expect("an answer");
                assert_eq!(answer.status(), 405, "for {method} {path}");
                assert!(answer.headers()[ALLOW].to_str().expect("readable").starts_with("GET, HEAD"));
            }
        }
        assert_eq!(ask(&mounts, "POST", "/form", &[]).await, "application");
    }

    #[tokio::test]
    async fn a_page_of_an_application_in_the_browser_answers_for_every_address_that_is_opened() {
        let files = folder(&["index.html", "app.js", "deep/index.html"]);
        let fallback = Some(FilePath("index.html".into()));
        let except = vec!["/admin/".parse().expect("a prefix")];
        let mounts = open(vec![MountConfig { fallback: fallback.clone(), except, ..mount("/", files.path()) }]);
        check(
            &mounts,
            &[
                ("/", "200 index.html"),
                ("/users/jo.doe", "200 index.html"),
                ("/users/", "200 index.html"),
                ("/%ff", "200 index.html"),
                ("/app.js", "200 app.js"),
                ("/deep/", "200 deep/index.html"),
                ("/admin/login/", "application"),
                ("/admin/", "application"),
                ("/admin", "application"),
                ("/%61dmin", "application"),
                ("/admins", "200 index.html"),
            ],
        )
        .await;
        let script = [("accept", "*/*")];
        assert_eq!(ask(&mounts, "GET", "/app.old.js", &script).await, "application");
        assert_eq!(ask(&mounts, "GET", "/users/", &[]).await, "application");
        assert_eq!(ask(&mounts, "POST", "/users/", &[PAGE]).await, "application");
        assert_eq!(ask(&mounts, "HEAD", "/users/", &[PAGE]).await, "200");
        let vary = |response: Option<Response>| {
            let values = response.expect("an answer").headers().get_all(VARY).iter().cloned().collect::<Vec<_>>();
            values.iter().any(|value| value == "accept")
        };
        assert!(vary(respond(&mounts, "GET", "/users/", &[PAGE]).await), "a script gets another answer");
        assert!(!vary(respond(&mounts, "GET", "/app.js", &[PAGE]).await));

        for (method, path, expected) in [
            ("GET", "/users/", true),
            ("HEAD", "/users/", true),
            ("POST", "/users/", false),
            ("GET", "/admin/login/", false),
        ] {
            assert_eq!(mounts.depends_on_accept(&head(method, path, &[])), expected, "for {method} {path}");
        }

        let ending = MountConfig { fallback, missing: Missing::NotFound, ..mount("/app/", files.path()) };
        let mounts = open(vec![ending]);
        check(&mounts, &[("/app/users", "200 index.html"), ("/app", "301 ./app/"), ("/users", "application")]).await;
        assert_eq!(ask(&mounts, "GET", "/app/x.js", &script).await, "404 404 Not Found");
        assert_eq!(ask(&mounts, "POST", "/app/users", &[PAGE]).await, "404 404 Not Found");
    }

    #[test]
    fn a_page_for_unknown_addresses_must_be_there() {
        let files = folder(&["app.js"]);
        let fallback = Some(FilePath("index.html".into()));
        let mounts = vec![MountConfig { fallback, ..mount("/", files.path()) }];
        let error = Mounts::open(&Config { mounts, ..Config::default() }, &Arc::default()).expect_err("a refusal");
        assert!(error.to_string().starts_with("there is no index.html in /"), "{error}");
        assert!(error.is_operators_mistake());
    }

    #[test]
    fn all_folders_share_what_may_be_held_in_memory_and_the_smallest_files_come_first() {
        let (root, public) = (folder(&["a.txt", "bb.txt"]), folder(&["ccc.txt", "dddddddd.txt"]));
        let mut config = Config { mounts: vec![mount("/", root.path())], ..Config::default() };
        config.assets.directory = Some(public.path().to_owned());
        config.assets.memory = ByteSize(5 + 6 + 7);
        let mounts = Mounts::open(&config, &Arc::default()).expect("folders that can be served");
        let held: Vec<_> = mounts.folders().map(Assets::bytes_in_memory).collect();
        assert_eq!(held, [7, 5 + 6]);
    }

    proptest! {
        #[test]
        fn the_longest_place_is_found_whatever_the_path(
            paths in proptest::collection::btree_set("(/[ab]{1,2}){0,3}/", 0..6),
            path in "(/[ab]{0,3}){1,6}/?",
        ) {
            let mut mounts = Mounts::default();
            let configs: Vec<_> = paths.iter().map(|path| mount(path, Path::new("/"))).collect();
            mounts.place(&configs);
            let found: Vec<_> = mounts.places_of(&path).map(|(place, rest)| match place {
                Owner::Mount(n) => (configs[*n].path.0.as_str(), rest),
                Owner::Application => unreachable!("nothing is excepted"),
            }).collect();
            let mut expected: Vec<_> =
                paths.iter().filter_map(|mount| Some((mount.as_str(), path.strip_prefix(mount.as_str())?))).collect();
            expected.sort_by_key(|(mount, _)| std::cmp::Reverse(mount.len()));
            prop_assert_eq!(found, expected);
        }
    }
}
