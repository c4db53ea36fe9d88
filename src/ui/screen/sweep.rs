//! The chart of sweeps: any number over ratio, bits or a size, one strand per method, and the same as a table.
//!
//! ```text
//! ╭ accuracy over ratio ───────────────── 95 % intervals ╮
//! │ points with whiskers, a strand per method            │
//! │ table: network, where, value, interval, deviation    │
//! ╰──────────────────────────────────────────────────────╯
//! ```

use super::{knob, live, numbers};
use crate::measurement::{Metric, Unit};
use crate::spec::NetworkId;
use crate::state::knob::Trace;
use crate::state::sweep::{Across, Quantity, Strand, Sweep, acrosses, quantities};
use crate::state::{Mode, counted};
use crate::ui::figure;
use crate::ui::keymap::Source;
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::view::View;
use crate::ui::widget::plot::{Level, Line, Plot, Point, Scale};
use crate::ui::widget::{footer, frame, transport, tree};

/// How the user looks at the chart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepView {
    /// What it is drawn against; the first of all when nobody chose.
    pub across: Option<Across>,
    /// What it draws; accuracy on clean images when nobody chose.
    pub quantity: Option<(Metric, Option<String>)>,
}

/// The chart that is looked at; nothing where no branch can be placed.
pub fn chosen(scene: &Scene<'_>, view: &View) -> Option<Sweep> {
    let state = scene.state();
    let all = acrosses(state);
    let across = view
        .sweep
        .across
        .clone()
        .filter(|across| all.contains(across))
        .or_else(|| all.into_iter().next())?;
    let quantity = quantity(scene, view)?;
    Some(Sweep::of(state, &across, &quantity))
}

fn quantity(scene: &Scene<'_>, view: &View) -> Option<Quantity> {
    let mut all = quantities(scene.state(), view.severity).into_iter();
    let first = all.clone().next();
    match &view.sweep.quantity {
        Some((metric, condition)) => all
            .find(|found| found.metric == *metric && found.condition == *condition)
            .or(first),
        None => first,
    }
}

/// The next of what a chart can be drawn against.
pub fn turn_across(view: &mut View, by: isize, scene: &Scene<'_>) {
    let all = acrosses(scene.state());
    let now = view.sweep.across.as_ref().or(all.first());
    let at = all.iter().position(|across| Some(across) == now);
    match at {
        None => view.hint = Some("no branch has a ratio, bits or a size yet".to_owned()),
        Some(at) => {
            let next = (at as isize + by).rem_euclid(all.len() as isize) as usize;
            view.sweep.across = Some(all[next].clone());
        }
    }
}

/// The next of what a chart can draw.
pub fn turn_quantity(view: &mut View, by: isize, scene: &Scene<'_>) {
    let all = quantities(scene.state(), view.severity);
    let now = quantity(scene, view);
    match all.iter().position(|found| Some(found) == now.as_ref()) {
        None => view.hint = Some("nothing is measured yet".to_owned()),
        Some(at) => {
            let next = &all[(at as isize + by).rem_euclid(all.len() as isize) as usize];
            view.sweep.quantity = Some((next.metric, next.condition.clone()));
        }
    }
}

/// Moves to another network of the table.
pub fn travel(view: &mut View, by: isize, scene: &Scene<'_>) {
    let Some(sweep) = chosen(scene, view) else {
        return;
    };
    let order: Vec<NetworkId> = sweep
        .strands
        .iter()
        .flat_map(|strand| strand.marks.iter().map(|mark| mark.network))
        .collect();
    if order.is_empty() {
        return;
    }
    let now = scene.candidate(view).map(|network| network.plan.id);
    let at = order.iter().position(|id| Some(*id) == now);
    let next = at.map_or(0, |at| at.saturating_add_signed(by).min(order.len() - 1));
    view.candidate = Some(order[next]);
}

/// How a quantity is called: `accuracy under gaussian noise 3`.
pub fn name(scene: &Scene<'_>, quantity: &Quantity) -> String {
    let what = numbers::what(quantity.metric);
    match (&quantity.condition, quantity.severity) {
        (None, _) => what.to_owned(),
        (Some(id), Some(severity)) => format!("{what} under {} {severity}", scene.title_of(id)),
        (Some(id), None) => format!("{what}, {}", scene.title_of(id)),
    }
}

