//! What the scenes hand in, and the tables made of it: figures with their goals, distributions, and what did not run.

use std::fmt::Write;

use crate::rounds::{PerSide, Samples};
use crate::server::Side;
use crate::statistics::{Ratio, Summary, median};
use crate::svg::Chart;

/// What a figure must reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn is_reached(self, measured: f64) -> bool {
        match self {
            Bound::AtLeast(least) => measured >= least,
            Bound::AtMost(most) => measured <= most,
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Bound::AtLeast(least) => format!("≥ {least}{unit}"),
            Bound::AtMost(most) => format!("≤ {most}{unit}"),
        }
    }
}

/// One figure: what each side reached, and what is compared with the goal.
pub(crate) struct Row {
    work: String,
    figure: String,
    sides: PerSide<Option<f64>>,
    measured: String,
    goal: String,
    reached: &'static str,
}

impl Row {
    /// A figure of each side, of which `numerator / denominator` is judged, round by round.
    pub(crate) fn ratio(
        work: &str,
        figure: &str,
        samples: &Samples,
        (numerator, denominator): (Side, Side),
        bound: Option<Bound>,
    ) -> Self {
        let ratio = Ratio::paired(&samples[numerator], &samples[denominator]);
        let names = format!("{} / {}", numerator.name(), denominator.name());
        Self::compared(work, figure, medians(samples), ratio, &names, bound)
    }

    /// A figure of each side, of which a ratio called `names` is judged.
    pub(crate) fn compared(
        work: &str,
        figure: &str,
        sides: PerSide<Option<f64>>,
        ratio: Option<Ratio>,
        names: &str,
        bound: Option<Bound>,
    ) -> Self {
        let measured = match ratio {
            Some(Ratio { median, min, max, rounds }) => {
                format!("{}× ({}–{}, n={rounds}) {names}", number(median), number(min), number(max))
            }
            None => "not measured".to_owned(),
        };
        Self {
            sides,
            measured,
            ..Self::judged(work, figure, ratio.map(|ratio| ratio.median), bound, "×")
        }
    }

    /// A figure that is judged as it is.
    pub(crate) fn absolute(
        work: &str,
        figure: &str,
        unit: &str,
        sides: PerSide<Option<f64>>,
        bound: Option<Bound>,
    ) -> Self {
        let measured = sides[Side::Gitd];
        Self {
            measured: measured.map_or_else(
                || "not measured".to_owned(),
                |value| format!("{}{unit}", number(value)),
            ),
            sides,
            ..Self::judged(work, figure, measured, bound, unit)
        }
    }

    fn judged(
        work: &str,
        figure: &str,
        measured: Option<f64>,
        bound: Option<Bound>,
        unit: &str,
    ) -> Self {
        Self {
            work: work.to_owned(),
            figure: figure.to_owned(),
            sides: PerSide::default(),
            measured: String::new(),
            goal: bound.map_or_else(String::new, |bound| bound.text(unit)),
            reached: match (bound, measured) {
                (None, _) => "",
                (Some(_), None) => "not measured",
                (Some(bound), Some(measured)) if bound.is_reached(measured) => "yes",
                _ => "**no**",
            },
        }
    }
}

/// How one figure of one side was spread.
struct Distribution {
    work: String,
    side: Side,
    unit: &'static str,
    summary: Summary,
}

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    distributions: Vec<Distribution>,
    pub(crate) charts: Vec<Chart>,
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn distribution(&mut self, work: &str, unit: &'static str, samples: &Samples) {
        for side in Side::ALL {
            if !samples[side].is_empty() {
                let summary = Summary::of(&samples[side]);
                self.distributions.push(Distribution {
                    work: work.to_owned(),
                    side,
                    unit,
                    summary,
                });
            }
        }
    }

    /// Something the reader of the tables must know, such as a scene that could not run.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// All of it as Markdown, aligned so that it can be read as it is.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let goals = self.rows.iter().map(|row| {
            let side = |side| row.sides[side].map_or_else(String::new, number);
            vec![
                row.work.clone(),
                row.figure.clone(),
                side(Side::Stock),
                side(Side::Gitd),
                side(Side::Floor),
                row.measured.clone(),
                row.goal.clone(),
                row.reached.to_owned(),
            ]
        });
        let head = ["work", "figure", "git daemon", "gitd", "floor", "measured", "goal", "reached"];
        text.push_str(&table(&head, goals));
        text.push('\n');
        let spreads =
            self.distributions.iter().map(|Distribution { work, side, unit, summary }| {
                let mut cells = vec![
                    work.clone(),
                    side.name().to_owned(),
                    (*unit).to_owned(),
                    summary.count.to_string(),
                ];
                cells.extend(
                    [summary.min, summary.p50, summary.p90, summary.p99, summary.max].map(number),
                );
                cells
            });
        text.push_str(&table(
            &["work", "side", "unit", "samples", "min", "p50", "p90", "p99", "max"],
            spreads,
        ));
        for note in &self.notes {
            let _ = write!(text, "\n- {note}");
        }
        text
    }
}

/// The median of each side that has samples.
pub(crate) fn medians(samples: &Samples) -> PerSide<Option<f64>> {
    let mut medians = PerSide::default();
    for side in Side::ALL {
        medians[side] = (!samples[side].is_empty()).then(|| median(&samples[side]));
    }
    medians
}

/// Three significant digits, and none that cannot be measured.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let rows: Vec<Vec<String>> = rows.collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            rows.iter()
                .chain([&head])
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or_default()
        })
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule = widths.iter().map(|&width| "-".repeat(width)).collect::<Vec<_>>();
    [&head, &rule].into_iter().chain(&rows).map(line).collect()
}
