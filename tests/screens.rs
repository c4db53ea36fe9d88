//! Whole screens, driven by keys, compared with files of `tests/snapshots`.
//!
//! `SHRINKLAB_UPDATE_SNAPSHOTS=1` writes the files instead.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;

use crossterm::event::KeyModifiers;
use ratatui::style::Color;
use shrinklab::event::Record;
use shrinklab::lab::compression;
use shrinklab::spec::{KnobValue, Method, NetworkId, Setting, Stage, Study, Weights};
use shrinklab::ui::form::Form;
use shrinklab::ui::{self, GpuUse, Request, Screen, Seek, export};

#[path = "screens/made_up.rs"]
mod made_up;
#[path = "screens/robustness.rs"]
mod robustness;
#[path = "screens/shown.rs"]
mod shown;

use shown::{Shown, snapshot};

#[test]
fn the_screens_look_as_they_did() {
    let work = Shown::new(made_up::at_work(), true, Screen::Live);
    for (width, height) in [(60, 16), (80, 24), (100, 30), (160, 45)] {
        snapshot(&format!("live-{width}x{height}"), &work.text(width, height));
    }
    let mut replay = Shown::new(made_up::complete(), false, Screen::Live);
    snapshot("replay-100x30", &replay.text(100, 30));
    for (name, keys) in [
        ("full-loss", "f<right><right><right>"),
        ("full-corruption", "<esc><esc><tab>f"),
        ("full-function", "<esc><tab>f"),
        ("full-numbers", "<esc><tab>f"),
        ("table", "<esc>3"),
        ("sessions", "o"),
        ("help", "2?"),
        ("palette", "<esc>:map"),
    ] {
        replay.press(keys);
        snapshot(&format!("{name}-100x30"), &replay.text(100, 30));
    }
    let mut first = Shown::new(made_up::complete(), false, Screen::Study);
    first.demo = true;
    snapshot("first-start-100x30", &first.text(100, 30));
    let mut form = Shown::new(Vec::new(), false, Screen::Study);
    snapshot("form-80x24", &form.text(80, 24));
    form.press("<down><down><down><down><down><down><down>1.5<down><down>a");
    snapshot("form-100x30", &form.text(100, 30));
}

#[test]
fn a_sweep_is_a_chart_over_any_axis() {
    let mut shown = Shown::new(made_up::swept(), false, Screen::Sweep);
    snapshot("sweep-100x30", &shown.text(100, 30));
    snapshot("sweep-80x24", &shown.text(80, 24));
    // Bits, then the sizes; down the table to the third network.
    shown.press("x<down><down>");
    snapshot("sweep-bits-100x30", &shown.text(100, 30));
    shown.press("xxxxyy");
    snapshot("sweep-bytes-100x30", &shown.text(100, 30));
    let text = shown.text(100, 30);
    assert!(text.contains("over bytes"), "{text}");
    shown.press("YYXXXXX");
    assert!(shown.text(100, 30).contains("accuracy over ratio"));
    shown.press("yvv");
    let text = shown.text(100, 30);
    assert!(
        text.contains("accuracy under gaussian noise 5 over ratio"),
        "{text}"
    );
}

#[test]
fn the_layers_of_a_network_stand_beside_its_references() {
    let mut shown = Shown::new(made_up::complete(), false, Screen::Network);
    shown.view.candidate = Some(NetworkId(2));
    snapshot("layers-100x30", &shown.text(100, 30));
    snapshot("layers-80x24", &shown.text(80, 24));
    shown.press("<right>a");
    snapshot("layers-bits-100x30", &shown.text(100, 30));
    let text = shown.text(100, 30);
    assert!(text.contains("8/8") && text.contains("4/32"), "{text}");
    // Sessions of before say nothing of layers.
    let empty = Shown::new(made_up::swept()[..2].to_vec(), false, Screen::Network);
    assert!(empty.text(80, 24).contains("waits for the first network"));
}

