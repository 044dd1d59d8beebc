//! Small line plots as SVG, two beside each other, to be read on light and dark ground.

use std::fmt::Write;

/// One plot. Its horizontal axis is logarithmic.
pub struct Panel {
    pub title: &'static str,
    pub x_label: &'static str,
    /// The unit of what is plotted.
    pub y_label: &'static str,
    pub scale: Scale,
    pub curves: Vec<Curve>,
}

/// Points in ascending order, `[x, y]`, both above 0. A panel with several curves names them.
pub struct Curve {
    pub label: &'static str,
    pub points: Vec<[f64; 2]>,
}

/// A vertical axis.
#[derive(Debug, Clone, Copy)]
pub enum Scale {
    /// Powers of ten, with a dashed line that is proportional to x.
    Logarithmic,
    /// From 0 to `top`, or further where a point lies higher.
    FromZero { top: f64 },
}

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 50.0;
const COLUMNS: usize = 2;

/// Colours that stand out from white (at least 4.5 : 1) as from GitHub's dark ground; text and lines follow the reader's scheme.
const STYLE: &str = "text{font:12px sans-serif;fill:#1f2328}.title{font-size:14px;font-weight:600}.grid{stroke:#d1d9e0}\
    .guide{stroke:#6e7781;stroke-dasharray:4 4}.c0{stroke:#0969da}.c1{stroke:#bc4c00}text.c0{stroke:none;fill:#0969da}\
    text.c1{stroke:none;fill:#bc4c00}polyline{fill:none;stroke-width:2}@media(prefers-color-scheme:dark){text{fill:#e6edf3}\
    .grid{stroke:#3d444d}.guide{stroke:#9198a1}.c0{stroke:#58a6ff}.c1{stroke:#f0883e}text.c0{fill:#58a6ff}text.c1{fill:#f0883e}}";

/// Panels row by row, as one picture.
pub fn svg(panels: &[Panel]) -> String {
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * panels.len().div_ceil(COLUMNS) as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <style>{STYLE}</style>\n"
    );
    for (place, panel) in panels.iter().enumerate() {
        let (column, row) = ((place % COLUMNS) as f64, (place / COLUMNS) as f64);
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
        LEFT + along(value.log10(), left.log10(), right.log10().max(left.log10() + 0.1), WIDTH - LEFT - RIGHT)
    };
    let (bottom, top, ticks) = vertical(panel.scale, lowest, highest);
    let position = |value: f64| if let Scale::Logarithmic = panel.scale { value.log10() } else { value };
    let y = |value: f64| HEIGHT - BOTTOM - along(position(value), bottom, top, HEIGHT - TOP - BOTTOM);

    let mut out = String::new();
    let mut text = |class: &str, x: f64, y: f64, anchor: &str, text: &str| {
        let _ =
            writeln!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
    };
    text("title", LEFT, 20.0, "start", panel.title);
    text("", (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0, "middle", panel.x_label);
    text("", WIDTH - RIGHT, 20.0, "end", panel.y_label);
    ticks.iter().for_each(|tick| text("", LEFT - 6.0, y(*tick) + 4.0, "end", &number(*tick)));
    for point in &panel.curves[0].points {
        text("", x(point[0]), HEIGHT - BOTTOM + 18.0, "middle", &number(point[0]));
    }
    for (place, curve) in panel.curves.iter().enumerate() {
        text(&format!("c{place}"), LEFT + 8.0, TOP + 14.0 + 16.0 * place as f64, "start", curve.label);
    }
    for tick in &ticks {
        let _ = writeln!(out, "<path class=\"grid\" d=\"M{LEFT} {0:.1}H{1}\"/>", y(*tick), WIDTH - RIGHT);
    }
    if let (Scale::Logarithmic, Some([at, value])) = (panel.scale, panel.curves[0].points.last()) {
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
    let text = value.to_string();
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
