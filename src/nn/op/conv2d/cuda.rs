//! On a GPU: by cuDNN, or as products of patches and weights by cuBLAS. Weights lie as (O, k, k, C).

use candle_core::Tensor;

use super::{Conv2d, Then};
use crate::nn::Result;
use crate::nn::op::cuda::{Arg, Engine, Grid, Operand, Product, Slot, at, at_option};
use crate::nn::op::geometry::Geometry;

/// Patches are made of as many images at a time as have about this many values: 256 MiB.
const PATCHES: usize = 64 << 20;

pub(crate) const SOURCE: &str = r"
KERNEL bias_relu(float *y, const float *b, int channels, int relu, int n) {
    EACH(i, n) {
        float sum = b ? y[i] + b[i % channels] : y[i];
        y[i] = relu ? rectified(sum) : sum;
    }
}

KERNEL bias_relu_pool(const float *z, const float *b, float *y, unsigned char *place, int channels, int height, int width,
                      int out_height, int out_width, int kernel, int stride, int n) {
    EACH(i, n) {
        int c = i % channels, ox = i / channels % out_width, oy = i / channels / out_width % out_height;
        int image = i / channels / out_width / out_height, where = 0;
        const float *from = z + ((image * height + oy * stride) * width + ox * stride) * channels + c;
        float best = from[0];
        for (int ky = 0; ky < kernel; ky++)
            for (int kx = 0; kx < kernel; kx++) {
                float value = from[(ky * width + kx) * channels];
                // A NaN wins: a diverged network must not look healthy.
                if (value > best || value != value) { best = value; where = ky * kernel + kx; }
            }
        y[i] = rectified(b ? best + b[c] : best);
        if (place) place[i] = where;
    }
}

__device__ __forceinline__ float behind_pool(const float *y, const unsigned char *place, const float *dy, int row, int c,
                                             int channels, int height, int width, int out_height, int out_width,
                                             int kernel, int stride) {
    int x = row % width, line = row / width % height, image = row / width / height;
    int ox = x / stride, oy = line / stride, kx = x - ox * stride, ky = line - oy * stride;
    if (ox >= out_width || oy >= out_height || kx >= kernel || ky >= kernel) return 0.0f;
    int at = ((image * out_height + oy) * out_width + ox) * channels + c;
    return place[at] == ky * kernel + kx && y[at] > 0.0f ? dy[at] : 0.0f;
}

KERNEL relu_pool_backward(const float *y, const unsigned char *place, const float *dy, float *dz, int channels, int height,
                          int width, int out_height, int out_width, int kernel, int stride, int n) {
    EACH(i, n) dz[i] = behind_pool(y, place, dy, i / channels, i % channels, channels, height, width, out_height, out_width,
                                   kernel, stride);
}

KERNEL relu_pool_backward_sums(const float *y, const unsigned char *place, const float *dy, float *dz, float *db, int height,
                               int width, int out_height, int out_width, int kernel, int stride, int rows, int channels,
                               int block_width, double *partial, unsigned int *counters) {
    over_rows<1, 4>(rows, channels, block_width, partial, counters, [&](int r, int c) {
        return behind_pool(y, place, dy, r, c, channels, height, width, out_height, out_width, kernel, stride);
    }, [&](int r, int c, float value, float *sums) {
        dz[r * channels + c] = value;
        sums[0] += value;
    }, [&](int c, double *sums) { db[c] = sums[0]; });
}

KERNEL relu_backward_sums(const float *y, const float *dy, float *dz, float *db, int rows, int channels, int block_width,
                          double *partial, unsigned int *counters) {
    over_rows<1, 8>(rows, channels, block_width, partial, counters, [&](int r, int c) {
        int i = r * channels + c;
        return Gradient{0.0f, y[i], dy[i]};
    }, [&](int r, int c, Gradient of, float *sums) {
        float value = of.behind(1);
        dz[r * channels + c] = value;
        sums[0] += value;
    }, [&](int c, double *sums) { db[c] = sums[0]; });
}

KERNEL column_sums(const float *dy, float *db, int rows, int channels, int block_width, double *partial,
                   unsigned int *counters) {
    over_rows<1, 16>(rows, channels, block_width, partial, counters, [&](int r, int c) {
        return dy[r * channels + c];
    }, [&](int r, int c, float value, float *sums) {
        sums[0] += value;
    }, [&](int c, double *sums) { db[c] = sums[0]; });
}

KERNEL make_patches(const float *x, float *patches, int channels, int height, int width, int out_height, int out_width,
                    int kernel, int stride, int padding, int n) {
    EACH(i, n) {
        int c = i % channels, kx = i / channels % kernel, ky = i / channels / kernel % kernel;
        int row = i / channels / kernel / kernel, ox = row % out_width, oy = row / out_width % out_height;
        int image = row / out_width / out_height, px = ox * stride + kx - padding, py = oy * stride + ky - padding;
        bool inside = px >= 0 && px < width && py >= 0 && py < height;
        patches[i] = inside ? x[((image * height + py) * width + px) * channels + c] : 0.0f;
    }
}

