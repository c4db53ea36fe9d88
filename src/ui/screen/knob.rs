//! The live knob: where it stands, and what its setting does to accuracies, sizes and the function.
//!
//! ```text
//! ╭ Knob ────────────── 1,000 validation images ╮
//! │ magnitude pruning                           │
//! │ ratio  ◂━━━━━━━━●━━━▸ 0.65                  │
//! │ clean           93.0  -2.1 ±0.8  ███████▌│  │
//! │ non-zero       78,762            -65.0 %    │
//! │ the map of functions, with the setting on it│
//! ╰─────────────────────────────────────────────╯
//! ```

use super::{function, numbers};
use crate::catalog::{Described, Knob, Range, Text};
use crate::event::{Trial, TrialHits};
use crate::measurement::{Measurement, Metric, Unit};
use crate::spec::{Branch, KnobValue, Method, STRENGTHS, Setting, Stage};
use crate::state::sweep::{Across, Quantity, deviation};
use crate::state::{NetworkState, Status};
use crate::ui::figure;
use crate::ui::form::turn_knob;
use crate::ui::keymap::Source;
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::view::{Request, View};
use crate::ui::widget::{bar, frame};

/// The glyph of the setting under the knob, which is no network of the study.
pub const GLYPH: char = '✕';

/// The compressions that can be turned, of those that are known now.
fn live<'a>(scene: &Scene<'a>) -> Vec<&'a Described> {
    let known = |id: &Text| scene.lab.find(id);
    scene.lab.live.iter().filter_map(known).collect()
}

/// The knob of a method that says how strongly it compresses.
fn strength(described: &Described) -> Option<&Knob> {
    STRENGTHS.iter().find_map(|id| described.knob(id))
}

/// The reference that is turned: that of the candidate.
pub fn reference<'a>(scene: &Scene<'a>, view: &View) -> Option<&'a NetworkState> {
    scene.reference(view)
}

/// Where the knob stands: where somebody turned it, where it stood last, as the candidate asks, or by itself.
pub fn standing(scene: &Scene<'_>, view: &View) -> Option<Method> {
    let is_live = |method: &Method| scene.lab.live.iter().any(|id| *id == method.id);
    if let Some(method) = view.knob.clone().filter(is_live) {
        return Some(method);
    }
    let reference = reference(scene, view)?.plan.reference;
    if let Some(trial) = scene.state().last_trial(reference) {
        return Some(trial.method.clone());
    }
    let asked = scene
        .candidate(view)
        .and_then(|network| scene.state().branch(network.plan.id))
        .and_then(|branch| match branch.stages.first() {
            Some(Stage::Compress(method)) => Some(method),
            _ => None,
        })
        .filter(|method| is_live(method));
    let method = match asked {
        Some(method) => changed(method, scene.lab.find(&method.id)?),
        None => Method::plain(&*live(scene).first()?.info.id),
    };
    Some(method)
}

/// The method with the knobs that stand elsewhere than by themselves, and always the one that is turned.
fn changed(method: &Method, described: &Described) -> Method {
    let mut method = method.clone();
    method.setting.0.retain(|id, value| {
        let is_default = described
            .knob(id)
            .is_some_and(|knob| knob.range.default() == *value);
        STRENGTHS.contains(&id.as_str()) || !is_default
    });
    method
}

/// Whether left and right turn the knob: a lab works for this screen, and knows a method to turn.
pub fn turns(scene: &Scene<'_>) -> bool {
    scene.source() == Source::Lab && !scene.lab.live.is_empty()
}

/// Why the knob cannot be turned now.
fn obstacle(scene: &Scene<'_>, view: &View) -> Option<String> {
    if scene.source() != Source::Lab {
        return Some(
            "the knob needs the lab that made the study; this session is only read".to_owned(),
        );
    }
    if live(scene).is_empty() {
        return Some("no method can be turned while one looks".to_owned());
    }
    let Some(reference) = reference(scene, view) else {
        return Some("no study yet: 1 makes one".to_owned());
    };
    match reference.status {
        Status::Done => None,
        _ => Some(format!(
            "the knob turns when {} is trained and measured",
            reference.plan.name
        )),
    }
}

