//! Figures: loss curves, accuracies under corruption with their intervals, the map of functions, sweeps.
//!
//! Written by hand, so that the same sessions always give the same bytes. Every network has its shape and its color on
//! all figures; the shape alone suffices to tell it apart.

use super::{Chapter, Format, Report};
use crate::state::counted;
use canvas::Canvas;

mod axis;
mod bars;
mod canvas;
mod loss;
mod map;
mod sweep;

/// Widths and heights in pixels.
const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;

pub(super) fn render(report: &Report<'_>) -> String {
    let command = report.command(Format::Svg);
    let mut canvas = Canvas::default();
    let mut y = MARGIN;
    for chapter in &report.chapters {
        y = draw_chapter(chapter, &mut canvas, y);
    }
    canvas.text(MARGIN, y, "small", "start", &format!("$ {command}"));
    let about: Vec<String> = report
        .chapters
        .iter()
        .map(|chapter| format!("{} sha256:{}", chapter.name, chapter.digest))
        .collect();
    canvas.finish(
        WIDTH,
        y + MARGIN,
        &format!("{}; {command}", about.join(", ")),
    )
}

fn draw_chapter(chapter: &Chapter<'_>, canvas: &mut Canvas, top: f64) -> f64 {
    canvas.text(MARGIN, top + 8.0, "title", "start", &chapter.header.title());
    let header = chapter.header;
    let origin = format!(
        "{}, SHA-256 {}, shrinklab {} at commit {}, {}, {}",
        chapter.name,
        chapter.digest,
        header.app,
        header.commit,
        counted(u64::from(header.threads), "thread"),
        header.device
    );
    canvas.text(MARGIN, top + 28.0, "small", "start", &origin);
    let mut y = top + 52.0;
    let begin = y;
    for draw in [loss::draw, bars::draw, map::draw] {
        y = draw(&chapter.state, canvas, y);
    }
    y = sweep::draw(&chapter.state, &header.catalog, canvas, y);
    if y == begin {
        canvas.text(
            MARGIN,
            y,
            "label",
            "start",
            "Nothing has been trained or measured yet.",
        );
        y += 28.0;
    }
    y
}
