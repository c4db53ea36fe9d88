//! The live screen: four panels under a heading, above the study's tree.
//!
//! ```text
//!  data set · architecture · candidate · seed                      ● phase   device
//! ╭ Loss ─────────────────────────╮╭ Accuracy under corruption ───────────────────╮
//! │ is it learning                ││ what does it stand up to                     │
//! ╰───────────────────────────────╯╰──────────────────────────────────────────────╯
//! ╭ Function ─────────────────────╮╭ Numbers ─────────────────────────────────────╮
//! │ is it still the same          ││ what did it cost and save                    │
//! ╰───────────────────────────────╯╰──────────────────────────────────────────────╯
//!  tree of the study, or the time line of a recording
//!  what is being done right now, or how it ended
//!  keys
//! ```

use ratatui::layout::Rect;

use super::{corruption, function, loss, numbers};
use crate::event::Outcome;
use crate::state::{Mode, NetworkState, StageState, counted, doing};
use crate::ui::figure;
use crate::ui::keymap::Source;
use crate::ui::pen::Pen;
use crate::ui::popup;
use crate::ui::scene::{GpuUse, Scene};
use crate::ui::text;
use crate::ui::view::View;
use crate::ui::widget::{footer, frame, transport, tree};

/// A panel of the live screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Panel {
    #[default]
    Loss,
    Corruption,
    Function,
    Numbers,
}

impl Panel {
    /// All of them, from top left to bottom right.
    pub const ALL: [Self; 4] = [Self::Loss, Self::Corruption, Self::Function, Self::Numbers];

    /// The same with the names that `replay --screen` takes.
    pub const NAMED: [(&'static str, Self); 4] = [
        ("loss", Self::Loss),
        ("corruption", Self::Corruption),
        ("function", Self::Function),
        ("numbers", Self::Numbers),
    ];
}

/// From this size on all four panels are shown.
const FOUR: (u16, u16) = (76, 20);

/// Where the panels are; only the one with the keys where there is no room for more.
pub fn places(area: Rect, scene: &Scene<'_>, view: &View) -> Vec<(Panel, Rect)> {
    // Around them are the heading, the tree, what is being done, and the keys.
    let around = 3 + ending_lines(scene, view, area);
    let inner = Rect {
        x: area.x,
        y: area.y + 1,
        width: area.width,
        height: area.height.saturating_sub(around),
    };
    if view.is_full || area.width < FOUR.0 || area.height < FOUR.1 {
        return vec![(view.panel, inner)];
    }
    let left = inner.width.div_ceil(2).min(inner.width);
    // Pairs of bars need more lines than figures.
    let upper = (inner.height * 15).div_ceil(26);
    let at = |x: u16, y: u16, width: u16, height: u16| Rect {
        x: inner.x + x,
        y: inner.y + y,
        width,
        height,
    };
    let (right, lower) = (inner.width - left, inner.height - upper);
    vec![
        (Panel::Loss, at(0, 0, left, upper)),
        (Panel::Corruption, at(left, 0, right, upper)),
        (Panel::Function, at(0, upper, left, lower)),
        (Panel::Numbers, at(left, upper, right, lower)),
    ]
}

/// Draws the screen.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let (width, height) = (pen.width(), pen.height());
    let theme = scene.theme();
    heading(&mut pen.part(0, 0, width, 1), scene, view);
    let area = Rect::new(0, 0, width, height);
    for (panel, place) in places(area, scene, view) {
        let mut part = pen.part(place.x, place.y, place.width, place.height);
        draw_panel(&mut part, panel, scene, view);
    }
    let below = ending_lines(scene, view, area);
    let mut line = pen.part(0, height - 2 - below, width, 1);
    let follows = scene.timeline.mode() == Mode::Following;
    if scene.source() == Source::Lab && follows || scene.state().study.is_none() {
        tree::draw(&mut line, scene, theme);
    } else {
        transport::draw(&mut line, scene, theme);
    }
    status(
        &mut pen.part(0, height - 1 - below, width, below),
        scene,
        view,
    );
    footer::draw(&mut pen.part(0, height - 1, width, 1), scene, view, theme);
}

