//! What lies over a screen: help, palette, a line to type, the question before leaving, the form of a branch.

use super::form::Form;
use super::keymap::{self, Layer, Source};
use super::pen::Pen;
use super::scene::Scene;
use super::screen::experiment;
use super::text;
use super::theme::Theme;
use super::view::{Popup, View};
use super::widget::frame;
use crate::state::{counted, say};

/// Draws what lies over the screen, the last on top.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    for popup in &view.popups {
        match popup {
            Popup::Help { scroll } => help(pen, scene, *scroll),
            Popup::Palette { query, selected } => palette(pen, scene, view, query, *selected),
            Popup::Note { text } => note(pen, scene, text),
            // The table shows its own filter line.
            Popup::Filter { .. } => {}
            Popup::Quit { selected } => quit(pen, scene, *selected),
            Popup::Branch(form) => branch(pen, scene, form),
            Popup::Warnings { scroll } => list_warnings(pen, scene, *scroll),
        }
    }
}

/// A cleared box in the middle of the screen, with a border.
fn boxed(
    pen: &mut Pen<'_>,
    (width, height): (u16, u16),
    title: &str,
    note: &str,
    theme: Theme,
    paint: impl FnOnce(&mut Pen<'_>),
) {
    let (width, height) = (
        width.min(pen.width()),
        height.min(pen.height().saturating_sub(1)),
    );
    let (x, y) = ((pen.width() - width) / 2, (pen.height() - 1 - height) / 2);
    let mut part = pen.part(x, y, width, height);
    part.clear();
    let mut inside = frame::frame(&mut part, title, note, true, theme);
    paint(&mut inside);
}

/// One line of the help: a heading, or keys with what they do.
pub enum HelpLine {
    Heading(&'static str),
    Key(String, &'static str),
}

/// The whole help, from the table of keys: by where a key works.
pub fn help_lines(source: Source) -> Vec<HelpLine> {
    let groups = [
        ("The four panels", Layer::Live),
        ("The form of a study", Layer::Study),
        ("The table of measurements", Layer::Table),
        ("The chart of sweeps", Layer::Sweep),
        ("The layers of a network", Layer::Network),
        ("Robustness", Layer::Robustness),
        ("The gallery", Layer::Gallery),
        ("The list of sessions", Layer::Sessions),
        ("The list of warnings", Layer::Warnings),
        ("Before leaving a running study", Layer::Quit),
    ];
    let mut lines = Vec::new();
    for (title, layer) in groups {
        lines.push(HelpLine::Heading(title));
        for binding in keymap::BINDINGS {
            // A key for the other kind of facts is shown as well when it works nowhere else.
            let here = binding.works(layer, source);
            let other = match source {
                Source::Lab => Source::Recording,
                Source::Recording => Source::Lab,
            };
            if here || (binding.works(layer, other) && !binding.sources.contains(&source)) {
                lines.push(HelpLine::Key(binding.written(), binding.help));
            }
        }
    }
    lines.push(HelpLine::Heading("What words mean"));
    let words = WORDS.iter();
    lines.extend(words.map(|(word, meaning)| HelpLine::Key((*word).to_owned(), meaning)));
    lines
}

/// Words of the panels that not everybody knows, each in a line that fits the help.
const WORDS: [(&str, &str); 8] = [
    (
        "agreement",
        "share of the test images on which both give the same answer",
    ),
    (
        "churn",
        "share on which the answers differ, of three kinds:",
    ),
    (
        "  good",
        "the reference was wrong, and the candidate is right",
    ),
    (
        "  bad",
        "the reference was right, and the candidate is wrong",
    ),
    ("  ugly", "both are wrong, each with an answer of its own"),
    (
        "JS",
        "Jensen-Shannon divergence: how far apart the softmax outputs are",
    ),
    (
        "twin",
        "the same recipe with another seed: how far chance alone goes",
    ),
    (
        "ratio",
        "the share that is removed, of what the method counts",
    ),
];

fn help(pen: &mut Pen<'_>, scene: &Scene<'_>, scroll: usize) {
    let theme = scene.theme();
    let lines = help_lines(scene.source());
    let size = (86, pen.height().saturating_sub(3));
    boxed(
        pen,
        size,
        "Help",
        "↑↓ scroll · esc back",
        theme,
        |inside| {
            let room = usize::from(inside.height()).max(1);
            let skip = scroll.min(lines.len().saturating_sub(room));
            for (row, line) in lines.iter().skip(skip).take(room).enumerate() {
                let y = row as u16;
                match line {
                    HelpLine::Heading(title) => {
                        inside.put(1, y, title, theme.title());
                    }
                    HelpLine::Key(keys, words) => {
                        inside.run(
                            2,
                            y,
                            &[(&text::left(keys, 16), theme.key()), (words, theme.text())],
                        );
                    }
                }
            }
        },
    );
}

/// Every warning as a sentence: of the recording, of the session's file, of the study, in this order.
pub fn warnings(scene: &Scene<'_>) -> Vec<String> {
    let state = scene.state();
    let unrecorded = scene
        .unrecorded
        .map(|problem| format!("not recorded any more: {problem}"));
    let tolerated = scene.tolerated.iter().cloned();
    let of_study = state.warnings.iter().map(|warned| {
        let about = warned
            .network
            .map_or(String::new(), |id| format!("{}: ", state.name(id)));
        format!("{about}{}", say(&warned.warning))
    });
    unrecorded
        .into_iter()
        .chain(tolerated)
        .chain(of_study)
        .collect()
}

fn list_warnings(pen: &mut Pen<'_>, scene: &Scene<'_>, scroll: usize) {
    let theme = scene.theme();
    let warnings = warnings(scene);
    let note = counted(warnings.len() as u64, "warning");
    let size = (86, pen.height().saturating_sub(3));
    boxed(pen, size, "Warnings", &note, theme, |inside| {
        if warnings.is_empty() {
            inside.put(1, 0, "nothing to warn of", theme.dim());
        }
        let (width, height) = (inside.width().saturating_sub(4), inside.height());
        let mut y = 0;
        for (number, words) in warnings.iter().enumerate().skip(scroll) {
            let style = if number == 0 && scene.unrecorded.is_some() {
                theme.error()
            } else {
                theme.text()
            };
            if y >= height {
                break;
            }
            inside.put(1, y, "!", theme.warning());
            y += inside
                .part(3, y, width, height - y)
                .put_wrapped(0, words, style);
        }
    });
}

fn palette(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View, query: &str, selected: usize) {
    let theme = scene.theme();
    let offers = view.offers(query, scene);
    let size = (64, 20);
    boxed(
        pen,
        size,
        "Palette",
        "↑↓ choose · enter do it",
        theme,
        |inside| {
            let x = inside.run(1, 0, &[(": ", theme.dim()), (query, theme.text())]);
            inside.cell(x, 0, ' ', theme.selected());
            if offers.is_empty() {
                inside.put(1, 2, "nothing here is called that", theme.dim());
            }
            let room = usize::from(inside.height()).saturating_sub(2).max(1);
            let selected = selected.min(offers.len().max(1) - 1);
            let skip = (selected + 1).saturating_sub(room);
            for (place, binding) in offers.iter().enumerate().skip(skip).take(room) {
                let y = 2 + (place - skip) as u16;
                let width = inside.width();
                inside.put(1, y, binding.name, theme.text());
                inside.put_right(width - 1, y, &binding.written(), theme.key());
                if place == selected {
                    inside.shade(0, y, width, theme.selected());
                }
            }
        },
    );
}

fn note(pen: &mut Pen<'_>, scene: &Scene<'_>, typed: &str) {
    let theme = scene.theme();
    let width = pen.width().min(80);
    boxed(pen, (width, 3), "Note", "at this step", theme, |inside| {
        // The end of a long line is what is being typed.
        let room = usize::from(inside.width()).saturating_sub(3);
        let typed = text::clean(typed);
        let mut shown = typed.as_str();
        while text::width(shown) > room {
            let mut rest = shown.chars();
            rest.next();
            shown = rest.as_str();
        }
        let x = inside.put(1, 0, shown, theme.text());
        inside.cell(x, 0, ' ', theme.selected());
    });
}

fn quit(pen: &mut Pen<'_>, scene: &Scene<'_>, selected: usize) {
    const ANSWERS: [(&str, &str, &str); 3] = [
        (
            "l",
            "leave it running",
            "the study finishes without the screen",
        ),
        ("s", "stop it", "at the next step; what was recorded stays"),
        ("esc", "cancel", "stay here"),
    ];
    let theme = scene.theme();
    boxed(pen, (64, 7), "A study is running", "", theme, |inside| {
        for (row, (key, answer, meaning)) in ANSWERS.into_iter().enumerate() {
            let y = 1 + row as u16;
            inside.run(
                1,
                y,
                &[
                    (&text::left(key, 5), theme.key()),
                    (&text::left(answer, 18), theme.title()),
                    (meaning, theme.dim()),
                ],
            );
            if row == selected {
                let width = inside.width();
                inside.shade(0, y, width, theme.selected());
            }
        }
    });
}

fn branch(pen: &mut Pen<'_>, scene: &Scene<'_>, form: &Form) {
    let theme = scene.theme();
    let height = (form.rows(scene.lab).len() as u16 + 9).min(18);
    boxed(
        pen,
        (76, height),
        "Add a branch",
        "to the same reference",
        theme,
        |inside| {
            let (width, height) = (inside.width(), inside.height());
            let told = 5.min(height / 3);
            experiment::rows(
                &mut inside.part(0, 1, width, height - told - 1),
                form,
                scene,
                theme,
            );
            let mut below = inside.part(2, height - told, width.saturating_sub(3), told);
            experiment::explain(&mut below, form, scene, theme);
        },
    );
}
