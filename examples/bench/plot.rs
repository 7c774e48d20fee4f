//! The lines that have a floor as bars, in SVG: the floor is one line for all, the goal a mark on each.

use std::fmt::Write;
use std::io;
use std::path::PathBuf;

use crate::aim::{Aim, Verdict};
use crate::table::Row;

/// Where the floor is, and how far bars go, in pixels: to twice and a half the floor.
const FLOOR_X: f64 = 600.0;
const UNIT: f64 = 120.0;
const MOST: f64 = 2.5;
const LEFT: f64 = FLOOR_X - UNIT;
const RIGHT: f64 = LEFT + MOST * UNIT;
const WIDTH: f64 = RIGHT + 10.0;

/// Of a line: its words above, its bar below.
const LINE: f64 = 34.0;
const TOP: f64 = 56.0;

/// Writes `bench.svg` beside the benchmark's source; gives where.
pub(crate) fn write(rows: &[Row], conditions: &str) -> io::Result<PathBuf> {
    // Cargo says where the package is; run by hand, it is here.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| ".".into());
    let path = PathBuf::from(package).join("examples/bench.svg");
    std::fs::write(&path, picture(rows, conditions))?;
    Ok(path)
}

fn picture(rows: &[Row], conditions: &str) -> String {
    let reached = rows
        .iter()
        .filter_map(|row| Some((row.measured(), row.reached()?)));
    let lines: Vec<_> = reached.collect();
    let height = TOP + LINE * lines.len() as f64 + 10.0;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
<text x="10" y="18" font-size="14" font-weight="bold">Figures in terms of their floors: right of the line is met, the mark is the goal</text>
<text x="10" y="36" font-size="10" fill="#666">{}</text>
"##,
        escaped(conditions)
    );
    for (number, (measured, (aim, figure, text))) in lines.iter().enumerate() {
        let y = TOP + LINE * number as f64;
        svg += &line(y, measured, aim, *figure, text);
    }
    // Writing to a string does not fail.
    let _ = writeln!(
        svg,
        r##"<line x1="{FLOOR_X}" y1="{}" x2="{FLOOR_X}" y2="{}" stroke="#000"/>
</svg>"##,
        TOP - 8.0,
        height - 6.0
    );
    svg
}

fn line(y: f64, measured: &str, aim: &Aim, figure: f64, text: &str) -> String {
    let colour = match aim.verdict(figure) {
        Verdict::Missed | Verdict::Unknown => "#c8553d",
        Verdict::Floor => "#8fb996",
        Verdict::Met => "#3a7d44",
    };
    let (bar, end) = (y + 2.0, x(aim.share(figure)));
    let mut svg = format!(
        r##"<text x="10" y="{}">{}</text>
<text x="10" y="{}" font-size="10" fill="#666">{}</text>
<rect x="{LEFT}" y="{bar}" width="{:.1}" height="16" fill="{colour}"/>
"##,
        y + 8.0,
        escaped(measured),
        y + 21.0,
        escaped(text),
        end - LEFT,
    );
    if let Some(goal) = aim.goal_share() {
        let goal = x(goal);
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            r##"<line x1="{goal:.1}" y1="{}" x2="{goal:.1}" y2="{}" stroke="#333" stroke-dasharray="2 2"/>"##,
            bar - 3.0,
            bar + 19.0
        );
    }
    svg
}

/// What is beyond all measure ends at the edge; what is none at all, at the other.
fn x(share: f64) -> f64 {
    let share = if share.is_nan() { 0.0 } else { share };
    LEFT + share.clamp(0.0, MOST) * UNIT
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
