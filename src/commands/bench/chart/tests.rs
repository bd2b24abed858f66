//! What a drawing holds.

use super::*;

fn panel(points: &[(usize, f64)]) -> Panel {
    Panel {
        title: "prefill",
        x_label: "tokens",
        points: points.to_vec(),
    }
}

/// The ordinates of the circles.
fn heights(svg: &str) -> Vec<f64> {
    svg.split("cy=\"")
        .skip(1)
        .map(|rest| {
            rest.split('"')
                .next()
                .expect("a value")
                .parse()
                .expect("a number")
        })
        .collect()
}

#[test]
fn every_figure_is_a_circle_at_its_height() {
    let svg = drawn("m", &[panel(&[(1, 100.0), (2, 50.0), (4, 0.0)])]);
    let heights = heights(&svg);
    let [_, top, _, bottom] = MARGINS;
    assert_eq!(heights.len(), 3);
    assert_eq!(heights[0], top, "the greatest is on the uppermost line");
    assert_eq!(heights[2], HEIGHT - bottom, "zero is on the lowest");
    assert!((heights[1] - (heights[0] + heights[2]) / 2.0).abs() < 0.11);
}

#[test]
fn names_cannot_break_the_drawing() {
    let svg = drawn("<a & b>", &[panel(&[(1, 1.0)])]);
    assert!(svg.contains("&lt;a &amp; b&gt;: tokens a second"), "{svg}");
}

#[test]
fn a_panel_without_figures_is_not_drawn() {
    let svg = drawn("m", &[panel(&[]), panel(&[(1, 1.0)])]);
    assert_eq!(svg.matches("<g ").count(), 1);
    assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
}

#[test]
fn steps_are_round() {
    for (least, step) in [
        (0.3, 0.5),
        (1.0, 1.0),
        (1.2, 2.0),
        (34.0, 50.0),
        (700.0, 1000.0),
    ] {
        assert!((round_step(least) - step).abs() < 1e-9 * step, "{least}");
    }
    assert_eq!(round_step(0.0), 1.0);
}