/// Left and right ask for settings; what comes back is drawn beside the chart, and enter keeps it.
#[test]
fn the_live_knob_is_turned_and_kept() {
    let mut shown = Shown::new(made_up::swept(), true, Screen::Sweep);
    let asked = |requests: Vec<Request>| match requests.as_slice() {
        [
            Request::Try {
                reference: 0,
                method,
                severity: 3,
            },
        ] => (
            method.id.clone(),
            method
                .setting
                .0
                .values()
                .map(ToString::to_string)
                .collect::<String>(),
        ),
        other => panic!("{other:?}"),
    };
    let pruned = |ratio: &str| ("magnitude-pruning".to_owned(), ratio.to_owned());
    shown.view.candidate = Some(NetworkId(3));
    assert!(shown.press("<enter>").is_empty(), "nothing was turned yet");
    assert!(shown.text(100, 30).contains("← → turn the knob"));
    // From the candidate's 60 %.
    assert_eq!(asked(shown.press("<right>")), pruned("0.65"));
    let text = shown.text(100, 30);
    assert!(text.contains("looking …"), "{text}");
    shown = Shown {
        view: shown.view.clone(),
        ..Shown::new(made_up::turned(&[0.3, 0.5, 0.8, 0.65]), true, Screen::Sweep)
    };
    snapshot("knob-100x30", &shown.text(100, 30));
    snapshot("knob-80x24", &shown.text(80, 24));
    assert!(!shown.text(100, 30).contains("looking …"));
    assert_eq!(asked(shown.press("<left>")), pruned("0.6"));
    assert!(shown.text(100, 30).contains("looking …"));
    let kept = shown.press("<enter>");
    let [
        Request::AddBranch {
            reference: 0,
            branch,
        },
    ] = kept.as_slice()
    else {
        panic!("{kept:?}");
    };
    assert_eq!(
        branch.label(&shown.catalog),
        "magnitude pruning 60 % (not tuned)"
    );
    let quantized = ("post-training-quantization".to_owned(), "8".to_owned());
    assert_eq!(asked(shown.press("m")), quantized);
    // Replayed, the curve is there again, and nothing can be turned.
    let mut replay = Shown::new(made_up::turned(&[0.3, 0.5, 0.65]), false, Screen::Sweep);
    assert!(replay.text(100, 30).contains("1,000 validation images"));
    let before = replay.timeline.state().trials.len();
    replay.timeline.step(-1);
    assert_eq!(replay.timeline.state().trials.len(), before - 1);
    assert!(replay.press("<left>m<enter>").is_empty());
    // Nobody can turn what is not trained yet.
    let mut work = Shown::new(made_up::swept()[..20].to_vec(), true, Screen::Sweep);
    assert!(work.press("<right>").is_empty());
    assert!(
        work.text(100, 30)
            .contains("the knob turns when reference is trained")
    );
}

/// Several values in a field are a branch of each, and the command says the same.
#[test]
fn a_ratio_typed_with_commas_makes_a_branch_of_each() {
    let mut shown = Shown::new(Vec::new(), false, Screen::Study);
    while !shown.text(100, 30).contains("▸   ratio") {
        shown.press("<down>");
    }
    shown.press(".1,.4,.9");
    let text = shown.text(100, 30);
    assert!(
        text.contains("0.1,0.4,0.9") || text.contains(".1,.4,.9"),
        "{text}"
    );
    assert!(text.contains("3 branches"), "{text}");
    let study = shown.view.form.study().clone();
    let line = ui::command_line::command_line(&study, &shown.catalog);
    assert!(line.contains("--ratio 0.1,0.4,0.9"), "{line}");
    let checked = study.check(&shown.catalog).unwrap();
    assert_eq!(checked.study().references[0].branches.len(), 3);
    // A comma is none of a seed's, and a value that is not allowed is told alone.
    shown.press(",7");
    let text = shown.text(100, 30);
    assert!(
        text.contains("7 is not allowed; a number from 0 to 0.999"),
        "{text}"
    );
}