/// Turns the knob by so many steps.
pub fn turn(view: &mut View, by: i64, scene: &Scene<'_>) -> Option<Request> {
    if let Some(obstacle) = obstacle(scene, view) {
        view.hint = Some(obstacle);
        return None;
    }
    let mut method = standing(scene, view)?;
    let described = scene.lab.find(&method.id)?;
    let knob = strength(described)?;
    let before = value(&method, knob);
    turn_knob(&mut method.setting, knob, by);
    if value(&method, knob) == before && view.knob.is_some() {
        view.hint = Some(format!("{} is at its end; {}", knob.title, knob.range));
        return None;
    }
    follow(view, &knob.id);
    view.knob = Some(method);
    wish(view, scene)
}

/// What a knob stands at.
fn value(method: &Method, knob: &Knob) -> KnobValue {
    let set = method.setting.0.get(&*knob.id).cloned();
    set.unwrap_or_else(|| knob.range.default())
}

/// A chart over another knob goes over to the one that is turned; a chart over a size stays.
fn follow(view: &mut View, id: &str) {
    if !matches!(view.sweep.across, Some(Across::Size(_))) {
        view.sweep.across = Some(Across::Knob(id.to_owned()));
    }
}

/// Goes on to the next method that can be turned.
pub fn next_method(view: &mut View, scene: &Scene<'_>) -> Option<Request> {
    if let Some(obstacle) = obstacle(scene, view) {
        view.hint = Some(obstacle);
        return None;
    }
    let all = live(scene);
    let now = standing(scene, view)?;
    let at = all.iter().position(|known| known.info.id == now.id);
    let next = all[at.map_or(0, |at| (at + 1) % all.len())];
    let knob = strength(next)?;
    let setting = Setting::default().with(&knob.id, knob.range.default());
    follow(view, &knob.id);
    view.knob = Some(Method {
        id: next.info.id.to_string(),
        setting,
    });
    wish(view, scene)
}

/// Asks for the setting under the knob, at the severity that is looked at; nothing before it was ever turned.
pub fn wish(view: &View, scene: &Scene<'_>) -> Option<Request> {
    let method = view.knob.clone()?;
    Some(Request::Try {
        reference: reference(scene, view)?.plan.reference,
        method,
        severity: view.severity,
    })
}

/// Asks what each layer of the reference bears.
pub fn sense(view: &mut View, scene: &Scene<'_>) -> Option<Request> {
    if let Some(obstacle) = obstacle(scene, view) {
        view.hint = Some(obstacle.replace("the knob turns", "layers are looked at"));
        return None;
    }
    let reference = reference(scene, view)?.plan.reference;
    Some(Request::Sense { reference })
}

/// Keeps the setting under the knob as a branch.
pub fn keep(view: &mut View, scene: &Scene<'_>) -> Option<Request> {
    if let Some(obstacle) = obstacle(scene, view) {
        view.hint = Some(obstacle);
        return None;
    }
    let reference = reference(scene, view)?.plan.reference;
    let Some(method) = view.knob.clone() else {
        view.hint = Some("← → turn the knob; enter then keeps its setting as a branch".to_owned());
        return None;
    };
    Some(Request::AddBranch {
        reference,
        branch: Branch {
            stages: vec![Stage::Compress(method)],
            ..Branch::default()
        },
    })
}

/// What is shown beside the chart: the last setting of this reference, if the knob was ever turned or is being.
pub fn shown<'a>(scene: &Scene<'a>, view: &View) -> Option<Option<&'a Trial>> {
    let reference = reference(scene, view)?.plan.reference;
    let trial = scene.state().last_trial(reference);
    (trial.is_some() || view.knob.is_some()).then_some(trial)
}

/// Whether the setting under the knob is still being looked at.
fn is_pending(scene: &Scene<'_>, view: &View, trial: Option<&Trial>) -> bool {
    let Some(method) = view.knob.as_ref().filter(|_| scene.source() == Source::Lab) else {
        return false;
    };
    let Some(trial) = trial else { return true };
    let strength = |method: &Method| {
        let mut ids = STRENGTHS.iter();
        ids.find_map(|id| method.setting.0.get(*id)?.number())
    };
    let severity = trial.hits.iter().find_map(|hits| hits.severity);
    trial.method.id != method.id
        || strength(&trial.method) != strength(method)
        || severity.is_some_and(|severity| severity != view.severity)
}

