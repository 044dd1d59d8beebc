//! Small line plots as SVG, two beside each other, to be read on light and dark ground.
//!
//! Takes numbers and gives text; never touches a file. Labels are written as they are given: they are the program's own.

use std::fmt::Write;

/// One plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Above it.
    pub title: String,
    /// Below it.
    pub x_label: String,
    /// The unit of what is plotted.
    pub y_label: String,
    /// The horizontal axis, from the least to the greatest x.
    pub across: Across,
    /// The vertical axis.
    pub scale: Scale,
    /// One line each.
    pub curves: Vec<Curve>,
}

/// Points in ascending order, `[x, y]`. A panel with several curves names them.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Its name.
    pub label: String,
    /// On a logarithmic axis above 0.
    pub points: Vec<[f64; 2]>,
}

/// A horizontal axis; numbers stand at the points of the first curve, as far as they have room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Across {
    /// Equal factors are equally long.
    Logarithmic,
    /// Equal differences are equally long.
    Linear,
}

/// A vertical axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Powers of ten, with a dashed line that is proportional to x.
    Logarithmic,
    /// From 0 to `top`, or further where a point lies higher.
    FromZero {
        /// The highest number beside the axis.
        top: f64,
    },
}

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 50.0;
const COLUMNS: usize = 2;
/// Numbers along the horizontal axis, at most.
const MARKS: usize = 8;

/// What is the same in all plots; text and lines follow the reader's scheme.
const STYLE: &str = "text{font:12px sans-serif;fill:#1f2328}.title{font-size:14px;font-weight:600}.grid{stroke:#d1d9e0}\
    .guide{stroke:#6e7781;stroke-dasharray:4 4}polyline{fill:none;stroke-width:2}@media(prefers-color-scheme:dark){text{fill:#e6edf3}\
    .grid{stroke:#3d444d}.guide{stroke:#9198a1}}";

/// Colours of the curves on white (at least 4.5 : 1), and on GitHub's dark ground.
const COLOURS: [(&str, &str); 7] = [
    ("#0969da", "#58a6ff"),
    ("#bc4c00", "#f0883e"),
    ("#1a7f37", "#3fb950"),
    ("#8250df", "#bc8cff"),
    ("#cf222e", "#ff7b72"),
    ("#57606a", "#b1bac4"),
    ("#7d4e00", "#d29922"),
];

fn style(curves: usize) -> String {
    let one =
        |place: usize, colour: &str| format!(".c{place}{{stroke:{colour}}}text.c{place}{{stroke:none;fill:{colour}}}");
    let colours = || COLOURS.iter().cycle().take(curves).enumerate();
    let light: String = colours().map(|(place, (light, _))| one(place, light)).collect();
    let dark: String = colours().map(|(place, (_, dark))| one(place, dark)).collect();
    format!("{STYLE}{light}@media(prefers-color-scheme:dark){{{dark}}}")
}

/// Panels row by row, as one picture.
pub fn svg(panels: &[Panel]) -> String {
    let columns = panels.len().clamp(1, COLUMNS);
    let (width, height) = (WIDTH * columns as f64, HEIGHT * panels.len().div_ceil(columns) as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <style>{}</style>\n",
        style(panels.iter().map(|panel| panel.curves.len()).max().unwrap_or(0))
    );
    for (place, panel) in panels.iter().enumerate() {
        let (column, row) = ((place % columns) as f64, (place / columns) as f64);
        svg += &format!("<g transform=\"translate({} {})\">\n{}</g>\n", column * WIDTH, row * HEIGHT, drawn(panel));
    }
    svg + "</svg>\n"
}

/// What a number is on an axis of `length` from `low` to `high`, both as the axis counts them.
fn along(value: f64, low: f64, high: f64, length: f64) -> f64 {
    (value - low) / (high - low) * length
}

