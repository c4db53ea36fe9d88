//! What may stand where in a study: the table by which its text is read.

use crate::spec::check::{FEWEST_CORRUPTED, FEWEST_IMAGES, LARGEST_SIDE, MOST_THREADS, MOST_TWINS};

/// What may stand somewhere.
pub(super) enum Shape {
    /// A whole number between these, both included.
    Whole(u64, u64),
    Flag,
    Word,
    Choice(&'static [&'static str]),
    Numbers,
    /// An id, or a table with an id and knobs.
    Method,
    /// The same, with lists for knobs: a branch of each, or the budgets of an attack.
    Compression,
    /// A table of knobs.
    Setting,
    Table(&'static [Field]),
    /// A table with one of these and nothing else.
    OneOf(&'static [Field]),
    /// Each called so, with its number where that says more.
    List(&'static str, &'static Shape),
}

/// What may stand under a name.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) is_needed: bool,
    pub(super) shape: Shape,
}

/// What may be left out.
const fn may(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        is_needed: false,
        shape,
    }
}

/// What may not.
const fn must(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        is_needed: true,
        shape,
    }
}

const MOST: u64 = u32::MAX as u64;

/// What may stand in a study.
pub(super) const STUDY: Shape = Shape::Table(&[
    may("seed", Shape::Whole(0, u64::MAX)),
    may("seeds", Shape::List("place", &Shape::Whole(0, u64::MAX))),
    may("threads", Shape::Whole(1, MOST_THREADS as u64)),
    may("device", Shape::Word),
    may("tf32", Shape::Flag),
    may("deterministic", Shape::Flag),
    may("train-limit", Shape::Whole(FEWEST_IMAGES as u64, MOST)),
    may("test-limit", Shape::Whole(FEWEST_IMAGES as u64, MOST)),
    must("references", Shape::List("reference", &REFERENCE)),
    may(
        "suite",
        Shape::Table(&[
            may("probes", Shape::List("probe", &Shape::Method)),
            may("corruptions", Shape::List("corruption", &Shape::Method)),
            may("attacks", Shape::List("attack", &Shape::Compression)),
            may("domains", Shape::List("domain", &Shape::Method)),
            may(
                "corrupted-images",
                Shape::Whole(FEWEST_CORRUPTED as u64, MOST),
            ),
            may("full", Shape::Flag),
        ]),
    ),
]);

const REFERENCE: Shape = Shape::Table(&[
    must("dataset", Shape::Method),
    must("architecture", Shape::Method),
    may(
        "from",
        Shape::Table(&[
            must("file", Shape::Word),
            may("mean", Shape::Numbers),
            may("std", Shape::Numbers),
            may("sha256", Shape::Word),
        ]),
    ),
    may("resize", Shape::Whole(1, LARGEST_SIDE as u64)),
    may("training", Shape::Setting),
    may("seed", Shape::Whole(0, u64::MAX)),
    may("twins", Shape::Whole(0, MOST_TWINS as u64)),
    may("same-start-twin", Shape::Flag),
    may("branches", Shape::List("branch", &BRANCH)),
]);

const BRANCH: Shape = Shape::Table(&[
    may("name", Shape::Word),
    may("checkpoint", Shape::Choice(&["last", "best"])),
    may("match", Shape::Word),
    must(
        "stages",
        Shape::List(
            "stage",
            &Shape::OneOf(&[
                may("compress", Shape::Compression),
                may("fine-tune", Shape::Setting),
            ]),
        ),
    ),
]);