/// How an axis is called.
pub fn across_name(scene: &Scene<'_>, across: &Across) -> String {
    match across {
        Across::Size(metric) => numbers::what(*metric).to_owned(),
        Across::Knob(id) => {
            let mut knobs = scene.catalog.compressions.iter();
            let knob = knobs.find_map(|method| method.knob(id));
            knob.map_or(id.clone(), |knob| knob.title.to_string())
        }
    }
}

/// What the figures of an axis are divided by, so that their labels are short.
pub fn scale(unit: Unit, greatest: f64) -> Scale {
    let divided = |divisor: f64, unit: &str| Scale {
        divisor,
        unit: unit.to_owned(),
    };
    match unit {
        Unit::Fraction => divided(0.01, "%"),
        Unit::Nats => divided(1.0, "nats"),
        Unit::Milliseconds => divided(1.0, "ms"),
        Unit::ImagesPerSecond => divided(1.0, "img/s"),
        Unit::Bytes if greatest >= f64::from(1 << 20) => divided(f64::from(1 << 20), "MiB"),
        Unit::Bytes => divided(1024.0, "KiB"),
        Unit::Count if greatest >= 1e9 => divided(1e9, "G"),
        Unit::Count if greatest >= 1e6 => divided(1e6, "M"),
        Unit::Count if greatest >= 1e4 => divided(1e3, "k"),
        Unit::GreyLevels => divided(1.0, "of 255"),
        Unit::Decibels => divided(1.0, "dB"),
        Unit::Count | Unit::None => divided(1.0, ""),
    }
}

