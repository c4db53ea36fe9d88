//! What networks are called after the methods that made them.

use shrinklab::spec::{Branch, Checkpoint, KnobValue, Method, Setting, Stage, Study};

fn prune(ratio: f64) -> Stage {
    let method = Method::plain("magnitude-pruning");
    let setting = method.setting.with("ratio", KnobValue::Real(ratio));
    Stage::Compress(Method {
        id: method.id,
        setting,
    })
}

fn quantize(bits: &str, activations: &str) -> Stage {
    let setting = Setting::default()
        .with("bits", KnobValue::Choice(bits.to_owned()))
        .with("activation-bits", KnobValue::Choice(activations.to_owned()));
    Stage::Compress(Method {
        id: "post-training-quantization".to_owned(),
        setting,
    })
}

/// What trains while it prunes needs no tuning afterwards.
fn gradually() -> Stage {
    let Stage::Compress(method) = prune(0.8) else {
        unreachable!("a compression")
    };
    let schedule = KnobValue::Choice("gradual".to_owned());
    Stage::Compress(Method {
        setting: method.setting.with("schedule", schedule),
        ..method
    })
}

fn tune(epochs: i64) -> Stage {
    Stage::FineTune(Setting::default().with("epochs", KnobValue::Integer(epochs)))
}

fn label(checkpoint: Checkpoint, stages: Vec<Stage>) -> String {
    let branch = Branch {
        name: String::new(),
        checkpoint,
        matched: None,
        stages,
    };
    branch.label(&shrinklab::lab::catalog())
}

#[test]
fn branches_that_differ_are_called_differently() {
    let last = |stages| label(Checkpoint::Last, stages);
    for (stages, name) in [
        (vec![prune(0.5), tune(1)], "magnitude pruning 50 %"),
        (vec![prune(0.5)], "magnitude pruning 50 % (not tuned)"),
        (
            vec![prune(0.5), tune(3)],
            "magnitude pruning 50 % + 3 epochs",
        ),
        (
            vec![prune(0.5), tune(1), quantize("8", "as-weights"), tune(2)],
            "magnitude pruning 50 % + 1 epoch + post-training quantization 8 bits + 2 epochs",
        ),
        (
            vec![quantize("8", "8")],
            "post-training quantization 8 bits",
        ),
        (
            vec![quantize("8", "16")],
            "post-training quantization 8-bit weights, 16-bit activations",
        ),
        (
            vec![quantize("4", "floats"), tune(1)],
            "post-training quantization 4-bit weights, float activations + 1 epoch",
        ),
        (vec![gradually()], "magnitude pruning 80 % schedule gradual"),
        (
            vec![
                prune(0.5),
                Stage::Compress(Method::plain("self-distillation")),
            ],
            "magnitude pruning 50 % + self-distillation",
        ),
        (vec![tune(1)], "fine-tuned"),
        (vec![tune(4)], "fine-tuned + 4 epochs"),
    ] {
        assert_eq!(last(stages), name);
    }
    assert_eq!(
        label(Checkpoint::Best, vec![prune(0.25), tune(1)]),
        "magnitude pruning 25 % (best epoch)"
    );
    assert_eq!(
        label(Checkpoint::Best, vec![prune(0.25)]),
        "magnitude pruning 25 % (best epoch, not tuned)"
    );
}

#[test]
fn networks_of_several_references_say_whose_they_are() {
    let mut study = Study::default();
    study.references.push(study.references[0].clone());
    study.references[1].same_start_twin = true;
    let catalog = shrinklab::lab::catalog();
    let plan = study.check(&catalog).unwrap().plan(&catalog);
    let names: Vec<&str> = plan.iter().map(|network| &*network.name).collect();
    assert_eq!(
        names,
        [
            "reference 1",
            "twin 1 of reference 1",
            "magnitude pruning 50 % of reference 1",
            "reference 2",
            "twin 1 of reference 2",
            "same-start twin of reference 2",
            "magnitude pruning 50 % of reference 2",
        ]
    );
}
