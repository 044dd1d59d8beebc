//! Charts, as SVG that is made on the server: plain functions of numbers. Colours and sizes of letters are the style sheet's, by
//! class; positions are attributes, which the policy of the pages allows. The numbers of a chart are in a table on the same page.

use maud::{Markup, html};

/// Width of every chart, in its own units; a page makes it as wide as there is room.
const WIDTH: f64 = 400.0;

/// Numbers over versions, drawn as a line; `name` is its class too.
pub(super) struct Series<'a> {
    pub name: &'a str,
    /// As many as there are versions.
    pub values: &'a [f64],
}

/// A row of a chart of bars: what it is of, and the parts that lie behind each other.
pub(super) struct Bar {
    pub name: String,
    pub parts: Vec<(&'static str, f64)>,
    /// What is written behind the bar.
    pub note: String,
}

/// Parts of 1 over versions, up to two lines: the first with circles and dashes, the second with squares.
pub(super) fn lines(id: &str, title: &str, versions: &[i64], series: [Series<'_>; 2]) -> Markup {
    const HEIGHT: f64 = 220.0;
    let (left, right, top, bottom) = (56.0, WIDTH - 14.0, 36.0, HEIGHT - 44.0);
    let all = || series.iter().flat_map(|series| series.values).copied();
    let ticks = ticks(all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
    let y = |value: f64| bottom - (value - low) / (high - low) * (bottom - top);
    let x = |index: usize| left + 8.0 + (right - left - 16.0) * index as f64 / (versions.len().max(2) - 1) as f64;
    let path = |values: &[f64]| -> String {
        let point = |(index, value): (usize, &f64)| format!("{:.1},{:.1} ", x(index), y(*value));
        values.iter().enumerate().map(point).collect()
    };
    let shown = versions.len().div_ceil(8);
    let described =
        format!("{} releases, each with its value {} and {}.", versions.len(), series[0].name, series[1].name);
    drawing(
        id,
        title,
        &described,
        HEIGHT,
        html! {
            @for (index, series) in series.iter().enumerate() {
                @let at = left + 110.0 * index as f64;
                (point(index, series.name, at + 6.0, 12.0))
                text x=(at + 18.0) y="16" { (series.name) }
            }
            @for tick in &ticks {
                line.grid x1=(left) x2=(right) y1=(tenth(y(*tick))) y2=(tenth(y(*tick))) {}
                text.number x=(left - 6.0) y=(tenth(y(*tick) + 4.0)) { (format!("{:.0} %", 100.0 * tick)) }
            }
            @for (index, version) in versions.iter().enumerate() {
                @if (versions.len() - 1 - index).is_multiple_of(shown) {
                    text.middle x=(tenth(x(index))) y=(bottom + 18.0) { (version) }
                }
            }
            text.middle x=((left + right) / 2.0) y=(HEIGHT - 4.0) { "version" }
            @for (index, series) in series.iter().enumerate() {
                polyline class={ "line " (series.name) } points=(path(series.values).trim_end()) {}
                @for (place, value) in series.values.iter().enumerate() {
                    (point(index, series.name, x(place), y(*value)))
                }
            }
        },
    )
}

/// A mark of a line, of another form for each.
fn point(index: usize, class: &str, x: f64, y: f64) -> Markup {
    html! {
        @if index == 0 { circle class={ "point " (class) } cx=(tenth(x)) cy=(tenth(y)) r="3" {} }
        @else { rect class={ "point " (class) } x=(tenth(x - 3.0)) y=(tenth(y - 3.0)) width="6" height="6" {} }
    }
}

/// Steps of 5, 10 or 20 percent, from below the lowest value to above the highest; two at least.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let span = high - low;
    let twentieths = if span > 0.5 {
        4
    } else if span > 0.2 {
        2
    } else {
        1
    };
    let step = f64::from(twentieths) / 20.0;
    let first = (low / step).floor().max(0.0) as i32;
    // A bit above the step, so that 0.8 is not taken for a little more than 16 steps.
    let last = ((high / step - 1e-9).ceil() as i32).max(first + 1);
    (first..=last).map(|index| f64::from(index * twentieths) / 20.0).collect()
}

/// Rows of bars whose parts lie behind each other, the longest as wide as there is room.
pub(super) fn bars(id: &str, title: &str, described: &str, rows: &[Bar]) -> Markup {
    const ROW: f64 = 26.0;
    let (left, right) = (64.0, WIDTH - 84.0);
    let length = |row: &Bar| row.parts.iter().map(|(_, size)| size).sum::<f64>();
    let longest = rows.iter().map(length).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let width = |size: f64| (right - left) * size / longest;
    // Where each part begins.
    let placed = |row: &Bar| -> Vec<(&'static str, f64, f64)> {
        let mut begin = left;
        let place = |(class, size): &(&'static str, f64)| {
            let placed = (*class, begin, width(*size));
            begin += width(*size);
            placed
        };
        row.parts.iter().map(place).collect()
    };
    drawing(
        id,
        title,
        described,
        ROW * rows.len() as f64 + 4.0,
        html! {
            @for (index, row) in rows.iter().enumerate() {
                @let top = ROW * index as f64 + 4.0;
                text.number x=(left - 8.0) y=(top + 14.0) { (row.name) }
                @for (class, begin, width) in placed(row) {
                    @if width > 0.0 {
                        rect class={ "bar " (class) } x=(tenth(begin)) y=(top) width=(tenth(width)) height="18" {}
                    }
                }
                text x=(tenth(left + width(length(row)) + 8.0)) y=(top + 14.0) { (row.note) }
            }
        },
    )
}

/// Rows of bars under each other, a name above each group: for what has long names.
pub(super) fn groups(id: &str, title: &str, described: &str, rows: &[Bar]) -> Markup {
    const BAR: f64 = 12.0;
    let (left, right) = (0.0, WIDTH - 64.0);
    let longest = rows.iter().flat_map(|row| &row.parts).map(|(_, size)| *size).fold(f64::MIN_POSITIVE, f64::max);
    let height = |row: &Bar| 22.0 + BAR * row.parts.len() as f64 + 10.0;
    let mut top = 0.0;
    let mut tops = Vec::new();
    for row in rows {
        tops.push(top);
        top += height(row);
    }
    drawing(
        id,
        title,
        described,
        top,
        html! {
            @for (row, top) in rows.iter().zip(&tops) {
                text x=(left) y=(top + 15.0) { (row.name) }
                @for (index, (class, size)) in row.parts.iter().enumerate() {
                    @let y = top + 22.0 + BAR * index as f64;
                    @let width = (right - left) * size / longest;
                    rect class={ "bar " (class) } x=(left) y=(y) width=(tenth(width.max(0.5))) height="10" {}
                    text.small x=(tenth(left + width + 6.0)) y=(y + 9.0) { (format!("{size:.3}")) }
                }
            }
        },
    )
}

/// A tenth of a unit is less than anybody sees, and short to write.
fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn drawing(id: &str, title: &str, described: &str, height: f64, content: Markup) -> Markup {
    html! {
        svg.chart viewBox={ "0 0 " (WIDTH) " " (height) } role="img"
            aria-labelledby={ (id) "-title " (id) "-description" } {
            title id={ (id) "-title" } { (title) }
            desc id={ (id) "-description" } { (described) " The numbers are in the table on this page." }
            (content)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_hold_all_values() {
        assert_eq!(ticks(0.62, 0.8), [0.6, 0.65, 0.7, 0.75, 0.8]);
        assert_eq!(ticks(0.1, 1.0), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(ticks(0.5, 0.5), [0.5, 0.55]);
        assert_eq!(ticks(1.0, 1.0), [1.0, 1.05]);
        assert_eq!(ticks(0.0, 0.0), [0.0, 0.05]);
    }

    /// Bottom is low, right is late.
    #[test]
    fn lines_go_where_the_values_are() {
        let svg = lines(
            "a",
            "A <b>",
            &[3, 4],
            [Series { name: "before", values: &[0.5, 0.5] }, Series { name: "after", values: &[0.5, 1.0] }],
        );
        let svg = svg.into_string();
        assert!(svg.contains(r#"<polyline class="line before" points="64.0,176.0 378.0,176.0">"#), "{svg}");
        assert!(svg.contains(r#"<polyline class="line after" points="64.0,176.0 378.0,36.0">"#), "{svg}");
        assert!(svg.contains("<title id=\"a-title\">A &lt;b&gt;</title>"), "{svg}");
    }

    #[test]
    fn parts_of_a_bar_lie_behind_each_other() {
        let bar = |parts| Bar { name: "x".into(), parts, note: "n".into() };
        let svg = bars("a", "A", "", &[bar(vec![("one", 1.0), ("two", 1.0)]), bar(vec![("one", 0.0), ("two", 1.0)])]);
        let svg = svg.into_string();
        for (class, x, y) in [("one", 64, 4), ("two", 190, 4), ("two", 64, 30)] {
            let rect = format!(r#"<rect class="bar {class}" x="{x}" y="{y}" width="126" height="18">"#);
            assert!(svg.contains(&rect), "{rect}: {svg}");
        }
        assert!(!bars("a", "A", "", &[bar(vec![("one", 0.0)])]).into_string().contains("NaN"));
    }
}
