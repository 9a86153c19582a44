//! The bench's statistics. They are tested here, because a bench without a harness runs no tests.

#[path = "../bench/statistics.rs"]
mod statistics;

use statistics::{Ratio, Summary, median};

#[test]
fn percentiles_are_samples() {
    let samples: Vec<f64> = (1..=1000).rev().map(f64::from).collect();
    let summary = Summary::of(&samples);
    assert_eq!(
        summary,
        Summary { count: 1000, min: 1.0, p50: 500.0, p90: 900.0, p99: 990.0, max: 1000.0 }
    );
}

#[test]
fn few_samples_have_their_maximum_as_p99() {
    assert_eq!(Summary::of(&[3.0, 1.0, 2.0]).p99, 3.0);
    assert_eq!(
        Summary::of(&[7.0]),
        Summary { count: 1, min: 7.0, p50: 7.0, p90: 7.0, p99: 7.0, max: 7.0 }
    );
}

#[test]
fn nothing_measured_is_zero_and_has_no_ratio() {
    assert_eq!(Summary::of(&[]), Summary::default());
    assert_eq!(median(&[]), 0.0);
    assert_eq!(Ratio::paired(&[], &[1.0]), None);
    assert_eq!(Ratio::paired(&[1.0], &[0.0]), None);
}

#[test]
fn median_of_an_even_number_is_the_mean_of_the_middle() {
    assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
}

#[test]
fn ratios_are_taken_round_by_round() {
    // A machine that is twice as slow in the second round must not show: the sides' medians would give 1.5.
    let ratio = Ratio::paired(&[2.0, 4.0, 2.0], &[1.0, 2.0, 1.0]);
    assert_eq!(ratio, Some(Ratio { median: 2.0, min: 2.0, max: 2.0, rounds: 3 }));
}

#[test]
fn an_unfinished_round_does_not_count() {
    let ratio = Ratio::paired(&[2.0, 9.0], &[1.0]);
    assert_eq!(ratio.map(|ratio| ratio.rounds), Some(1));
}
