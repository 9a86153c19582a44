//! Alternation: in each round every side does the same work once, and a different one begins.

use std::ops::{Index, IndexMut};

use crate::Result;
use crate::server::Side;

/// One value for each side.
#[derive(Clone, Debug, Default)]
pub(crate) struct PerSide<T>([T; 3]);

impl<T> Index<Side> for PerSide<T> {
    type Output = T;

    fn index(&self, side: Side) -> &T {
        &self.0[side as usize]
    }
}

impl<T> IndexMut<Side> for PerSide<T> {
    fn index_mut(&mut self, side: Side) -> &mut T {
        &mut self.0[side as usize]
    }
}

/// One sample a round and side; the same position is the same round.
pub(crate) type Samples = PerSide<Vec<f64>>;

/// Calls `work` with each of `sides` in each round. The first to go changes with the round, so that a machine which
/// grows slower or faster favours neither side.
pub(crate) fn alternate(
    rounds: usize,
    sides: &[Side],
    mut work: impl FnMut(usize, Side) -> Result<()>,
) -> Result<()> {
    for round in 0..rounds {
        for turn in 0..sides.len() {
            work(round, sides[(round + turn) % sides.len()])?;
        }
    }
    Ok(())
}
