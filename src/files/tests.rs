//! Whole answers from real folders: what is decided from values alone is tested beside `choose` and `stamp`.

use std::time::{Duration, SystemTime};

use ::http::header::{CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;

use super::beneath::{Name, Opened};
use super::respond::{Asked, open, with_all, with_file};
use crate::http::Response;

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// A file as the disk would tell of it, had it lain there for a while.
async fn lying(folder: &tempfile::TempDir, text: &str) -> Opened {
    fs_err::write(folder.path().join("a.txt"), text).expect("a file");
    let mut opened = open(folder.path(), &Name::parse(b"a.txt").expect("a name")).await.expect("the file");
    assert_eq!(opened.stamp.tag, None, "a file that was written just now is known by nothing");
    opened.stamp.tag = Some(HeaderValue::from_static("\"tag\""));
    opened.stamp.modified = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777));
    opened
}

fn headers(pairs: &[(&str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &'static str)| {
        (name.parse::<HeaderName>().expect("a name"), HeaderValue::from_static(value))
    };
    pairs.iter().map(pair).collect()
}

fn asked<'a>(method: &'a Method, headers: &'a HeaderMap) -> Asked<'a> {
    Asked { method, headers, most_ranges: 3 }
}

async fn body(response: Response) -> String {
    let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[tokio::test]
async fn a_file_is_sent_whole_in_part_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    for (method, fields, status, length, sent) in [
        ("GET", &[][..], 200, Some("10"), "0123456789"),
        ("HEAD", &[], 200, Some("10"), ""),
        ("GET", &[("range", "bytes=2-4")], 206, Some("3"), "234"),
        ("GET", &[("if-none-match", "\"tag\"")], 304, None, ""),
        ("GET", &[("if-modified-since", DATE)], 304, None, ""),
        ("GET", &[("if-match", "\"other\"")], 412, Some("24"), "412 Precondition Failed\n"),
        ("GET", &[("range", "bytes=10-")], 416, Some("26"), "416 Range Not Satisfiable\n"),
    ] {
        let opened = lying(&folder, "0123456789").await;
        let (method, wanted) = (method.parse().expect("a method"), headers(fields));
        let first = headers(&[("content-type", "text/plain"), ("cache-control", "private")]);
        let response = with_file(opened, first, asked(&method, &wanted));
        assert_eq!(response.status(), status, "for {method} {fields:?}");
        let header = |name| response.headers().get(name).map(|value: &HeaderValue| value.to_str().expect("text"));
        assert_eq!(header("content-length"), length, "for {method} {fields:?}");
        if status < 400 {
            assert_eq!(header("etag"), Some("\"tag\""));
            assert_eq!(header("last-modified"), Some(DATE));
            assert_eq!(header("cache-control"), Some("private"));
            assert_eq!(header("accept-ranges"), (status != 304).then_some("bytes"));
            assert_eq!(header("content-type"), (status != 304).then_some("text/plain"));
        } else {
            assert_eq!(header("cache-control"), Some("no-store"));
        }
        let range = match status {
            206 => Some("bytes 2-4/10"),
            416 => Some("bytes */10"),
            _ => None,
        };
        assert_eq!(header("content-range"), range);
        assert_eq!(body(response).await, sent, "for {method} {fields:?}");
    }
}

#[tokio::test]
async fn a_file_that_was_written_just_now_is_sent_whole_whatever_the_client_has() {
    let folder = tempfile::tempdir().expect("a folder");
    for (fields, status) in [
        (&[("if-modified-since", "Fri, 31 Dec 9999 23:59:59 GMT")][..], 200),
        (&[("if-none-match", "\"\"x")], 200),
        (&[("range", "bytes=0-0"), ("if-range", "\"x\"")], 200),
        (&[("range", "bytes=0-0"), ("if-range", DATE)], 200),
        (&[("range", "bytes=0-0")], 206),
    ] {
        let mut opened = lying(&folder, "0123456789").await;
        (opened.stamp.tag, opened.stamp.modified) = (None, None);
        let response = with_file(opened, HeaderMap::new(), asked(&Method::GET, &headers(fields)));
        assert_eq!(response.status(), status, "for {fields:?}");
        assert!(response.headers().get(ETAG).is_none() && response.headers().get(LAST_MODIFIED).is_none());
    }
}

#[tokio::test]
async fn what_is_said_of_a_file_wins_over_what_the_disk_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = [
        ("etag", "W/\"mine\""),
        ("last-modified", "Mon, 07 Nov 1994 08:49:37 GMT"),
        ("content-type", "application/x-mine"),
        ("content-disposition", "attachment; filename=\"a\""),
    ];
    for (fields, status) in [
        (&[][..], 200),
        (&[("if-none-match", "W/\"mine\"")], 304),
        (&[("if-none-match", "\"mine\"")], 304), // the weakness of either does not count here
        (&[("if-none-match", "\"tag\"")], 200),
        (&[("if-modified-since", "Mon, 07 Nov 1994 08:49:37 GMT")], 304),
        (&[("if-modified-since", DATE)], 200),
        (&[("if-match", "W/\"mine\"")], 412), // a weak tag says too little to change something
        (&[("if-match", "\"mine\"")], 412),   // and does not become a strong one
        (&[("if-match", "*")], 200),
        (&[("range", "bytes=1-2"), ("if-range", "W/\"mine\"")], 200),
        (&[("range", "bytes=1-2"), ("if-range", "\"mine\"")], 200), // other bytes may have the same weak tag
        (&[("range", "bytes=1-2")], 206),
    ] {
        let opened = lying(&folder, "0123456789").await;
        let response = with_file(opened, headers(&said), asked(&Method::GET, &headers(fields)));
        assert_eq!(response.status(), status, "for {fields:?}");
        if matches!(status, 200 | 206) {
            for (name, value) in said {
                assert_eq!(response.headers()[name], value, "for {fields:?}");
            }
        }
    }
    // No parts of what the application says has none.
    let mut said = headers(&said);
    said.insert("accept-ranges", HeaderValue::from_static("none"));
    let opened = lying(&folder, "0123456789").await;
    let response = with_file(opened, said, asked(&Method::GET, &headers(&[("range", "bytes=1-2")])));
    assert_eq!((response.status(), &response.headers()["accept-ranges"]), (StatusCode::OK, &"none".parse().unwrap()));
}

