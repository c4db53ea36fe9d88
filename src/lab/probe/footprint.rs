//! Footprint: what a network holds and what one image costs it.
//!
//! Parameters, those that are not 0, multiply-accumulates of one forward pass (zeros are multiplied like any other
//! number), and bytes on disk: 32-bit floats, or packed integers with their scales where weights lie on levels.
//! Bytes are the payload; a file's header of names and shapes is left out.

use crate::catalog::{Entry, Info, text};
use crate::lab::context::Context;
use crate::lab::error::Result;
use crate::lab::probe::{Probe, When, finding};
use crate::lab::ratio::Sizes;
use crate::lab::storage::{Layout, network_bytes, written_bytes};
use crate::lab::subject::Subject;
use crate::measurement::{Metric, Score, Value};

pub const ENTRY: Entry<dyn Probe> = Entry {
    info: Info {
        id: text("footprint"),
        title: text("Footprint"),
        summary: text(
            "Channels, parameters, those that are not zero, multiply-accumulates per image, and bytes on disk in each layout.",
        ),
        reference: text("arXiv:2003.03033"),
        family: text("cost"),
        ratio_of: None,
    },
    knobs: &[],
    build: |_| Box::new(Footprint),
};

struct Footprint;

impl Probe for Footprint {
    fn when(&self) -> When {
        When::EveryStage
    }

    fn parts(&self, _: &Subject<'_>) -> u64 {
        1
    }

    fn measure(&self, subject: &Subject<'_>, stage: u32, cx: &mut Context<'_>) -> Result<()> {
        let network = &subject.candidate()?.last;
        for (metric, count) in [
            (Metric::Channels, Sizes::of(network).channels),
            (Metric::Parameters, network.parameters().count()),
            (Metric::Nonzero, network.parameters().nonzero()),
            (Metric::Macs, network.macs()),
            (Metric::Bytes, network_bytes(network, Layout::Dense)),
            (Metric::BytesDense, network_bytes(network, Layout::Floats)),
            (
                Metric::BytesBitmask,
                network_bytes(network, Layout::Bitmask),
            ),
            (
                Metric::BytesCsr,
                network_bytes(network, Layout::CompressedRows),
            ),
            (Metric::BytesWritten, written_bytes(network)?),
        ] {
            let value = Value::Scalar(Score(count as f64));
            cx.measured(finding(&ENTRY.info.id, metric, value, subject, stage)?)?;
        }
        Ok(())
    }
}
