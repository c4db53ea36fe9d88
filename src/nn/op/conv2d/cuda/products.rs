//! On a GPU: convolutions as products of matrices by cuBLAS, where the input's pixels are the patches that the weights
//! multiply, or where patches are made of some images at a time.

use super::{Conv2d, sizes};
use crate::nn::Result;
use crate::nn::op::cuda::{Engine, Grid, Operand, Product, Slot};

/// Patches are made of as many images at a time as have about this many values: 256 MiB.
const PATCHES: usize = 64 << 20;

impl Conv2d {
    /// y = the sums, without bias.
    pub(super) fn convolve_by_products(
        &self,
        engine: &Engine,
        x: u64,
        w: u64,
        y: u64,
        batch: usize,
    ) -> Result<()> {
        let depth = self.geometry.depth();
        self.in_chunks(batch, |first, count, rows| {
            let a = self.patches(engine, x, first, count)?;
            let product = Product {
                m: rows,
                n: self.outputs,
                k: depth,
                a: Operand {
                    address: a,
                    row: depth,
                    transposed: false,
                },
                b: Operand {
                    address: w,
                    row: depth,
                    transposed: true,
                },
                c: self.output_of(y, first),
                adds: false,
            };
            engine.multiply(&product)
        })
    }

    /// dw, the gradient of the weights from that of the sums, dz.
    pub(super) fn weights_by_products(
        &self,
        engine: &Engine,
        x: u64,
        dw: u64,
        dz: u64,
        batch: usize,
    ) -> Result<()> {
        let depth = self.geometry.depth();
        self.in_chunks(batch, |first, count, rows| {
            let b = self.patches(engine, x, first, count)?;
            let product = Product {
                m: self.outputs,
                n: depth,
                k: rows,
                a: Operand {
                    address: self.output_of(dz, first),
                    row: self.outputs,
                    transposed: true,
                },
                b: Operand {
                    address: b,
                    row: depth,
                    transposed: false,
                },
                c: dw,
                adds: first > 0,
            };
            engine.multiply(&product)
        })
    }

    /// dx, the gradient of the input from that of the sums, dz; or added to what is there.
    pub(super) fn input_by_products(
        &self,
        engine: &Engine,
        dx: u64,
        w: u64,
        dz: u64,
        batch: usize,
        adds: bool,
    ) -> Result<()> {
        let g = &self.geometry;
        let depth = g.depth();
        self.in_chunks(batch, |first, count, rows| {
            let image = dx + (first * g.image() * size_of::<f32>()) as u64;
            let c = if self.is_product() {
                image
            } else {
                engine.scratch(Slot::Workspace, rows * depth)?
            };
            let product = Product {
                m: rows,
                n: depth,
                k: self.outputs,
                a: Operand {
                    address: self.output_of(dz, first),
                    row: self.outputs,
                    transposed: false,
                },
                b: Operand {
                    address: w,
                    row: depth,
                    transposed: false,
                },
                c,
                adds: adds && self.is_product(),
            };
            engine.multiply(&product)?;
            if self.is_product() {
                return Ok(());
            }
            let n = count * g.image();
            let first = [c.into(), image.into()];
            let args = [&first[..], &sizes(&self.geometry), &[adds.into(), n.into()]].concat();
            engine.launch("gather_patches", Grid::over(n), &args)
        })
    }

    /// The rows (k, k, C) that the sums of some images are over.
    fn patches(&self, engine: &Engine, x: u64, first: usize, count: usize) -> Result<u64> {
        let g = &self.geometry;
        let image = x + (first * g.image() * size_of::<f32>()) as u64;
        if self.is_product() {
            return Ok(image);
        }
        let n = count * g.positions() * g.depth();
        let patches = engine.scratch(Slot::Workspace, n)?;
        let first = [image.into(), patches.into()];
        let args = [&first[..], &sizes(&self.geometry), &[n.into()]].concat();
        engine.launch("make_patches", Grid::over(n), &args)?;
        Ok(patches)
    }

    /// Where an image's sums begin.
    fn output_of(&self, y: u64, image: usize) -> u64 {
        y + (image * self.geometry.positions() * self.outputs * size_of::<f32>()) as u64
    }

    /// Calls `each` with the first of some images, their count and their rows, until all are through.
    fn in_chunks(
        &self,
        batch: usize,
        mut each: impl FnMut(usize, usize, usize) -> Result<()>,
    ) -> Result<()> {
        let of_image = self.geometry.positions() * self.geometry.depth();
        let step = if self.is_product() {
            batch
        } else {
            (PATCHES / of_image).clamp(1, batch.max(1))
        };
        for first in (0..batch).step_by(step.max(1)) {
            let count = step.min(batch - first);
            each(first, count, count * self.geometry.positions())?;
        }
        Ok(())
    }
}
