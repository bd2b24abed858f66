//! A bench's figures as a drawing: one panel a kind, a point a figure, in SVG 1.1.

use std::fmt::Write;

use super::plan::Point;
use super::report::Report;

/// Of a panel with its labels.
const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 260.0;
/// Around a panel's plot: left, top, right, bottom.
const MARGINS: [f64; 4] = [56.0, 40.0, 16.0, 40.0];
/// Above all panels.
const TITLE: f64 = 36.0;
/// Lines across a panel.
const N_GRID: usize = 4;

/// One kind of figure.
struct Panel {
    title: &'static str,
    x_label: &'static str,
    /// Abscissas in ascending order, and tokens a second.
    points: Vec<(usize, f64)>,
}

/// The drawing.
pub(super) fn svg(report: &Report) -> String {
    let panels = [
        Panel {
            title: "prefill",
            x_label: "tokens of the prompt",
            points: report.medians(|point| matches!(point, Point::Prefill(_))),
        },
        Panel {
            title: "decode, all sequences together",
            x_label: "sequences",
            points: report.medians(|point| matches!(point, Point::Decode(_))),
        },
        Panel {
            title: "decode of one sequence",
            x_label: "tokens before",
            points: report.medians(|point| matches!(point, Point::Context(_))),
        },
    ];
    drawn(&report.title(), &panels)
}

fn drawn(title: &str, panels: &[Panel]) -> String {
    let panels: Vec<&Panel> = panels
        .iter()
        .filter(|panel| !panel.points.is_empty())
        .collect();
    let (width, height) = (WIDTH * panels.len().max(1) as f64, TITLE + HEIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    text(
        &mut svg,
        (12.0, 24.0),
        "start",
        &format!("{title}: tokens a second"),
    );
    for (panel_idx, panel) in panels.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<g transform=\"translate({} {TITLE})\">",
            WIDTH * panel_idx as f64
        );
        draw_panel(&mut svg, panel);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// Abscissas are evenly spaced, in their order; ordinates begin at zero.
fn draw_panel(svg: &mut String, panel: &Panel) {
    let [left, top, right, bottom] = MARGINS;
    let (plot_width, plot_height) = (WIDTH - left - right, HEIGHT - top - bottom);
    let largest = panel.points.iter().map(|point| point.1).fold(0.0, f64::max);
    let step = round_step(largest / N_GRID as f64);
    let n_steps = (largest / step).ceil().max(1.0);
    let y_of = |speed: f64| top + plot_height * (1.0 - speed / (step * n_steps));
    let x_of = |i: usize| left + plot_width * (i as f64 + 0.5) / panel.points.len() as f64;
    text(svg, (left, top - 14.0), "start", panel.title);
    text(
        svg,
        (left + plot_width / 2.0, HEIGHT - 8.0),
        "middle",
        panel.x_label,
    );
    for line in 0..=n_steps as usize {
        let speed = step * line as f64;
        let y = y_of(speed);
        let end = left + plot_width;
        let _ = writeln!(svg, "<path d=\"M{left} {y:.1}H{end}\" stroke=\"#ddd\"/>");
        text(svg, (left - 6.0, y + 4.0), "end", &speed.to_string());
    }
    let mut path = String::new();
    for (i, (x, speed)) in panel.points.iter().enumerate() {
        let (at_x, at_y) = (x_of(i), y_of(*speed));
        let _ = write!(
            path,
            "{}{at_x:.1} {at_y:.1}",
            if i == 0 { "M" } else { "L" }
        );
        let _ = writeln!(
            svg,
            "<circle cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"3\" fill=\"#1f6fb4\"/>"
        );
        text(svg, (at_x, at_y - 7.0), "middle", &format!("{speed:.0}"));
        text(
            svg,
            (at_x, top + plot_height + 16.0),
            "middle",
            &x.to_string(),
        );
    }
    let _ = writeln!(
        svg,
        "<path d=\"{path}\" fill=\"none\" stroke=\"#1f6fb4\" stroke-width=\"1.5\"/>"
    );
}

/// The least of 1, 2 and 5 times a power of ten that is not below `least`.
fn round_step(least: f64) -> f64 {
    if !(least > 0.0 && least.is_finite()) {
        return 1.0;
    }
    let power = 10f64.powf(least.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0].into_iter();
    factors
        .map(|factor| factor * power)
        .find(|step| *step >= least)
        .unwrap_or(least)
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

#[cfg(test)]
mod tests;