/// A study that starts from weights of larger images says so in its form; a key beside them changes nothing.
#[test]
fn weights_to_start_from_are_shown() {
    let mut study = made_up::study();
    let reference = &mut study.references[0];
    reference.from = Some(Weights {
        file: "networks/resnet18.safetensors".to_owned(),
        mean: vec![0.485, 0.456, 0.406],
        std: vec![0.229, 0.224, 0.225],
        sha256: None,
    });
    reference.resize = Some(224);
    let mut form = Shown::new(Vec::new(), false, Screen::Study);
    form.view.form = Form::of(study.clone());
    snapshot("form-weights-80x24", &form.text(80, 24));
    snapshot("form-weights-100x30", &form.text(100, 30));
    while !form.text(100, 30).contains("▸   from") {
        form.press("<down>");
    }
    form.press("<right>7<down><left><down><backspace>");
    assert_eq!(*form.view.form.study(), study);
    form.press("<up><up><up><up><right>");
    assert_eq!(form.view.form.study().references[0].resize, Some(256));
    form.press("<backspace><backspace><backspace><enter>");
    let study = form.view.form.study();
    assert_eq!(study.references[0].resize, None);
}

/// Every screen, panel and popup, at sizes from nothing to a wall: drawing never panics.
#[test]
fn no_size_breaks_a_screen() {
    let looks = [
        "2",
        "2f",
        "2<tab>f",
        "2<tab><tab>f",
        "2<tab><tab><tab>f",
        "2f<right><left>y",
        "3",
        "3/err",
        "o",
        "1",
        "1aaaa",
        "2?",
        "2:",
        "2:x",
        "2b",
        "2n<space>x",
        "2q",
        "2!",
        "2fzzz<right>",
        "2<tab><down><down><down>",
        "3<right><right><enter>",
        "5",
        "5xxy<down><down>",
        "6",
        "6<down><down>",
        "5<right>",
        "5mv",
        "2V<tab>V",
        "2<tab>fV",
        "2<tab>fVV<down>",
        "7",
        "7x<down>",
        "7a",
        "7f",
        "7fa<down><down>",
        "7<tab>f<down>",
        "7<tab><tab>f",
        "7<tab><tab><tab>f",
        "8",
        "8xxx<down>",
        "8f<down><down><down>x",
    ];
    let mut sizes: Vec<(u16, u16)> = Vec::new();
    for width in [
        1, 2, 3, 7, 20, 39, 40, 41, 59, 60, 75, 76, 80, 99, 100, 160, 400,
    ] {
        for height in [1, 2, 3, 11, 12, 13, 16, 19, 20, 24, 30, 45, 120] {
            sizes.push((width, height));
        }
    }
    let all = [
        Vec::new(),
        made_up::at_work(),
        made_up::complete(),
        made_up::turned(&[0.3, 0.5]),
        robustness::attacked(),
    ];
    for records in all {
        for live in [true, false] {
            for keys in looks {
                let mut shown = Shown::new(records.clone(), live, Screen::Live);
                shown.demo = !live;
                shown.press(keys);
                for (width, height) in &sizes {
                    shown.draw(*width, *height);
                }
            }
        }
    }
}

/// A log can be cut anywhere, and hold anything: each prefix is drawn.
#[test]
fn every_moment_of_a_session_can_be_drawn() {
    let records = made_up::complete();
    let mut shown = Shown::new(records.clone(), false, Screen::Live);
    for position in (0..records.len()).step_by(3) {
        shown.timeline.seek(position);
        shown.draw(100, 30);
        shown.draw(60, 16);
    }
}

