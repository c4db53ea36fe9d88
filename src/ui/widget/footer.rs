//! The line of keys that work here now.

use super::super::keymap::{self, Action, Source};
use super::super::pen::Pen;
use super::super::scene::Scene;
use super::super::text;
use super::super::theme::Theme;
use super::super::view::View;

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
    let mut words: Vec<(String, &str, bool)> = keymap::at_hand(layer, scene.source())
        .into_iter()
        .filter(|binding| !binding.footer.is_empty())
        // Walking through the log is what one does with a recording; a lab has more urgent keys.
        .filter(|binding| !(binding.footer.contains('|') && scene.source() == Source::Lab))
        .map(|binding| {
            // Two keys that belong together stand before a bar: `, .|step`.
            let (key, word) = match binding.footer.split_once('|') {
                Some((keys, word)) => (keys.to_owned(), word),
                None => (binding.keys[0].to_string(), binding.footer),
            };
            (key, word, is_always(binding.action))
        })
        .collect();
    let walks = |word: &str| matches!(word, "play" | "step" | "stage" | "note" | "speed");
    if scene.source() == Source::Recording {
        words.sort_by_key(|(_, word, _)| !walks(word));
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
