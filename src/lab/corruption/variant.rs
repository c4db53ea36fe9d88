//! The knob `variant` of the five corruptions of "Analyzing the robustness of model compression techniques to noise".
//!
//! `published` is what that document measured, Albumentations 1.3.0 on 8-bit images with its parameters, at every image
//! (the library's own default is every second) and without severities; `corrected` is the same idea at five severities that
//! can be seen at 28 to 32 pixels.

use std::borrow::Cow;

use crate::catalog::{Knob, Range, Text, text};

/// As the document measured it.
pub(super) const PUBLISHED: &str = "published";

/// Visible, in five severities.
pub(super) const CORRECTED: &str = "corrected";

const SUMMARY: Text = text(
    "published: Albumentations 1.3.0 with the document's parameters, without severities; corrected: five severities that can be seen on small images.",
);

/// Of those that the document alone has.
pub(super) const KNOBS: &[Knob] = &[Knob {
    id: text("variant"),
    title: text("variant"),
    summary: SUMMARY,
    range: Range::Choice {
        options: Cow::Borrowed(&[text(CORRECTED), text(PUBLISHED)]),
        default: text(CORRECTED),
    },
}];

/// Of Gaussian noise, which CIFAR-10-C has as well.
pub(super) const KNOBS_OF_NOISE: &[Knob] = &[Knob {
    id: text("variant"),
    title: text("variant"),
    summary: text(
        "cifar-10-c: the severities of that set; published: Albumentations 1.3.0 with a variance of 0 to 2, without severities; corrected: Albumentations' variances and beyond in five severities, rounded.",
    ),
    range: Range::Choice {
        options: Cow::Borrowed(&[text("cifar-10-c"), text(CORRECTED), text(PUBLISHED)]),
        default: text("cifar-10-c"),
    },
}];
