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

/// How often one is looked at within a second of which nothing is heard.
#[test]
fn silence_is_not_watched_closely() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let socket: Socket = listener.accept().unwrap().0.into();
    let socket = Arc::new(socket);
    for (corked, most) in [(false, 10), (true, 100)] {
        let request = Request::parse(b"git-upload-archive /a\0host=x\0").unwrap();
        let exchange = Exchange::new(&request, 0);
        let service = request.service;
        let mut traffic = Traffic::new(Arc::clone(&socket), 0, service, corked, None, exchange);
        let end = Instant::now() + Duration::from_secs(1);
        let mut looks = 0;
        while let Some(next) = traffic.next_look().filter(|&next| next < end) {
            traffic.look(next);
            looks += 1;
        }
        assert!((2..=most).contains(&looks), "{looks} looks, corked: {corked}");
    }
}
