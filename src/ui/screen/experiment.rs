//! The form of a new study: what to ask, what it means, what it costs, and the command that asks the same.

use ratatui::style::Style;

use super::loss;
use crate::catalog::{Catalog, Info, Knob};
use crate::ui::command_line;
use crate::ui::form::{Form, Kind, Place, Row};
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::theme::Theme;
use crate::ui::view::View;
use crate::ui::widget::{footer, frame};

/// Draws the screen.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let (width, height) = (pen.width(), pen.height());
    pen.run(
        1,
        0,
        &[("shrinklab", theme.title()), ("   new study", theme.dim())],
    );
    if scene.state().study.is_some() {
        pen.put_right(width - 1, 0, "esc: back to the panels", theme.dim());
    }
    let side = if width >= 72 {
        (width * 9 / 25).min(48)
    } else {
        0
    };
    // Estimate, command and keys; the command may need a second line.
    let below = if height >= 24 { 4 } else { 3 };
    let panel_height = height - 1 - below;
    // On the very first start nobody meets an empty screen.
    let demo = if scene.demo && side > 0 && panel_height >= 20 {
        panel_height * 11 / 25
    } else {
        0
    };
    {
        let mut panel = pen.part(0, 1, width - side, panel_height);
        let note = if view.form.shows_all() {
            "all knobs"
        } else {
            ""
        };
        let mut inside = frame::frame(&mut panel, "Study", note, view.popups.is_empty(), theme);
        rows(&mut inside, &view.form, scene, theme);
    }
    if side > 0 {
        let mut panel = pen.part(width - side, 1, side, panel_height - demo);
        let mut inside = frame::frame(&mut panel, "What this is", "", false, theme);
        explain(&mut inside, &view.form, scene, theme);
    }
    if demo > 0 {
        let mut panel = pen.part(width - side, 1 + panel_height - demo, side, demo);
        let mut inside = frame::frame(
            &mut panel,
            "A recorded session",
            "esc: watch it",
            false,
            theme,
        );
        loss::draw(&mut inside, scene, view);
    }
    let y = height - below;
    pen.put(1, y, scene.estimate, theme.text());
    let command = command_line::command_line(view.form.study(), scene.lab);
    let lines = text::wrap(&command, usize::from(width).saturating_sub(4));
    let room = usize::from(below) - 2;
    for (row, line) in lines.iter().take(room).enumerate() {
        let y = y + 1 + row as u16;
        let mark = if row == 0 { "$ " } else { "  " };
        let cut = row + 1 == room && lines.len() > room;
        let tail = if cut { " …" } else { "" };
        pen.run(
            1,
            y,
            &[
                (mark, theme.dim()),
                (line, theme.dim()),
                (tail, theme.dim()),
            ],
        );
    }
    footer::draw(&mut pen.part(0, height - 1, width, 1), scene, view, theme);
}

/// Draws the rows of a form, scrolled so that the cursor is seen, and at the end what belongs to no row.
pub fn rows(pen: &mut Pen<'_>, form: &Form, scene: &Scene<'_>, theme: Theme) {
    let rows = form.rows(scene.lab);
    let mut lines: Vec<(usize, Option<String>)> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        lines.push((index, None));
        for error in &row.errors {
            lines.push((index, Some(error.clone())));
        }
    }
    for error in form.homeless(scene.lab) {
        lines.push((usize::MAX, Some(error)));
    }
    let room = usize::from(pen.height()).max(1);
    let at = lines
        .iter()
        .position(|(index, error)| *index == form.cursor() && error.is_none())
        .unwrap_or(0);
    // The errors of the row under the cursor are seen too.
    let below = lines[at..]
        .iter()
        .take_while(|(index, _)| *index == form.cursor())
        .count();
    let skip = if lines.len() <= room {
        0
    } else {
        (at + below.max(2))
            .saturating_sub(room)
            .max(at.saturating_sub(room * 2 / 3))
            .min(lines.len() - room)
    };
    for (place, (index, error)) in lines.iter().skip(skip).take(room).enumerate() {
        let y = place as u16;
        match error {
            Some(error) => {
                pen.run(4, y, &[("✗ ", theme.error()), (error, theme.error())]);
            }
            None => row(pen, y, &rows[*index], *index == form.cursor(), form, scene),
        }
    }
    if skip + room < lines.len() {
        let (x, y) = (pen.width(), pen.height() - 1);
        pen.put_right(x, y, "↓", theme.dim());
    }
    if skip > 0 {
        let x = pen.width();
        pen.put_right(x, 0, "↑", theme.dim());
    }
}