#[test]
fn without_color_no_cell_has_one() {
    for keys in [
        "",
        "f",
        "<tab>f",
        "<tab><tab>f",
        "<tab><tab><tab>f",
        "3",
        "o",
        "1",
        "?",
        ":",
        "b",
        "7",
        "7a",
        "8",
        "8f",
    ] {
        let mut shown = Shown::new(robustness::attacked(), true, Screen::Live);
        shown.mono = true;
        shown.press(keys);
        for cell in &shown.draw(120, 40).content {
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset), "{keys}");
        }
    }
}

#[test]
fn control_characters_never_reach_the_buffer() {
    let mut records = made_up::complete();
    let evil = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}x\r\n\u{200b}";
    for record in &mut records {
        use shrinklab::event::Event;
        match &mut record.event {
            Event::NoteAdded { text } => *text = evil.to_owned(),
            Event::StudyStarted { study, networks } => {
                study.references[0].dataset.id = evil.to_owned();
                for network in networks {
                    network.name += evil;
                }
            }
            Event::StageStarted { title, .. } => *title = evil.to_owned(),
            Event::Measured(found) => {
                found.probe = evil.to_owned();
                found.condition = found.condition.as_ref().map(|id| format!("{id}{evil}"));
            }
            Event::NetworkCompressed { remarks, .. } => remarks.push(evil.to_owned()),
            _ => {}
        }
    }
    records.pop();
    for keys in [
        "",
        "f",
        "<tab>f",
        "<tab><tab>f",
        "<tab><tab><tab>f",
        "3",
        "o",
        "1",
        "?",
        ":",
        "b",
        "n",
    ] {
        let mut shown = Shown::new(records.clone(), true, Screen::Live);
        shown.sessions[0].name = evil.to_owned();
        shown.sessions[0].study = evil.to_owned();
        shown.notes.insert("glyphs".to_owned(), evil.to_owned());
        shown.press(keys);
        for cell in &shown.draw(120, 40).content {
            let bad = |c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{200b}');
            assert!(
                !cell.symbol().chars().any(bad),
                "{keys}: {:?}",
                cell.symbol()
            );
        }
        let title = ui::title(shown.timeline.state());
        assert!(!title.chars().any(char::is_control), "{title:?}");
    }
}

#[test]
fn every_action_is_in_the_help_and_every_command_in_a_palette() {
    use shrinklab::ui::keymap::{Action, BINDINGS, Layer, Source};
    use shrinklab::ui::popup::{HelpLine, help_lines};
    let help: Vec<&str> = help_lines(Source::Lab)
        .iter()
        .filter_map(|line| match line {
            HelpLine::Key(_, words) => Some(*words),
            HelpLine::Heading(_) => None,
        })
        .collect();
    // What belongs to a popup is done there; everything else has a name in some screen's palette.
    let of_popups = [Action::Accept, Action::Leave, Action::StopAndQuit];
    for binding in BINDINGS {
        let is_local = binding.layers.iter().all(|layer| {
            matches!(
                layer,
                Layer::Palette | Layer::Note | Layer::Filter | Layer::Branch
            )
        });
        assert!(
            is_local || help.contains(&binding.help),
            "{} is not in the help",
            binding.name
        );
        let offered = [true, false].into_iter().any(|live| {
            Screen::ALL.iter().any(|(_, screen)| {
                let shown = Shown::new(made_up::at_work(), live, *screen);
                shown
                    .view
                    .offers("", &shown.scene())
                    .iter()
                    .any(|offer| offer.action == binding.action)
            })
        });
        assert!(
            offered || of_popups.contains(&binding.action),
            "{} is in no palette",
            binding.name
        );
    }
}

