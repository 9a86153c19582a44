//! A table of the report, and the three figures that stand for many.

use std::fmt;
use std::fmt::Write;

/// A heading, what was done, and the rows, the first of them the columns' names.
#[derive(Debug)]
pub struct Table {
    pub heading: &'static str,
    pub explanation: String,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn text(&self) -> String {
        let mut text = format!("### {}\n\n{}\n\n", self.heading, self.explanation);
        for (index, row) in self.rows.iter().enumerate() {
            let _ = writeln!(text, "| {} |", row.join(" | "));
            if index == 0 {
                let _ = writeln!(text, "|{}", " --- |".repeat(row.len()));
            }
        }
        text
    }
}

/// Cells from whatever can be shown.
macro_rules! row {
    ($($cell:expr),* $(,)?) => { vec![$($cell.to_string()),*] };
}
pub(crate) use row;

/// The least, the middle and the most of what was measured.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub least: f64,
    pub middle: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let last = sorted.len().saturating_sub(1);
        Self {
            least: at(0),
            middle: f64::midpoint(at(last / 2), at(last.div_ceil(2))),
            most: at(last),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { least, middle, most } = self;
        write!(f, "{least:.2} / {middle:.2} / {most:.2}")
    }
}
