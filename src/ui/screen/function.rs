//! Function: is it still the same? Every epoch of every network is a point; near means alike answers.

use std::collections::BTreeMap;

use super::{knob, robustness};
use crate::event::Trial;
use crate::measurement::{MapPoint, Verdict};
use crate::spec::NetworkId;
use crate::state::{Map, Nearness, counted};
use crate::ui::figure;
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::view::{MAPS, View};
use crate::ui::widget::grid::{ACROSS, DOWN, Grid};

/// What the title line says on the right.
pub fn note(scene: &Scene<'_>, view: &View) -> String {
    let method = MAPS[view.map.min(MAPS.len() - 1)];
    match scene.landscape(view).map(method) {
        Some(map) => {
            let points = counted(map.points.len() as u64, "point");
            format!("{method} · {points}")
        }
        None => method.to_owned(),
    }
}

/// The panel: the map, and below it whether each branch is nearer than a twin.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let lines = if pen.height() >= 9 { 2 } else { 1 };
    let height = pen.height().saturating_sub(lines);
    let mut upper = pen.part(0, 0, pen.width(), height);
    map(&mut upper, scene, view, None);
    let mut y = height;
    if lines == 2 {
        let words = format!("trails: epochs · {}", method_words(view));
        let room = usize::from(pen.width()).saturating_sub(2);
        pen.put(1, y, &text::fit(&words, room), scene.theme().dim());
        y += 1;
    }
    let mut lower = pen.part(0, y, pen.width(), 1);
    verdict_line(&mut lower, scene, view);
}

fn method_words(view: &View) -> &'static str {
    match MAPS[view.map.min(MAPS.len() - 1)] {
        "pca" => "PCA of the outputs",
        "t-sne" => "t-SNE of JS distances",
        _ => "MDS of JS distances",
    }
}

/// The classical map with the setting under the live knob on it.
pub fn draw_beside(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View, trial: &Trial) {
    let classical = View {
        map: 0,
        ..view.clone()
    };
    let place = trial.place(scene.landscape(view));
    map(pen, scene, &classical, place);
}

/// The map; `tried` is the place of the live knob's setting.
fn map(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View, tried: Option<(f64, f64)>) {
    let theme = scene.theme();
    let method = MAPS[view.map.min(MAPS.len() - 1)];
    let middle = pen.height() / 2;
    let landscape = scene.landscape(view);
    let Some(map) = landscape.map(method).filter(|map| map.points.len() > 1) else {
        let left_out = scene.state().study.as_ref();
        let left_out =
            left_out.and_then(|study| robustness::left_out(study, "functional-landscape"));
        let words = if let Some(words) = left_out.filter(|_| landscape.points.is_empty()) {
            words
        } else if landscape.points.is_empty() {
            "waits for the first epoch's answers on the test images".to_owned()
        } else if landscape.maps.iter().any(|map| map.method != method) {
            let least = if method == "t-sne" {
                " and at least 7 points"
            } else {
                ""
            };
            format!(
                "no {method} map of these {}: it takes map = {method} under Measure in the form, or --set \
                 map={method}{least}. m shows another map.",
                counted(landscape.points.len() as u64, "point")
            )
        } else {
            format!("{} so far", counted(landscape.points.len() as u64, "point"))
        };
        let lines = text::wrap(&words, usize::from(pen.width()).saturating_sub(2));
        let first = middle.saturating_sub(lines.len() as u16 / 2);
        for (row, line) in lines.iter().enumerate() {
            pen.put_center(first + row as u16, line, theme.dim());
        }
        return;
    };
    let mut grid = Grid::new(pen.width(), pen.height());
    place(&mut grid, map, scene, tried);
    grid.paint(pen, |ink| match ink {
        0 => theme.dim(),
        u16::MAX => theme.accent(),
        n => theme.network(NetworkId(u32::from(n) - 1)),
    });
}

/// Ink of a network's trail and glyph; 0 is everybody's label.
fn ink(network: NetworkId) -> u16 {
    (network.0 % 60_000) as u16 + 1
}

