//! The header with which a balancer that hands connections through says who is at their other end: the PROXY protocol,
//! versions 1 and 2 (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, called "the text" here).
//!
//! `read_on` decides from what has come so far, and asks for no byte that could lie behind the header, so what comes
//! next, TLS or HTTP, finds its first byte. Nothing is guessed: where a header must come, whatever else comes is
//! refused, since the text forbids to look whether there is one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::ControlFlow;

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt as _, Interest};
use tokio_util::either::Either;

use super::listen::Stream;

/// What a header of version 2 begins with. Version 1 is a line of text.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1, its end included.
const LONGEST_LINE: usize = 107;

/// The longest header of version 2 that is read: addresses take 216 bytes at most, and what else a balancer adds, as
/// the name that a client asked for or its certificate's, stays below this.
const LONGEST: usize = 4096;

/// Why a connection has no header.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Something else came.
    #[error("no PROXY protocol header came")]
    Absent,
    /// The line is not as it should be.
    #[error("the PROXY protocol's line is malformed")]
    Line,
    /// The version, the command or the kind of addresses is one that nobody knows.
    #[error("the PROXY protocol header has an unknown version, command or kind of address")]
    Unknown,
    /// Its length does not fit what is in it, or is too large.
    #[error("the PROXY protocol header has the length {0}, which cannot be")]
    Length(usize),
    /// The connection ended.
    #[error("the connection ended within the PROXY protocol header")]
    Io(#[from] io::Error),
}

/// What is to be read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// So many bytes, which belong to the header for sure.
    Bytes(usize),
    /// What there is up to the end of a line, and so many bytes at most.
    Line(usize),
}

/// Who is at the other end of the connection that is handed through: `None` if the balancer speaks for itself, as when
/// it looks whether we are there, or does not know.
type Origin = Option<SocketAddr>;