KERNEL gather_patches(const float *patches, float *dx, int channels, int height, int width, int out_height, int out_width,
                      int kernel, int stride, int padding, int adds, int n) {
    EACH(i, n) {
        int c = i % channels, px = i / channels % width, py = i / channels / width % height;
        int image = i / channels / width / height;
        float sum = 0.0f;
        for (int ky = 0; ky < kernel; ky++) {
            int y = py + padding - ky;
            if (y < 0 || y % stride || y / stride >= out_height) continue;
            for (int kx = 0; kx < kernel; kx++) {
                int x = px + padding - kx;
                if (x < 0 || x % stride || x / stride >= out_width) continue;
                int row = (image * out_height + y / stride) * out_width + x / stride;
                sum += patches[((row * kernel + ky) * kernel + kx) * channels + c];
            }
        }
        dx[i] = adds ? dx[i] + sum : sum;
    }
}
";

/// What a forward pass reads and writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass<'a> {
    pub(crate) x: &'a Tensor,
    pub(crate) w: &'a Tensor,
    pub(crate) b: Option<&'a Tensor>,
    pub(crate) y: &'a Tensor,
    pub(crate) place: Option<&'a Tensor>,
}

/// What a backward pass writes: as much as is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) dx: Option<&'a Tensor>,
    pub(crate) adds: bool,
    pub(crate) dw: Option<&'a Tensor>,
    pub(crate) db: Option<&'a Tensor>,
}

/// The gradient behind a ReLU, if there is one, and with it the sum of each of its `channels` columns: where it lies.
pub(crate) fn undo(
    engine: &Engine,
    rows: usize,
    channels: usize,
    relu: bool,
    y: &Tensor,
    dy: &Tensor,
    db: Option<&Tensor>,
) -> Result<u64> {
    let n = rows * channels;
    let dz = if relu {
        engine.scratch(Slot::Undone, n)?
    } else {
        at(dy)?
    };
    match (relu, db) {
        (false, None) => {}
        (true, None) => crate::nn::op::relu::cuda::backward(engine, y, dy, dz)?,
        (relu, Some(db)) => {
            let (grid, rest) = engine.over_rows(rows, channels, 1)?;
            let (from, db) = (at(dy)?.into(), at(db)?.into());
            let over = [rows.into(), channels.into()];
            if relu {
                let first = [at(y)?.into(), from, dz.into(), db];
                let args = [&first[..], &over, &rest].concat();
                engine.launch("relu_backward_sums", grid, &args)?;
            } else {
                let args = [&[from, db][..], &over, &rest].concat();
                engine.launch("column_sums", grid, &args)?;
            }
        }
    }
    Ok(dz)
}

impl Conv2d {
    fn batch(&self, x: &Tensor) -> usize {
        x.elem_count() / self.geometry.image()
    }

    /// Rows of the convolution's result, before a pooling.
    fn rows(&self, x: &Tensor) -> usize {
        self.batch(x) * self.geometry.positions()
    }

    /// Whether the input's pixels are the patches.
    fn is_product(&self) -> bool {
        let g = &self.geometry;
        g.kernel == 1 && g.stride == 1 && g.padding == 0
    }

    #[cfg(feature = "cudnn")]
    fn shape(&self, batch: usize) -> crate::nn::op::cuda::dnn::Shape {
        crate::nn::op::cuda::dnn::Shape {
            geometry: self.geometry,
            outputs: self.outputs,
            batch,
        }
    }

    /// As [`Conv2d::forward`], without a factor and a residual.
    pub(crate) fn forward_cuda(&self, engine: &Engine, pass: Pass<'_>) -> Result<()> {
        let n = self.rows(pass.x) * self.outputs;
        let b = at_option(pass.b)?;
        let y = at(pass.y)?;
        match self.then {
            Then::Nothing | Then::Relu => {
                let relu = self.then == Then::Relu;
                let (x, w, batch) = (at(pass.x)?, at(pass.w)?, self.batch(pass.x));
                let in_two = || {
                    self.convolve(engine, x, w, y, batch)?;
                    if b == 0 && !relu {
                        return Ok(());
                    }
                    let args = [
                        y.into(),
                        b.into(),
                        self.outputs.into(),
                        relu.into(),
                        n.into(),
                    ];
                    engine.launch("bias_relu", Grid::over(n), &args)
                };
                #[cfg(feature = "cudnn")]
                if let (true, false, Some(dnn)) = (relu && b != 0, self.is_product(), engine.dnn())
                {
                    return dnn.forward_rectified(engine, self.shape(batch), [x, w, y, b], &in_two);
                }
                in_two()
            }
            Then::ReluMaxPool(windows) => {
                let z = engine.scratch(Slot::Undone, n)?;
                self.convolve(engine, at(pass.x)?, at(pass.w)?, z, self.batch(pass.x))?;
                let n = pass.y.elem_count();
                let args = [
                    z.into(),
                    b.into(),
                    y.into(),
                    at_option(pass.place)?.into(),
                    self.outputs.into(),
                    windows.height.into(),
                    windows.width.into(),
                    windows.out_height().into(),
                    windows.out_width().into(),
                    windows.kernel.into(),
                    windows.stride.into(),
                    n.into(),
                ];
                engine.launch("bias_relu_pool", Grid::over(n), &args)
            }
        }
    }

