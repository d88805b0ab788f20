//! A real browser before the real site: what the pages load, what the console says, what the cache keeps.
//!
//! The visit itself is `tests/browser/visit.py`, because Selenium speaks Python.

use std::process::Command;

use crate::support::django_site::{Django, Server, Site, repository, succeed};

#[test]
fn chromium_loads_every_asset_and_keeps_them_for_the_second_visit() {
    let site = Site::start(Django::Six, Server::GunicornThreads);
    let screenshots = repository().join("target/screenshots");
    fs_err::create_dir_all(&screenshots).unwrap();
    let mut visit = Command::new(site.django.program("python"));
    visit.arg(repository().join("tests/browser/visit.py"));
    visit.arg(site.origin()).arg(site.file("key.sha256")).arg(site.file("profile")).arg(&screenshots);
    let output = succeed(&mut visit);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.ends_with("all is well\n"), "{told}");
}