fn draw_panel(pen: &mut Pen<'_>, panel: Panel, scene: &Scene<'_>, view: &View) {
    let narrow = pen.width() < 46;
    let (title, note) = match panel {
        Panel::Loss => ("Loss", loss::note(view)),
        // What the figures are means over takes the room of the title.
        Panel::Corruption if narrow || view.over_seeds => {
            ("Corruption", corruption::note(scene, view, pen.width()))
        }
        Panel::Corruption => (
            "Accuracy under corruption",
            corruption::note(scene, view, pen.width()),
        ),
        Panel::Function => ("Function", function::note(scene, view)),
        Panel::Numbers => ("Numbers", numbers::note(scene, view)),
    };
    let has_keys = view.panel == panel && view.popups.is_empty();
    let full = view.is_full;
    let mut inside = frame::frame(pen, title, &note, has_keys, scene.theme());
    if inside.width() < 4 || inside.height() < 2 {
        return;
    }
    // Only the panel with the keys is scrolled.
    let still = View {
        scroll: 0,
        ..view.clone()
    };
    let view = if has_keys { view } else { &still };
    match (panel, full) {
        (Panel::Loss, false) => loss::draw(&mut inside, scene, view),
        (Panel::Loss, true) => loss::draw_full(&mut inside, scene, view),
        (Panel::Corruption, false) => corruption::draw(&mut inside, scene, view),
        (Panel::Corruption, true) => corruption::draw_full(&mut inside, scene, view),
        (Panel::Function, false) => function::draw(&mut inside, scene, view),
        (Panel::Function, true) => function::draw_full(&mut inside, scene, view),
        (Panel::Numbers, false) => numbers::draw(&mut inside, scene, view),
        (Panel::Numbers, true) => numbers::draw_full(&mut inside, scene, view),
    }
}

/// What is asked, in one line: `glyphs · lenet5 · magnitude pruning 50 % · seed 7`.
pub fn question(scene: &Scene<'_>, candidate: Option<&NetworkState>) -> String {
    let Some(study) = &scene.state().study else {
        return "shrinklab".to_owned();
    };
    let index = candidate.map_or(0, |network| network.plan.reference as usize);
    let mut parts = Vec::new();
    if let Some(reference) = study.references.get(index) {
        parts.push(reference.dataset.id.clone());
        parts.push(reference.architecture.id.clone());
    }
    if let Some(candidate) = candidate {
        parts.push(candidate.plan.name.clone());
    }
    // A name that tells a repetition from the others ends with its seed.
    let is_told =
        candidate.is_some_and(|network| network.plan.name != study.name_over_seeds(&network.plan));
    if !is_told {
        parts.push(study.seeds_in_words());
    }
    text::clean(&parts.join(" · "))
}

fn heading(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let state = scene.state();
    let width = usize::from(pen.width());
    let mut marks: Vec<(String, ratatui::style::Style)> = Vec::new();
    if scene.live && scene.timeline.mode() != Mode::Following {
        marks.push(("❄ picture frozen".to_owned(), theme.warning()));
    }
    if state.is_paused {
        marks.push(("‖ training paused".to_owned(), theme.warning()));
    } else if scene.pausing {
        marks.push(("‖ pausing at the next step".to_owned(), theme.warning()));
    }
    if scene.unrecorded.is_some() {
        marks.push(("✗ not recorded".to_owned(), theme.error()));
    }
    let warnings = popup::warnings(scene).len();
    if warnings > 0 {
        let words = format!("! {}", counted(warnings as u64, "warning"));
        marks.push((words, theme.warning()));
    }
    if let Some(phase) = phase(scene) {
        marks.push((phase, theme.accent()));
    }
    if !scene.device.is_empty() {
        let mut words = scene.device.to_owned();
        if let Some(gpu) = scene.gpu {
            words.push_str(&in_use(gpu));
        }
        marks.push((words, theme.dim()));
    }
    let right: usize = marks.iter().map(|(words, _)| text::width(words) + 3).sum();
    let room = width.saturating_sub(right + 2);
    let question = question(scene, scene.candidate(view));
    pen.put(1, 0, &text::fit(&question, room.max(10)), theme.title());
    let mut x = (width.saturating_sub(right)) as u16;
    for (words, style) in marks {
        x = pen.put(x, 0, &text::clean(&words), style) + 3;
    }
}

/// ` 87 % 12.3/80 GB 412 W`.
fn in_use(gpu: GpuUse) -> String {
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    let busy = gpu.busy_percent.map(|percent| format!(" {percent} %"));
    let memory = gpu
        .memory
        .map(|(used, all)| format!(" {:.1}/{:.0} GB", gigabytes(used), gigabytes(all)));
    let power = gpu.watts.map(|watts| format!(" {watts} W"));
    [busy, memory, power].into_iter().flatten().collect()
}

/// `● fine-tuning 2/3`.
fn phase(scene: &Scene<'_>) -> Option<String> {
    let state = scene.state();
    if let Some((network, stage)) = state.current_stage() {
        let epoch = epoch_of(network, stage).map_or(String::new(), |(epoch, epochs)| {
            format!(" {epoch}/{epochs}")
        });
        return Some(format!("● {}{epoch}", doing(stage.kind)));
    }
    state.outcome.as_ref().map(|outcome| {
        match outcome {
            Outcome::Completed => "✓ done",
            Outcome::Cancelled => "– stopped",
            Outcome::Failed { .. } => "✗ failed",
        }
        .to_owned()
    })
}