/// The reference's accuracy on the knob's images under a condition that was looked at.
pub fn base(scene: &Scene<'_>, view: &View, quantity: &Quantity) -> Option<f64> {
    let number = reference(scene, view)?.plan.reference;
    let trial = scene.state().last_trial(number)?;
    let same = |hits: &&TrialHits| {
        (&hits.condition, hits.severity) == (&quantity.condition, quantity.severity)
    };
    let hits = trial.hits.iter().find(same)?;
    let is_accuracy = quantity.metric == Metric::Accuracy && trial.n > 0;
    is_accuracy.then(|| hits.reference as f64 / trial.n as f64)
}

/// Draws the panel.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View, trial: Option<&Trial>) {
    let theme = scene.theme();
    let n = trial.map_or(0, |trial| trial.n);
    let note = match n {
        0 => String::new(),
        n if pen.width() >= 44 => format!("{} validation images", figure::count(n)),
        n => format!("n {} validation", figure::count(n)),
    };
    let mut inside = frame::frame(pen, "Knob", &note, false, theme);
    if inside.width() < 20 || inside.height() < 5 {
        return;
    }
    let pending = is_pending(scene, view, trial);
    let mut y = head(&mut inside, scene, view, pending);
    let Some(trial) = trial else {
        let words =
            "the first setting takes longest: the images are made, and the reference looks at them";
        let width = inside.width().saturating_sub(2);
        let height = inside.height().saturating_sub(y);
        inside
            .part(1, y, width, height)
            .put_wrapped(0, words, theme.dim());
        return;
    };
    if let Some(problem) = &trial.problem {
        let width = inside.width().saturating_sub(2);
        let height = inside.height().saturating_sub(y);
        let words = format!("✗ {problem}");
        inside
            .part(1, y, width, height)
            .put_wrapped(0, &words, theme.error());
        return;
    }
    let severity = trial.hits.iter().find_map(|hits| hits.severity);
    let words = match severity {
        Some(severity) => format!("severity {severity}   │ the reference"),
        None => "│ the reference".to_owned(),
    };
    inside.put(1, y - 1, &words, theme.dim());
    for hits in &trial.hits {
        accuracy(&mut inside, y, scene, trial, hits);
        y += 1;
    }
    y = sizes(&mut inside, y, scene, trial);
    let (width, rest) = (inside.width(), inside.height().saturating_sub(y));
    if rest >= 5 {
        let mut lower = inside.part(0, y, width, rest);
        function::draw_beside(&mut lower, scene, view, trial);
    }
}

/// The method, and the knob as a slider; the next free line.
fn head(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View, pending: bool) -> u16 {
    let theme = scene.theme();
    let Some(method) = standing(scene, view) else {
        return 0;
    };
    let described = scene.lab.find(&method.id);
    let title = scene.title_of(&method.id);
    pen.put(1, 0, &title, theme.title());
    if pending {
        pen.put_right(pen.width() - 1, 0, "looking …", theme.accent());
    }
    let Some(knob) = described.and_then(strength) else {
        return 2;
    };
    let value = value(&method, knob);
    let place = place(&knob.range, &value);
    let words = match (&value, described) {
        (KnobValue::Real(ratio), Some(described)) if knob.id == "ratio" => {
            let counts = described.info.ratio_of.as_deref().unwrap_or("parameters");
            format!("{value} of {counts}", value = (ratio * 1e4).round() / 1e4)
        }
        _ => value.to_string(),
    };
    let cells = usize::from(pen.width())
        .saturating_sub(text::width(&knob.title) + text::width(&words) + 7)
        .min(20);
    let x = pen.put(1, 1, &format!("{} ", knob.title), theme.dim());
    let at = (place * cells.saturating_sub(1) as f64).round() as usize;
    let x = pen.run(
        x,
        1,
        &[
            ("◂", theme.key()),
            (&"━".repeat(at), theme.accent()),
            (if cells > 0 { "●" } else { "" }, theme.accent()),
            (&"─".repeat(cells.saturating_sub(at + 1)), theme.border()),
            ("▸ ", theme.key()),
        ],
    );
    pen.put(x, 1, &words, theme.text());
    3
}

