//! What networks stand up to beside corruptions: attacks, other domains, and whether the attacks can be trusted.
//!
//! ```text
//! ╭ Attacks: pgd ────────────── n 200 ╮╭ Gradients ─────────────────────────╮
//! │ accuracy over the budget          ││ masked, not masked, and why        │
//! ╰───────────────────────────────────╯╰────────────────────────────────────╯
//! ╭ Domains ──────────────────────────╮╭ Transfer ──────────────────────────╮
//! │ trained on one, asked of others   ││ made against one, asked of another │
//! ╰───────────────────────────────────╯╰────────────────────────────────────╯
//! ```

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::gallery::empty;
use super::live;
use crate::spec::Study;
use crate::state::Mode;
use crate::ui::keymap::Source;
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::theme::Theme;
use crate::ui::view::View;
use crate::ui::widget::{footer, frame, transport, tree};

pub mod attacks;
pub mod domains;
pub mod gradients;
pub mod transfer;

/// A panel of the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Panel {
    #[default]
    Attacks,
    Gradients,
    Domains,
    Transfer,
}

impl Panel {
    /// All of them with the names that `replay --screen` takes, from top left to bottom right.
    pub const ALL: [(&'static str, Self); 4] = [
        ("attacks", Self::Attacks),
        ("gradients", Self::Gradients),
        ("domains", Self::Domains),
        ("transfer", Self::Transfer),
    ];
}

/// How the user looks at the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RobustnessView {
    pub panel: Panel,
    /// The attack that was chosen, by its condition; the first that was measured otherwise.
    pub attack: Option<String>,
    /// All attacks of the candidate in one picture instead of one attack of candidate and reference.
    pub all_attacks: bool,
}

/// From this size on all four panels are shown.
const FOUR: (u16, u16) = (76, 20);

/// Where the panels are; only the one with the keys where there is no room for more.
pub fn places(area: Rect, view: &View) -> Vec<(Panel, Rect)> {
    let inner = Rect {
        y: area.y + 1,
        height: area.height.saturating_sub(3),
        ..area
    };
    if view.is_full || area.width < FOUR.0 || area.height < FOUR.1 {
        return vec![(view.robustness.panel, inner)];
    }
    let left = inner.width.div_ceil(2);
    // Curves need more lines than matrices.
    let upper = (inner.height * 16).div_ceil(27);
    let at = |x: u16, y: u16, width: u16, height: u16| Rect {
        x: inner.x + x,
        y: inner.y + y,
        width,
        height,
    };
    let (right, lower) = (inner.width - left, inner.height - upper);
    vec![
        (Panel::Attacks, at(0, 0, left, upper)),
        (Panel::Gradients, at(left, 0, right, upper)),
        (Panel::Domains, at(0, upper, left, lower)),
        (Panel::Transfer, at(left, upper, right, lower)),
    ]
}

/// Draws the screen.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let (width, height) = (pen.width(), pen.height());
    let question = live::question(scene, scene.candidate(view));
    let words = format!("robustness   {question}");
    let room = usize::from(width).saturating_sub(2);
    pen.put(1, 0, &text::fit(&words, room), theme.title());
    for (panel, place) in places(Rect::new(0, 0, width, height), view) {
        let mut part = pen.part(place.x, place.y, place.width, place.height);
        draw_panel(&mut part, panel, scene, view);
    }
    let mut line = pen.part(0, height - 2, width, 1);
    let follows = scene.timeline.mode() == Mode::Following;
    if scene.source() == Source::Lab && follows || scene.state().study.is_none() {
        tree::draw(&mut line, scene, theme);
    } else {
        transport::draw(&mut line, scene, theme);
    }
    footer::draw(&mut pen.part(0, height - 1, width, 1), scene, view, theme);
}

fn draw_panel(pen: &mut Pen<'_>, panel: Panel, scene: &Scene<'_>, view: &View) {
    let (title, note) = match panel {
        Panel::Attacks => attacks::heading(scene, view),
        Panel::Gradients => ("Do gradients tell the truth?".to_owned(), String::new()),
        Panel::Domains => ("Other domains".to_owned(), domains::note(scene, view)),
        Panel::Transfer => (
            "Made against, asked of".to_owned(),
            transfer::note(scene, view),
        ),
    };
    let has_keys = view.robustness.panel == panel && view.popups.is_empty();
    let mut inside = frame::frame(pen, &title, &note, has_keys, scene.theme());
    if inside.width() < 12 || inside.height() < 2 {
        return;
    }
    // Only the panel with the keys is scrolled.
    let scroll = if has_keys { view.scroll } else { 0 };
    let drawn = match panel {
        Panel::Attacks => attacks::draw(&mut inside, scene, view, scroll),
        Panel::Gradients => gradients::draw(&mut inside, scene, view, scroll),
        Panel::Domains => domains::draw(&mut inside, scene, view, scroll),
        Panel::Transfer => transfer::draw(&mut inside, scene, view, scroll),
    };
    if !drawn {
        empty(&mut inside, scene, &waiting(panel, scene));
    }
}

/// Why a panel is empty, and what would fill it.
fn waiting(panel: Panel, scene: &Scene<'_>) -> String {
    let state = scene.state();
    let Some(study) = &state.study else {
        return "no study yet: 1 makes one, o opens a saved one".to_owned();
    };
    let (is_asked, flag) = match panel {
        Panel::Domains => (!study.suite.domains.is_empty(), "--domains all"),
        _ => (!study.suite.attacks.is_empty(), "--attacks pgd"),
    };
    let probe = match panel {
        Panel::Attacks => "adversarial-accuracy",
        Panel::Gradients => "gradient-masking",
        Panel::Domains => domains::PROBE,
        Panel::Transfer => "transfer",
    };
    if is_asked && let Some(words) = left_out(study, probe) {
        return words;
    }
    if is_asked && state.is_running() {
        return "waits for the first measured network".to_owned();
    }
    let what = match panel {
        Panel::Attacks => "nothing was attacked",
        Panel::Gradients => "no gradients were judged",
        Panel::Domains => "no other domain was asked",
        Panel::Transfer => "no attack was asked of another network",
    };
    format!("{what}: {flag} does it, or the row in the form (1)")
}

/// Where a study names its probes and this one is none of them.
pub(super) fn left_out(study: &Study, probe: &str) -> Option<String> {
    let named = &study.suite.probes;
    let is_named = named.is_empty() || named.iter().any(|method| method.id == probe);
    (!is_named).then(|| format!("this study names its probes, and {probe} is none of them"))
}

/// What to do about columns that do not fit.
fn further(columns: usize, view: &View) -> String {
    if view.is_full {
        format!("→ {columns} more where the terminal is wider")
    } else {
        format!("→ {columns} more in full (f)")
    }
}

/// Within noise a difference is grey, whatever its sign.
fn difference_style(value: f64, within_noise: Option<bool>, theme: Theme) -> Style {
    match within_noise {
        Some(true) => theme.dim(),
        _ if value < 0.0 => theme.bad(),
        _ if value > 0.0 => theme.good(),
        _ => theme.dim(),
    }
}