fn place(grid: &mut Grid, map: &Map, scene: &Scene<'_>, tried: Option<(f64, f64)>) {
    let mut trails: BTreeMap<NetworkId, Vec<&MapPoint>> = BTreeMap::new();
    let finite = |point: &&MapPoint| point.x.0.is_finite() && point.y.0.is_finite();
    for point in map.points.iter().filter(finite) {
        trails.entry(point.network).or_default().push(point);
    }
    for trail in trails.values_mut() {
        trail.sort_by_key(|point| point.epoch);
    }
    let (mut left, mut right) = (f64::INFINITY, f64::NEG_INFINITY);
    let (mut low, mut high) = (left, right);
    let points = trails
        .values()
        .flatten()
        .map(|point| (point.x.0, point.y.0));
    for (x, y) in points.chain(tried) {
        (left, right) = (left.min(x), right.max(x));
        (low, high) = (low.min(y), high.max(y));
    }
    if left > right {
        return;
    }
    // A margin of two cells for glyphs, and the same scale both ways: distances are what the map is about.
    let across = f64::from((grid.across() - 4 * ACROSS).max(1));
    let down = f64::from((grid.down() - 2 * DOWN).max(1));
    let scale = (across / (right - left).max(1e-12)).min(down / (high - low).max(1e-12));
    let scale = if scale.is_finite() { scale } else { 1.0 };
    let center = (f64::midpoint(left, right), f64::midpoint(low, high));
    // Everything is put in the middle of its cell, so that a point that moves a little moves nothing on screen.
    let dot_at = |(x, y): (f64, f64)| -> (i32, i32) {
        let dx = ((x - center.0) * scale).clamp(-1e4, 1e4);
        let dy = ((y - center.1) * scale).clamp(-1e4, 1e4);
        let x = (f64::from(grid.across()) / 2.0 + dx).round() as i32;
        let y = (f64::from(grid.down()) / 2.0 - dy).round() as i32;
        (
            x.div_euclid(ACROSS) * ACROSS + ACROSS / 2,
            y.div_euclid(DOWN) * DOWN + DOWN / 2,
        )
    };
    let dot = |point: &MapPoint| dot_at((point.x.0, point.y.0));
    let mut lines: Vec<(NetworkId, Vec<(i32, i32)>)> = Vec::new();
    for (network, trail) in &trails {
        lines.push((*network, trail.iter().map(|point| dot(point)).collect()));
    }
    let tried = tried.map(dot_at);
    for (network, dots) in &lines {
        for pair in dots.windows(2) {
            grid.line(pair[0], pair[1], ink(*network));
        }
    }
    for (network, dots) in &lines {
        for (x, y) in dots.iter().take(dots.len().saturating_sub(1)) {
            grid.glyph(x / ACROSS, y / DOWN, '·', ink(*network));
        }
    }
    // Where two end in the same cell, the later one stands beside the earlier one.
    let mut ends: Vec<(NetworkId, i32, i32)> = Vec::new();
    for (network, dots) in &lines {
        if let Some((x, y)) = dots.last().map(|(x, y)| (x / ACROSS, y / DOWN)) {
            let taken = |x: i32| ends.iter().any(|(_, a, b)| (*a, *b) == (x, y));
            let x = [0, 1, -1, 2, -2]
                .into_iter()
                .map(|aside| x + aside)
                .find(|x| !taken(*x))
                .unwrap_or(x);
            grid.glyph(x, y, scene.glyph(*network), ink(*network));
            ends.push((*network, x, y));
        }
    }
    if let Some((x, y)) = tried {
        grid.glyph(x / ACROSS, y / DOWN, knob::GLYPH, u16::MAX);
    }
    for (network, x, y) in ends {
        let name = text::clean(&scene.name(network));
        for most in [24, 12] {
            let name = text::fit(&name, most);
            let cells = text::width(&name) as i32;
            // A character of two cells cannot stand in a grid of single ones.
            if cells != name.chars().count() as i32 {
                break;
            }
            let spots = [
                (x + 2, y),
                (x - 1 - cells, y),
                (x - cells / 2, y - 1),
                (x - cells / 2, y + 1),
                (x + 2, y + 1),
                (x + 2, y - 1),
                (x - 1 - cells, y + 1),
                (x - 1 - cells, y - 1),
            ];
            if spots.iter().any(|(x, y)| grid.label(*x, *y, &name, 0)) {
                break;
            }
        }
    }
}

/// `nearer than a twin?  ▲ undecided   ■ no   1 twin`
fn verdict_line(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let verdicts = &scene.landscape(view).verdicts;
    if verdicts.is_empty() {
        pen.put(1, 0, "nearer than a twin?  not measured yet", theme.dim());
        return;
    }
    let mut x = pen.put(1, 0, "nearer than a twin? ", theme.text());
    for verdict in verdicts {
        let style = scene.style(verdict.network);
        x = pen.run(
            x,
            0,
            &[
                (" ", theme.text()),
                (&scene.glyph(verdict.network).to_string(), style),
                (" ", theme.text()),
                (answer(verdict.verdict), theme.title()),
                (" ", theme.text()),
            ],
        );
    }
    pen.put(x + 1, 0, &twins(verdicts), theme.dim());
}

