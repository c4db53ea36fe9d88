//! Recalibration of batch normalizations: running statistics are measured anew on training images.
//!
//! A network whose weights have changed normalizes by means and variances of values that it no longer computes. Here
//! they are replaced by the means over K training batches of each batch's own, as `momentum=None` of PyTorch's
//! `BatchNorm2d` keeps them: running_k = running_{k-1} + (batch_k - running_{k-1}) / k, variances unbiased.
//! Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 2, has the idea. Images of the training split as they are, without
//! augmentation, in batches of the recipe's size; no gradient is taken and no weight moves.

use crate::catalog::{Entry, Info, Knob, Range, text};
use crate::event::Cost;
use crate::lab::compression::{Compressed, Compression, Start};
use crate::lab::context::{Context, Observer};
use crate::lab::error::Result;
use crate::nn::Mode;
use crate::nn::layer::Layer;
use crate::nn::network::Workspace;
use crate::nn::op::gather::{Pick, Source};
use crate::nn::rng::Rng;

pub const ENTRY: Entry<dyn Compression> = Entry {
    info: Info {
        id: text("batch-norm-recalibration"),
        title: text("Batch-norm recalibration"),
        summary: text(
            "Measures the running statistics of all batch normalizations anew on training images, as a step of its own \
             after a compression. Nothing else changes, and nothing is trained.",
        ),
        reference: text("arXiv:1502.03167"),
        family: text("recalibration"),
        ratio_of: None,
    },
    knobs: &[Knob {
        id: text("images"),
        title: text("images"),
        summary: text("Training images that are measured, in full batches."),
        range: Range::Integer {
            least: 1,
            most: 1_000_000,
            default: 2048,
        },
    }],
    build: |setting| {
        Box::new(BatchNormRecalibration {
            images: setting.integer("images") as usize,
        })
    },
};

struct BatchNormRecalibration {
    images: usize,
}

impl Compression for BatchNormRecalibration {
    fn compress(
        &self,
        start: &Start<'_>,
        _: &mut dyn Observer,
        cx: &mut Context<'_>,
    ) -> Result<Compressed> {
        let mut network = start.network.duplicate()?;
        let is_norm = |layer: &Layer| matches!(layer, Layer::BatchNorm2d { .. });
        let count = network
            .nodes()
            .iter()
            .filter(|node| is_norm(&node.layer))
            .count();
        let remark = if count == 0 {
            "the network has no batch normalizations: nothing was measured and nothing changed"
                .to_owned()
        } else {
            let data = start.subject.data;
            let mut order = data.split.train.clone();
            Rng::stream(start.subject.seed, "recalibration", &[]).shuffle(&mut order);
            order.truncate(self.images);
            let size = start.recipe.batch.min(order.len());
            let batches: Vec<&[usize]> = order.chunks_exact(size).collect();
            let device = network.device();
            let source = Source::new(data.train.shape, &data.train.images, &device)?;
            let mut workspace = Workspace::default();
            for (at, indices) in batches.iter().enumerate() {
                let picks: Vec<Pick> = indices.iter().copied().map(Pick::plain).collect();
                let images = source.batch(&picks)?;
                let trace = network.forward(&images, Mode::Train, &mut workspace)?;
                let statistics = trace.statistics();
                drop(trace);
                network.commit_by(&statistics, Some(1.0 / (at + 1) as f64))?;
                cx.progress(at as u64 + 1, batches.len() as u64, "batches")?;
            }
            format!(
                "running statistics of {count} batch normalizations are the means over {} batches of {size} training \
                 images; weights are as they were",
                batches.len()
            )
        };
        Ok(Compressed {
            network,
            best: None,
            asked: None,
            reached: None,
            remarks: vec![remark],
            cost: Cost::default(),
            life: start.life,
        })
    }
}