/// Draws the screen.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let (width, height) = (pen.width(), pen.height());
    let question = live::question(scene, None);
    pen.put(1, 0, &format!("sweep   {question}"), theme.title());
    let sweep = chosen(scene, view);
    // The knob's panel stands beside the chart as soon as the knob was turned.
    let beside = match knob::shown(scene, view) {
        Some(_) if width >= 100 => width * 9 / 20,
        Some(_) if width >= 70 => width / 2,
        _ => 0,
    };
    let mut panel = pen.part(0, 1, width - beside, height - 3);
    chart_panel(&mut panel, scene, view, sweep.as_ref());
    if let Some(trial) = knob::shown(scene, view).filter(|_| beside > 0) {
        let mut panel = pen.part(width - beside, 1, beside, height - 3);
        knob::draw(&mut panel, scene, view, trial);
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

fn chart_panel(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View, sweep: Option<&Sweep>) {
    let theme = scene.theme();
    let title = sweep.map_or("Sweep".to_owned(), |sweep| {
        let (what, across) = (
            name(scene, &sweep.quantity),
            across_name(scene, &sweep.across),
        );
        format!("{what} over {across}")
    });
    let has_traces = !scene.state().trials.is_empty();
    let note = sweep.map_or(String::new(), |sweep| {
        if has_traces {
            // Two kinds of images in one picture are told apart.
            return format!("{} knob: validation images", knob::GLYPH);
        }
        let count: usize = sweep.strands.iter().map(|strand| strand.marks.len()).sum();
        let networks = counted(count as u64, "network");
        match sweep.quantity.metric {
            Metric::LatencyMsP50 => format!("{networks} · p10 to p90"),
            _ => networks,
        }
    });
    let has_keys = view.popups.is_empty();
    let mut inside = frame::frame(pen, &title, &note, has_keys, theme);
    if inside.width() < 14 || inside.height() < 3 {
        return;
    }
    let marks = sweep.map_or(0, rows);
    let traces = sweep.map_or(Vec::new(), |sweep| {
        scene.state().traces(&sweep.across, &sweep.quantity)
    });
    if marks == 0 && traces.is_empty() {
        let words = waiting(scene);
        let lines = text::wrap(&words, usize::from(inside.width()).saturating_sub(4));
        let first = (inside.height() / 2).saturating_sub(lines.len() as u16 / 2);
        for (row, line) in lines.iter().enumerate() {
            inside.put_center(first + row as u16, line, theme.dim());
        }
        return;
    }
    let Some(sweep) = sweep else { return };
    // The picture comes first; the table gets what it needs of the rest.
    let table_height = (marks as u16 + 1).min(inside.height() * 2 / 5);
    let table_height = if inside.height() < 12 {
        0
    } else {
        table_height
    };
    let (width, chart_height) = (inside.width(), inside.height() - table_height);
    let mut upper = inside.part(0, 0, width, chart_height);
    chart(&mut upper, scene, view, sweep, &traces);
    table(
        &mut inside.part(0, chart_height, width, table_height),
        scene,
        view,
        sweep,
    );
}

fn waiting(scene: &Scene<'_>) -> String {
    let state = scene.state();
    if state.study.is_none() {
        return "no study yet: 1 makes one, o opens a saved one".to_owned();
    }
    if state.branches().next().is_none() {
        return "no branch to place: b adds one; a ratio typed as .1,.4,.9 adds three".to_owned();
    }
    "waits for the first measured branch; several ratios or bits make a curve: type .1,.4,.9 in the form, or \
     --ratio .1,.4,.9"
        .to_owned()
}

/// Lines of the table: references, strands' headings, networks.
fn rows(sweep: &Sweep) -> usize {
    let marks: usize = sweep.strands.iter().map(|strand| strand.marks.len()).sum();
    if marks == 0 {
        return 0;
    }
    marks + sweep.strands.len() + sweep.bases.len()
}

fn chart(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View, sweep: &Sweep, traces: &[Trace]) {
    let theme = scene.theme();
    // What the knob traced lies below what was measured in full.
    let mut lines: Vec<Line> = traces
        .iter()
        .map(|trace| traced(trace, scene, view, sweep))
        .collect();
    for strand in &sweep.strands {
        let points = strand.marks.iter().map(|mark| Point {
            x: mark.across,
            y: mark.found.value,
            interval: mark.found.interval,
            glyph: Some(scene.glyph(mark.network)),
            style: scene.style(mark.network),
        });
        let style = strand
            .marks
            .first()
            .map_or(theme.dim(), |mark| scene.style(mark.network));
        lines.push(Line {
            points: points.collect(),
            style,
        });
    }
    // Against a size a reference has its place; against a knob it is a level.
    let mut levels = Vec::new();
    for base in &sweep.bases {
        let (glyph, style) = (scene.glyph(base.network), scene.style(base.network));
        match base.across {
            Some(x) => lines.push(Line {
                points: vec![Point {
                    x,
                    y: base.found.value,
                    interval: base.found.interval,
                    glyph: Some(glyph),
                    style,
                }],
                style,
            }),
            None => levels.push(Level {
                y: base.found.value,
                glyph,
                style,
            }),
        }
    }
    // The reference on the images of the knob, which are others than those of the branches.
    if !traces.is_empty()
        && let Some(level) = knob::base(scene, view, &sweep.quantity)
    {
        levels.push(Level {
            y: level,
            glyph: knob::GLYPH,
            style: theme.accent(),
        });
    }
    let points = || lines.iter().flat_map(|line| &line.points);
    let greatest = |of: fn(&Point) -> f64| points().map(of).fold(0.0, f64::max);
    let (x, y) = (greatest(|point| point.x), greatest(|point| point.y));
    let chosen = view.candidate.and_then(|id| {
        let mut marks = sweep.strands.iter().flat_map(|strand| &strand.marks);
        marks.find(|mark| mark.network == id)
    });
    let plot = Plot {
        across: scale(sweep.across_unit, x),
        up: scale(sweep.unit, y),
        cursor: chosen.map(|mark| mark.across),
        lines,
        levels,
        theme,
    };
    plot.draw(pen);
}

/// What the knob traced: dots on a line, and the glyph of the knob where it stands.
fn traced(trace: &Trace, scene: &Scene<'_>, view: &View, sweep: &Sweep) -> Line {
    let theme = scene.theme();
    let last = knob::reference(scene, view)
        .and_then(|reference| scene.state().last_trial(reference.plan.reference))
        .filter(|trial| trial.reference == trace.reference && trial.method.id == trace.method.id)
        .and_then(|trial| match &sweep.across {
            Across::Knob(_) => trial.strength().map(|(_, strength)| strength),
            Across::Size(metric) => trial.size(*metric),
        });
    let points = trace.spots.iter().map(|spot| Point {
        x: spot.across,
        y: spot.found.value,
        interval: None,
        glyph: Some(if Some(spot.across) == last {
            knob::GLYPH
        } else {
            '·'
        }),
        style: theme.accent(),
    });
    Line {
        points: points.collect(),
        style: theme.dim(),
    }
}

/// How a strand is called: its method, and its reference where there are several.
pub fn strand_name(scene: &Scene<'_>, strand: &Strand) -> String {
    let label = strand.method.label(scene.catalog);
    let study = scene.state().study.as_ref();
    match study.and_then(|study| study.told_apart(strand.reference)) {
        Some(told) => format!("{label} of {told}"),
        None => label,
    }
}

fn table(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View, sweep: &Sweep) {
    if pen.height() < 2 {
        return;
    }
    let theme = scene.theme();
    let wide = usize::from(pen.width());
    // The interval gives way: the chart shows it.
    let interval_cells = if wide >= 70 { 20 } else { 0 };
    let [place_cells, value_cells, deviation_cells] = if wide >= 70 {
        [10, 13, 11]
    } else {
        [9, 11, 10]
    };
    let figures = place_cells + value_cells + interval_cells + deviation_cells;
    let label = wide.saturating_sub(figures + 2).clamp(6, 40);
    let across = across_name(scene, &sweep.across);
    let head = format!(
        " {}{}{}{}{}",
        text::left("", label),
        text::right(&across, place_cells),
        text::right(numbers::what(sweep.quantity.metric), value_cells),
        text::right(
            if sweep.quantity.metric == Metric::LatencyMsP50 {
                "p10 to p90"
            } else {
                "95 % interval"
            },
            interval_cells
        ),
        text::right("deviation", deviation_cells)
    );
    pen.put(0, 0, &head, theme.dim());
    let mut lines: Vec<(Option<NetworkId>, String)> = Vec::new();
    let line = |name: &str,
                place: Option<f64>,
                value: f64,
                interval: Option<(f64, f64)>,
                deviation: Option<f64>| {
        let interval = interval.map_or(String::new(), |(low, high)| {
            let (low, high) = (
                numbers::value(low, sweep.unit),
                numbers::value(high, sweep.unit),
            );
            format!(
                "{} to {}",
                numbers::unitless(&low, &high),
                numbers::unitless(&high, &high)
            )
        });
        let place = place.map_or("—".to_owned(), |place| match sweep.across_unit {
            Unit::None => figure::plain(place, 3)
                .trim_end_matches('0')
                .trim_end_matches('.')
                .to_owned(),
            unit => numbers::value(place, unit),
        });
        let deviation = deviation.map_or(String::new(), |percent| {
            format!("{} %", figure::signed(percent, 2))
        });
        format!(
            "{}{}{}{}{}",
            text::left(&text::clean(name), label),
            text::right(&place, place_cells),
            text::right(&numbers::value(value, sweep.unit), value_cells),
            text::right(&interval, interval_cells),
            text::right(&deviation, deviation_cells)
        )
    };
    for base in &sweep.bases {
        let glyph = scene.glyph(base.network);
        let name = format!("{glyph} {}", scene.name(base.network));
        let words = line(
            &name,
            base.across,
            base.found.value,
            base.found.interval,
            None,
        );
        lines.push((Some(base.network), words));
    }
    for strand in &sweep.strands {
        lines.push((None, strand_name(scene, strand)));
        for mark in &strand.marks {
            let name = format!("{} {}", scene.glyph(mark.network), scene.name(mark.network));
            let words = line(
                &name,
                Some(mark.across),
                mark.found.value,
                mark.found.interval,
                mark.deviation,
            );
            lines.push((Some(mark.network), words));
        }
    }
    let room = usize::from(pen.height() - 1);
    let chosen = scene.candidate(view).map(|network| network.plan.id);
    let cursor = lines
        .iter()
        .position(|(id, _)| id.is_some() && *id == chosen)
        .unwrap_or(0);
    let skip = cursor
        .saturating_sub(room / 2)
        .min(lines.len().saturating_sub(room));
    for (row, (id, words)) in lines.iter().skip(skip).take(room).enumerate() {
        let y = 1 + row as u16;
        let style = id.map_or(theme.title(), |id| scene.style(id));
        pen.put(1, y, words, style);
        if id.is_some() && *id == chosen {
            let width = pen.width();
            pen.shade(0, y, width, theme.selected());
        }
    }
    if lines.len() > skip + room {
        pen.put_right(pen.width(), pen.height() - 1, "↓", theme.dim());
    }
}