#[test]
fn warnings_can_be_read_in_full_and_a_lost_recording_is_never_off_the_screen() {
    let mut shown = Shown::new(made_up::at_work(), true, Screen::Live);
    assert!(!shown.text(100, 30).contains("not recorded"));
    shown.press("!");
    assert!(shown.text(100, 30).contains("Warnings"));
    shown.press("<esc>");
    let problem = "cannot write a.jsonl: No space left on device";
    shown.unrecorded = Some(problem.to_owned());
    shown.tolerated = vec!["line 7: the line is no record".to_owned()];
    for size in [(60, 16), (80, 24), (100, 30)] {
        let text = shown.text(size.0, size.1);
        assert!(text.contains("✗ not recorded"), "{text}");
        assert!(text.contains("2 warnings"), "{text}");
        assert!(size.0 < 80 || text.contains("! warnings"), "{text}");
    }
    shown.press("!");
    let text = shown.text(100, 30);
    assert!(text.contains(problem), "{text}");
    assert!(text.contains("line 7: the line is no record"), "{text}");
    shown.press("<down>");
    let text = shown.text(100, 30);
    assert!(!text.contains(problem) && text.contains("line 7"), "{text}");
    shown.press("<esc>");
    assert!(shown.view.popups.is_empty());
    assert_eq!(shown.press("3").len(), 0);
    assert_eq!(shown.press("!<esc>").len(), 0);
}

#[test]
fn the_footer_offers_what_can_be_done_now() {
    let footer = |shown: &Shown| {
        let text = shown.text(100, 30);
        text.lines().last().unwrap().to_owned()
    };
    let work = Shown::new(made_up::at_work(), true, Screen::Live);
    for word in ["b branch", "s stop", "n note", "P pause", "? help"] {
        assert!(footer(&work).contains(word), "{}", footer(&work));
    }
    let done = Shown::new(made_up::complete(), true, Screen::Live);
    assert!(footer(&done).contains("b branch"), "{}", footer(&done));
    for word in ["s stop", "P pause", "freeze"] {
        assert!(!footer(&done).contains(word), "{}", footer(&done));
    }
}

#[test]
fn the_loss_can_be_zoomed_into() {
    let mut shown = Shown::new(made_up::complete(), false, Screen::Live);
    shown.press("f");
    let whole = shown.text(100, 30);
    shown.press("zz");
    let closer = shown.text(100, 30);
    assert!(closer.contains("×4 ·") && !whole.contains("×4"), "{closer}");
    let axis = |text: &str| {
        let marks = text.lines().rfind(|line| line.contains("epoch")).unwrap();
        marks.to_owned()
    };
    assert_ne!(axis(&whole), axis(&closer));
    shown.press("ZZZ");
    assert_eq!(shown.text(100, 30), whole);
    assert_eq!(shown.view.zoom, 0);
}

#[test]
fn ctrl_z_is_a_request_everywhere() {
    for keys in ["1", "2", "3", "o", "2?", "2:", "2n", "2b", "2q", "2!"] {
        let mut shown = Shown::new(made_up::at_work(), true, Screen::Live);
        shown.press(keys);
        assert_eq!(shown.press("<ctrl-z>"), [Request::Suspend], "{keys}");
    }
}

#[test]
fn quantization_is_not_trained_unless_asked() {
    let mut shown = Shown::new(Vec::new(), false, Screen::Study);
    let epochs = |shown: &Shown| {
        let stages = &shown.view.form.study().references[0].branches[0].stages;
        stages.len() - 1
    };
    assert_eq!(epochs(&shown), 1, "a pruned network is tuned");
    while !shown.text(100, 30).contains("▸ Branch 1") {
        shown.press("<down>");
    }
    shown.press("<right>");
    let text = shown.text(100, 30);
    assert!(text.contains("post-training-quantization"), "{text}");
    assert_eq!(epochs(&shown), 0);
    shown.press("<left>");
    assert_eq!(epochs(&shown), 1);
}

#[test]
fn the_palette_does_what_is_under_its_cursor() {
    let mut shown = Shown::new(made_up::at_work(), true, Screen::Live);
    assert_eq!(shown.press(":pause tr<enter>"), [Request::Pause]);
    shown.press(":log<enter>");
    assert!(shown.view.is_logarithmic);
}

