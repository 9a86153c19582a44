//! Connections of each kind, looked at by hand.

use std::net::{TcpListener, TcpStream};

use super::*;
use crate::request::Request;

/// The server's end is the end of a service on a Unix socket too, which has no counters.
#[test]
fn a_sealed_service_is_killed_without_counters() {
    let (server, _client) = std::os::unix::net::UnixStream::pair().unwrap();
    let request = Request::parse(b"git-upload-pack /a\0host=x\0").unwrap();
    let exchange = Exchange::new(&request, 0);
    let socket = Arc::new(Socket::from(std::os::fd::OwnedFd::from(server)));
    let mut traffic = Traffic::new(socket, 0, request.service, false, None, exchange);
    let mut now = Instant::now();
    assert_eq!(traffic.look(now), Fate::Open);
    assert_eq!(traffic.next_look(), None);
    traffic.seal(now);
    let mut fates = Vec::new();
    for _ in 0..3 {
        now = traffic.next_look().expect("what was told to end is seen to");
        fates.push(traffic.look(now));
    }
    assert_eq!(fates, [1, 1, 9].map(Fate::Sealed));
}

/// What is ended from here asks for no permit, which others could use. A push that its client has left may go on, and
/// works.
#[test]
fn what_is_ended_needs_no_permit() {
    for (kill, activity) in [(true, Activity::Unknown), (false, Activity::Works)] {
        let (socket, _client) = connection();
        let mut traffic = traffic(&socket, false);
        let now = Instant::now();
        traffic.look(now);
        let seen = Observation { waits: true, reads: true, light: true };
        traffic.observed(now, seen);
        assert!(matches!(traffic.activity(), Activity::Waits { .. }));
        traffic.sealed = Some(Seal { since: now, kill });
        assert_eq!(traffic.activity(), activity);
    }
}

/// Paths that are lost before the end are told of all the same.
#[test]
fn the_most_paths_are_remembered() {
    let (socket, _client) = connection();
    let mut traffic = traffic(&socket, false);
    let most = Transport::Multipath { paths: 2 };
    traffic.transport = most;
    traffic.look(Instant::now());
    assert_eq!(traffic.last.unwrap().transport, Transport::Tcp, "that is all there is now");
    assert_eq!(traffic.finish().unwrap().transport, most);
}

/// How often one is looked at within a second of which nothing is heard.
#[test]
fn silence_is_not_watched_closely() {
    let (socket, _client) = connection();
    for (corked, most) in [(false, 10), (true, 100)] {
        let mut traffic = traffic(&socket, corked);
        let end = Instant::now() + Duration::from_secs(1);
        let mut looks = 0;
        while let Some(next) = traffic.next_look().filter(|&next| next < end) {
            traffic.look(next);
            looks += 1;
        }
        assert!((2..=most).contains(&looks), "{looks} looks, corked: {corked}");
    }
}

/// A connection over TCP, from both sides.
fn connection() -> (Arc<Socket>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let socket: Socket = listener.accept().unwrap().0.into();
    (Arc::new(socket), client)
}

fn traffic(socket: &Arc<Socket>, corked: bool) -> Traffic {
    let request = Request::parse(b"git-upload-archive /a\0host=x\0").unwrap();
    let exchange = Exchange::new(&request, 0);
    Traffic::new(Arc::clone(socket), 0, request.service, corked, None, exchange)
}
