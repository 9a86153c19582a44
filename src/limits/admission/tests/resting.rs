//! Clients that rest, wake, and change places.

use super::*;

fn now_resting(house: &Arc<Admission>) -> Place {
    let mut place = now(house.visit(1));
    assert!(place.rest(Burden::Light));
    place
}

/// One that waits for its client, and may not rest beside so many, makes room for one that has work.
#[test]
fn one_that_has_work_does_not_wait_for_one_that_has_none() {
    let house = house(1, 10);
    let mut first = now(house.visit(1));
    assert!(first.rest(Burden::Laden));
    let mut second = now(house.visit(2));
    assert!(!second.rest(Burden::Laden) && second.works());
    let mut permit = first.wakes();
    let mut third = later(house.visit(3));
    assert!(second.rest(Burden::Laden) && !second.works());
    first.work(permit.try_recv().unwrap());
    assert!(third.try_recv().is_err());
    let state = house.lock();
    assert_eq!((state.running, state.resting, state.laden), (1, 1, 1));
}

/// It changes places with what is light, and cannot make it laden.
#[test]
fn a_swap_is_no_way_around_the_bound_of_the_laden() {
    let house = house(2, 10);
    let mut light: Vec<_> = (0..2 * RESTING).map(|_| now_resting(&house)).collect();
    let mut laden: Vec<_> = (1..=2).map(|n| now(house.visit(n))).collect();
    let mut permits: Vec<_> = light.iter_mut().map(Place::wakes).collect();
    for place in &mut laden {
        assert!(place.rest(Burden::Laden));
    }
    for (place, permit) in light.iter_mut().zip(&mut permits).take(2) {
        place.work(permit.try_recv().unwrap());
        assert!(!place.rest(Burden::Laden) && place.works());
    }
    assert_eq!(house.lock().laden, 2);
}

/// What works over the limit is what cannot wait, and what has waited for long; no more than the limit again.
#[test]
fn over_the_limit() {
    let house = house(2, 10);
    let mut laden: Vec<_> = (1..=2).map(|n| now(house.visit(n))).collect();
    assert!(laden.iter_mut().all(|place| place.rest(Burden::Laden)));
    let mut light: Vec<_> = (0..2).map(|_| now_resting(&house)).collect();
    let _working: Vec<_> = (1..=2).map(|n| now(house.visit(n))).collect();
    assert!(!light[0].insist(), "the laden may have to work");
    laden[0].work_on();
    assert_eq!(house.lock().running, 3);
    assert!(!light[0].insist());
    laden.pop();
    assert!(light[0].insist() && light[0].works());
    assert!(!light[1].insist());
    // Nobody else is let in before they are fewer than the limit.
    let mut waiting = later(house.visit(9));
    drop(light);
    drop(laden);
    assert!(waiting.try_recv().is_err());
    assert_eq!(house.lock().running, 2);
}

#[test]
fn a_permit_that_nobody_takes_comes_back() {
    let house = house(1, 10);
    let mut sleepers = [(); 2].map(|()| now_resting(&house));
    let worker = now(house.visit(2));
    drop(sleepers[0].wakes());
    let mut promised = sleepers[1].wakes();
    drop(worker);
    let permit = promised.try_recv().unwrap();
    drop(sleepers);
    assert_eq!(house.lock().running, 1);
    drop(permit);
    let state = house.lock();
    assert_eq!((state.running, state.resting, state.woken.len()), (0, 0, 0));
}

#[test]
fn not_all_may_rest() {
    let house = house(1, 10);
    let mut places = vec![now(house.visit(1))];
    for _ in 0..RESTING {
        let mut waiting = later(house.visit(2));
        assert!(places.last_mut().unwrap().rest(Burden::Light));
        let mut place = waiting.try_recv().unwrap();
        place.checked();
        places.push(place);
    }
    let mut waiting = later(house.visit(2));
    assert!(!places.last_mut().unwrap().rest(Burden::Light));
    assert!(waiting.try_recv().is_err());
    // One that rests ends, which frees no permit but lets another rest.
    places.remove(0);
    assert!(waiting.try_recv().is_err());
    assert!(places.last_mut().unwrap().rest(Burden::Light));
    assert!(waiting.try_recv().is_ok());
    drop(places);
    assert_eq!(house.lock().running, 0);
    assert_eq!(house.lock().resting, 0);
}

#[test]
fn with_the_memory_of_an_answer_fewer_may_rest() {
    let house = house(2, 10);
    let mut places: Vec<_> = (1..=2).map(|n| now(house.visit(n))).collect();
    assert!(places.iter_mut().all(|place| place.rest(Burden::Laden)));
    places.extend((3..=4).map(|n| now(house.visit(n))));
    assert!(!places[2].rest(Burden::Laden) && places[2].works());
    assert!(places[2].rest(Burden::Light));
    // One that rests keeps what it has where there is no room for more.
    assert!(!places[2].rest(Burden::Laden) && !places[2].works());
    assert_eq!(house.lock().running, 1);
    assert!(!places[3].rest(Burden::Laden));
    // One of the laden makes room for another, by its end or by that of its answer.
    places.remove(0);
    assert!(places[2].rest(Burden::Laden));
    assert!(!places[1].rest(Burden::Laden));
    assert!(places[0].rest(Burden::Light));
    assert!(places[1].rest(Burden::Laden));
    assert_eq!(house.lock().running, 0);
    drop(places);
    let state = house.lock();
    assert_eq!((state.resting, state.laden), (0, 0));
}

#[test]
fn resting_is_no_way_around_the_limit_by_address() {
    let house = bounded(1, 1, 10);
    let mut sleeper = now(house.visit(1));
    let mut own = later(house.visit(1));
    assert!(sleeper.rest(Burden::Light));
    drop(now(house.visit(2)));
    assert!(own.try_recv().is_err());
    drop(sleeper);
    assert!(own.try_recv().is_ok());
}

#[test]
fn the_woken_and_the_queue_take_turns() {
    let house = house(1, 10);
    let mut sleepers: Vec<Place> = (0..3).map(|_| now_resting(&house)).collect();
    let mut worker = now(house.visit(2));
    let mut permits: Vec<_> = sleepers.iter_mut().map(Place::wakes).collect();
    let mut queue: Vec<_> = (0..2).map(|_| later(house.visit(3))).collect();
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
