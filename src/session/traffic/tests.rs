//! Connections of each kind, with chosen states and times.

use super::*;
use crate::protocol::request::Request;

fn traffic(service: &str, corked: bool, timeout: Option<Duration>) -> (Traffic, Instant) {
    let payload = format!("git-{service} /a\0host=x\0\0version=2\0");
    let request = Request::parse(payload.as_bytes()).unwrap();
    let exchange = Exchange::new(&request, 50);
    let now = Instant::now();
    (Traffic::new(request.service, corked, timeout, exchange, now), now)
}

/// A socket with so many bytes acknowledged, received, and unacknowledged.
fn seen(sent: u64, received: u64, unacknowledged: u64) -> Seen {
    let (idle, transport) = (Duration::ZERO, Transport::Tcp);
    let counters = Some(Counters { sent, received, unacknowledged, idle, transport });
    Seen { counters, ..Seen::default() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Looks at the same state until `end`; returns what was done, and when.
fn look_until(traffic: &mut Traffic, end: Instant, seen: &Seen) -> Vec<(Instant, Actions)> {
    let mut done = Vec::new();
    while let Some(now) = traffic.next_look().filter(|&next| next < end) {
        let actions = traffic.look(now, seen);
        assert!(traffic.next_look().is_none_or(|next| next > now), "time goes on");
        if actions != Actions::default() {
            done.push((now, actions));
        }
    }
    done
}

const NOTHING: Actions = Actions { uncork: false, segments: None, stuck: None, signal: None };

/// On a Unix socket, without counters, the server's end kills the service too.
#[test]
fn a_service_without_counters_is_killed() {
    let (mut traffic, mut now) = traffic("upload-pack", false, None);
    assert_eq!(traffic.look(now, &Seen::default()), NOTHING);
    assert_eq!(traffic.next_look(), None);
    traffic.shut_down(now);
    let mut signals = Vec::new();
    for _ in 0..3 {
        now = traffic.next_look().expect("what was told to end is seen to");
        signals.push(traffic.look(now, &Seen::default()).signal);
    }
    assert_eq!(signals, [Some(Signal::HUP), Some(Signal::HUP), Some(Signal::KILL)]);
}

/// A session that gitd ends asks for no permit, which other requests could use. A push whose client
/// has left may go on, and works.
#[test]
fn what_is_ended_needs_no_permit() {
    for (kill, activity) in [(true, Activity::Unknown), (false, Activity::Works)] {
        let (mut traffic, now) = traffic("upload-archive", false, None);
        traffic.look(now, &seen(0, 0, 0));
        traffic.observed(now, Observation { waits: true, reads: true, light: true });
        assert!(matches!(traffic.activity(now), Activity::Waits { .. }));
        traffic.shut_down = Some(ShutDown { since: now, kill });
        assert_eq!(traffic.activity(now), activity);
    }
}

/// Paths that are lost before the end are still reported.
#[test]
fn the_most_paths_are_remembered() {
    let (mut traffic, now) = traffic("upload-pack", false, None);
    for paths in [1, 2, 0] {
        let mut seen = seen(0, 0, 0);
        seen.counters.as_mut().unwrap().transport = Transport::Multipath { paths };
        traffic.look(now, &seen);
    }
    assert_eq!(traffic.transport(), Transport::Multipath { paths: 2 });
}

/// How often a session without events is looked at within a second.
#[test]
fn silence_is_not_watched_closely() {
    for (corked, most) in [(false, 10), (true, 100)] {
        let (mut traffic, now) = traffic("upload-archive", corked, None);
        let mut looks = 0;
        while looks <= most
            && let Some(next) = traffic.next_look().filter(|&next| next < now + seconds(1))
        {
            traffic.look(next, &seen(0, 0, 0));
            looks += 1;
        }
        assert!((2..=most).contains(&looks), "{looks} looks, corked: {corked}");
    }
}

/// Prompt while packets are small, bulk while much moves, and prompt again when all has been
/// acknowledged.
#[test]
fn phases() {
    let (mut traffic, now) = traffic("upload-pack", false, None);
    let segments = |traffic: &mut Traffic, seen: &Seen| traffic.look(now, seen).segments;
    assert_eq!(segments(&mut traffic, &seen(BULK, 0, 9)), None);
    assert!(traffic.wants_arrivals() && !traffic.questions().ended);
    assert_eq!(segments(&mut traffic, &seen(BULK, 1, 9)), Some(Segments::Full));
    assert!(!traffic.wants_arrivals() && traffic.questions().ended);
    assert_eq!(segments(&mut traffic, &seen(2 * BULK, 1, 9)), None, "it moves");
    assert_eq!(segments(&mut traffic, &seen(2 * BULK, 1, 9)), None, "not all has arrived");
    assert_eq!(segments(&mut traffic, &seen(2 * BULK, 10, 0)), None, "it moves");
    assert_eq!(segments(&mut traffic, &seen(2 * BULK, 10, 0)), Some(Segments::Prompt));
    assert!(traffic.wants_arrivals());
    assert_eq!(segments(&mut traffic, &seen(3 * BULK, 10, 0)), None, "counted anew");
    assert_eq!(segments(&mut traffic, &seen(3 * BULK, 11, 0)), Some(Segments::Full));
}

/// What is held back leaves when the service has written something and pauses, or writes much.
#[test]
fn corks() {
    let (mut traffic, now) = traffic("upload-pack", true, None);
    let mut uncorks = |unsent: u64, sent: u64| {
        assert!(traffic.questions().unsent);
        let seen = Seen { unsent: Some(unsent), ..seen(sent, 0, unsent) };
        traffic.look(now, &seen).uncork
    };
    assert!(!uncorks(0, 0) && !uncorks(0, 0), "nothing is written");
    assert!(!uncorks(100, 0) && !uncorks(200, 0), "it writes");
    assert!(uncorks(200, 0));
    assert!(!traffic.questions().unsent);
    let (mut traffic, now) = self::traffic("upload-pack", true, None);
    let actions = traffic.look(now, &Seen { unsent: Some(7), ..seen(BULK + 1, 0, 7) });
    assert_eq!(actions, Actions { uncork: true, segments: Some(Segments::Full), ..NOTHING });
}

/// A client that has only closed its side is not gone, however long it is silent.
#[test]
fn half_closed_clients() {
    let (mut traffic, now) = traffic("upload-pack", false, None);
    let silent = seen(100, 60, 5000);
    traffic.look(now, &silent);
    traffic.arrived(now, true);
    assert!(!traffic.wants_arrivals());
    assert_eq!(look_until(&mut traffic, now + seconds(900), &silent), []);
    assert!(traffic.questions().broken);
}

/// A service is ended some time after the kernel has given its connection up. A push is not: its
/// hooks may be at work.
#[test]
fn broken_connections() {
    for (service, signals) in [("upload-pack", 2), ("receive-pack", 0)] {
        let (mut traffic, now) = traffic(service, false, None);
        traffic.look(now, &seen(100, 60, 5000));
        traffic.arrived(now, true);
        let broken = Seen { broken: true, ..seen(100, 60, 5000) };
        let done = look_until(&mut traffic, now + seconds(60), &broken);
        let (first, stuck) = done[0];
        let at = first - now;
        assert!(at >= GIVEN_UP && at <= GIVEN_UP + 2 * CAREFUL_TICK, "{at:?}");
        let expected = Stuck { shutdown: Shutdown::Both, gone: true, still: at };
        assert_eq!(stuck, Actions { stuck: Some(expected), ..NOTHING });
        let mut sent: Vec<_> = done[1..].iter().filter_map(|(_, actions)| actions.signal).collect();
        sent.dedup();
        assert_eq!(sent.len(), signals, "{sent:?}");
    }
}

/// `--timeout` ends a session that stands still; after ten times as long where the client has its
/// answer.
#[test]
fn time_outs() {
    let waits = Some(Observation { waits: true, reads: true, light: true });
    let answered = seen(1000, 90, 0);
    for (service, seen, observation, limit, shutdown) in [
        ("upload-pack", seen(100, 60, 5000), None, 10, Shutdown::Both),
        ("upload-pack", answered, waits, 100, Shutdown::Both),
        ("upload-pack", answered, Some(Observation::WORKS), 10, Shutdown::Both),
        ("receive-pack", answered, waits, 10, Shutdown::Read),
    ] {
        let (mut traffic, now) = traffic(service, false, Some(seconds(10)));
        traffic.look(now, &seen);
        let mut stuck = None;
        while stuck.is_none() {
            let at = traffic.next_look().unwrap();
            if let Some(observation) = observation.filter(|_| traffic.wants_observation(at, false))
            {
                traffic.observed(at, observation);
            }
            stuck = traffic.look(at, &seen).stuck;
            assert!(at < now + seconds(200), "{service} goes on for ever");
        }
        let stuck = stuck.unwrap();
        assert_eq!((stuck.shutdown, stuck.gone), (shutdown, false));
        let late = stuck.still.saturating_sub(seconds(limit));
        assert!(stuck.still >= seconds(limit) && late <= seconds(5), "{service}: {stuck:?}");
    }
}