/// Reads on, or ends with what a whole header says.
fn read_on(header: &[u8]) -> Result<ControlFlow<Origin, Next>, Malformed> {
    let start = header.len().min(SIGNATURE.len());
    if header[..start] == SIGNATURE[..start] {
        return read_on_in_version_2(header);
    }
    let prefix = b"PROXY ";
    let start = header.len().min(prefix.len());
    if header[..start] != prefix[..start] {
        return Err(Malformed::Absent);
    }
    match header.strip_suffix(b"\r\n") {
        Some(line) => origin_in_line(&String::from_utf8_lossy(line)).map(ControlFlow::Break).ok_or(Malformed::Line),
        None if header.ends_with(b"\n") || header.len() >= LONGEST_LINE => Err(Malformed::Line),
        None => Ok(ControlFlow::Continue(Next::Line(LONGEST_LINE - header.len()))),
    }
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`, or `PROXY UNKNOWN` with anything behind it. The inner `None` is the
/// origin that is not known.
fn origin_in_line(line: &str) -> Option<Origin> {
    let fields: Vec<&str> = line.split(' ').collect();
    if fields.get(1) == Some(&"UNKNOWN") {
        return Some(None);
    }
    let [_, family, source, destination, source_port, destination_port] = fields[..] else { return None };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    // Rust reads "+80" and "080" as numbers, too.
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| port.to_string() == text);
    address(destination).and(port(destination_port))?;
    Some(Some(canonical(address(source)?, port(source_port)?)))
}

fn read_on_in_version_2(header: &[u8]) -> Result<ControlFlow<Origin, Next>, Malformed> {
    /// The signature, one byte for version and command, one for the kind of addresses, and the length of the rest.
    const FIXED: usize = 16;
    let Some(fixed) = header.first_chunk::<FIXED>() else {
        // Not more at first than a line of version 1 has, of which nobody knows yet that it is none.
        let next = if header.len() < SIGNATURE.len() { SIGNATURE.len() } else { FIXED };
        return Ok(ControlFlow::Continue(Next::Bytes(next - header.len())));
    };
    let [command, kind, high, low] = [fixed[12], fixed[13], fixed[14], fixed[15]];
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED + length > LONGEST {
        return Err(Malformed::Length(length));
    }
    if header.len() < FIXED + length {
        return Ok(ControlFlow::Continue(Next::Bytes(FIXED + length - header.len())));
    }
    let rest = &header[FIXED..];
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed::Unknown),
    };
    let short = || Malformed::Length(length);
    // Behind the addresses come further facts, which nobody here needs.
    let origin = match kind {
        _ if is_local => None,
        // TCP over IPv4: two addresses, two ports.
        0x11 => {
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *rest.first_chunk::<12>().ok_or_else(short)?;
            Some(canonical([a, b, c, d].into(), u16::from_be_bytes([high, low])))
        }
        // TCP over IPv6.
        0x21 => {
            let addresses = rest.first_chunk::<36>().ok_or_else(short)?;
            let source = *addresses.first_chunk::<16>().expect("it is shorter");
            Some(canonical(source.into(), u16::from_be_bytes([addresses[32], addresses[33]])))
        }
        // Not told, UDP, and unix sockets.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => None,
        _ => return Err(Malformed::Unknown),
    };
    Ok(ControlFlow::Break(origin))
}

/// An IPv4 client has its IPv4 address everywhere.
fn canonical(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

/// Reads the header of a connection, and nothing behind it.
///
/// # Errors
/// When there is none, or not a sound one.
pub async fn read(stream: &mut Stream) -> Result<Origin, Malformed> {
    let mut buffer = [0; LONGEST];
    let mut length = 0;
    loop {
        let more = match read_on(&buffer[..length])? {
            ControlFlow::Break(origin) => return Ok(origin),
            ControlFlow::Continue(Next::Bytes(more)) => more,
            ControlFlow::Continue(Next::Line(most)) => line(stream, &mut buffer[length..length + most]).await?,
        };
        match stream.read(&mut buffer[length..length + more]).await? {
            0 => return Err(Malformed::Io(io::ErrorKind::UnexpectedEof.into())),
            read => length += read,
        }
    }
}

/// How much of what can be read belongs to a line: up to its end, or all of it. It stays there to be read.
async fn line(stream: &Stream, buffer: &mut [u8]) -> io::Result<usize> {
    let look = |buffer: &mut [u8]| match stream {
        Either::Left(stream) => stream.try_io(Interest::READABLE, || peek(stream, buffer)),
        Either::Right(stream) => stream.try_io(Interest::READABLE, || peek(stream, buffer)),
    };
    loop {
        match stream {
            Either::Left(stream) => stream.readable().await?,
            Either::Right(stream) => stream.readable().await?,
        }
        match look(buffer) {
            // At the end of the connection, the read that follows finds it.
            Ok(0) => return Ok(1),
            Ok(there) => return Ok(buffer[..there].iter().position(|&byte| byte == b'\n').map_or(there, |at| at + 1)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn peek(socket: &impl std::os::fd::AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(recv(socket, buffer, RecvFlags::PEEK)?.0)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;

    use super::*;

    /// What a whole header says; as text, to be compared.
    fn said(header: &[u8]) -> String {
        match read_on(header) {
            Ok(ControlFlow::Break(Some(origin))) => origin.to_string(),
            Ok(ControlFlow::Break(None)) => "nobody".to_owned(),
            Ok(ControlFlow::Continue(next)) => format!("{next:?}"),
            Err(error) => format!("{error:?}"),
        }
    }

    fn version_2(command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("a length").to_be_bytes();
        [&SIGNATURE[..], &[command, kind], &length, rest].concat()
    }

    #[test]
    fn a_line_says_who_is_at_the_other_end() {
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", "192.0.2.1:56324"),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535"),
            ("PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n", "[2001:db8::1]:56324"),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "192.0.2.1:1"),
            ("PROXY UNKNOWN\r\n", "nobody"),
            ("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "nobody"),
            ("", "Bytes(12)"),
            ("P", "Line(106)"),
            ("PROXY TCP4 192.0.2.1", "Line(87)"),
            ("PROXY UNKNOWN\r", "Line(93)"),
            ("GET / HTTP/1.1\r\n", "Absent"),
            ("PROXX", "Absent"),
            ("PROXY\tTCP4", "Absent"),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n", "Line"),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n", "Line"),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 1\r\n", "Line"),
            ("PROXY TCP4  192.0.2.1 198.51.100.1 56324 443\r\n", "Line"),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 65536\r\n", "Line"),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 +5632 443\r\n", "Line"),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 05632 443\r\n", "Line"),
            ("PROXY TCP4 192.0.2.01 198.51.100.1 56324 443\r\n", "Line"),
            ("PROXY TCP4 2001:db8::1 2001:db8::2 56324 443\r\n", "Line"),
            ("PROXY TCP6 192.0.2.1 198.51.100.1 56324 443\r\n", "Line"),
            ("PROXY UDP4 192.0.2.1 198.51.100.1 56324 443\r\n", "Line"),
            ("PROXY \r\n", "Line"),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\r\n", "Line"),
        ] {
            assert_eq!(said(line.as_bytes()), expected, "for {line:?}");
        }
        let long = |padding: usize| format!("PROXY UNKNOWN {}", "x".repeat(padding));
        assert_eq!(said(format!("{}\r\n", long(91)).as_bytes()), "nobody");
        assert_eq!(said(long(93).as_bytes()), "Line");
    }

    #[test]
    fn a_header_of_version_2_says_who_is_at_the_other_end() {
        let ipv4 = [&[192, 0, 2, 1], &[198, 51, 100, 1], &[1, 2][..], &[3, 4]].concat();
        let six = |text: &str| text.parse::<Ipv6Addr>().expect("an address").octets();
        let ipv6 = [&six("2001:db8::1")[..], &six("2001:db8::2"), &[1, 2], &[3, 4]].concat();
        let mapped = [&six("::ffff:192.0.2.1")[..], &six("::1"), &[1, 2], &[3, 4]].concat();
        let with_more = [&ipv4[..], &[0x03, 0, 4, 1, 2, 3, 4], &[0xee, 0xff, 0xff, 1]].concat();
        let unix = [b'/'; 216];
        for (header, expected) in [
            (version_2(0x21, 0x11, &ipv4), "192.0.2.1:258"),
            (version_2(0x21, 0x11, &with_more), "192.0.2.1:258"),
            (version_2(0x21, 0x21, &ipv6), "[2001:db8::1]:258"),
            (version_2(0x21, 0x21, &mapped), "192.0.2.1:258"),
            (version_2(0x20, 0x00, &[]), "nobody"),
            (version_2(0x20, 0x11, &ipv4), "nobody"),
            (version_2(0x20, 0xff, &[1, 2, 3]), "nobody"), // to be ignored, whatever it is
            (version_2(0x21, 0x00, &[]), "nobody"),
            (version_2(0x21, 0x00, &[1, 2, 3]), "nobody"),
            (version_2(0x21, 0x12, &ipv4), "nobody"),
            (version_2(0x21, 0x31, &unix), "nobody"),
            (version_2(0x21, 0x13, &ipv4), "Unknown"),
            (version_2(0x21, 0x41, &ipv4), "Unknown"),
            (version_2(0x22, 0x11, &ipv4), "Unknown"),
            (version_2(0x11, 0x11, &ipv4), "Unknown"),
            (version_2(0x21, 0x11, &ipv4[..11]), "Length(11)"),
            (version_2(0x21, 0x21, &ipv6[..35]), "Length(35)"),
            (version_2(0x21, 0x11, &[0; 4080]), "0.0.0.0:0"),
            (version_2(0x21, 0x11, &[0; 4081])[..16].to_vec(), "Length(4081)"),
            (version_2(0x21, 0x11, &ipv4)[..1].to_vec(), "Bytes(11)"),
            (version_2(0x21, 0x11, &ipv4)[..12].to_vec(), "Bytes(4)"),
            (version_2(0x21, 0x11, &ipv4)[..16].to_vec(), "Bytes(12)"),
            (version_2(0x21, 0x11, &ipv4)[..27].to_vec(), "Bytes(1)"),
            (b"\r\n\r\nGET".to_vec(), "Absent"),
        ] {
            assert_eq!(said(&header), expected, "for {header:?}");
        }
    }

    /// Sends bytes in pieces of so many, and reads the header. What is behind it must be there.
    async fn through_a_socket(header: &[u8], piece: usize) -> String {
        let (ours, mut theirs) = UnixStream::pair().expect("sockets");
        let mut stream: Stream = Either::Right(ours);
        let sent = [header, b"next"].concat();
        let sending = async {
            for piece in sent.chunks(piece) {
                theirs.write_all(piece).await.expect("it is read");
                tokio::task::yield_now().await;
            }
            theirs.shutdown().await.expect("it is open");
        };
        let (read, ()) = tokio::join!(read(&mut stream), sending);
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.expect("text");
        let mut found = read.map_or_else(|error| format!("{error:?}"), |origin| format!("{origin:?}"));
        write!(found, " {rest}").expect("memory");
        found
    }

    #[tokio::test]
    async fn what_is_behind_the_header_stays_to_be_read() {
        let ipv4 = [192, 0, 2, 1, 198, 51, 100, 1, 1, 2, 3, 4];
        for piece in [1, 2, 12, 15, 16, 17, 1000] {
            for (header, expected) in [
                (b"PROXY UNKNOWN\r\n".to_vec(), "None next"),
                (b"PROXY TCP4 192.0.2.1 192.0.2.2 258 1\r\n".to_vec(), "Some(192.0.2.1:258) next"),
                (version_2(0x20, 0, &[]), "None next"),
                (version_2(0x21, 0x11, &ipv4), "Some(192.0.2.1:258) next"),
            ] {
                assert_eq!(through_a_socket(&header, piece).await, expected, "in pieces of {piece}");
            }
        }
        assert!(through_a_socket(b"PROXY TCP4 192.0.2.1", 100).await.starts_with("Io("));
        assert_eq!(through_a_socket(b"", 100).await, "Absent ", "and what came is gone");
    }

    proptest! {
        #[test]
        fn whatever_comes_nothing_is_read_that_is_not_of_the_header(
            start in prop_oneof![
                Just(&b""[..]), Just(&b"PROXY "[..]), Just(&b"PROXY TCP4 1.2.3.4 "[..]), Just(&SIGNATURE[..]),
                Just(&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"[..]), Just(&b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0"[..]),
            ],
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [start, &rest].concat();
            let mut length = 0;
            // As the bytes come in, one decision after the other, until there is no further one.
            while let Ok(ControlFlow::Continue(next)) = read_on(&bytes[..length]) {
                let more = match next {
                    Next::Bytes(more) => more,
                    Next::Line(most) => {
                        let there = &bytes[length..bytes.len().min(length + most)];
                        there.iter().position(|&byte| byte == b'\n').map_or(there.len(), |at| at + 1)
                    }
                };
                prop_assert!(length + more <= LONGEST);
                if more == 0 || length + more > bytes.len() {
                    return Ok(());
                }
                length += more;
            }
        }

        #[test]
        fn what_a_balancer_writes_is_read(source: SocketAddr, destination: SocketAddr) {
            let (from, to) = (source.ip(), destination.ip());
            prop_assume!(from.is_ipv4() == to.is_ipv4());
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            let line = format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
            let expected = canonical(from, source.port()).to_string();
            prop_assert_eq!(said(line.as_bytes()), &*expected);
            let octets = |address| match address {
                IpAddr::V4(address) => Ipv4Addr::octets(&address).to_vec(),
                IpAddr::V6(address) => Ipv6Addr::octets(&address).to_vec(),
            };
            let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
            let rest = [octets(from), octets(to), ports].concat();
            let kind = if from.is_ipv4() { 0x11 } else { 0x21 };
            prop_assert_eq!(said(&version_2(0x21, kind, &rest)), expected);
        }
    }
}
