//! Images in several formats, from `collect` to the answers.

use vestibule::collect::verify;
use vestibule::config::values::{Severities, Severity, UrlPrefix};
use vestibule::finding::{Level, Rule};

use crate::support::client::{Answer, get};
use crate::support::server::TestServer;
use crate::support::site::Site;

const CHROMIUM: &str = "Accept: image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8\r\n";

/// A photo in three formats, an icon in two, and a drawing in one.
fn site() -> Site {
    Site::new()
        .file("img/photo.jpg", [b'j'; 300])
        .file("img/photo.avif", [b'a'; 100])
        .file("img/photo.webp", [b'w'; 200])
        .file("img/icon.png", [b'p'; 50])
        .file("img/icon.png.webp", [b'v'; 20])
        .file("img/drawing.png", [b'd'; 40])
        .set(|config| config.image_twins = vec!["img/*".into()])
}

async fn serve(site: &Site) -> TestServer {
    TestServer::start(&format!("[static]\ndirectory = {:?}\n", site.output())).await
}

fn told(site: &Site) -> Vec<String> {
    site.collected().warnings.iter().map(ToString::to_string).collect()
}

fn kind(answer: &Answer) -> (u16, &str, usize) {
    (answer.status, answer.header("content-type").unwrap_or_default(), answer.body.len())
}

#[tokio::test]
async fn what_collect_found_is_served_under_one_url() {
    let site = site();
    assert_eq!(told(&site), [""; 0]);
    let server = serve(&site).await;
    let (photo, icon, drawing) =
        (site.hashed("img/photo.jpg"), site.hashed("img/icon.png"), site.hashed("img/drawing.png"));
    for name in [photo.as_str(), "img/photo.jpg"] {
        let path = format!("/static/{name}");
        let lifetime = if name == photo { "max-age=315360000, public, immutable" } else { "max-age=60, public" };
        let mut tags = std::collections::BTreeSet::new();
        for (accept, expected) in [
            (CHROMIUM, (200, "image/avif", 100)),
            ("Accept: image/webp,*/*\r\n", (200, "image/webp", 200)),
            ("Accept: */*\r\n", (200, "image/jpeg", 300)),
            ("", (200, "image/jpeg", 300)),
        ] {
            let answer = get(server.address(), &path, accept).await;
            assert_eq!(kind(&answer), expected, "for {name} and {accept}");
            assert_eq!(answer.header("vary"), Some("Accept"));
            assert_eq!(answer.header("cache-control"), Some(lifetime), "a twin is kept as long as its image");
            assert_eq!(answer.header("content-length"), Some(&*expected.2.to_string()));
            let tag = answer.header("etag").expect("a tag").to_owned();
            let again = get(server.address(), &path, &format!("{accept}If-None-Match: {tag}\r\n")).await;
            assert_eq!((again.status, again.header("vary")), (304, Some("Accept")));
            let part = get(server.address(), &path, &format!("{accept}Range: bytes=0-4\r\nIf-Range: {tag}\r\n")).await;
            assert_eq!((part.status, part.body.len(), part.header("vary")), (206, 5, Some("Accept")));
            tags.insert(tag);
        }
        assert_eq!(tags.len(), 3, "each format has its own: {tags:?}");
    }
    assert_eq!(kind(&get(server.address(), &format!("/static/{icon}"), CHROMIUM).await), (200, "image/webp", 20));
    let answer = get(server.address(), &format!("/static/{drawing}"), CHROMIUM).await;
    assert_eq!((kind(&answer), answer.header("vary")), ((200, "image/png", 40), None));
    let avif = site.hashed("img/photo.avif");
    let answer = get(server.address(), &format!("/static/{avif}"), "").await;
    assert_eq!((kind(&answer), answer.header("vary")), ((200, "image/avif", 100), None));
}

#[tokio::test]
async fn twins_need_neither_plain_names_nor_hashes_nor_memory() {
    for (keep_originals, hash) in [(false, true), (true, false)] {
        let site = site().set(|config| (config.keep_originals, config.hash) = (keep_originals, hash));
        assert_eq!(told(&site), [""; 0]);
        let proof = verify(&site.config, &UrlPrefix::default()).expect("there is something to prove");
        assert!(proof.errors.is_empty() && proof.warnings.is_empty(), "{proof}");
        let config = format!("[static]\ndirectory = {:?}\nmemory = 0\n", site.output());
        let server = TestServer::start(&config).await;
        let answer = get(server.address(), &format!("/static/{}", site.hashed("img/photo.jpg")), CHROMIUM).await;
        assert_eq!(kind(&answer), (200, "image/avif", 100), "for {keep_originals} and {hash}");
    }
}