    /// As [`Conv2d::backward`], for the output's gradient behind a ReLU or a pooling, or any.
    pub(crate) fn backward_cuda(
        &self,
        engine: &Engine,
        pass: Pass<'_>,
        dy: &Tensor,
        wanted: Wanted<'_>,
    ) -> Result<()> {
        let dz = self.undo(engine, pass, dy, wanted.db)?;
        let batch = self.batch(pass.x);
        if let Some(dw) = wanted.dw {
            self.backward_weights(engine, at(pass.x)?, at(dw)?, dz, batch)?;
        }
        if let Some(dx) = wanted.dx {
            self.backward_input(engine, at(dx)?, at(pass.w)?, dz, batch, wanted.adds)?;
        }
        Ok(())
    }

    /// The gradient of the sums from that of the output, and the bias's.
    fn undo(
        &self,
        engine: &Engine,
        pass: Pass<'_>,
        dy: &Tensor,
        db: Option<&Tensor>,
    ) -> Result<u64> {
        let (rows, channels) = (self.rows(pass.x), self.outputs);
        let Then::ReluMaxPool(windows) = self.then else {
            let relu = self.then == Then::Relu;
            return undo(engine, rows, channels, relu, pass.y, dy, db);
        };
        let n = rows * channels;
        let dz = engine.scratch(Slot::Undone, n)?;
        let first = [
            at(pass.y)?.into(),
            at_option(pass.place)?.into(),
            at(dy)?.into(),
            dz.into(),
        ];
        let sizes = [
            windows.height.into(),
            windows.width.into(),
            windows.out_height().into(),
            windows.out_width().into(),
            windows.kernel.into(),
            windows.stride.into(),
        ];
        match db {
            None => {
                let args = [&first[..], &[channels.into()], &sizes, &[n.into()]].concat();
                engine.launch("relu_pool_backward", Grid::over(n), &args)?;
            }
            Some(db) => {
                let (grid, rest) = engine.over_rows(rows, channels, 1)?;
                let over = [rows.into(), channels.into()];
                let args = [&first[..], &[at(db)?.into()], &sizes, &over, &rest].concat();
                engine.launch("relu_pool_backward_sums", grid, &args)?;
            }
        }
        Ok(dz)
    }

    /// y = the sums, without bias.
    fn convolve(&self, engine: &Engine, x: u64, w: u64, y: u64, batch: usize) -> Result<()> {
        let products = || self.convolve_by_products(engine, x, w, y, batch);
        #[cfg(feature = "cudnn")]
        if let (false, Some(dnn)) = (self.is_product(), engine.dnn()) {
            return dnn.forward(engine, self.shape(batch), [x, w, y], &products);
        }
        products()
    }

    fn convolve_by_products(
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

    fn backward_weights(
        &self,
        engine: &Engine,
        x: u64,
        dw: u64,
        dz: u64,
        batch: usize,
    ) -> Result<()> {
        let products = || self.weights_by_products(engine, x, dw, dz, batch);
        #[cfg(feature = "cudnn")]
        if let (false, Some(dnn)) = (self.is_product(), engine.dnn()) {
            return dnn.backward_filter(engine, self.shape(batch), [x, dw, dz], &products);
        }
        products()
    }

    fn weights_by_products(
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

    fn backward_input(
        &self,
        engine: &Engine,
        dx: u64,
        w: u64,
        dz: u64,
        batch: usize,
        adds: bool,
    ) -> Result<()> {
        let products = || self.input_by_products(engine, dx, w, dz, batch, adds);
        #[cfg(feature = "cudnn")]
        if let (false, Some(dnn)) = (self.is_product(), engine.dnn()) {
            return dnn.backward_data(engine, self.shape(batch), [dx, w, dz], adds, &products);
        }
        products()
    }

    fn input_by_products(
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

/// A convolution's shape as kernels are told it.
pub(crate) fn sizes(g: &Geometry) -> [Arg; 8] {
    [
        g.channels.into(),
        g.height.into(),
        g.width.into(),
        g.out_height().into(),
        g.out_width().into(),
        g.kernel.into(),
        g.stride.into(),
        g.padding.into(),
    ]
}
