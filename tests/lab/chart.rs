//! Throughput over time as plain SVG: one panel a daemon, the links' shares stacked, readable on a light and a dark page.

use std::fmt::Write;
use std::time::Duration;

use crate::lab::Sample;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 20.0;
const PANEL: f64 = 130.0;
const TOP: f64 = 78.0;
const GAP: f64 = 52.0;
/// Mbit/s at a panel's upper edge.
const FULL: f64 = 110.0;
/// One point of a curve.
const STEP: Duration = Duration::from_millis(100);

const COLOURS: [&str; 2] = ["#0969da", "#bf8700"];
const INK: &str = "#1f2328";
const PALE: &str = "#d0d7de";
const ALARM: &str = "#cf222e";

/// What one daemon did.
#[derive(Debug)]
pub struct Panel {
    pub title: String,
    pub samples: Vec<Sample>,
    /// None: it had not when the drawing ends.
    pub finished: Option<Duration>,
    /// How much of the pack had arrived.
    pub share: f64,
}

/// The panels one below the other on one axis of time.
pub fn draw_panels(panels: &[Panel], end: Duration, lost_at: Duration) -> String {
    let height = TOP + panels.len() as f64 * (PANEL + GAP) + 6.0;
    let mut body = String::new();
    for (index, panel) in panels.iter().enumerate() {
        let top = TOP + index as f64 * (PANEL + GAP);
        draw_panel(&mut body, panel, top, end);
        let x = across(lost_at, end);
        let _ = writeln!(
            body,
            r#"<line x1="{x:.1}" y1="{}" x2="{x:.1}" y2="{}" stroke="{ALARM}" stroke-dasharray="4 3"/>"#,
            top - 6.0,
            top + PANEL
        );
        text(&mut body, x + 5.0, top + 5.0, "start", ALARM, "link 1 goes silent");
    }
    let title = "One clone over two 50 Mbit/s links, and one of them is lost";
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<title>{title}</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\" fill=\"{INK}\">{title}</text>\n{}{body}</svg>\n",
        legend()
    )
}

fn legend() -> String {
    let mut legend = String::new();
    for (index, colour) in COLOURS.iter().enumerate() {
        let x = LEFT + 90.0 * index as f64;
        let _ =
            writeln!(legend, r#"<rect x="{x}" y="38" width="11" height="11" fill="{colour}"/>"#);
        text(&mut legend, x + 17.0, 48.0, "start", INK, &format!("link {}", index + 1));
    }
    legend
}

fn draw_panel(body: &mut String, panel: &Panel, top: f64, end: Duration) {
    let bottom = top + PANEL;
    for level in [0.0, 50.0, 100.0] {
        let y = bottom - level / FULL * PANEL;
        let _ = writeln!(
            body,
            r#"<line x1="{LEFT}" y1="{y:.1}" x2="{}" y2="{y:.1}" stroke="{PALE}"/>"#,
            WIDTH - RIGHT
        );
        text(body, LEFT - 6.0, y + 4.0, "end", INK, &format!("{level}"));
    }
    text(body, LEFT, top - 10.0, "start", INK, &format!("{} (Mbit/s)", panel.title));
    for second in (0..=end.as_secs()).step_by(2) {
        let at = Duration::from_secs(second);
        text(body, across(at, end), bottom + 16.0, "middle", INK, &format!("{second} s"));
    }
    let rates = rates(&panel.samples, end);
    let mut below = vec![0.0; rates.first().map_or(0, Vec::len)];
    for (link, colour) in rates.iter().zip(COLOURS) {
        let above: Vec<f64> = below.iter().zip(link).map(|(below, rate)| below + rate).collect();
        area(body, &below, &above, bottom, end, colour);
        below = above;
    }
    let (x, ending) = match panel.finished {
        Some(at) => (across(at, end), format!("finished after {:.1} s", at.as_secs_f64())),
        None => (WIDTH - RIGHT, format!("not one byte more: {:.0} % arrived", panel.share * 100.0)),
    };
    text(body, x, top - 10.0, "end", if panel.finished.is_some() { INK } else { ALARM }, &ending);
}

/// Mbit/s of each link in each step, by the bytes that reached the client.
fn rates(samples: &[Sample], end: Duration) -> Vec<Vec<f64>> {
    let links = samples.first().map_or(0, |sample| sample.received.len());
    let steps = end.as_millis() / STEP.as_millis();
    // Looks do not fall on the steps: what lies between two of them is divided.
    let count = |at: Duration, link: usize| {
        let after = samples.iter().position(|sample| sample.at > at).unwrap_or(samples.len() - 1);
        let (last, next) = (&samples[after.saturating_sub(1)], &samples[after]);
        let span = next.at.saturating_sub(last.at).as_secs_f64();
        let part = if span > 0.0 { at.saturating_sub(last.at).as_secs_f64() / span } else { 0.0 };
        let grown = next.received[link].saturating_sub(last.received[link]) as f64;
        last.received[link] as f64 + grown * part.min(1.0)
    };
    let rate = |step: u32, link: usize| {
        let bytes = count(STEP * (step + 1), link) - count(STEP * step, link);
        bytes * 8.0 / STEP.as_secs_f64() / 1e6
    };
    let steps = u32::try_from(steps).unwrap_or(0);
    (0..links).map(|link| (0..steps).map(|step| rate(step, link)).collect()).collect()
}

fn area(body: &mut String, below: &[f64], above: &[f64], bottom: f64, end: Duration, colour: &str) {
    let point = |(step, rate): (usize, &f64)| {
        let at = STEP * u32::try_from(step).unwrap_or(0) + STEP / 2;
        format!("{:.1},{:.1}", across(at, end), bottom - rate.min(FULL) / FULL * PANEL)
    };
    let there = above.iter().enumerate().map(point);
    let back = below.iter().enumerate().rev().map(point);
    let points: Vec<String> = there.chain(back).collect();
    let _ = writeln!(
        body,
        r#"<polygon points="{}" fill="{colour}" fill-opacity="0.85"/>"#,
        points.join(" ")
    );
}

fn across(at: Duration, end: Duration) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * at.as_secs_f64() / end.as_secs_f64()
}

fn text(body: &mut String, x: f64, y: f64, anchor: &str, fill: &str, content: &str) {
    let _ = writeln!(
        body,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="{fill}">{content}</text>"#
    );
}
