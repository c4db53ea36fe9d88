//! The line of keys that work here now.

use super::super::keymap::{self, Action, Layer, Source};
use super::super::pen::Pen;
use super::super::popup;
use super::super::scene::Scene;
use super::super::screen::knob;
use super::super::screen::live::Panel;
use super::super::text;
use super::super::theme::Theme;
use super::super::view::View;

/// What stands first while a lab is attached.
const URGENT: [Action; 7] = [
    Action::Warnings,
    Action::AddBranch,
    Action::Stop,
    Action::NextPanel,
    Action::FullScreen,
    Action::Note,
    Action::PauseTraining,
];

/// The words of keys that only the chart of sweeps, or the list of layers, has.
const OWN: [&str; 10] = [
    "keep",
    "method",
    "axis",
    "quantity",
    "sensitivity",
    "all layers",
    "condition",
    "all attacks",
    "severities",
    "seeds",
];

/// Whether a key does anything now.
fn makes_sense(action: Action, scene: &Scene<'_>, view: &View) -> bool {
    match action {
        Action::PauseTraining | Action::Stop | Action::Freeze => {
            scene.source() != Source::Lab || scene.state().is_running()
        }
        Action::Keep | Action::KnobMethod | Action::Sense => knob::turns(scene),
        Action::Warnings => !popup::warnings(scene).is_empty(),
        // Where it turns what has the keys.
        Action::Spread => view.panel == Panel::Corruption,
        Action::OverSeeds => scene.is_repeated(),
        _ => true,
    }
}

/// Draws the footer: what went wrong with the last key, what the program has to say, or the keys.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View, theme: Theme) {
    if let Some(hint) = &view.hint {
        pen.run(1, 0, &[("✗ ", theme.error()), (hint, theme.error())]);
        return;
    }
    if let Some(message) = scene.message {
        pen.put(1, 0, message, theme.accent());
        return;
    }
    let layer = view.layer();
    let is_always = |action: Action| {
        matches!(
            action,
            Action::Palette | Action::Help | Action::Back | Action::Quit
        )
    };
    let mut at_hand = keymap::at_hand(layer, scene.source());
    if scene.source() == Source::Lab {
        // What one does with a study at work stands before what turns the picture.
        let place = |action| URGENT.iter().position(|urgent| *urgent == action);
        at_hand.sort_by_key(|binding| place(binding.action).unwrap_or(URGENT.len()));
    }
    let is_paused = scene.state().is_paused || scene.pausing;
    let mut words: Vec<(String, &str, bool)> = at_hand
        .into_iter()
        .filter(|binding| !binding.footer.is_empty() && makes_sense(binding.action, scene, view))
        // Walking through the log is what one does with a recording; a lab has more urgent keys.
        .filter(|binding| !(binding.footer.contains('|') && scene.source() == Source::Lab))
        .map(|binding| {
            // Two keys that belong together stand before a bar: `, .|step`.
            let (key, word) = match binding.footer.split_once('|') {
                Some((keys, word)) => (keys.to_owned(), word),
                None => (binding.keys[0].to_string(), binding.footer),
            };
            let word = if binding.action == Action::PauseTraining && is_paused {
                "resume"
            } else {
                word
            };
            (key, word, is_always(binding.action))
        })
        .collect();
    let walks = |word: &str| matches!(word, "play" | "step" | "stage" | "note" | "speed");
    if scene.source() == Source::Recording {
        words.sort_by_key(|(_, word, _)| !walks(word));
    }
    // What a screen alone can do stands before what every screen can.
    let looks = matches!(layer, Layer::Robustness | Layer::Gallery);
    let is_own = |word: &str| {
        OWN.contains(&word) || looks && matches!(word, "panel" | "focus" | "candidate")
    };
    words.sort_by_key(|(_, word, _)| !is_own(word));
    if layer == Layer::Gallery {
        words.insert(0, ("↑ ↓".to_owned(), "image", true));
    }
    if layer == Layer::Sweep && knob::turns(scene) {
        words.insert(0, ("← →".to_owned(), "knob", true));
    }
    let width = |words: &[(String, &str, bool)]| -> usize {
        words
            .iter()
            .map(|(key, word, _)| text::width(key) + 1 + text::width(word) + 2)
            .sum()
    };
    // What is always there stays; of the rest, the last go first.
    while width(&words) > usize::from(pen.width()) + 1 {
        match words.iter().rposition(|(_, _, always)| !always) {
            Some(last) => words.remove(last),
            None => break,
        };
    }
    let mut x = 1;
    for (key, word, _) in &words {
        x = pen.run(
            x,
            0,
            &[
                (key, theme.key()),
                (" ", theme.text()),
                (word, theme.dim()),
                ("  ", theme.text()),
            ],
        );
    }
}
