//! What a test may do to those who follow events: let them hear nothing, something else, or the end.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use cloudreve_test_server::{Options, Server};
use support::Client;

const CLIENT: &str = "6b1e2f3a-0000-4000-8000-00000000000a";

/// A stream of the first user's drive, read line by line.
struct Stream(BufReader<TcpStream>);

impl Stream {
    /// Opens it, and reads its headers and its first frame.
    fn open(server: &Server, greeting: &str) -> Self {
        let client = Client::signed_in(server);
        let address = server.address();
        let mut tcp = TcpStream::connect(address.trim_start_matches("http://")).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(
            tcp,
            "GET /api/v4/file/events?uri=cloudreve%3A%2F%2Fmy HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nx-cr-client-id: {CLIENT}\r\n\r\n",
            client.access
        )
        .unwrap();
        let mut stream = Self(BufReader::new(tcp));
        while stream.line().is_some_and(|line| !line.is_empty()) {}
        assert_eq!(
            stream.frame().as_deref(),
            Some(&*format!("event:{greeting} data:<nil>"))
        );
        stream
    }

    /// A line without its end; none at the end of the connection, however that comes.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
        }
    }

    /// The next frame's two lines in one; none at the end.
    fn frame(&mut self) -> Option<String> {
        let mut frame = String::new();
        loop {
            let line = self.line()?;
            // Between frames there are the sizes of chunks, and empty lines.
            match line.split_once(':') {
                Some(("event", _)) => frame = line,
                Some(("data", _)) => return Some(format!("{frame} {line}")),
                _ if line == "0" => return None,
                _ => {}
            }
        }
    }
}

fn start() -> Server {
    Server::start(Options::default()).unwrap()
}

#[track_caller]
fn names(frame: Option<String>) -> Vec<String> {
    let frame = frame.expect("a frame");
    let data = frame.strip_prefix("event:event data:").expect("an event");
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    let all = data
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![data.clone()]);
    let name = |event: &serde_json::Value| event["from"].as_str().unwrap().to_owned();
    all.iter().map(name).collect()
}

#[test]
fn what_a_test_does_by_other_means_is_told() {
    let server = start();
    server.put("a", b"x".to_vec());
    let mut stream = Stream::open(&server, "subscribed");
    server.put("d/b", b"x".to_vec());
    server.rename("a", "c");
    server.move_into("c", "d");
    server.remove("d/b");
    assert_eq!(server.waiting_events(), 6);
    server.flush_events(None);
    let frames: Vec<_> = (0..2).filter_map(|_| stream.frame()).collect();
    assert!(frames[0].ends_with(r#""from":"/d","to":""}"#), "{frames:?}");
    assert!(
        frames[1].ends_with(r#""from":"/a","to":"/d/c"}"#),
        "{frames:?}"
    );
}

#[test]
fn a_cut_stream_and_an_ended_one_are_over_and_their_clients_are_remembered() {
    let server = start();
    let mut stream = Stream::open(&server, "subscribed");
    server.cut_events();
    assert_eq!(stream.frame(), None);
    server.wait_for_event_streams(0);
    let mut stream = Stream::open(&server, "resumed");
    server.end_events();
    assert_eq!(stream.frame(), None);
    server.wait_for_event_streams(0);
    assert_eq!(server.event_clients(), [CLIENT]);
    server.stop();
    server.restart().unwrap();
    Stream::open(&server, "subscribed");
}

#[test]
fn events_come_in_one_frame_or_not_at_all_if_a_test_says_so() {
    let server = start();
    let mut stream = Stream::open(&server, "subscribed");
    server.configure_events(|events| events.array = true);
    server.mkdir("a");
    server.mkdir("b");
    server.flush_events(None);
    assert_eq!(names(stream.frame()), ["/a", "/b"]);
    server.configure_events(|events| events.loss = true);
    server.mkdir("lost");
    server.configure_events(|events| (events.loss, events.silence) = (false, true));
    server.mkdir("late");
    server.flush_events(None);
    server.advance_clock(Duration::from_secs(120));
    server.configure_events(|events| events.silence = false);
    assert_eq!(names(stream.frame()), ["/late"]);
    assert_eq!(
        stream.frame().as_deref(),
        Some("event:keep-alive data:<nil>")
    );
    server.send_events("event:reconnect-required\ndata:\n\n");
    assert_eq!(
        stream.frame().as_deref(),
        Some("event:reconnect-required data:")
    );
}

#[test]
fn a_client_whose_end_is_not_seen_takes_events_with_it_until_it_is_and_then_mutes_the_next() {
    let server = start();
    server.configure_events(|events| events.unnoticed_hangups = true);
    drop(Stream::open(&server, "subscribed"));
    server.wait_for_event_streams(0);
    let mut stream = Stream::open(&server, "resumed");
    for name in ["a", "b", "c", "d"] {
        server.mkdir(name);
    }
    server.flush_events(None);
    assert_eq!(names(stream.frame()), ["/b"]);
    assert_eq!(names(stream.frame()), ["/d"]);
    server.notice_hangups();
    server.mkdir("e");
    server.flush_events(None);
    server.advance_clock(Duration::from_secs(30));
    assert_eq!(
        stream.frame().as_deref(),
        Some("event:keep-alive data:<nil>")
    );
}
