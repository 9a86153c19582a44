//! Two links carry what two links can. The links' rates are the kernel's, so the ratios are physics and not the machine's speed.

use super::{LIMIT, Lab, MULTIPATH};
use crate::lab::{Client, Outcome, Transfer};

fn clone(lab: &Lab, client: Client) -> Outcome {
    let transfer = Transfer::clone(&lab.network, client, &lab.repository, "10.50.1.1");
    let outcome = transfer.finish(LIMIT);
    outcome.verify(&lab.repository);
    println!(
        "{client:?}: {:?}, {:.1} Mbit/s, by link {:?}, longest stall {:?}",
        outcome.duration,
        outcome.record.bits_per_second() / 1e6,
        outcome.record.link_bytes(),
        outcome.record.longest_stall(),
    );
    outcome
}

#[test]
fn two_links_carry_twice_what_one_does() {
    needs_lab!();
    let lab = Lab::new(&[50, 50], MULTIPATH, 84);
    let one = clone(&lab, Client::Git);
    let bytes = one.record.link_bytes();
    assert!(bytes[1] < 10_000, "plain TCP stays on its link: {bytes:?}");
    for client in [Client::Connect, Client::Mptcpize] {
        let both = clone(&lab, client);
        let gain = both.record.bits_per_second() / one.record.bits_per_second();
        assert!(gain >= 1.9, "{gain}");
        assert!(both.record.bits_per_second() >= 0.92 * lab.network.bits_per_second());
    }
}

#[test]
fn a_slow_second_link_still_adds() {
    needs_lab!();
    let lab = Lab::new(&[50, 10], MULTIPATH, 30);
    let one = clone(&lab, Client::Git);
    let both = clone(&lab, Client::Connect);
    let gain = both.record.bits_per_second() / one.record.bits_per_second();
    assert!(gain >= 1.15, "{gain}");
}