fn drawn(panel: &Panel) -> String {
    let points = || panel.curves.iter().flat_map(|curve| &curve.points);
    let span = |axis: usize| {
        points().fold((f64::MAX, f64::MIN), |(low, high), point| (low.min(point[axis]), high.max(point[axis])))
    };
    let ((left, right), (lowest, highest)) = (span(0), span(1));
    let x = |value: f64| {
        let counted = |value: f64| if panel.across == Across::Logarithmic { value.log10() } else { value };
        let (left, right) = (counted(left), counted(right));
        LEFT + along(counted(value), left, right.max(left + 0.1), WIDTH - LEFT - RIGHT)
    };
    let (bottom, top, ticks) = vertical(panel.scale, lowest, highest);
    let position = |value: f64| if let Scale::Logarithmic = panel.scale { value.log10() } else { value };
    let y = |value: f64| HEIGHT - BOTTOM - along(position(value), bottom, top, HEIGHT - TOP - BOTTOM);

    let mut out = String::new();
    let mut text = |class: &str, x: f64, y: f64, anchor: &str, text: &str| {
        let _ =
            writeln!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
    };
    text("title", LEFT, 20.0, "start", &panel.title);
    text("", (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0, "middle", &panel.x_label);
    text("", WIDTH - RIGHT, 20.0, "end", &panel.y_label);
    ticks.iter().for_each(|tick| text("", LEFT - 6.0, y(*tick) + 4.0, "end", &number(*tick)));
    let marks = panel.curves.first().map_or(&[][..], |curve| &curve.points);
    let measured = panel.curves.iter().map(|curve| &curve.points[..]).max_by_key(|points| points.len()).unwrap_or(&[]);
    for point in measured.iter().step_by(measured.len().div_ceil(MARKS).max(1)) {
        text("", x(point[0]), HEIGHT - BOTTOM + 18.0, "middle", &number(point[0]));
    }
    // Where falling curves leave room; rising ones leave it below.
    let rises = panel
        .curves
        .iter()
        .all(|curve| curve.points.first().map(|first| first[1]) <= curve.points.last().map(|last| last[1]));
    let below = panel.across == Across::Linear && rises;
    let first = if below { HEIGHT - BOTTOM - 8.0 - 16.0 * (panel.curves.len() as f64 - 1.0) } else { TOP + 14.0 };
    let (label_x, anchor) = if below { (WIDTH - RIGHT - 8.0, "end") } else { (LEFT + 8.0, "start") };
    for (place, curve) in panel.curves.iter().enumerate() {
        text(&format!("c{place}"), label_x, first + 16.0 * place as f64, anchor, &curve.label);
    }
    for tick in &ticks {
        let _ = writeln!(out, "<path class=\"grid\" d=\"M{LEFT} {0:.1}H{1}\"/>", y(*tick), WIDTH - RIGHT);
    }
    if let (Scale::Logarithmic, Some([at, value])) = (panel.scale, marks.last()) {
        // From where it enters the panel, at the bottom or the left.
        let from = left.max(at * 10f64.powf(bottom) / value);
        let (x, y) = ([x(from), x(*at)], [y(value * from / at), y(*value)]);
        let _ = writeln!(out, "<path class=\"guide\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>", x[0], y[0], x[1], y[1]);
    }
    for (place, curve) in panel.curves.iter().enumerate() {
        let at: Vec<String> =
            curve.points.iter().map(|[at, value]| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
        let _ = writeln!(out, "<polyline class=\"c{place}\" points=\"{}\"/>", at.join(" "));
    }
    out
}

/// The axis's ends, as it counts them, and the numbers written beside it.
fn vertical(scale: Scale, lowest: f64, highest: f64) -> (f64, f64, Vec<f64>) {
    match scale {
        Scale::Logarithmic => {
            let (bottom, top) = (lowest.log10().floor(), highest.log10().ceil());
            let top = top.max(bottom + 1.0);
            (bottom, top, (bottom as i32..=top as i32).map(|exponent| 10f64.powi(exponent)).collect())
        }
        Scale::FromZero { top } => {
            let top = top.max((highest / top).ceil() * top);
            (0.0, top, (0..=4).map(|quarter| top / 4.0 * f64::from(quarter)).collect())
        }
    }
}

/// A number with thousands apart.
fn number(value: f64) -> String {
    // Quarters of an axis are no round numbers in binary.
    let text = ((value * 1e9).round() / 1e9).to_string();
    let whole = text.find('.').unwrap_or(text.len());
    let mut out = String::new();
    for (place, digit) in text.char_indices() {
        if place > 0 && place < whole && (whole - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