fn row(pen: &mut Pen<'_>, y: u16, row: &Row, has_cursor: bool, form: &Form, scene: &Scene<'_>) {
    let theme = scene.theme();
    let mark = if has_cursor { "▸ " } else { "  " };
    let indent = if row.is_inner { "  " } else { "" };
    let label_style = match (has_cursor, row.is_inner) {
        (true, _) => theme.accent(),
        (false, true) => theme.dim(),
        (false, false) => theme.text(),
    };
    if row.kind == Kind::Button {
        pen.run(1, y, &[(mark, theme.accent()), (&row.label, label_style)]);
        return;
    }
    let label = text::left(&format!("{indent}{}", row.label), 16);
    let mut x = pen.run(1, y, &[(mark, theme.accent()), (&label, label_style)]);
    let typed = form.typed().filter(|_| has_cursor);
    let value = typed.unwrap_or(&row.value);
    let style = if row.errors.is_empty() {
        theme.title()
    } else {
        theme.error()
    };
    let dim = theme.dim();
    match &row.kind {
        Kind::Choice | Kind::Flag => {
            x = pen.run(x, y, &[("‹ ", dim), (value, style), (" ›", dim)]);
        }
        Kind::Number { slider } => {
            if let Some(share) = slider.filter(|_| pen.width() >= 50 && typed.is_none()) {
                x = slide(pen, x, y, share, theme);
            }
            x = pen.put(x, y, value, style);
            if typed.is_some() {
                pen.cell(x, y, ' ', theme.selected());
                x += 1;
            }
        }
        Kind::Fixed => {
            let room = usize::from(pen.width().saturating_sub(x + 1));
            x = pen.put(x, y, &text::fit(value, room), dim);
        }
        Kind::Button => {}
    }
    let note = match &row.place {
        Place::Dataset => scene
            .data_notes
            .get(&row.value)
            .cloned()
            .unwrap_or_default(),
        _ if row.errors.is_empty() => row.note.clone(),
        _ => String::new(),
    };
    let room = usize::from(pen.width().saturating_sub(x + 3));
    pen.put(x + 2, y, &text::fit(&text::clean(&note), room), dim);
}

/// `◂━━━━━━━━●━━━━▸ `
fn slide(pen: &mut Pen<'_>, x: u16, y: u16, share: f64, theme: Theme) -> u16 {
    /// Cells between the arrows.
    const TRACK: usize = 13;
    let at = (share * (TRACK - 1) as f64).round() as usize;
    let accent: Style = theme.accent();
    pen.run(
        x,
        y,
        &[
            ("◂", theme.dim()),
            (&"━".repeat(at), accent),
            ("●", accent),
            (&"─".repeat(TRACK - 1 - at), theme.border()),
            ("▸ ", theme.dim()),
        ],
    )
}

/// What the cursor is on: title, what it does, what it takes, where it was published.
pub fn explain(pen: &mut Pen<'_>, form: &Form, scene: &Scene<'_>, theme: Theme) {
    let catalog = scene.lab;
    let Some(place) = form.place(catalog) else {
        return;
    };
    let told = tell(&place, form, catalog);
    let width = pen.width().saturating_sub(1);
    let mut y = pen.put_wrapped(0, &told.title, theme.title()) + 1;
    for paragraph in &told.paragraphs {
        let height = pen.height().saturating_sub(y);
        let mut part = pen.part(0, y, width, height);
        y += part.put_wrapped(0, paragraph, theme.text()) + 1;
    }
    if !told.source.is_empty() {
        let height = pen.height().saturating_sub(y);
        let mut part = pen.part(0, y, width, height);
        part.put_wrapped(0, &told.source, theme.dim());
    }
}

struct Told {
    title: String,
    paragraphs: Vec<String>,
    source: String,
}

