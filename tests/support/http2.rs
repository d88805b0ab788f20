//! An HTTP/2 client that sees what comes before an answer.

use std::future::poll_fn;
use std::net::SocketAddr;

use h2::client::ResponseFuture;
use http::HeaderMap;
use tokio::net::TcpStream;

use super::soon;

/// An answer, whole, with the 103 before it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) hints: Vec<HeaderMap>,
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    /// The values of the `Link` fields before it, in their order.
    pub(crate) fn hinted_links(&self) -> Vec<&str> {
        self.hints.iter().flat_map(|hint| hint.get_all("link")).map(|value| value.to_str().unwrap()).collect()
    }
}

/// Sends one request, in the clear, over a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    soon(async {
        let mut answer = ask(address, path).await;
        let mut hints = Vec::new();
        while let Some(hint) = next_hint(&mut answer).await {
            hints.push(hint);
        }
        let (head, mut incoming) = answer.await.unwrap().into_parts();
        let mut body = Vec::new();
        while let Some(data) = incoming.data().await {
            body.extend(data.unwrap());
        }
        Answer { hints, status: head.status.as_u16(), body: String::from_utf8(body).unwrap() }
    })
    .await
}

/// What comes first to such a request, which is then given up.
pub(crate) async fn first_hint(address: SocketAddr, path: &str) -> HeaderMap {
    soon(async { next_hint(&mut ask(address, path).await).await }).await.expect("a hint before the answer")
}

async fn ask(address: SocketAddr, path: &str) -> ResponseFuture {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(format!("http://localhost{path}")).body(()).unwrap();
    sender.send_request(request, true).unwrap().0
}

async fn next_hint(answer: &mut ResponseFuture) -> Option<HeaderMap> {
    let hint = poll_fn(|cx| answer.poll_informational(cx)).await?.unwrap();
    assert_eq!(hint.status(), 103);
    Some(hint.into_parts().0.headers)
}
