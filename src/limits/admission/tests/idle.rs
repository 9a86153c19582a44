//! Sessions that become idle, wake, and exchange permits.

use super::*;

fn now_resting(admission: &Arc<Admission>) -> Admitted {
    let mut place = now(admission.visit(1));
    assert!(place.go_idle(Holding::Light));
    place
}

/// A session that waits for its client, but may not be idle beside so many, gives way to one that
/// has work.
#[test]
fn a_session_with_work_does_not_wait_for_one_without() {
    let admission = admission(1, 10);
    let mut first = now(admission.visit(1));
    assert!(first.go_idle(Holding::Heavy));
    let mut second = now(admission.visit(2));
    assert!(!second.go_idle(Holding::Heavy) && second.works());
    let mut permit = first.wakes();
    let mut third = later(admission.visit(3));
    assert!(second.go_idle(Holding::Heavy) && !second.works());
    first.work(permit.try_recv().unwrap());
    assert!(third.try_recv().is_err());
    let state = admission.lock();
    assert_eq!((state.running, state.idle, state.heavy), (1, 1, 1));
}

/// An exchange with a light session does not get around the bound of heavy ones.
#[test]
fn a_swap_keeps_the_bound_of_heavy_sessions() {
    let admission = admission(2, 10);
    let mut light: Vec<_> = (0..2 * IDLE_PER_PERMIT).map(|_| now_resting(&admission)).collect();
    let mut heavy: Vec<_> = (1..=2).map(|n| now(admission.visit(n))).collect();
    let mut permits: Vec<_> = light.iter_mut().map(Admitted::wakes).collect();
    for place in &mut heavy {
        assert!(place.go_idle(Holding::Heavy));
    }
    for (place, permit) in light.iter_mut().zip(&mut permits).take(2) {
        place.work(permit.try_recv().unwrap());
        assert!(!place.go_idle(Holding::Heavy) && place.works());
    }
    assert_eq!(admission.lock().heavy, 2);
}

/// A heavy session and one that has waited for long work over the limit; at most twice the limit in
/// all.
#[test]
fn over_the_limit() {
    let admission = admission(2, 10);
    let mut heavy: Vec<_> = (1..=2).map(|n| now(admission.visit(n))).collect();
    assert!(heavy.iter_mut().all(|place| place.go_idle(Holding::Heavy)));
    let mut light: Vec<_> = (0..2).map(|_| now_resting(&admission)).collect();
    let _working: Vec<_> = (1..=2).map(|n| now(admission.visit(n))).collect();
    assert!(!light[0].insist(), "the heavy may have to work");
    heavy[0].work_on();
    assert_eq!(admission.lock().running, 3);
    assert!(!light[0].insist());
    heavy.pop();
    assert!(light[0].insist() && light[0].works());
    assert!(!light[1].insist());
    // No other request is admitted until fewer sessions work than the limit.
    let mut waiting = later(admission.visit(9));
    drop(light);
    drop(heavy);
    assert!(waiting.try_recv().is_err());
    assert_eq!(admission.lock().running, 2);
}

#[test]
fn a_permit_that_is_not_taken_is_free_again() {
    let admission = admission(1, 10);
    let mut sleepers = [(); 2].map(|()| now_resting(&admission));
    let worker = now(admission.visit(2));
    drop(sleepers[0].wakes());
    let mut promised = sleepers[1].wakes();
    drop(worker);
    let permit = promised.try_recv().unwrap();
    drop(sleepers);
    assert_eq!(admission.lock().running, 1);
    drop(permit);
    let state = admission.lock();
    assert_eq!((state.running, state.idle, state.woken.len()), (0, 0, 0));
}

#[test]
fn the_number_of_idle_sessions_is_bounded() {
    let admission = admission(1, 10);
    let mut places = vec![now(admission.visit(1))];
    for _ in 0..IDLE_PER_PERMIT {
        let mut waiting = later(admission.visit(2));
        assert!(places.last_mut().unwrap().go_idle(Holding::Light));
        let mut place = waiting.try_recv().unwrap();
        place.checked();
        places.push(place);
    }
    let mut waiting = later(admission.visit(2));
    assert!(!places.last_mut().unwrap().go_idle(Holding::Light));
    assert!(waiting.try_recv().is_err());
    // The end of an idle session frees no permit, but lets another session be idle.
    places.remove(0);
    assert!(waiting.try_recv().is_err());
    assert!(places.last_mut().unwrap().go_idle(Holding::Light));
    assert!(waiting.try_recv().is_ok());
    drop(places);
    assert_eq!(admission.lock().running, 0);
    assert_eq!(admission.lock().idle, 0);
}

#[test]
fn the_number_of_heavy_idle_sessions_is_bounded() {
    let admission = admission(2, 10);
    let mut places: Vec<_> = (1..=2).map(|n| now(admission.visit(n))).collect();
    assert!(places.iter_mut().all(|place| place.go_idle(Holding::Heavy)));
    places.extend((3..=4).map(|n| now(admission.visit(n))));
    assert!(!places[2].go_idle(Holding::Heavy) && places[2].works());
    assert!(places[2].go_idle(Holding::Light));
    // An idle session keeps its holding when there is no room for a heavier one.
    assert!(!places[2].go_idle(Holding::Heavy) && !places[2].works());
    assert_eq!(admission.lock().running, 1);
    assert!(!places[3].go_idle(Holding::Heavy));
    // A heavy session makes room for another when it ends or becomes light.
    places.remove(0);
    assert!(places[2].go_idle(Holding::Heavy));
    assert!(!places[1].go_idle(Holding::Heavy));
    assert!(places[0].go_idle(Holding::Light));
    assert!(places[1].go_idle(Holding::Heavy));
    assert_eq!(admission.lock().running, 0);
    drop(places);
    let state = admission.lock();
    assert_eq!((state.idle, state.heavy), (0, 0));
}

#[test]
fn idle_sessions_count_for_their_address() {
    let admission = bounded(1, 1, 10);
    let mut sleeper = now(admission.visit(1));
    let mut own = later(admission.visit(1));
    assert!(sleeper.go_idle(Holding::Light));
    drop(now(admission.visit(2)));
    assert!(own.try_recv().is_err());
    drop(sleeper);
    assert!(own.try_recv().is_ok());
}

#[test]
fn woken_sessions_and_the_queue_take_turns() {
    let admission = admission(1, 10);
    let mut sleepers: Vec<Admitted> = (0..3).map(|_| now_resting(&admission)).collect();
    let mut worker = now(admission.visit(2));
    let mut permits: Vec<_> = sleepers.iter_mut().map(Admitted::wakes).collect();
    let mut queue: Vec<_> = (0..2).map(|_| later(admission.visit(3))).collect();
    let mut order = Vec::new();
    for _ in 0..5 {
        drop(worker);
        if let Some(place) = queue.iter_mut().find_map(|waiting| waiting.try_recv().ok()) {
            order.push("queue");
            worker = place;
        } else {
            let index = permits.iter_mut().position(|permit| {
                permit.try_recv().map(|permit| sleepers[0].work(permit)).is_ok()
            });
            order.push("woken");
            drop(permits.remove(index.unwrap()));
            worker = sleepers.remove(0);
        }
    }
    assert_eq!(order, ["woken", "queue", "woken", "queue", "woken"]);
}