fn tell(place: &Place, form: &Form, catalog: &Catalog) -> Told {
    let reference = &form.study().references[form.reference() as usize];
    let of_method = |id: &str| match catalog.find(id) {
        Some(found) => of_info(&found.info),
        None => said(id, &["This program does not know it."]),
    };
    let of_knob = |knob: Option<&Knob>, owner: &str| match knob {
        Some(knob) => Told {
            title: knob.title.to_string(),
            paragraphs: vec![knob.summary.to_string(), format!("Takes {}.", knob.range)],
            source: owner.to_owned(),
        },
        None => said(owner, &[]),
    };
    let knob_of = |method: &str, id: &str| {
        let found = catalog.find(method);
        let owner = found.map_or(method.to_owned(), |found| found.info.title.to_string());
        of_knob(found.and_then(|found| found.knob(id)), &owner)
    };
    let method_at = |branch: usize, stage: usize| {
        reference
            .branches
            .get(branch)
            .and_then(|branch| branch.stages.get(stage))
            .and_then(|stage| match stage {
                crate::spec::Stage::Compress(method) => Some(method.id.as_str()),
                crate::spec::Stage::FineTune(_) => None,
            })
            .unwrap_or_default()
    };
    match place {
        Place::Dataset => of_method(&reference.dataset.id),
        Place::DatasetKnob(id) => knob_of(&reference.dataset.id, id),
        Place::Architecture => of_method(&reference.architecture.id),
        Place::ArchitectureKnob(id) => knob_of(&reference.architecture.id, id),
        Place::Training(id) => of_knob(
            catalog.training.iter().find(|knob| knob.id == *id),
            "Recipe of the reference and its twins; fine-tuning inherits it.",
        ),
        Place::ProbeKnob(probe, id) => knob_of(probe, id),
        Place::Method(branch, stage) => of_method(method_at(*branch, *stage)),
        Place::Knob(branch, stage, id) => knob_of(method_at(*branch, *stage), id),
        Place::Seed => said(
            "Seed",
            &[
                "Everything that chance decides is drawn from it: first weights, data order, corruptions.",
                "The same seed and number of threads give the same numbers, bit for bit.",
            ],
        ),
        Place::Twins => said(
            "Twins",
            &[
                "Networks of the same recipe that differ by their seed alone.",
                "How far they are from the reference is how far chance alone goes: only a branch beyond that is \
                 a different function.",
                "With one twin the verdict is never more than \"undecided\".",
            ],
        ),
        Place::SameStartTwin => said(
            "Same-start twin",
            &[
                "The same first weights as the reference, but another order of the data.",
                "The control for self-distillation, which starts from the same weights too.",
            ],
        ),
        Place::TrainLimit => said(
            "Training images",
            &[
                "Use only so many of them, for a quick look. A tenth is kept for validation. Empty: all.",
            ],
        ),
        Place::TestLimit => said("Test images", &["Use only so many of them. Empty: all."]),
        Place::FullSuite => said(
            "Corrupt all test images",
            &[
                "Otherwise corruptions are measured on a fixed subset with every class in its share, and n is shown.",
            ],
        ),
        Place::Threads => said(
            "Threads",
            &[
                "How many compute. Sums depend on their number in the last digits, so it is part of the question.",
            ],
        ),
        Place::FineTune(..) => said(
            "Fine-tuning",
            &[
                "Epochs of more training behind the compression, with masks and quantizers kept. 0: none.",
                "It inherits the recipe of the reference.",
            ],
        ),
        Place::Then(_) => said(
            "One more compression",
            &[
                "Compressions may follow one another. → adds one behind the others; beyond the last of its list it goes away again.",
            ],
        ),
        Place::Checkpoint(_) => said(
            "Checkpoint",
            &[
                "Which state of the reference is compressed: after its last epoch, or after the one with the lowest \
                 validation loss.",
            ],
        ),
        Place::Measure => {
            let list = |table: &[crate::catalog::Described]| {
                let titles: Vec<String> = table
                    .iter()
                    .map(|method| method.info.title.to_lowercase())
                    .collect();
                titles.join(", ")
            };
            Told {
                title: "What is measured".to_owned(),
                paragraphs: vec![
                    format!("Of every network: {}.", list(&catalog.probes)),
                    format!("Under: {}; severities 1 to 5.", list(&catalog.corruptions)),
                    "All networks see the same images, corrupted ones byte for byte.".to_owned(),
                ],
                source: String::new(),
            }
        }
        Place::AddBranch => said(
            "Another branch",
            &[
                "One more way to compress the same reference, drawn beside the others. → or + adds it; - takes one away.",
            ],
        ),
    }
}

fn of_info(info: &Info) -> Told {
    let mut paragraphs = vec![info.summary.to_string()];
    if let Some(counts) = &info.ratio_of {
        paragraphs.push(format!(
            "Its ratio is the share of {counts} that is removed; 0 changes nothing."
        ));
    }
    Told {
        title: info.title.to_string(),
        paragraphs,
        source: info.reference.to_string(),
    }
}

fn said(title: &str, paragraphs: &[&str]) -> Told {
    Told {
        title: title.to_owned(),
        paragraphs: paragraphs.iter().map(|words| (*words).to_owned()).collect(),
        source: String::new(),
    }
}
