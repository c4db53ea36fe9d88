//! Layers.

use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::view::View;

/// Lines that can be scrolled through.
pub fn rows(_scene: &Scene<'_>, _view: &View) -> usize {
    1
}

/// Draws the screen.
pub fn draw(_pen: &mut Pen<'_>, _scene: &Scene<'_>, _view: &View) {}
