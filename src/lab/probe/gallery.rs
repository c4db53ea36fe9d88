//! Gallery: some test images as they are, corrupted and attacked, and what a network says to each.
//!
//! Four images, the same for every network, drawn from the fixed subset that is corrupted with every class in its share;
//! and up to four that the reference has right and the network in question wrong, the first of the subset. Corruptions are
//! shown at the middle severity, with the bytes that were measured; attacks at their largest budget, as bytes, made anew
//! for these images and this network.

use crate::catalog::{Entry, Info, text};
use crate::event::{Event, Picture, Pixels, View};
use crate::lab::adversarial::Asked;
use crate::lab::attack::{Images, Victim, strike};
use crate::lab::context::Context;
use crate::lab::corruption::named;
use crate::lab::data::Examples;
use crate::lab::error::{Error, Result};
use crate::lab::outputs::{Outputs, outputs};
use crate::lab::probe::{Probe, When, latest};
use crate::lab::subject::Subject;
use crate::measurement::Score;
use crate::nn::loss::softmax_rows;
use crate::nn::network::Workspace;

pub const ENTRY: Entry<dyn Probe> = Entry {
    info: Info {
        id: text("gallery"),
        title: text("Gallery"),
        summary: text(
            "A few test images, clean, corrupted and attacked, with what each network takes them for; and some that \
             compression turned wrong.",
        ),
        reference: text("arXiv:1911.05248"),
        family: text("robustness"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(Gallery),
};

/// Images of each kind.
const SHOWN: usize = 4;

/// An attack that takes more passes than this for an image is not made again for a picture.
const MOST_PASSES: u64 = 3_000;

struct Gallery;

/// Where an image lies.
struct Place {
    /// Among the images that are corrupted.
    of_subset: usize,
    /// Among the test images.
    of_test: usize,
    is_flipped: bool,
}

impl Probe for Gallery {
    fn when(&self) -> When {
        When::AtTheEnd
    }

    fn parts(&self, _: &Subject<'_>) -> u64 {
        1
    }

    fn measure(&self, subject: &Subject<'_>, _: u32, cx: &mut Context<'_>) -> Result<()> {
        let places = places(subject)?;
        let test = &subject.data.test;
        let indices: Vec<usize> = places.iter().map(|place| place.of_test).collect();
        let clean = test.select(&indices);
        let is_reference = subject.network.id == subject.network.against;
        let has_pixels = |place: &Place| is_reference || place.is_flipped;
        let mut pictures: Vec<Picture> = places
            .iter()
            .map(|place| Picture {
                network: subject.network.id,
                example: place.of_test as u32,
                label: test.labels[place.of_test],
                shape: [
                    test.shape.channels as u32,
                    test.shape.height as u32,
                    test.shape.width as u32,
                ],
                is_flipped: place.is_flipped,
                views: Vec::new(),
            })
            .collect();
        let mut workspace = Workspace::default();
        let mut look = |images: &Examples, cx: &mut Context<'_>| {
            let network = &subject.candidate()?.last;
            outputs(network, images, &mut workspace, &mut || cx.checkpoint())
        };
        let seen = look(&clean, cx)?;
        for (at, picture) in pictures.iter_mut().enumerate() {
            let pixels = has_pixels(&places[at]).then(|| clean.image(at).to_vec());
            picture.views.push(view(None, pixels, &seen, at));
        }
        let subset = test.select(subject.corrupted_subset);
        for corruption in subject.corruptions {
            let named = named(corruption)?;
            let severities = named.corruption.severities();
            let severity = severities.get(severities.len() / 2).copied().flatten();
            let set = subject.corrupted.get(
                &named,
                severity,
                &subset,
                subject.corrupted_subset,
                subject.seed,
            )?;
            let of_subset: Vec<usize> = places.iter().map(|place| place.of_subset).collect();
            let images = set.select(&of_subset);
            let seen = look(&images, cx)?;
            for (at, picture) in pictures.iter_mut().enumerate() {
                let pixels = has_pixels(&places[at]).then(|| images.image(at).to_vec());
                picture.views.push(View {
                    severity: severity.map(crate::lab::corruption::Severity::get),
                    ..view(Some(&named.condition), pixels, &seen, at)
                });
            }
        }
        for asked in subject.adversarial.asked()? {
            attacked(&asked, &indices, subject, &mut pictures, cx)?;
        }
        for picture in pictures {
            cx.emit(Event::Pictured(picture))?;
        }
        cx.progress(1, 1, "gallery")
    }
}

/// Which images are shown.
fn places(subject: &Subject<'_>) -> Result<Vec<Place>> {
    let subset = subject.corrupted_subset;
    let labels = subject.data.test.select(subset);
    let fixed = labels.stratified(SHOWN, subject.seed);
    let place = |of_subset: usize, is_flipped| Place {
        of_subset,
        of_test: subset[of_subset],
        is_flipped,
    };
    let mut places: Vec<Place> = fixed.iter().map(|at| place(*at, false)).collect();
    if subject.network.id != subject.network.against {
        let labels = &subject.data.test.labels;
        let before = latest(subject.reference()?)?.right(labels);
        let after = latest(subject.candidate()?)?.right(labels);
        let flipped = (0..subset.len())
            .filter(|at| before[subset[*at]] && !after[subset[*at]])
            .filter(|at| !fixed.contains(at));
        places.extend(flipped.take(SHOWN).map(|at| place(at, true)));
    }
    Ok(places)
}

fn view(condition: Option<&str>, pixels: Option<Vec<u8>>, seen: &Outputs, at: usize) -> View {
    let row = seen.row(at);
    let mut class = 0;
    for (other, probability) in row.iter().enumerate() {
        if *probability > row[class] {
            class = other;
        }
    }
    View {
        condition: condition.map(ToOwned::to_owned),
        severity: None,
        budget: None,
        pixels: pixels.map(Pixels),
        class: class as u32,
        confidence: Score::short(row[class]),
    }
}

/// Adds what an attack makes of the images for this network.
fn attacked(
    asked: &Asked,
    indices: &[usize],
    subject: &Subject<'_>,
    pictures: &mut [Picture],
    cx: &mut Context<'_>,
) -> Result<()> {
    let network = &subject.candidate()?.last;
    let attack = &*asked.attack;
    let epsilon = asked.epsilons.iter().copied().fold(0.0, f64::max);
    if attack.passes(network.classes()) > MOST_PASSES {
        return Ok(());
    }
    let images = Images::of(&subject.data.test, indices, subject.seed);
    let mut between = || cx.checkpoint();
    let mut victim = Victim::new(network, &mut between);
    let pixels = match strike(attack, &asked.id, &mut victim, &images, epsilon) {
        Ok(struck) => struck.pixels,
        // It is said where its accuracy is measured.
        Err(Error::BudgetExceeded { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let classes = network.classes();
    let seen = Outputs {
        classes,
        probabilities: softmax_rows(&victim.logits(&pixels)?, classes),
    };
    for (at, picture) in pictures.iter_mut().enumerate() {
        let each = images.each();
        let bytes = pixels[at * each..(at + 1) * each].iter();
        let bytes = bytes.map(|pixel| (255.0 * pixel).round().clamp(0.0, 255.0) as u8);
        picture.views.push(View {
            budget: (!attack.is_minimal())
                .then(|| Score(epsilon * attack.published().unwrap_or(1.0))),
            ..view(Some(&asked.condition), Some(bytes.collect()), &seen, at)
        });
    }
    Ok(())
}
