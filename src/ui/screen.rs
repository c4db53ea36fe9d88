//! The screens, and how they share the terminal.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::pen::Pen;
use super::popup;
use super::scene::Scene;
use super::view::{Screen, View};

pub mod corruption;
pub mod experiment;
pub mod function;
pub mod gallery;
pub mod knob;
pub mod live;
pub mod loss;
pub mod network;
pub mod numbers;
pub mod robustness;
pub mod sessions;
pub mod sweep;
pub mod table;

/// Below this nothing can be read.
pub const LEAST: (u16, u16) = (40, 12);

/// Draws everything on a part of a buffer.
pub fn paint(scene: &Scene<'_>, view: &View, area: Rect, buffer: &mut Buffer) {
    let mut pen = Pen::new(area, buffer);
    let theme = scene.theme();
    if pen.width() < LEAST.0 || pen.height() < LEAST.1 {
        let middle = pen.height() / 2;
        let size = format!("{} x {}", pen.width(), pen.height());
        pen.put_center(
            middle.saturating_sub(1),
            "shrinklab needs 40 x 12",
            theme.text(),
        );
        if pen.height() > 1 {
            pen.put_center(middle.max(1), &format!("here are {size}"), theme.dim());
        }
        return;
    }
    match view.screen {
        Screen::Study => experiment::draw(&mut pen, scene, view),
        Screen::Live => live::draw(&mut pen, scene, view),
        Screen::Table => table::draw(&mut pen, scene, view),
        Screen::Sessions => sessions::draw(&mut pen, scene, view),
        Screen::Sweep => sweep::draw(&mut pen, scene, view),
        Screen::Network => network::draw(&mut pen, scene, view),
        Screen::Robustness => robustness::draw(&mut pen, scene, view),
        Screen::Gallery => gallery::draw(&mut pen, scene, view),
    }
    popup::draw(&mut pen, scene, view);
}
