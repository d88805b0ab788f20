//! What pages announce to browsers in `Link` headers: the application's own, what `collect` knows of their stylesheets,
//! and what the operator's rules say.

use vestibule::collect::verify;
use vestibule::config::values::UrlPrefix;
use vestibule::serve::Order;

use crate::support::app::App;
use crate::support::client::{Answer, get};
use crate::support::http2;
use crate::support::server::TestServer;
use crate::support::site::Site;
use crate::support::until;

/// A stylesheet that imports others, with fonts and an image.
fn site() -> Site {
    Site::new()
        .file(
            "css/base.css",
            "@import 'reset.css';\n@import 'print.css' print;\n@import url(/static/css/theme.css) layer(theme);\n\
             @font-face { font-family: a; src: url(../fonts/a.woff2) format('woff2'), url(../fonts/a.woff) }\n\
             @font-face { font-family: a; src: url(../fonts/greek.woff2); unicode-range: U+0370-03FF }\n\
             body { background: url(../img/dot.png) }",
        )
        .file("css/reset.css", "* { margin: 0 }")
        .file("css/print.css", "a { color: black }")
        .file("css/theme.css", "@import 'deep.css';\n@font-face { font-family: b; src: url(../fonts/b.woff2) }")
        .file("css/deep.css", "@import 'base.css'; a { color: red }")
        .file("fonts/a.woff2", "a")
        .file("fonts/a.woff", "a, older")
        .file("fonts/b.woff2", "b")
        .file("fonts/greek.woff2", "g")
        .file("img/dot.png", "p")
}

fn page(links: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n{links}Content-Length: 2\r\n\r\nok")
}

async fn serve(site: &Site, app: &App, more: &str) -> TestServer {
    let config = format!(
        "[upstream]\naddress = \"{}\"\n[compression]\nenabled = false\n[static]\ndirectory = {:?}\n{more}",
        app.address(),
        site.output()
    );
    TestServer::start(&config).await
}

fn links(answer: &Answer) -> Vec<&str> {
    answer.headers.iter().filter(|(name, _)| name == "link").map(|(_, value)| value.as_str()).collect()
}

#[tokio::test]
async fn an_early_hint_has_what_its_stylesheets_need_and_so_has_the_page() {
    let site = site();
    site.collected();
    let link = |name: &str| format!("</static/{}>; rel=preload; as=style", site.hashed(name));
    let base = link("css/base.css");
    let needed = ["css/reset.css", "css/theme.css", "css/deep.css"].map(link).join(", ");
    let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: {base}\r\n\r\n");
    let app = App::answering(hint + &page(&format!("Link: {base}\r\n"))).await;
    for (rule, expected) in [("", vec![&*base]), ("preload = [\"styles\"]\n", vec![&*base, &*needed])] {
        let server = serve(&site, &app, rule).await;
        let answer = http2::get(server.address(), "/").await;
        assert_eq!((answer.hinted_links(), answer.status), (expected.clone(), 200), "for {rule:?}");
        assert_eq!(links(&get(server.address(), "/", "").await), expected, "for {rule:?}");
    }
}

#[tokio::test]
async fn the_links_of_the_application_pass_as_they_are() {
    let site = site();
    site.collected();
    let base = format!("</static/{}>; rel=preload; as=style", site.hashed("css/base.css"));
    let own = ["<https://cdn.test>; rel=preconnect", base.as_str(), "</x,y.js>; rel=\"preload\";as=script"];
    let app = App::answering(page(&own.map(|link| format!("Link: {link}\r\n")).concat())).await;
    let server = serve(&site, &app, "").await;
    assert_eq!(links(&get(server.address(), "/", "").await), own);
}

#[tokio::test]
async fn a_stylesheet_that_is_announced_brings_what_it_needs() {
    let site = site();
    site.collected();
    let proof = verify(&site.config, &UrlPrefix::default()).expect("there is something to prove");
    assert!(proof.errors.is_empty(), "{proof}");
    let base = format!("</static/{}>; rel=preload; as=style", site.hashed("css/base.css"));
    let app = App::answering(page(&format!("Link: {base}\r\n"))).await;
    let style = |name: &str| format!("</static/{}>; rel=preload; as=style", site.hashed(name));
    let font =
        |name: &str| format!("</static/{}>; rel=preload; as=font; type=\"font/woff2\"; crossorigin", site.hashed(name));
    let styles = [style("css/reset.css"), style("css/theme.css")];
    let fonts = [font("fonts/a.woff2")];
    let deep = [style("css/deep.css")];
    let deep_fonts = [font("fonts/b.woff2")];
    for (options, expected) in [
        ("", None),
        ("preload = [\"styles\"]\n", Some([&styles[..], &deep].concat())),
        ("preload = [\"fonts\"]\n", Some([&fonts[..], &deep_fonts].concat())),
        ("preload = [\"styles\", \"fonts\"]\n", Some([&styles[..], &fonts, &deep, &deep_fonts].concat())),
        ("preload = [\"fonts\", \"styles\"]\nmax_preloads = 2\n", Some(styles.to_vec())),
        ("preload = [\"styles\"]\nmax_preload_size = 10\n", None),
    ] {
        let server = serve(&site, &app, options).await;
        let answer = get(server.address(), "/", "").await;
        let expected: Vec<String> = [base.clone()].into_iter().chain(expected.map(|all| all.join(", "))).collect();
        assert_eq!(links(&answer), expected, "for {options}");
    }
}

#[tokio::test]
async fn a_rule_names_a_stylesheet_of_whatever_release_is_served() {
    let site = site();
    site.collected();
    let app = App::answering(page("")).await;
    let rule = "preload = [\"styles\"]\nmax_preloads = 1\nreload = \"100ms\"\n[[headers]]\npath = \"/page/*\"\n\
                set = { Link = \"<{static:css/base.css}>; rel=preload; as=style\" }\n";
    let server = serve(&site, &app, rule).await;
    let link = |name: &str| format!("</static/{name}>; rel=preload; as=style");
    let before = link(&site.hashed("css/base.css"));
    let reset = link(&site.hashed("css/reset.css"));
    assert_eq!(links(&get(server.address(), "/page/x", "").await), [before.as_str(), &reset]);
    assert_eq!(links(&get(server.address(), "/other", "").await), [""; 0]);

    let site = site.file("css/base.css", "b { color: blue }");
    site.collected();
    let after = link(&site.hashed("css/base.css"));
    assert_ne!(after, before);
    until(|| async { links(&get(server.address(), "/page/x", "").await) == [after.as_str()] }).await;

    // A release without the file is not taken over, not even when the configuration is read again.
    fs_err::remove_file(site.path("src/css/base.css")).unwrap();
    let site = site.file("css/deep.css", "a { color: red }");
    site.collected();
    server.order(Order::Reload).await;
    assert_eq!(links(&get(server.address(), "/page/x", "").await), [after.as_str()]);
}

#[tokio::test]
async fn a_rule_that_names_no_file_is_refused_at_the_start() {
    let site = site();
    site.collected();
    let rule = "[[headers]]\npath = \"*\"\nset = { Link = \"<{static:css/bas.css}>; rel=preload\" }\n";
    let config = format!("[static]\ndirectory = {:?}\n{rule}", site.output());
    let error = TestServer::try_start(&config).await.err().expect("a refusal").to_string();
    assert!(error.contains("names {static:css/bas.css}") && error.contains("is \"css/base.css\" meant?"), "{error}");
}
