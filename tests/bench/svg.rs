//! Bar charts as plain SVG, readable on a light and on a dark page.

use std::fmt::Write;

use crate::report::number;
use crate::rounds::PerSide;
use crate::server::Side;

const WIDTH: f64 = 720.0;
const LABELS: f64 = 190.0;
const VALUES: f64 = 70.0;
const BAR: f64 = 16.0;
const GAP: f64 = 12.0;
const TOP: f64 = 58.0;

/// Groups of horizontal bars, one bar a side, all on one scale that begins at zero.
pub(crate) struct Chart {
    /// Of the file in docs/, without its extension.
    pub(crate) name: &'static str,
    pub(crate) title: String,
    pub(crate) groups: Vec<(String, PerSide<Option<f64>>)>,
}

impl Chart {
    pub(crate) fn svg(&self) -> String {
        let values = || {
            self.groups.iter().flat_map(|(_, sides)| Side::ALL.map(|side| sides[side])).flatten()
        };
        let scale = (WIDTH - LABELS - VALUES) / values().fold(f64::MIN_POSITIVE, f64::max);
        let height = TOP + values().count() as f64 * BAR + self.groups.len() as f64 * GAP;
        let mut body = String::new();
        let mut top = TOP;
        for (label, sides) in &self.groups {
            let bars = Side::ALL.iter().filter(|&&side| sides[side].is_some()).count() as f64;
            text(&mut body, LABELS - 10.0, top + bars * BAR / 2.0 + 4.0, "end", label);
            for side in Side::ALL {
                let Some(value) = sides[side] else { continue };
                let width = (value * scale).max(1.0);
                let fill = colour(side);
                let bar = BAR - 2.0;
                let _ = writeln!(
                    body,
                    r#"<rect x="{LABELS}" y="{top}" width="{width:.1}" height="{bar}" fill="{fill}"/>"#
                );
                text(&mut body, LABELS + width + 6.0, top + 11.0, "start", &number(value));
                top += BAR;
            }
            top += GAP;
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<title>{title}</title>\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
             <text x=\"12\" y=\"22\" font-size=\"15\" fill=\"#1f2328\">{title}</text>\n{legend}{body}</svg>\n",
            title = escaped(&self.title),
            legend = self.legend(),
        )
    }

    fn legend(&self) -> String {
        let mut legend = String::new();
        let mut left = LABELS;
        for side in Side::ALL {
            if self.groups.iter().any(|(_, sides)| sides[side].is_some()) {
                let fill = colour(side);
                let _ = writeln!(
                    legend,
                    r#"<rect x="{left}" y="34" width="11" height="11" fill="{fill}"/>"#
                );
                text(&mut legend, left + 17.0, 44.0, "start", side.name());
                left += 110.0;
            }
        }
        legend
    }
}

fn colour(side: Side) -> &'static str {
    match side {
        Side::Stock => "#8c959f",
        Side::Gitd => "#0969da",
        Side::Floor => "#bf8700",
    }
}

fn text(body: &mut String, x: f64, y: f64, anchor: &str, content: &str) {
    let content = escaped(content);
    let _ = writeln!(
        body,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#1f2328\">{content}</text>"
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