#[test]
fn keys_make_the_study_that_they_say() {
    let mut shown = Shown::new(Vec::new(), false, Screen::Study);
    // Data set, domain, architecture, epochs, seed, twins, branch, ratio, scope, fine-tuning.
    shown.press("<down><right><down><right><down>12<down>99<down><right>");
    shown.press("<down><down>0.8<down><right><down>0");
    shown.press("+<right><down><right><down><left>");
    let requests = shown.press("<enter>");
    let knob = |id: &str, value| Setting::default().with(id, value);
    let method = |id: &str, setting| Method {
        id: id.to_owned(),
        setting,
    };
    let mut asked = Study {
        seed: 99,
        ..made_up::study()
    };
    let reference = &mut asked.references[0];
    reference.dataset = method(
        "glyphs",
        knob("domain", KnobValue::Choice("chalk".to_owned())),
    );
    reference.architecture = Method::plain("cnn8");
    reference.training = knob("epochs", KnobValue::Integer(12));
    reference.twins = 2;
    reference.branches[0].stages = vec![Stage::Compress(method(
        "magnitude-pruning",
        knob("ratio", KnobValue::Real(0.8))
            .with("scope", KnobValue::Choice("per-layer".to_owned())),
    ))];
    reference.branches[1].stages = vec![Stage::Compress(method(
        "post-training-quantization",
        knob("bits", KnobValue::Choice("4".to_owned())),
    ))];
    assert_eq!(requests, [Request::Start(asked.clone())]);
    assert_eq!(shown.view.screen, Screen::Live);
    assert_eq!(
        ui::command_line::command_line(&asked, &shown.catalog),
        "shrinklab run -d glyphs -a cnn8 --set domain=chalk --epochs 12 --twins 2 --seed 99 \
         --compress magnitude-pruning --ratio 0.8 --set scope=per-layer --fine-tune none \
         --compress post-training-quantization --set bits=4 --fine-tune none"
    );
}

#[test]
fn the_form_asks_for_a_device_and_keeps_how_it_computes() {
    let mut shown = Shown::new(Vec::new(), false, Screen::Study);
    let exact = Study {
        tf32: false,
        deterministic: true,
        ..shown.view.form.study().clone()
    };
    shown.view.form = Form::of(exact.clone());
    shown.press("a");
    let lines = shown.text(100, 40);
    let row = lines.lines().position(|line| line.contains("Device"));
    // Below the title and the frame.
    let row = row.expect("a row for the device") - 2;
    shown.press(&"<down>".repeat(row));
    for device in ["auto", "cuda", "cpu", "auto"] {
        shown.press("<right>");
        assert_eq!(shown.view.form.study().device, device);
    }
    let asked = Study {
        device: "auto".to_owned(),
        ..exact
    };
    assert!(
        ui::command_line::command_line(&asked, &shown.catalog)
            .contains("--device auto --fp32 --deterministic")
    );
    assert_eq!(shown.press("<enter>"), [Request::Start(asked)]);
}

#[test]
fn what_a_gpu_does_stands_beside_its_name() {
    let mut shown = Shown::new(made_up::complete(), true, Screen::Live);
    shown.device = "cuda:1";
    let first = |shown: &mut Shown| shown.text(100, 30).lines().next().unwrap().to_owned();
    let silent = first(&mut shown);
    assert!(silent.trim_end().ends_with("cuda:1"), "{silent}");
    shown.gpu = Some(GpuUse {
        busy_percent: Some(87),
        memory: Some((12_340_000_000, 85_520_000_000)),
        watts: Some(412),
    });
    let said = first(&mut shown);
    let words = "cuda:1 87 % 12.3/86 GB 412 W";
    assert!(said.trim_end().ends_with(words), "{said}");
    shown.gpu = Some(GpuUse {
        watts: Some(60),
        ..GpuUse::default()
    });
    assert!(first(&mut shown).trim_end().ends_with("cuda:1 60 W"));
}

