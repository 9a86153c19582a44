//! What the bench says about its samples: percentiles by nearest rank, so that each is a value that was really measured,
//! and the median of ratios taken round by round, which is what stays when the machine itself speeds up or slows down.

/// The order statistics of one set of samples. All zero when there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Summary {
    pub(crate) count: usize,
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Summary {
    pub(crate) fn of(samples: &[f64]) -> Self {
        let sorted = sorted(samples);
        Self {
            count: sorted.len(),
            min: rank(&sorted, 0.0),
            p50: rank(&sorted, 50.0),
            p90: rank(&sorted, 90.0),
            p99: rank(&sorted, 99.0),
            max: rank(&sorted, 100.0),
        }
    }
}

/// The middle sample, or the mean of the middle two.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let sorted = sorted(samples);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The ratios of samples that were taken in the same round, and what they come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) rounds: usize,
}

impl Ratio {
    /// `numerators[i] / denominators[i]` for each round that both sides finished; `None` when there was no such round.
    pub(crate) fn paired(numerators: &[f64], denominators: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = numerators
            .iter()
            .zip(denominators)
            .filter(|&(_, &denominator)| denominator > 0.0)
            .map(|(numerator, denominator)| numerator / denominator)
            .collect();
        if ratios.is_empty() {
            return None;
        }
        let summary = Summary::of(&ratios);
        Some(Self {
            median: median(&ratios),
            min: summary.min,
            max: summary.max,
            rounds: ratios.len(),
        })
    }
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The nearest-rank percentile: the smallest sample that at least `percent` of all samples do not exceed.
fn rank(sorted: &[f64], percent: f64) -> f64 {
    let position = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(position.saturating_sub(1)).copied().unwrap_or_default()
}