/// Where a value stands between the ends of its knob.
fn place(range: &Range, value: &KnobValue) -> f64 {
    let share = match (range, value) {
        (Range::Integer { least, most, .. }, _) => value
            .number()
            .map(|v| (v - *least as f64) / (most - least).max(1) as f64),
        (Range::Real { least, most, .. }, _) => {
            value.number().map(|v| (v - least) / (most - least))
        }
        (Range::Choice { options, .. }, value) => options
            .iter()
            .position(|option| *option == value.to_string())
            .map(|at| at as f64 / options.len().saturating_sub(1).max(1) as f64),
        (Range::Flag { .. } | Range::Text { .. }, _) => None,
    };
    share
        .filter(|share| share.is_finite())
        .unwrap_or(0.0)
        .clamp(0.0, 1.0)
}

/// `gaussian noise 3   54.2 -16.8 ±1.1 ██████▌   │`: the mark is where the reference stands.
fn accuracy(pen: &mut Pen<'_>, y: u16, scene: &Scene<'_>, trial: &Trial, hits: &TrialHits) {
    let theme = scene.theme();
    let (reference, own, difference) = trial.accuracy(hits);
    let wide = pen.width() >= 44;
    let label = hits
        .condition
        .as_deref()
        .map_or("clean".to_owned(), |id| scene.title_of(id));
    let cells = if wide { 17 } else { 15 };
    let x = pen.put(1, y, &text::left(&text::clean(&label), cells), theme.text());
    let x = pen.put(
        x,
        y,
        &text::right(&figure::percent(own.value), 6),
        theme.text(),
    );
    let margin = difference.margin().filter(|_| wide);
    let change = figure::points(difference.value)
        + &margin.map_or(String::new(), |margin| {
            format!(" ±{}", figure::percent(margin))
        });
    let style = match difference.is_within_noise() {
        Some(true) => theme.dim(),
        _ if difference.value < 0.0 => theme.bad(),
        _ => theme.good(),
    };
    let x = pen.put(
        x,
        y,
        &text::right(&change, if wide { 12 } else { 7 }),
        style,
    );
    let cells = pen.width().saturating_sub(x + 2);
    if cells >= 5 {
        let at = x + 1;
        bar::draw(
            pen,
            (at, y),
            cells,
            own.value,
            None,
            theme.accent(),
            theme.dim(),
        );
        let mark = (reference.value * f64::from(cells)).round() as u16;
        pen.cell(at + mark.min(cells), y, '│', theme.text());
    }
}

/// The sizes, and how far it agrees with its reference; the next free line.
fn sizes(pen: &mut Pen<'_>, y: u16, scene: &Scene<'_>, trial: &Trial) -> u16 {
    let theme = scene.theme();
    let base = scene.state().reference(trial.reference);
    let mut y = y;
    let mut line = |what: &str, words: &str, change: &str, style| {
        let cells = if pen.width() >= 44 { 17 } else { 15 };
        let x = pen.put(1, y, &text::left(what, cells), theme.dim());
        let x = pen.put(x, y, &text::right(words, 11), theme.text());
        pen.put(x, y, &text::right(change, 9), style);
        y += 1;
    };
    for (metric, _) in &trial.sizes {
        let Some(own) = trial.size(*metric) else {
            continue;
        };
        let unit = match metric {
            Metric::Bytes | Metric::BytesWritten => Unit::Bytes,
            _ => Unit::Count,
        };
        let before = base
            .and_then(|base| base.measurements.latest(*metric, None, None))
            .and_then(Measurement::scalar);
        let change = before.and_then(|before| deviation(own, before));
        let style = match change {
            Some(change) if change < -0.05 => theme.good(),
            Some(change) if change > 0.05 => theme.bad(),
            _ => theme.dim(),
        };
        let words = match change {
            Some(change) if change.abs() >= 0.05 => format!("{} %", figure::signed(change, 1)),
            Some(_) => "same".to_owned(),
            None => String::new(),
        };
        line(
            numbers::what(*metric),
            &numbers::value(own, unit),
            &words,
            style,
        );
    }
    let share = trial.same as f64 / trial.n.max(1) as f64;
    let words = format!("{} %", figure::percent(share));
    line("agreement", &words, "", theme.dim());
    y
}
