//! The mouse: a click gives a panel the keys, the wheel scrolls. It is never needed.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::{Position, Rect};

use crate::ui::keymap::Action;
use crate::ui::scene::Scene;
use crate::ui::screen::{live, robustness};
use crate::ui::view::{Request, Screen, View};

pub(super) fn mouse(
    view: &mut View,
    event: MouseEvent,
    area: Rect,
    scene: &Scene<'_>,
) -> Option<Request> {
    match event.kind {
        MouseEventKind::ScrollUp => view.act(Action::Up, scene),
        MouseEventKind::ScrollDown => view.act(Action::Down, scene),
        MouseEventKind::Down(MouseButton::Left)
            if view.screen == Screen::Live && view.popups.is_empty() && !view.is_full =>
        {
            let at = Position::new(event.column, event.row);
            if let Some((panel, _)) = live::places(area, scene, view)
                .into_iter()
                .find(|(_, place)| place.contains(at))
                && view.panel != panel
            {
                view.panel = panel;
                view.scroll = 0;
            }
            None
        }
        MouseEventKind::Down(MouseButton::Left)
            if view.screen == Screen::Robustness && view.popups.is_empty() && !view.is_full =>
        {
            let at = Position::new(event.column, event.row);
            if let Some((panel, _)) = robustness::places(area, view)
                .into_iter()
                .find(|(_, place)| place.contains(at))
                && view.robustness.panel != panel
            {
                view.robustness.panel = panel;
                view.scroll = 0;
            }
            None
        }
        // In the gallery a click takes the next condition.
        MouseEventKind::Down(MouseButton::Left)
            if view.screen == Screen::Gallery && view.popups.is_empty() =>
        {
            view.act(Action::NextCondition, scene)
        }
        _ => None,
    }
}
