//! The screen: it draws facts and computes none. No candle, no files, no clock.
//!
//! ```text
//!   key ──► View::update ──► Request ──► app
//!               │
//!   facts ──► Scene ──► draw ──► buffer ──► terminal | text | svg
//! ```
//!
//! [`scene::Scene`] holds what is shown, [`view::View`] where the user looks, [`draw`] is a pure function of both.
//! Each shape has a widget, each screen a file; keys, footer, help and palette come from one table ([`keymap`]).

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::event::Outcome;
use crate::state::State;

pub mod command_line;
mod encode;
pub mod export;
pub mod figure;
pub mod form;
mod fuzzy;
pub mod input;
pub mod keymap;
pub mod pen;
pub mod popup;
pub mod scene;
pub mod screen;
pub mod terminal;
pub mod text;
pub mod theme;
pub mod view;
pub mod widget;
mod writer;

pub use scene::{GpuUse, Presence, Scene, SessionRow};
pub use view::{Request, Screen, Seek, View};

/// Draws the whole screen. Never fails, whatever the size.
pub fn draw(scene: &Scene<'_>, view: &View, frame: &mut Frame<'_>) {
    let area = frame.area();
    paint(scene, view, area, frame.buffer_mut());
}

/// The same on a buffer of one's own.
pub fn paint(scene: &Scene<'_>, view: &View, area: Rect, buffer: &mut Buffer) {
    screen::paint(scene, view, area, buffer);
}

/// The screen of a size, as a buffer: for text and pictures.
pub fn picture(scene: &Scene<'_>, view: &View, width: u16, height: u16) -> Buffer {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    paint(scene, view, area, &mut buffer);
    buffer
}

/// The window's title: how far the study is.
pub fn title(state: &State) -> String {
    let Some(study) = &state.study else {
        return "shrinklab".to_owned();
    };
    let what = study.references.first().map_or(String::new(), |reference| {
        format!(" {} {}", reference.dataset.id, reference.architecture.id)
    });
    let progress = match &state.outcome {
        Some(Outcome::Completed) => "done".to_owned(),
        Some(Outcome::Cancelled) => "stopped".to_owned(),
        Some(Outcome::Failed { .. }) => "failed".to_owned(),
        None => {
            let count = state.networks.len().max(1) as f64;
            let share: f64 = state.networks.iter().map(|network| network.share()).sum();
            format!("{:.0} %", 100.0 * share / count)
        }
    };
    text::clean(&format!("{progress} · shrinklab{what}"))
}
