//! OpenMetrics, which the crate writes, as the older text format of Prometheus, which more programs
//! read. Both name the samples alike; they differ in what is said of a family.

/// Converts what [`prometheus_client::encoding::text::encode`] has written.
pub fn to_prometheus(open: &str) -> String {
    let mut text = String::with_capacity(open.len() + 256);
    // The help comes before the type, which decides about the name.
    let mut help: Option<(&str, &str)> = None;
    for line in open.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, words)) = help.take().filter(|(named, _)| *named == name) {
                text.extend(["# HELP ", name, suffix, " ", words, "\n"]);
            }
            text.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            text.extend([line, "\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_named_as_their_samples() {
        let open = "# HELP a Of a b.\n# TYPE a counter\na_total{x=\"# TYPE\"} 1\n\
                    # HELP b B.\n# TYPE b info\nb_info{v=\"1\"} 1\n\
                    # HELP c_s C.\n# TYPE c_s gauge\n# UNIT c_s s\nc_s 2.5\n# EOF\n";
        let prometheus = "# HELP a_total Of a b.\n# TYPE a_total counter\na_total{x=\"# TYPE\"} 1\n\
                          # HELP b_info B.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n\
                          # HELP c_s C.\n# TYPE c_s gauge\nc_s 2.5\n";
        assert_eq!(to_prometheus(open), prometheus);
    }
}
