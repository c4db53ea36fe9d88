//! The layers of a network: how wide they are, how many zeros they hold, with how many bits, which channels went.
//!
//! ```text
//!  layer   output     weights    zeros         bits   mult-adds      bytes   channels
//!  conv1   6x24x24        150    33.3 % ██▋    8/8       86.4 k      150 B   ██░░█░
//! ```

use super::live;
use crate::event::{KeptChannels, LayerFacts};
use crate::state::{Mode, NetworkState, Sensed, counted};
use crate::ui::figure;
use crate::ui::keymap::Source;
use crate::ui::pen::Pen;
use crate::ui::scene::Scene;
use crate::ui::text;
use crate::ui::theme::Theme;
use crate::ui::view::View;
use crate::ui::widget::{bar, footer, frame, transport, tree};

/// A layer with weights, and what stands beside it.
struct Row<'a> {
    facts: &'a LayerFacts,
    /// The same layer of the reference.
    reference: Option<&'a LayerFacts>,
    /// Bits of what the layer hands on, where fewer than a float's.
    activation_bits: Option<u32>,
    /// What the reference's layer bears, where that was found out.
    sensed: Option<&'a Sensed>,
}

/// The network whose layers are shown: the candidate, or the reference where that has none yet.
fn shown<'a>(scene: &Scene<'a>, view: &View) -> Option<&'a NetworkState> {
    scene
        .candidate(view)
        .filter(|network| !network.layers.is_empty())
        .or_else(|| scene.reference(view))
        .filter(|network| !network.layers.is_empty())
}

fn listed<'a>(scene: &Scene<'a>, view: &View, network: &'a NetworkState) -> Vec<Row<'a>> {
    let reference = scene.reference_of(network);
    let mut rows: Vec<Row<'_>> = Vec::new();
    for facts in &network.layers {
        if facts.kind == "fake-quant" {
            // It rounds what the layer before it hands on, past the layers computed together with that one.
            if let Some(row) = rows.iter_mut().rev().find(|row| row.facts.macs > 0) {
                row.activation_bits = row.activation_bits.or(facts.bits);
            }
            continue;
        }
        let same = |layer: &&LayerFacts| layer.name == facts.name;
        rows.push(Row {
            facts,
            reference: reference.and_then(|reference| reference.layers.iter().find(same)),
            activation_bits: None,
            sensed: scene
                .state()
                .sensed
                .get(&(network.plan.reference, facts.name.clone())),
        });
    }
    if !view.all_layers {
        rows.retain(|row| row.facts.macs > 0);
    }
    rows
}

/// Lines that can be scrolled through.
pub fn rows(scene: &Scene<'_>, view: &View) -> usize {
    shown(scene, view).map_or(0, |network| listed(scene, view, network).len())
}

/// Bytes of the layer's parameters as they are stored: weights packed to their bits, zeros as anything else.
fn bytes(facts: &LayerFacts) -> f64 {
    let weights = facts.weights.unwrap_or(facts.parameters);
    let others = facts.parameters.saturating_sub(weights) as f64;
    (weights as f64 * f64::from(facts.bits.unwrap_or(32)) / 8.0).ceil() + others * 4.0
}