#[test]
fn nothing_is_a_twin_unless_it_is_wanted() {
    let site = site().set(|config| config.image_twins.clear());
    site.collected();
    assert!(site.manifest().files.unwrap().values().all(|entry| entry.twins.is_empty()));
    let alone = site.hashed("img/photo.jpg");
    let site = site.set(|config| config.image_twins = vec!["*.png".into()]);
    site.collected();
    assert_eq!(site.hashed("img/photo.jpg"), alone, "its name is that of its bytes");
    let with_twins: Vec<_> =
        site.manifest().files.unwrap().into_iter().filter(|(_, entry)| !entry.twins.is_empty()).collect();
    assert_eq!(with_twins.len(), 2, "the icon, by both of its names: {with_twins:?}");
}

#[test]
fn a_new_twin_is_a_new_name_since_browsers_keep_what_they_got() {
    let site = site();
    site.collected();
    let (before, drawing) = (site.hashed("img/photo.jpg"), site.hashed("img/drawing.png"));
    let site = site.file("img/photo.avif", [b'b'; 100]);
    site.collected();
    assert_ne!(site.hashed("img/photo.jpg"), before);
    assert_eq!(site.hashed("img/drawing.png"), drawing);
    // The release before still has its own.
    let files = site.manifest().files.unwrap();
    let carried = &files[&before];
    assert!(carried.carried.is_some() && carried.twins.len() == 2, "{carried:?}");
    assert!(carried.twins.iter().any(|twin| files[twin].carried.is_some()));
    let proof = verify(&site.config, &UrlPrefix::default()).expect("there is something to prove");
    assert!(proof.errors.is_empty() && proof.warnings.is_empty(), "{proof}");
    // A run that changes nothing changes no name either.
    let next = site.hashed("img/photo.jpg");
    site.collected();
    assert_eq!(site.hashed("img/photo.jpg"), next);
}

#[test]
fn a_twin_that_is_missing_or_of_no_use_is_told() {
    let site = site()
        .file("img/both.jpg", [b'1'; 30])
        .file("img/both.png", [b'2'; 30])
        .file("img/both.webp", [b'3'; 10])
        .file("img/large.gif", [b'4'; 10])
        .file("img/large.gif.avif", [b'5'; 10])
        .set(|config| {
            let rules = vec![("drawing.*".to_owned(), Severity::Warn)];
            config.missing_image_twin = Severities { rules, otherwise: Severity::Ignore };
        });
    let summary = site.collected();
    assert!(summary.warnings.iter().all(|finding| finding.rule == Rule::ImageTwin && finding.source.is_some()));
    assert_eq!(
        told(&site),
        [
            "img/both.webp: it could be the twin of img/both.jpg and of img/both.png, and is not sent for either; call it \
             img/both.jpg.webp",
            "img/drawing.png: it has no twin: neither img/drawing.avif nor img/drawing.webp, nor img/drawing.png.avif or \
             img/drawing.png.webp",
            "img/large.gif.avif: it is not smaller than img/large.gif, and so is not sent in its place",
        ]
    );
    let strict = site.set(|config| config.missing_image_twin = Severity::Error.into());
    let error = strict.collect().expect_err("a refusal");
    let fatal = error.findings().iter().filter(|finding| finding.level == Level::Error);
    let names: Vec<_> = fatal.map(|finding| finding.file.as_str()).collect();
    assert_eq!(names, ["img/both.jpg", "img/both.png", "img/drawing.png"]);
}

#[tokio::test]
async fn a_release_of_which_a_twin_is_gone_is_not_served() {
    let site = site();
    site.collected();
    let avif = site.output().join(site.hashed("img/photo.avif"));
    fs_err::remove_file(avif).unwrap();
    let config = format!("[static]\ndirectory = {:?}\n", site.output());
    let error = TestServer::try_start(&config).await.err().expect("a refusal").to_string();
    assert!(error.contains("is gone"), "{error}");
    let proof = verify(&site.config, &UrlPrefix::default()).expect("there is something to prove");
    assert!(!proof.errors.is_empty());
}

#[tokio::test]
async fn in_a_folder_without_a_manifest_the_configuration_says_which_images_have_twins() {
    let folder = tempfile::tempdir().unwrap();
    for (name, length) in
        [("a.jpg", 30), ("a.webp", 10), ("b.jpg", 30), ("b.jpg.avif", 10), ("c.jpg", 9), ("c.avif", 9)]
    {
        fs_err::write(folder.path().join(name), vec![b'x'; length]).unwrap();
    }
    let twins = "[\"/pictures/a.*\", \"*/c.jpg\"]";
    let config = format!(
        "[static]\nimage_twins = {twins}\n[[mounts]]\npath = \"/pictures/\"\ndirectory = {:?}\n",
        folder.path()
    );
    let server = TestServer::start(&config).await;
    for (path, expected, vary) in [
        ("/pictures/a.jpg", (200, "image/webp", 10), Some("Accept")),
        ("/pictures/b.jpg", (200, "image/jpeg", 30), None), // nobody wants them
        ("/pictures/c.jpg", (200, "image/jpeg", 9), None),  // it is not smaller
    ] {
        let answer = get(server.address(), path, CHROMIUM).await;
        assert_eq!((kind(&answer), answer.header("vary")), (expected, vary), "for {path}");
    }
}