fn answer(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Nearer => "yes",
        Verdict::Farther => "no",
        Verdict::Undecided => "undecided",
    }
}

fn twins(verdicts: &[Nearness]) -> String {
    let twins = verdicts.iter().map(|v| v.twins).max().unwrap_or(0);
    match twins {
        0 => "no twin".to_owned(),
        n => counted(u64::from(n), "twin"),
    }
}

/// The map beside the distances of where everybody stands now, and every verdict with its interval.
pub fn draw_full(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let verdicts = &scene.landscape(view).verdicts;
    let lines = (verdicts.len() as u16 + 1).min(pen.height() / 3);
    let height = pen.height().saturating_sub(lines + 1);
    let side = (pen.width() / 2).min(10 + 8 * scene.plans().len() as u16 + 8);
    let side = if pen.width() >= 70 { side } else { 0 };
    let mut left = pen.part(0, 0, pen.width() - side, height);
    map(&mut left, scene, view, None);
    let mut right = pen.part(pen.width() - side, 0, side, height);
    matrix(&mut right, scene, view);
    pen.put(
        1,
        height,
        "nearer than a twin?   d = JS(branch, reference) - least JS(twin, reference), nats (95 %)",
        theme.dim(),
    );
    if verdicts.is_empty() {
        pen.put(1, height + 1, "not measured yet", theme.dim());
    }
    for (row, verdict) in verdicts.iter().take(usize::from(lines)).enumerate() {
        let y = height + 1 + row as u16;
        let interval = verdict.interval.map_or(String::new(), |(low, high)| {
            format!(
                " ({} to {})",
                figure::signed(low.0, 4),
                figure::signed(high.0, 4)
            )
        });
        let rest = format!(
            "  d = {}{interval}   {}{}",
            figure::signed(verdict.difference.0, 4),
            twins(std::slice::from_ref(verdict)),
            verdict
                .n
                .map_or(String::new(), |n| format!(" · n = {}", figure::count(n)))
        );
        pen.run(
            1,
            y,
            &[
                (
                    &scene.glyph(verdict.network).to_string(),
                    scene.style(verdict.network),
                ),
                (" ", theme.text()),
                (
                    &(text::left(&scene.name(verdict.network), 26) + " "),
                    theme.text(),
                ),
                (&text::left(answer(verdict.verdict), 10), theme.title()),
                (&rest, theme.dim()),
            ],
        );
    }
}

/// Distances between the last points of all networks, as figures.
fn matrix(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    if pen.is_empty() {
        return;
    }
    let landscape = scene.landscape(view);
    let mut last: Vec<(NetworkId, usize)> = Vec::new();
    for (index, point) in landscape.points.iter().enumerate() {
        match last
            .iter_mut()
            .find(|(network, _)| *network == point.network)
        {
            Some(known) => known.1 = index,
            None => last.push((point.network, index)),
        }
    }
    pen.put(1, 0, "distance now", theme.dim());
    let columns = usize::from(pen.width().saturating_sub(5) / 7);
    let room = usize::from(pen.height().saturating_sub(2));
    let skip = view.scroll.min(last.len().saturating_sub(room.max(1)));
    for (column, (network, _)) in last.iter().take(columns).enumerate() {
        let x = 5 + 7 * column as u16;
        pen.put_right(
            x + 6,
            1,
            &scene.glyph(*network).to_string(),
            scene.style(*network),
        );
    }
    for (row, (network, i)) in last.iter().skip(skip).take(room).enumerate() {
        let y = 2 + row as u16;
        pen.put(
            2,
            y,
            &scene.glyph(*network).to_string(),
            scene.style(*network),
        );
        for (column, (_, j)) in last.iter().take(columns).enumerate() {
            let x = 5 + 7 * column as u16;
            let (words, style) = match landscape.distance(*i, *j) {
                _ if i == j => ("·".to_owned(), theme.dim()),
                Some(distance) => (figure::plain(distance, 3), theme.text()),
                None => ("—".to_owned(), theme.dim()),
            };
            pen.put_right(x + 6, y, &words, style);
        }
    }
}
