//! Downloads from a server of our own on this machine's loopback address.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::*;
use crate::data::temp::TempDir;

const CONTENT: &[u8] = b"what the file holds";

fn wanted() -> Expected {
    // sha256sum of CONTENT.
    const SUM: &str = "6c461cadc7fbd9a924e5242a5fdcdfe604d349ad5dd4335888cbc96d9fa2277a";
    Expected { name: "file", bytes: CONTENT.len() as u64, sha256: SUM }
}

/// Answers every request with the same bytes, as long as the test runs.
struct Server {
    base: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/sub", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(vec![]));
        let log = asked.clone();
        // It ends with the test program.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let line = request(&stream);
                log.lock().unwrap().push(line);
                // The client may well hang up on an answer that it doesn't like.
                let _ = (&stream).write_all(&answer);
            }
        });
        Server { base, asked }
    }

    /// The first lines of the requests so far.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Reads a request and returns its first line.
fn request(stream: &TcpStream) -> String {
    let mut lines = BufReader::new(stream).lines().map_while(|l| l.ok());
    let first = lines.next().unwrap_or_default();
    lines.find(|l| l.is_empty());
    first
}

fn ok(length: Option<usize>, body: &[u8]) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n".to_vec();
    if let Some(n) = length {
        answer.extend(format!("Content-Length: {n}\r\n").bytes());
    }
    [&answer[..], b"\r\n", body].concat()
}

/// The message of the `Error::Download`; the folder must hold nothing afterwards.
fn refused(answer: Vec<u8>) -> String {
    let dir = TempDir::new();
    let server = Server::new(answer);
    let e = download_files(&[wanted()], &dir, &[&server.base]).unwrap_err();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "something was left behind");
    match e {
        Error::Download { url, message } => {
            assert_eq!(url, format!("{}/file.gz", server.base));
            assert!(!message.contains('\n'), "{message}");
            message
        }
        e => panic!("expected Error::Download, got {e:?}"),
    }
}

#[test]
fn a_good_file_arrives_and_is_not_fetched_again() {
    let dir = TempDir::new();
    let deep = dir.join("new/folder");
    let server = Server::new(ok(Some(CONTENT.len()), CONTENT));
    for _ in 0..2 {
        download_files(&[wanted()], &deep, &[&server.base]).unwrap();
        assert_eq!(fs::read(deep.join("file.gz")).unwrap(), CONTENT);
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 1);
        assert_eq!(server.asked(), ["GET /sub/file.gz HTTP/1.1"]);
    }
    // A damaged one is replaced, of the same length or not.
    for damaged in [&b"What the file holds"[..], b"short"] {
        fs::write(deep.join("file.gz"), damaged).unwrap();
        download_files(&[wanted()], &deep, &[&server.base]).unwrap();
        assert_eq!(fs::read(deep.join("file.gz")).unwrap(), CONTENT);
    }
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn without_a_stated_length_too() {
    let dir = TempDir::new();
    let server = Server::new(ok(None, CONTENT));
    download_files(&[wanted()], &dir, &[&format!("{}/", server.base)]).unwrap();
    assert_eq!(fs::read(dir.join("file.gz")).unwrap(), CONTENT);
}

#[test]
fn wrong_content() {
    let message = refused(ok(Some(CONTENT.len()), b"what the file  hold"));
    assert!(message.starts_with("its SHA-256 is "), "{message}");
    assert!(message.contains(wanted().sha256), "{message}");
}

#[test]
fn not_found() {
    let message = refused(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec());
    assert_eq!(message, "the server answers with status 404");
}

#[test]
fn truncated_body() {
    for (stated, sent) in [(Some(CONTENT.len()), 10), (None, 10), (Some(CONTENT.len()), 0)] {
        let message = refused(ok(stated, &CONTENT[..sent]));
        let start = format!("broke off after {sent} of {} bytes", CONTENT.len());
        assert!(message.starts_with(&start), "{message}");
    }
}

#[test]
fn more_than_expected() {
    let huge = vec![b'x'; 10_000_000];
    assert_eq!(refused(ok(None, &huge)), "more than the expected 19 bytes arrive");
    assert_eq!(refused(ok(Some(huge.len()), &huge)), "the file has 10000000 bytes, expected 19");
}

#[test]
fn not_http_at_all() {
    let message = refused(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec());
    assert!(!message.is_empty());
}

#[test]
fn connection_refused() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let base = format!("http://127.0.0.1:{port}");
    let e = download(Kind::Mnist, &TempDir::new(), Some(&base)).unwrap_err();
    assert!(matches!(e, Error::Download { .. }), "{e:?}");
    let text = e.to_string();
    assert!(text.starts_with(&format!("{base}/train-images-idx3-ubyte.gz: ")), "{text}");
    assert!(text.to_lowercase().contains("refused"), "{text}");
}

#[test]
fn the_next_mirror_is_asked_after_one_that_fails() {
    let dir = TempDir::new();
    let bad = Server::new(ok(None, b"captive portal: please log in"));
    let good = Server::new(ok(None, CONTENT));
    download_files(&[wanted()], &dir, &[&bad.base, &good.base]).unwrap();
    assert_eq!(fs::read(dir.join("file.gz")).unwrap(), CONTENT);
    assert_eq!((bad.asked().len(), good.asked().len()), (1, 1));
}

#[test]
fn a_redirection_is_followed() {
    let dir = TempDir::new();
    let good = Server::new(ok(None, CONTENT));
    let to = format!(
        "HTTP/1.1 302 Found\r\nLocation: {}/elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        good.base
    );
    let server = Server::new(to.into_bytes());
    download_files(&[wanted()], &dir, &[&server.base]).unwrap();
    assert_eq!(good.asked(), ["GET /sub/elsewhere HTTP/1.1"]);
}

#[test]
fn a_folder_that_cannot_be_made_is_an_io_error() {
    let dir = TempDir::new();
    fs::write(dir.join("file"), b"").unwrap();
    let server = Server::new(ok(None, CONTENT));
    let e = download_files(&[wanted()], &dir.join("file"), &[&server.base]).unwrap_err();
    assert!(matches!(e, Error::Io { .. }), "{e:?}");
    assert!(server.asked().is_empty());
}

#[test]
fn all_mirrors_are_https_and_all_sums_are_of_full_length() {
    for kind in [Kind::Mnist, Kind::Fashion] {
        assert!(mirrors(kind).iter().all(|m| m.starts_with("https://") && m.ends_with('/')));
        for file in expected(kind) {
            assert!(file.sha256.len() == 64 && file.sha256.bytes().all(|b| b.is_ascii_hexdigit()));
        }
    }
}