/// Draws the screen.
pub fn draw(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View) {
    let theme = scene.theme();
    let (width, height) = (pen.width(), pen.height());
    let network = shown(scene, view);
    let question = live::question(scene, network);
    pen.put(1, 0, &format!("layers   {question}"), theme.title());
    let mut panel = pen.part(0, 1, width, height - 3);
    match network {
        Some(network) => layers(&mut panel, scene, view, network),
        None => {
            let mut inside = frame::frame(&mut panel, "Layers", "", true, theme);
            let middle = inside.height() / 2;
            let words = if scene.state().study.is_none() {
                "no study yet: 1 makes one, o opens a saved one"
            } else {
                "waits for the first network to be built"
            };
            inside.put_center(middle, words, theme.dim());
        }
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

/// Cells of the columns, by how wide the panel is: layer, output, weights, zeros, its bar, bits, mult-adds, bytes.
struct Columns {
    layer: usize,
    output: usize,
    weights: usize,
    bar: usize,
    bytes: usize,
    channels: usize,
}

impl Columns {
    /// Channels stand in a line of their own where there is room for it.
    fn of(width: u16, is_tall: bool) -> Self {
        let width = usize::from(width);
        let wide = width >= 96;
        let (layer, output, weights, bar, bytes) = if wide && is_tall {
            (14, 13, 18, 8, 10)
        } else if wide {
            (14, 12, 10, 5, 9)
        } else if width >= 74 {
            (12, 10, 9, 0, 0)
        } else {
            (11, 8, 0, 0, 0)
        };
        let used = layer + output + weights + 8 + bar + 6 + 10 + bytes + 8 + 3;
        Self {
            layer,
            output,
            weights,
            bar,
            bytes,
            channels: if is_tall {
                0
            } else {
                width.saturating_sub(used)
            },
        }
    }
}

fn layers(pen: &mut Pen<'_>, scene: &Scene<'_>, view: &View, network: &NetworkState) {
    let theme = scene.theme();
    let id = network.plan.id;
    let reference = scene
        .reference_of(network)
        .filter(|reference| reference.plan.id != id);
    let title = match reference {
        Some(reference) => format!("{} beside {}", network.plan.name, reference.plan.name),
        None => network.plan.name.clone(),
    };
    let note = format!(
        "{} · {} parameters",
        counted(network.layers.len() as u64, "layer"),
        figure::count(network.parameters)
    );
    let has_keys = view.popups.is_empty();
    let mut inside = frame::frame(pen, &title, &note, has_keys, theme);
    if inside.width() < 30 || inside.height() < 4 {
        return;
    }
    let rows = listed(scene, view, network);
    let room = usize::from(inside.height()) - 3;
    let is_tall = rows.len() * 2 <= room;
    let columns = Columns::of(inside.width(), is_tall);
    let is_reference = reference.is_none();
    head(&mut inside, &columns, is_reference, theme);
    let skip = view.scroll.min(rows.len().saturating_sub(room));
    let each = if is_tall { 2 } else { 1 };
    for (place, row) in rows.iter().skip(skip).take(room).enumerate() {
        let y = 1 + (place * each) as u16;
        put(&mut inside, y, row, &columns, theme);
        if is_tall && row.facts.macs > 0 {
            let cells = usize::from(inside.width()).saturating_sub(6);
            strip(&mut inside, 3, y + 1, row, cells, theme);
        }
    }
    let shown = skip + rows.len().saturating_sub(skip).min(room);
    let y = 1 + ((shown - skip) * each) as u16;
    totals(&mut inside, y, network, reference, &columns, theme);
    let last = inside.height() - 1;
    let hidden = network.layers.len() - rows.len();
    let mut words = "█ kept ▒ part ░ gone".to_owned();
    if inside.width() >= 96 {
        words += "   bits: weights/activations   ";
        words += if is_reference {
            "½ zero: points lost, alone"
        } else {
            "½ ref.: what the reference loses, alone"
        };
    }
    if rows.len() > shown || skip > 0 {
        words = format!("{} to {shown} of {}   {words}", skip + 1, rows.len());
    }
    if hidden > 0 && !view.all_layers {
        let without = counted(hidden as u64, "layer");
        words = format!("{words}   a: {without} more");
    }
    inside.put(1, last, &words, theme.dim());
}

fn head(pen: &mut Pen<'_>, columns: &Columns, is_reference: bool, theme: Theme) {
    let words = [
        text::left("layer", columns.layer),
        text::left("output", columns.output),
        text::right(
            if columns.weights > 0 { "weights" } else { "" },
            columns.weights,
        ),
        text::right("zeros", 8),
        " ".repeat(columns.bar),
        text::right("bits", 6),
        text::right("mult-adds", 10),
        text::right(if columns.bytes > 0 { "bytes" } else { "" }, columns.bytes),
        text::right(if is_reference { "½ zero" } else { "½ ref." }, 8),
        "  ".to_owned(),
        text::left(
            if columns.channels >= 8 {
                "channels"
            } else {
                ""
            },
            columns.channels,
        ),
    ];
    pen.put(1, 0, &words.concat(), theme.dim());
}

/// `64→26` where the reference has more, before the rest of the shape.
fn shape(row: &Row<'_>) -> String {
    let own: Vec<String> = row.facts.output.iter().map(ToString::to_string).collect();
    let width = row.facts.output.first();
    let before = row.reference.and_then(|reference| reference.output.first());
    match (before, width) {
        (Some(before), Some(width)) if before != width => {
            let rest = own[1..].join("x");
            let x = if rest.is_empty() { "" } else { "x" };
            format!("{before}→{width}{x}{rest}")
        }
        _ => own.join("x"),
    }
}

fn put(pen: &mut Pen<'_>, y: u16, row: &Row<'_>, columns: &Columns, theme: Theme) {
    let facts = row.facts;
    let has_weights = facts.weights.is_some() || facts.macs > 0;
    let style = if has_weights {
        theme.text()
    } else {
        theme.dim()
    };
    let weights = facts.weights.unwrap_or(facts.parameters);
    let before = row
        .reference
        .map(|reference| reference.weights.unwrap_or(reference.parameters))
        .filter(|before| *before != weights && columns.weights >= 16);
    let weights_words = match (weights, before) {
        (0, None) => String::new(),
        (_, None) => figure::short_count(weights as f64),
        (_, Some(before)) => format!(
            "{}→{}",
            figure::short_count(before as f64),
            figure::short_count(weights as f64)
        ),
    };
    let x = pen.put(
        1,
        y,
        &text::left(&text::clean(&facts.name), columns.layer),
        style,
    );
    let x = pen.put(x, y, &text::left(&shape(row), columns.output), theme.dim());
    let x = pen.put(x, y, &text::right(&weights_words, columns.weights), style);
    let zeros = facts
        .nonzero
        .filter(|_| weights > 0)
        .map_or(0.0, |nonzero| 1.0 - nonzero as f64 / weights as f64);
    let words = match (facts.weights, zeros) {
        (None, _) => String::new(),
        (_, 0.0) => "0 %".to_owned(),
        (_, share) => format!("{} %", figure::percent(share)),
    };
    let zeros_style = if zeros > 0.0 {
        theme.text()
    } else {
        theme.dim()
    };
    let x = pen.put(x, y, &text::right(&words, 8), zeros_style);
    if columns.bar > 0 && zeros > 0.0 {
        let cells = columns.bar as u16 - 1;
        pen.put(x + 1, y, &bar::bar(zeros, cells), theme.accent());
    }
    let x = x + columns.bar as u16;
    let bits = match (facts.bits, row.activation_bits) {
        _ if !has_weights => String::new(),
        (None, None) => "32".to_owned(),
        (weights, activations) => {
            let word = |bits: Option<u32>| bits.map_or("32".to_owned(), |bits| bits.to_string());
            format!("{}/{}", word(weights), word(activations))
        }
    };
    let bits_style = if facts.bits.or(row.activation_bits).is_some() {
        theme.accent()
    } else {
        theme.dim()
    };
    let x = pen.put(x, y, &text::right(&bits, 6), bits_style);
    let macs = if facts.macs > 0 {
        figure::short_count(facts.macs as f64)
    } else {
        String::new()
    };
    let x = pen.put(x, y, &text::right(&macs, 10), style);
    let size = if facts.parameters > 0 && columns.bytes > 0 {
        figure::bytes(bytes(facts))
    } else {
        String::new()
    };
    let x = pen.put(x, y, &text::right(&size, columns.bytes), style);
    let (words, style) = match row.sensed.map(Sensed::change) {
        None => (String::new(), theme.dim()),
        Some(change) if change < -0.01 => (figure::points(change), theme.bad()),
        Some(change) => (figure::points(change), theme.text()),
    };
    let x = pen.put(x, y, &text::right(&words, 8), style);
    if has_weights && columns.channels > 0 {
        strip(pen, x + 2, y, row, columns.channels, theme);
    }
}

/// The channels as cells: how many of each cell's are left. A removed layer's width is that of the reference.
fn strip(pen: &mut Pen<'_>, x: u16, y: u16, row: &Row<'_>, cells: usize, theme: Theme) {
    let width = row.facts.output.first().copied().unwrap_or(0);
    let kept = row.facts.kept.as_ref();
    let of = kept.map_or(width, KeptChannels::of);
    if of == 0 || cells < 6 {
        return;
    }
    let gone = kept.map_or(0, |kept| of - kept.kept().len() as u32);
    let count = if gone > 0 {
        format!(" -{gone}")
    } else {
        String::new()
    };
    let cells = (cells - text::width(&count).max(5)).min(of as usize);
    for cell in 0..cells {
        let from = (cell * of as usize / cells) as u32;
        let to = ((cell + 1) * of as usize / cells) as u32;
        let left = kept.map_or(to - from, |kept| {
            let kept = kept.kept();
            let below = |end: u32| kept.partition_point(|channel| *channel < end) as u32;
            below(to) - below(from)
        });
        let (symbol, style) = match left {
            0 => ('░', theme.bad()),
            n if n == to - from => ('█', theme.good()),
            _ => ('▒', theme.warning()),
        };
        pen.cell(x + cell as u16, y, symbol, style);
    }
    pen.put(x + cells as u16, y, &count, theme.bad());
}

fn totals(
    pen: &mut Pen<'_>,
    y: u16,
    network: &NetworkState,
    reference: Option<&NetworkState>,
    columns: &Columns,
    theme: Theme,
) {
    let sum = |network: &NetworkState, of: fn(&LayerFacts) -> f64| -> f64 {
        network.layers.iter().map(of).sum()
    };
    let weights = |facts: &LayerFacts| facts.weights.unwrap_or(0) as f64;
    let zeros = |facts: &LayerFacts| {
        let weights = facts.weights.unwrap_or(0);
        facts
            .nonzero
            .map_or(0.0, |nonzero| (weights - nonzero.min(weights)) as f64)
    };
    let all = sum(network, weights);
    let share = if all > 0.0 {
        sum(network, zeros) / all
    } else {
        0.0
    };
    let removed = |of: fn(&LayerFacts) -> f64| {
        let before = reference
            .map(|reference| sum(reference, of))
            .filter(|n| *n > 0.0)?;
        let share = 1.0 - sum(network, of) / before;
        (share.abs() >= 0.0005).then(|| format!(" {} %", figure::signed(-share * 100.0, 1)))
    };
    let macs = |facts: &LayerFacts| facts.macs as f64;
    let mut words = format!(
        "all: {} weights{}, {} % zeros · {} mult-adds{}",
        figure::short_count(all),
        removed(weights).unwrap_or_default(),
        figure::percent(share),
        figure::short_count(sum(network, macs)),
        removed(macs).unwrap_or_default(),
    );
    if columns.bytes > 0 {
        let (size, change) = (sum(network, bytes), removed(bytes).unwrap_or_default());
        words = format!("{words} · {}{change}", figure::bytes(size));
    }
    pen.put(1, y, &words, theme.title());
}
