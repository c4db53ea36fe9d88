//! A screen with everything that it borrows, keys pressed into it, and its picture beside the file of a snapshot.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use shrinklab::catalog::Catalog;
use shrinklab::event::Record;
use shrinklab::state::Timeline;
use shrinklab::ui::form::Form;
use shrinklab::ui::{self, GpuUse, Presence, Request, Scene, Screen, SessionRow, View, export};

use crate::made_up;

/// Everything that a scene borrows.
pub(crate) struct Shown {
    pub(crate) timeline: Timeline,
    pub(crate) catalog: Catalog,
    pub(crate) sessions: Vec<SessionRow>,
    pub(crate) notes: BTreeMap<String, String>,
    pub(crate) live: bool,
    pub(crate) mono: bool,
    pub(crate) demo: bool,
    pub(crate) unrecorded: Option<String>,
    pub(crate) tolerated: Vec<String>,
    pub(crate) device: &'static str,
    pub(crate) gpu: Option<GpuUse>,
    pub(crate) view: View,
}

impl Shown {
    pub(crate) fn new(records: Vec<Record>, live: bool, screen: Screen) -> Self {
        let catalog = made_up::catalog();
        let mut timeline = Timeline::following();
        for record in records {
            timeline.push(record);
        }
        if !live && !timeline.is_empty() {
            timeline.pause();
        }
        let sessions = vec![
            SessionRow {
                name: "2026-11-20-glyphs.ndjson".to_owned(),
                study: "glyphs · lenet5 · magnitude pruning 50 %".to_owned(),
                started: "2026-11-20 14:02".to_owned(),
                milliseconds: 52_000,
                bytes: 412_000,
                presence: Presence::Ended,
            },
            SessionRow {
                name: "2026-11-20-mnist.ndjson".to_owned(),
                study: "mnist · lenet5 · self-distillation".to_owned(),
                started: "2026-11-20 15:40".to_owned(),
                milliseconds: 400_000,
                bytes: 1_412_000,
                presence: Presence::Interrupted,
            },
        ];
        let notes = BTreeMap::from([("glyphs".to_owned(), "10,000 + 2,000, 28x28".to_owned())]);
        Self {
            timeline,
            view: View::new(Form::new(&catalog), screen),
            catalog,
            sessions,
            notes,
            live,
            mono: false,
            demo: false,
            unrecorded: None,
            tolerated: Vec::new(),
            device: "cpu",
            gpu: None,
        }
    }

    pub(crate) fn scene(&self) -> Scene<'_> {
        Scene {
            timeline: &self.timeline,
            catalog: &self.catalog,
            lab: &self.catalog,
            sessions: &self.sessions,
            estimate: "about 40 s on 2 threads      session about 0.5 MiB",
            data_notes: &self.notes,
            message: None,
            unrecorded: self.unrecorded.as_deref(),
            tolerated: &self.tolerated,
            live: self.live,
            demo: self.demo,
            pausing: false,
            device: self.device,
            gpu: self.gpu,
            bell: true,
            mono: self.mono,
        }
    }

    /// Presses keys: letters stand for themselves, others in angle brackets: `jj<tab><space>`.
    pub(crate) fn press(&mut self, keys: &str) -> Vec<Request> {
        let mut requests = Vec::new();
        let mut rest = keys;
        while let Some(first) = rest.chars().next() {
            let (code, modifiers);
            if first == '<' && rest.find('>').is_some_and(|end| end > 1) {
                let end = rest.find('>').unwrap();
                let name = &rest[1..end];
                rest = &rest[end + 1..];
                (code, modifiers) = named(name);
            } else {
                rest = &rest[first.len_utf8()..];
                (code, modifiers) = (KeyCode::Char(first), KeyModifiers::NONE);
            }
            let mut view = self.view.clone();
            requests.extend(view.update(KeyEvent::new(code, modifiers), &self.scene()));
            self.view = view;
        }
        requests
    }

    pub(crate) fn draw(&self, width: u16, height: u16) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let scene = self.scene();
        terminal
            .draw(|frame| ui::draw(&scene, &self.view, frame))
            .unwrap();
        terminal.backend().buffer().clone()
    }

    pub(crate) fn text(&self, width: u16, height: u16) -> String {
        export::plain_text(&self.draw(width, height))
    }
}

fn named(name: &str) -> (KeyCode, KeyModifiers) {
    let plain = KeyModifiers::NONE;
    match name {
        "tab" => (KeyCode::Tab, plain),
        "enter" => (KeyCode::Enter, plain),
        "esc" => (KeyCode::Esc, plain),
        "space" => (KeyCode::Char(' '), plain),
        "backspace" => (KeyCode::Backspace, plain),
        "up" => (KeyCode::Up, plain),
        "down" => (KeyCode::Down, plain),
        "left" => (KeyCode::Left, plain),
        "right" => (KeyCode::Right, plain),
        "home" => (KeyCode::Home, plain),
        "end" => (KeyCode::End, plain),
        "lt" => (KeyCode::Char('<'), plain),
        "gt" => (KeyCode::Char('>'), plain),
        "ctrl-z" => (KeyCode::Char('z'), KeyModifiers::CONTROL),
        "ctrl-s" => (KeyCode::Char('s'), KeyModifiers::CONTROL),
        other => panic!("no key is called {other}"),
    }
}

/// Compares with the file, or writes it.
pub(crate) fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/snapshots")
        .join(format!("{name}.txt"));
    if std::env::var_os("SHRINKLAB_UPDATE_SNAPSHOTS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    if known == text {
        return;
    }
    let mut shown = format!("{name} differs from its snapshot (- file, + now):\n");
    let count = known.lines().count().max(text.lines().count());
    for row in 0..count {
        let (old, new) = (known.lines().nth(row), text.lines().nth(row));
        if old != new {
            let (old, new) = (old.unwrap_or(""), new.unwrap_or(""));
            writeln!(shown, "{row:>3} - {old}\n    + {new}").unwrap();
        }
    }
    panic!("{shown}");
}
