//! Writing what was measured into `docs/`: the charts, and the part of `benchmarks.md` between two markers. All around the
//! markers is prose, which stays.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::report::Report;
use crate::{Result, machine};

const BEGIN: &str = "<!-- written by `cargo bench -- --save`: begin -->";
const END: &str = "<!-- written by `cargo bench -- --save`: end -->";

/// Puts the tables of all runs and the charts of the last one in their places.
pub(crate) fn save(reports: &[Report], arguments: &[String]) -> Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let page = docs.join("benchmarks.md");
    let text = fs::read_to_string(&page).map_err(|error| format!("{}: {error}", page.display()))?;
    let (before, rest) = text.split_once(BEGIN).ok_or("benchmarks.md has lost its first marker")?;
    let (_, after) = rest.split_once(END).ok_or("benchmarks.md has lost its second marker")?;
    let mut section = format!("{}\n\n", machine::description(arguments)?);
    let charts = reports.last().map_or(&[][..], |report| &report.charts[..]);
    for chart in charts {
        let file = format!("bench-{}.svg", chart.name);
        fs::write(docs.join(&file), chart.svg())?;
        writeln!(section, "![{}]({file})\n", chart.title)?;
    }
    for (run, report) in reports.iter().enumerate() {
        writeln!(section, "### Run {} of {}\n\n{}", run + 1, reports.len(), report.text())?;
    }
    fs::write(&page, format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", section.trim_end()))?;
    eprintln!("written: {}, charts beside it: {}", page.display(), charts.len());
    Ok(())
}
