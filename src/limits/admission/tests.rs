//! Admission with bounds of every size: requests that come, wait and end.

use super::*;

mod idle;

fn address(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

fn admission(places: usize, room: usize) -> Arc<Admission> {
    bounded(places, 0, room)
}

fn bounded(places: usize, per_address: usize, room: usize) -> Arc<Admission> {
    let (places, per_address) = (NonZeroUsize::new(places), NonZeroUsize::new(per_address));
    Admission::new(Bounds { places, per_address, room: Some(room), ..Bounds::default() })
}

impl Admitted {
    fn works(&self) -> bool {
        self.permit.is_some()
    }
}

impl Admission {
    /// A request whose checks are over at once.
    fn visit(self: &Arc<Self>, last: u8) -> Answer {
        let answer = self.ask(address(last), b"/repo");
        if let Answer::Now(mut place) = answer {
            place.checked();
            return Answer::Now(place);
        }
        answer
    }
}

fn now(answer: Answer) -> Admitted {
    let Answer::Now(place) = answer else { panic!("{answer:?}") };
    place
}

fn later(answer: Answer) -> oneshot::Receiver<Admitted> {
    let Answer::Later(receiver) = answer else { panic!("{answer:?}") };
    receiver
}

#[test]
fn a_dropped_permit_is_free_again() {
    let admission = admission(1, 0);
    let place = now(admission.visit(1));
    assert!(matches!(admission.visit(2), Answer::Never));
    drop(place);
    drop(now(admission.visit(2)));
    assert_eq!(admission.lock().running, 0);
    assert!(admission.lock().accounts.is_empty() && admission.lock().checks.is_empty());
}

#[test]
fn no_limit_means_no_queue() {
    let admission = Admission::new(Bounds::default());
    let places: Vec<Admitted> = (0..1000).map(|_| now(admission.visit(1))).collect();
    assert_eq!(admission.lock().running, 1000);
    drop(places);
    assert_eq!(admission.lock().running, 0);
}

#[test]
fn addresses_take_turns() {
    let admission = admission(1, 100);
    let first = now(admission.visit(1));
    let mut greedy: Vec<_> = (0..10).map(|_| later(admission.visit(1))).collect();
    let mut modest = later(admission.visit(2));
    drop(first);
    let second = greedy[0].try_recv().unwrap();
    assert!(modest.try_recv().is_err());
    drop(second);
    let third = modest.try_recv().unwrap();
    assert!(greedy[1].try_recv().is_err());
    drop(third);
    assert!(greedy[1].try_recv().is_ok());
}

#[test]
fn requests_without_a_client_are_skipped() {
    let admission = admission(1, 2);
    let first = now(admission.visit(1));
    drop(later(admission.visit(1)));
    drop(later(admission.visit(2)));
    let mut third = later(admission.visit(3));
    drop(later(admission.visit(4)));
    drop(first);
    drop(third.try_recv().unwrap());
    assert_eq!(admission.lock().running, 0);
    drop(now(admission.visit(1)));
    admission.lock().forget_closed();
    assert!(admission.lock().accounts.is_empty() && admission.lock().turn.is_empty());
}

#[test]
fn a_full_queue_drops_from_the_longest() {
    let admission = admission(1, 3);
    let _running = now(admission.visit(1));
    let mut greedy: Vec<_> = (0..3).map(|_| later(admission.visit(1))).collect();
    assert!(matches!(admission.visit(1), Answer::Never));
    let _modest = later(admission.visit(2));
    assert!(matches!(greedy[2].try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    assert!(matches!(greedy[1].try_recv(), Err(oneshot::error::TryRecvError::Empty)));
    assert!(matches!(admission.visit(2), Answer::Never));
}

/// A thousand requests of one address delay ten others by one turn each and no more.
#[test]
fn a_thousand_against_ten() {
    let admission = admission(1, 2000);
    let mut running = now(admission.visit(1));
    let mut greedy: Vec<_> = (0..1000).map(|_| later(admission.visit(1))).collect();
    let mut modest: Vec<_> = (2..12).map(|last| later(admission.visit(last))).collect();
    let mut served = 0;
    for _ in 0..20 {
        drop(running);
        let next = modest.iter_mut().chain(&mut greedy).find_map(|waiting| waiting.try_recv().ok());
        running = next.unwrap();
        served += usize::from(running.client != ClientAddress::from(address(1)));
        if served == 10 {
            return;
        }
    }
    panic!("{served} of 10 after 20 turns");
}

#[test]
fn an_address_has_a_limit_of_its_own() {
    let admission = bounded(3, 1, 10);
    let first = now(admission.visit(1));
    let mut second = later(admission.visit(1));
    let other = now(admission.visit(2));
    // A permit is free, but not for this address.
    assert!(second.try_recv().is_err());
    drop(other);
    assert!(second.try_recv().is_err());
    drop(first);
    drop(second.try_recv().unwrap());
    assert_eq!(admission.lock().running, 0);
}

#[test]
fn a_limit_by_address_without_a_limit_in_all() {
    let admission = bounded(0, 2, 10);
    let places = [now(admission.visit(1)), now(admission.visit(1)), now(admission.visit(2))];
    let mut third = later(admission.visit(1));
    assert!(third.try_recv().is_err());
    drop(places);
    assert!(third.try_recv().is_ok());
}

#[test]
fn a_subscriber_is_an_address() {
    let of = |text: &str| ClientAddress::from(text.parse::<IpAddr>().unwrap());
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    // The same client on a socket for both families.
    assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
}

impl Admitted {
    fn wakes(&mut self) -> oneshot::Receiver<Permit> {
        let Wake::Later(receiver) = self.wake() else { panic!("there was a permit") };
        receiver
    }
}

#[test]
fn an_idle_session_works_again_with_a_permit() {
    let admission = admission(1, 10);
    let mut sleeper = now(admission.visit(1));
    assert!(matches!(sleeper.wake(), Wake::Now) && sleeper.works());
    let mut waiting = later(admission.visit(2));
    assert!(sleeper.go_idle(Holding::Light) && !sleeper.works());
    let second = waiting.try_recv().unwrap();
    assert!(sleeper.go_idle(Holding::Light), "it rests already");
    // The only permit is in use.
    let mut permit = sleeper.wakes();
    assert!(permit.try_recv().is_err());
    assert_eq!(admission.lock().running, 1);
    drop(second);
    sleeper.work(permit.try_recv().unwrap());
    assert!(sleeper.works());
    let state = admission.lock();
    assert_eq!((state.running, state.idle), (1, 0));
    drop(state);
    // No other session works, so there is a permit at once.
    assert!(sleeper.go_idle(Holding::Light));
    assert!(matches!(sleeper.wake(), Wake::Now) && sleeper.works());
    drop(sleeper);
    assert_eq!(admission.lock().running, 0);
}

#[test]
fn the_limit_holds_when_all_wake() {
    let admission = admission(1, 10);
    let mut sleepers: Vec<Admitted> = (0..IDLE_PER_PERMIT)
        .map(|_| {
            let mut place = now(admission.visit(1));
            assert!(place.go_idle(Holding::Light));
            place
        })
        .collect();
    let worker = now(admission.visit(2));
    let mut permits: Vec<_> = sleepers.iter_mut().map(Admitted::wakes).collect();
    assert_eq!(admission.lock().running, 1);
    drop(worker);
    for (sleeper, permit) in sleepers.iter_mut().zip(&mut permits) {
        sleeper.work(permit.try_recv().unwrap());
        assert_eq!(admission.lock().running, 1);
        assert!(sleeper.go_idle(Holding::Light));
    }
}

/// More slow checks of one repository than there are permits: those beyond half of the permits
/// wait.
#[test]
fn checks_of_one_repository_leave_permits_to_others() {
    let admission = admission(4, 10);
    let mut hanging: Vec<Admitted> = (10..10 + 4 * IDLE_PER_PERMIT as u8)
        .map(|n| {
            let mut place = now(admission.ask(address(n), b"/hangs"));
            assert!(place.go_idle(Holding::Light));
            place
        })
        .collect();
    hanging.extend([(); 2].map(|()| now(admission.ask(address(1), b"/hangs"))));
    let mut one_more = later(admission.ask(address(2), b"/hangs"));
    assert!(
        admission.waits_for_checks(address(2), b"/hangs")
            && !admission.waits_for_checks(address(2), b"/works")
    );
    let place = now(admission.ask(address(1), b"/works"));
    drop(place);
    assert!(one_more.try_recv().is_err());
    hanging.pop();
    let one_more = one_more.try_recv().unwrap();
    // A blocked request does not block another request of its own address.
    let busy = now(admission.ask(address(4), b"/works"));
    let blocked = later(admission.ask(address(3), b"/hangs"));
    let others = now(admission.ask(address(3), b"/works"));
    let mut another = later(admission.ask(address(3), b"/works"));
    drop(others);
    assert!(another.try_recv().is_ok());
    drop((hanging, one_more, blocked, busy));
    assert_eq!(admission.lock().running, 0);
}

/// A client may spell one name in many ways, and invent as many as it likes.
#[test]
fn checks_of_one_address_leave_some_to_others() {
    let admission = admission(4, 100);
    let mut hanging = Vec::new();
    while hanging.len() < 4 * (1 + IDLE_PER_PERMIT) - 2 {
        let name = format!("/hangs/{}", hanging.len());
        let mut place = now(admission.ask(address(1), name.as_bytes()));
        let idles = place.go_idle(Holding::Light);
        assert!(idles || hanging.len() >= 4 * IDLE_PER_PERMIT);
        hanging.push(place);
    }
    let mut more = later(admission.ask(address(1), b"/hangs/more"));
    assert!(admission.waits_for_checks(address(1), b"/other"));
    let other = now(admission.ask(address(2), b"/other"));
    assert!(more.try_recv().is_err());
    hanging.pop().unwrap().checked();
    assert!(more.try_recv().is_ok());
    drop((hanging, other));
    assert_eq!(admission.lock().accounts.len(), 0);
}

/// Where descriptors do not suffice for all checks, one path still leaves some to others, and a
/// request beyond them waits in the queue, as for a permit.
#[test]
fn checks_for_which_there_are_descriptors() {
    let places = NonZeroUsize::new(32);
    let bounds = Bounds { places, room: Some(100), checks: Some(6), ..Bounds::default() };
    let admission = Admission::new(bounds);
    let mut hanging: Vec<_> = (0..3)
        .map(|_| {
            let mut place = now(admission.ask(address(1), b"/hangs"));
            assert!(place.go_idle(Holding::Light));
            place
        })
        .collect();
    let more = later(admission.ask(address(2), b"/hangs"));
    drop(more);
    hanging.extend((3..6).map(|n| now(admission.ask(address(n), b"/works"))));
    let mut next = later(admission.ask(address(9), b"/free"));
    hanging.pop().unwrap().checked();
    let next = next.try_recv().unwrap();
    drop((hanging, next));
    assert_eq!(admission.lock().checking, 0);
}

#[test]
fn sessions_for_which_there_are_descriptors() {
    let places = NonZeroUsize::new(4);
    let bounds = Bounds { places, room: Some(100), sessions: Some(2), ..Bounds::default() };
    let admission = Admission::new(bounds);
    let mut idle = now(admission.ask(address(1), b"/a"));
    idle.checked();
    assert!(idle.go_idle(Holding::Light));
    let busy = now(admission.ask(address(2), b"/b"));
    let mut more = later(admission.ask(address(3), b"/c"));
    assert!(matches!(idle.wake(), Wake::Now), "a session that is there needs no more descriptors");
    assert!(more.try_recv().is_err());
    drop(busy);
    assert!(more.try_recv().is_ok());
}

/// Sessions that no longer wait for a permit are forgotten, even if none comes free.
#[test]
fn sessions_that_wait_in_vain_are_forgotten() {
    let admission = admission(1, 1);
    let mut idle = now(admission.ask(address(1), b"/a"));
    assert!(idle.go_idle(Holding::Light));
    let busy = now(admission.ask(address(2), b"/b"));
    for _ in 0..1000 {
        assert!(matches!(idle.wake(), Wake::Later(_)));
    }
    assert!(admission.lock().woken.len() < 100);
    drop(busy);
}

/// Clones of one repository behind a slow hook wait for nothing but the hook. Those beyond half of
/// the permits follow as soon as the first ones are known to be slow.
#[test]
fn a_free_permit_serves_any_repository() {
    for (places, requests) in [(32, 20), (32, 32), (1, 1), (1, 4), (0, 600)] {
        let admission = admission(places, 256);
        let answers: Vec<_> = (0..requests).map(|_| admission.ask(address(1), b"/one")).collect();
        let mut waiting = Vec::new();
        let mut hooked = Vec::new();
        for answer in answers {
            match answer {
                Answer::Now(place) => hooked.push(place),
                Answer::Later(receiver) => waiting.push(receiver),
                Answer::Never => panic!("there is room to wait"),
            }
        }
        assert!(places > 0 || waiting.is_empty());
        for index in 0..requests {
            hooked[index].go_idle(Holding::Light);
            hooked.extend(waiting.iter_mut().filter_map(|waiting| waiting.try_recv().ok()));
        }
        assert_eq!(hooked.len(), requests, "{places} places");
    }
}

/// A session whose permit is on its way counts as idle and as working: the room that comes back is handed out.
#[test]
fn room_that_comes_back_is_handed_out() {
    let places = NonZeroUsize::new(2);
    let bounds = Bounds { places, room: Some(100), sessions: Some(2), ..Bounds::default() };
    let admission = Admission::new(bounds);
    let mut idle = now(admission.ask(address(1), b"/a"));
    idle.checked();
    assert!(idle.go_idle(Holding::Light));
    let permit = admission.permit(&mut admission.lock());
    let mut waiting = later(admission.ask(address(2), b"/b"));
    assert!(waiting.try_recv().is_err());
    idle.work(permit);
    assert!(waiting.try_recv().is_ok());
}