#[tokio::test]
async fn several_parts_come_from_a_file_that_was_opened_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = headers(&[("content-type", "text/plain")]);
    let ranges = |text: &'static str| headers(&[("range", text)]);
    let opened = lying(&folder, "0123456789").await;
    let response = with_file(opened, said.clone(), asked(&Method::GET, &ranges("bytes=7-8, 0-1,2-3")));
    // Another file under this name is another file.
    fs_err::remove_file(folder.path().join("a.txt")).expect("it was there");
    fs_err::write(folder.path().join("a.txt"), "abcdefghij").expect("a file");
    let header = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
    let boundary = header("content-type").strip_prefix("multipart/byteranges; boundary=").expect("parts").to_owned();
    let part = |range: &str, text: &str| {
        format!("\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {range}/10\r\n\r\n{text}")
    };
    let expected = format!("{}{}\r\n--{boundary}--\r\n", part("7-8", "78"), part("0-3", "0123"));
    assert_eq!(
        (response.status(), header("content-length")),
        (StatusCode::PARTIAL_CONTENT, expected.len().to_string())
    );
    assert!(!response.headers().contains_key(CONTENT_RANGE), "each part has its own");
    assert_eq!(header("etag"), "\"tag\"");
    assert_eq!(body(response).await, expected);

    let opened = lying(&folder, "0123456789").await;
    let response = with_file(opened, said, asked(&Method::GET, &ranges("bytes=0-0,2-2,4-4,6-6")));
    assert_eq!(response.status(), StatusCode::OK, "more than there may be");
    assert_eq!(response.headers()[CONTENT_TYPE], "text/plain");
    assert_eq!(body(response).await, "0123456789");
}

#[tokio::test]
async fn an_empty_file_is_an_answer_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let opened = lying(&folder, "").await;
    let range = headers(&[("range", "bytes=0-")]);
    let response = with_file(opened, HeaderMap::new(), asked(&Method::GET, &range));
    assert_eq!(
        (response.status(), response.headers()[CONTENT_RANGE].to_str().unwrap()),
        (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */0")
    );
    let opened = lying(&folder, "").await;
    let response = with_file(opened, HeaderMap::new(), asked(&Method::GET, &HeaderMap::new()));
    assert_eq!((response.status(), response.headers()["content-length"].to_str().unwrap()), (StatusCode::OK, "0"));
    assert_eq!(body(response).await, "");
}

#[tokio::test]
async fn another_status_takes_all_of_a_file_and_no_tag_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let opened = lying(&folder, "sorry").await;
    let said = headers(&[("content-type", "text/html"), ("content-disposition", "inline")]);
    let response = with_all(StatusCode::NOT_FOUND, opened, said, &Method::POST);
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert!(response.headers().contains_key(CONTENT_TYPE) && response.headers().contains_key(CONTENT_DISPOSITION));
    assert!(!response.headers().contains_key(ETAG));
    assert_eq!(body(response).await, "sorry");
}