#[test]
fn all_errors_stand_beside_their_fields_at_once() {
    let mut shown = Shown::new(Vec::new(), false, Screen::Study);
    // Epochs 0, twins 101, ratio 1.5.
    shown.press("<down><down><down>0<down><down>101<down><down>1.5");
    assert_eq!(shown.press("<enter>"), []);
    let text = shown.text(100, 30);
    for (field, problem) in [
        ("Epochs", "0 is not allowed; a whole number from 1 to 1000"),
        ("Twins", "101 is more than 100, the most"),
        ("ratio", "1.5 is not allowed; a number from 0 to 0.999"),
    ] {
        let lines: Vec<&str> = text.lines().collect();
        let at = lines
            .iter()
            .position(|line| line.contains(problem))
            .unwrap_or_else(|| panic!("{problem} is missing:\n{text}"));
        assert!(lines[at - 1].contains(field), "{text}");
    }
    assert!(text.contains("3 fields are wrong"), "{text}");
    // Esc while typing takes back what was typed; the others remain.
    shown.press("<backspace><backspace><backspace>0.7<esc>");
    assert!(!shown.text(100, 30).contains("✗ 0.7"));
}

#[test]
fn a_branch_is_added_to_a_study_at_work() {
    let mut shown = Shown::new(made_up::at_work(), true, Screen::Live);
    shown.press("b");
    let all = compression::ALL.len();
    let found = (0..all).any(|_| {
        shown.press("<right>");
        shown.text(100, 30).contains("self-distillation")
    });
    assert!(found, "{}", shown.text(100, 30));
    shown.press("<down>50");
    let requests = shown.press("<enter>");
    let [
        Request::AddBranch {
            reference: 0,
            branch,
        },
    ] = requests.as_slice()
    else {
        panic!("{requests:?}");
    };
    let Stage::Compress(method) = &branch.stages[0] else {
        panic!("{branch:?}");
    };
    assert_eq!(method.id, "self-distillation");
    assert_eq!(method.setting.0["temperature"], KnobValue::Integer(50));
    // A recording has no lab that could do it.
    let mut replay = Shown::new(made_up::complete(), false, Screen::Live);
    replay.press("b");
    assert!(replay.view.popups.is_empty());
}

#[test]
fn quitting_asks_while_something_runs() {
    let mut shown = Shown::new(made_up::at_work(), true, Screen::Live);
    assert_eq!(shown.press("q"), []);
    assert!(shown.text(80, 24).contains("leave it running"));
    assert_eq!(shown.press("<esc>"), []);
    assert_eq!(shown.press("ql"), [Request::LeaveRunning]);
    assert_eq!(shown.press("<esc>q<down><enter>"), [Request::StopAndQuit]);
    let mut done = Shown::new(made_up::complete(), true, Screen::Live);
    assert_eq!(done.press("q"), [Request::Quit]);
}

#[test]
fn keys_of_the_lab_and_of_a_recording() {
    let mut lab = Shown::new(made_up::at_work(), true, Screen::Live);
    assert_eq!(
        lab.press("<space>Ps"),
        [Request::Freeze, Request::Pause, Request::Stop]
    );
    assert_eq!(
        lab.press("nall is well<enter>"),
        [Request::Note("all is well".to_owned())]
    );
    let mut replay = Shown::new(made_up::complete(), false, Screen::Live);
    assert_eq!(
        replay.press("<space>,.<lt><gt>[]+-LPs<home>G"),
        [
            Request::PlayPause,
            Request::Seek(Seek::Records(-1)),
            Request::Seek(Seek::Records(1)),
            Request::Seek(Seek::PreviousStage),
            Request::Seek(Seek::NextStage),
            Request::Seek(Seek::PreviousNote),
            Request::Seek(Seek::NextNote),
            Request::Faster,
            Request::Slower,
            Request::ToggleLoop,
            Request::Seek(Seek::First),
            Request::Seek(Seek::Last),
        ]
    );
    assert_eq!(
        replay.press("o<down><enter>"),
        [Request::RefreshSessions, Request::OpenSession(1)]
    );
}