/// The epoch that a stage is in, and how many it has.
fn epoch_of(network: &NetworkState, stage: &StageState) -> Option<(u64, u32)> {
    (stage.epochs > 0).then(|| {
        let place = network
            .stages
            .iter()
            .position(|other| std::ptr::eq(other, stage));
        let ended = network
            .epochs
            .iter()
            .filter(|epoch| Some(epoch.stage as usize) == place)
            .count() as u64;
        ((ended + 1).min(u64::from(stage.epochs)), stage.epochs)
    })
}

/// What is being done right now, how fast and for how long; at the end, what came out in one sentence.
fn status(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let state = scene.state();
    let is_replay = !(scene.live && scene.timeline.mode() == Mode::Following);
    if is_replay
        && let Some(note) = transport::note(scene)
        && state.outcome.is_none()
    {
        pen.put(1, 0, &format!("\"{note}\""), theme.warning());
        return;
    }
    if let Some((network, stage)) = state.current_stage() {
        let mut parts: Vec<String> = Vec::new();
        if !stage.what.is_empty() {
            parts.push(stage.what.clone());
        }
        if let Some((epoch, epochs)) = epoch_of(network, stage) {
            parts.push(format!("epoch {epoch}/{epochs}"));
        }
        if stage.total > 0 {
            let what = if stage.epochs > 0 { "step " } else { "" };
            let (done, total) = (figure::count(stage.done), figure::count(stage.total));
            parts.push(format!("{what}{done}/{total}"));
        }
        if let Some(speed) = state.pace.images_per_second() {
            parts.push(format!("{} images/s", figure::count(speed.round() as u64)));
        }
        if let Some(ms) = state.remaining() {
            parts.push(format!("about {} left", figure::duration(ms as f64)));
        }
        let id = network.plan.id;
        let tail: usize = parts.iter().map(|part| text::width(part) + 3).sum();
        let room = usize::from(pen.width()).saturating_sub(tail + doing(stage.kind).len() + 5);
        // The name gives way: the tree above has it too.
        let name = if room >= text::width(&network.plan.name) {
            format!("{} ", network.plan.name)
        } else {
            String::new()
        };
        let mut x = pen.run(
            1,
            0,
            &[
                (&scene.glyph(id).to_string(), scene.style(id)),
                (" ", theme.text()),
                (&name, theme.text()),
                (doing(stage.kind), theme.accent()),
            ],
        );
        for part in parts {
            x = pen.run(x, 0, &[(" · ", theme.dim()), (&part, theme.text())]);
        }
        return;
    }
    let Some(outcome) = &state.outcome else {
        let words = if state.study.is_some() {
            "between two stages"
        } else {
            "press 1 for a new study, o to open a saved session"
        };
        pen.put(1, 0, words, theme.dim());
        return;
    };
    let style = match outcome {
        Outcome::Failed { .. } => theme.error(),
        Outcome::Completed | Outcome::Cancelled => theme.title(),
    };
    let words = ending(scene, view, outcome);
    let width = pen.width().saturating_sub(2);
    let height = pen.height();
    pen.part(1, 0, width, height).put_wrapped(0, &words, style);
}

/// How the study ended and, of the candidate on screen, what came out.
fn ending(scene: &Scene<'_>, view: &View, outcome: &Outcome) -> String {
    let state = scene.state();
    let mut ending = match outcome {
        Outcome::Completed => format!("done in {}", figure::duration(state.at as f64)),
        Outcome::Cancelled => "stopped; what was recorded stays".to_owned(),
        Outcome::Failed { message } => format!("failed: {message}"),
    };
    let sentence = scene
        .candidate(view)
        .and_then(|candidate| scene.sentence(view, candidate.plan.id));
    if let Some(sentence) = sentence {
        ending = format!("{ending} · {sentence}");
    }
    ending
}

/// Lines that the end of a study takes: its sentence is never cut where there is room for it.
fn ending_lines(scene: &Scene<'_>, view: &View, area: Rect) -> u16 {
    /// Room enough for the longest sentence on a narrow terminal.
    const MOST: usize = 3;
    let Some(outcome) = &scene.state().outcome else {
        return 1;
    };
    if area.height < FOUR.1 {
        return 1;
    }
    let words = text::clean(&ending(scene, view, outcome));
    let lines = text::wrap(&words, usize::from(area.width).saturating_sub(2));
    lines.len().clamp(1, MOST) as u16
}