/// One layer at a time, from a popup over the full screen down to the panels.
#[test]
fn esc_steps_back_one_layer() {
    let mut shown = Shown::new(made_up::at_work(), true, Screen::Live);
    shown.press("f<right>?");
    shown.press("<esc>");
    assert!(shown.view.popups.is_empty() && shown.view.is_full);
    shown.press("<esc>");
    assert!(shown.view.cursor.is_none() && shown.view.is_full);
    shown.press("<esc>");
    assert!(!shown.view.is_full);
    shown.press("3/noise<enter><esc>");
    assert!(shown.view.table.filter.is_empty());
    assert_eq!(shown.view.screen, Screen::Table);
    shown.press("<esc>");
    assert_eq!(shown.view.screen, Screen::Live);
}

#[test]
fn the_table_filters_and_sorts() {
    let mut shown = Shown::new(made_up::complete(), false, Screen::Table);
    shown.press("/blur pruning<enter>");
    let rows = shrinklab::ui::screen::table::rows(&shown.scene(), &shown.view);
    assert_eq!(rows.len(), 5);
    // By value, from large to small.
    shown.press("<right><right><right><right><right><enter><enter>");
    let rows = shrinklab::ui::screen::table::rows(&shown.scene(), &shown.view);
    let severities: String = rows.iter().map(|row| row.cells[4].as_str()).collect();
    assert_eq!(severities, "54321");
}

#[test]
fn freezing_and_pausing_are_told_apart() {
    let mut records = made_up::at_work();
    let last = records.last().unwrap();
    records.push(Record {
        seq: last.seq + 1,
        at: last.at,
        event: shrinklab::event::Event::Paused,
    });
    let mut shown = Shown::new(records, true, Screen::Live);
    assert!(shown.text(100, 30).contains("training paused"));
    assert!(!shown.text(100, 30).contains("picture frozen"));
    assert_eq!(shown.press("P"), [Request::Resume]);
    shown.timeline.pause();
    let text = shown.text(100, 30);
    assert!(
        text.contains("training paused") && text.contains("picture frozen"),
        "{text}"
    );
}

/// The same network has the same color on every panel.
#[test]
fn a_network_keeps_its_color() {
    let shown = Shown::new(made_up::complete(), false, Screen::Live);
    let buffer = shown.draw(160, 45);
    let mut colors: BTreeMap<&str, Vec<Color>> = BTreeMap::new();
    for cell in &buffer.content {
        if ["●", "Ⅰ", "▲", "■"].contains(&cell.symbol()) {
            let seen = colors.entry(cell.symbol()).or_default();
            if !seen.contains(&cell.fg) {
                seen.push(cell.fg);
            }
        }
    }
    for glyph in ["Ⅰ", "▲", "■"] {
        assert_eq!(colors[glyph].len(), 1, "{glyph}: {colors:?}");
    }
    // The play head is a dot too, in the color of what is alive.
    assert_eq!(colors["●"].len(), 2);
}

#[test]
fn a_click_gives_a_panel_the_keys() {
    use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
    use shrinklab::ui::screen::live::Panel;
    let shown = Shown::new(made_up::at_work(), true, Screen::Live);
    let mut view = shown.view.clone();
    let click = MouseEvent {
        kind: MouseEventKind::Down(MouseButton::Left),
        column: 70,
        row: 22,
        modifiers: KeyModifiers::NONE,
    };
    view.mouse(
        click,
        ratatui::layout::Rect::new(0, 0, 100, 30),
        &shown.scene(),
    );
    assert_eq!(view.panel, Panel::Numbers);
}

#[test]
fn the_picture_is_one_well_formed_element() {
    let shown = Shown::new(made_up::complete(), false, Screen::Live);
    let svg = export::svg(&shown.draw(100, 30));
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    assert!(svg.contains("Function"));
}
