//! On a GPU: by cuDNN, as products of patches and weights by cuBLAS (`products`), or where images have few channels by
//! kernels of its own (`few`). Weights lie as (O, k, k, C).

use candle_core::Tensor;

use super::{Conv2d, Then};
use crate::nn::Result;
use crate::nn::op::batch_norm2d::cuda::{along, is_wide};
use crate::nn::op::cuda::{Arg, Engine, Grid, Slot, at, at_option, countable};
use crate::nn::op::geometry::Geometry;

pub(crate) mod few;
mod products;

/// A pooling's windows lie apart, so that its plane falls into cells: from where a window begins to where the next would. A
/// thread reads what a window has once (its output, its gradient, its maximum's place) and writes the cell's pixels, with
/// zeros where no window or no maximum is; the bias's gradient is the sum over windows.
pub(crate) const SOURCE: &str = r"
template <int V>
__device__ __forceinline__ void bias_relu_of(float *y, const float *b, int channels, int relu, int n) {
    float bias[V];
    along_channels<V>(channels, n, [&](int v, int c) { bias[v] = b ? b[c] : 0.0f; }, [&](int i) {
        Floats<V> of = loaded<V>(y + i);
#pragma unroll
        for (int v = 0; v < V; v++) {
            of.v[v] += bias[v];
            if (relu) of.v[v] = rectified(of.v[v]);
        }
        stored<V>(y + i, of);
    });
}

KERNEL bias_relu(float *y, const float *b, int relu, int wide, int channels, int n) {
    if (wide) bias_relu_of<4>(y, b, channels, relu, n);
    else bias_relu_of<1>(y, b, channels, relu, n);
}

template <int V, int K>
__device__ __forceinline__ void bias_relu_pool_of(const float *z, const float *b, float *y, unsigned char *place,
                                                  int channels, int height, int width, int out_height, int out_width,
                                                  int any_kernel, int stride, int n) {
    int kernel = K ? K : any_kernel, groups = channels / V;
    EACH(i, n) {
        int c = i % groups * V, window = i / groups, ox = window % out_width, line = window / out_width;
        int oy = line % out_height, image = line / out_height;
        const float *from = z + ((image * height + oy * stride) * width + ox * stride) * channels + c;
        Floats<V> best = loaded<V>(from);
        Bytes<V> where;
#pragma unroll
        for (int v = 0; v < V; v++) where.v[v] = 0;
#pragma unroll(K ? K : 1)
        for (int ky = 0; ky < kernel; ky++)
#pragma unroll(K ? K : 1)
            for (int kx = 0; kx < kernel; kx++) {
                Floats<V> value = loaded<V>(from + (ky * width + kx) * channels);
#pragma unroll
                for (int v = 0; v < V; v++) {
                    // A NaN wins: a diverged network must not look healthy.
                    bool wins = value.v[v] > best.v[v] || value.v[v] != value.v[v];
                    best.v[v] = wins ? value.v[v] : best.v[v];
                    where.v[v] = wins ? ky * kernel + kx : where.v[v];
                }
            }
        Floats<V> bias;
        if (b) bias = loaded<V>(b + c);
#pragma unroll
        for (int v = 0; v < V; v++) best.v[v] = rectified(b ? best.v[v] + bias.v[v] : best.v[v]);
        stored<V>(y + window * channels + c, best);
        if (place) stored<V>(place + window * channels + c, where);
    }
}

KERNEL bias_relu_pool(const float *z, const float *b, float *y, unsigned char *place, int wide, int channels, int height,
                      int width, int out_height, int out_width, int kernel, int stride, int n) {
    if (wide && kernel == 2)
        bias_relu_pool_of<4, 2>(z, b, y, place, channels, height, width, out_height, out_width, 2, stride, n);
    else if (wide)
        bias_relu_pool_of<4, 0>(z, b, y, place, channels, height, width, out_height, out_width, kernel, stride, n);
    else
        bias_relu_pool_of<1, 0>(z, b, y, place, channels, height, width, out_height, out_width, kernel, stride, n);
}

// `window` is the row of y, or -1; `first` the row of dz where the cell begins.
struct Cell { int window, first, height, width; };

__device__ __forceinline__ Cell cell_of(int r, int height, int width, int out_height, int out_width, int stride) {
    int across = (width + stride - 1) / stride, down = (height + stride - 1) / stride;
    int ox = r % across, line = r / across, oy = line % down, image = line / down;
    bool sees = ox < out_width && oy < out_height;
    return {sees ? (image * out_height + oy) * out_width + ox : -1, (image * height + oy * stride) * width + ox * stride,
            min(stride, height - oy * stride), min(stride, width - ox * stride)};
}

template <int V> struct Pooled {
    Floats<V> y, dy;
    Bytes<V> place;
    __device__ __forceinline__ float behind_relu(int v) const { return y.v[v] > 0.0f ? dy.v[v] : 0.0f; }
};

template <int V>
__device__ __forceinline__ Pooled<V> pooled(const float *y, const unsigned char *place, const float *dy, Cell cell,
                                            int channels, int c) {
    // Where there is no window the plane's first one is read, and its gradient left out.
    int at = max(cell.window, 0) * channels + c;
    Pooled<V> of = {loaded<V>(y + at), loaded<V>(dy + at), loaded<V>(place + at)};
#pragma unroll
    for (int v = 0; v < V; v++) of.y.v[v] = cell.window < 0 ? 0.0f : of.y.v[v];
    return of;
}

template <int V, int S>
__device__ __forceinline__ void spread(float *dz, Cell cell, const Pooled<V> &of, int width, int kernel, int any_stride,
                                       int channels, int c) {
    int stride = S ? S : any_stride;
#pragma unroll(S ? S : 1)
    for (int ky = 0; ky < stride; ky++)
#pragma unroll(S ? S : 1)
        for (int kx = 0; kx < stride; kx++) {
            Floats<V> here;
#pragma unroll
            for (int v = 0; v < V; v++)
                here.v[v] = kx < kernel && of.place.v[v] == ky * kernel + kx ? of.behind_relu(v) : 0.0f;
            if (ky < cell.height && kx < cell.width)
                stored<V>(dz + (cell.first + ky * width + kx) * channels + c, here);
        }
}

template <int V, int S>
__device__ __forceinline__ void relu_pool_spread(const float *y, const unsigned char *place, const float *dy, float *dz,
                                                 int channels, int height, int width, int out_height, int out_width,
                                                 int kernel, int stride, int n) {
    int groups = channels / V;
    EACH(i, n) {
        int c = i % groups * V;
        Cell cell = cell_of(i / groups, height, width, out_height, out_width, stride);
        Pooled<V> of = pooled<V>(y, place, dy, cell, channels, c);
        spread<V, S>(dz, cell, of, width, kernel, stride, channels, c);
    }
}

KERNEL relu_pool_backward(const float *y, const unsigned char *place, const float *dy, float *dz, int wide, int channels,
                          int height, int width, int out_height, int out_width, int kernel, int stride, int n) {
    if (wide && stride == 2)
        relu_pool_spread<4, 2>(y, place, dy, dz, channels, height, width, out_height, out_width, kernel, 2, n);
    else if (wide)
        relu_pool_spread<4, 0>(y, place, dy, dz, channels, height, width, out_height, out_width, kernel, stride, n);
    else
        relu_pool_spread<1, 0>(y, place, dy, dz, channels, height, width, out_height, out_width, kernel, stride, n);
}

template <int S>
__device__ __forceinline__ void relu_pool_sums(const float *y, const unsigned char *place, const float *dy, float *dz,
                                               float *db, int height, int width, int out_height, int out_width,
                                               int kernel, int stride, int rows, int channels, int block_width,
                                               double *partial, unsigned int *counters) {
    over_rows<1, S ? 4 : 1>(rows, channels, block_width, partial, counters, [&](int r, int c) {
        return pooled<1>(y, place, dy, cell_of(r, height, width, out_height, out_width, stride), channels, c);
    }, [&](int r, int c, const Pooled<1> &of, float *sums) {
        spread<1, S>(dz, cell_of(r, height, width, out_height, out_width, stride), of, width, kernel, stride, channels, c);
        sums[0] += of.behind_relu(0);
    }, [&](int c, double *sums) { db[c] = sums[0]; });
}

KERNEL relu_pool_backward_sums(const float *y, const unsigned char *place, const float *dy, float *dz, float *db, int height,
                               int width, int out_height, int out_width, int kernel, int stride, int rows, int channels,
                               int block_width, double *partial, unsigned int *counters) {
    if (stride == 2)
        relu_pool_sums<2>(y, place, dy, dz, db, height, width, out_height, out_width, kernel, 2, rows, channels,
                          block_width, partial, counters);
    else
        relu_pool_sums<0>(y, place, dy, dz, db, height, width, out_height, out_width, kernel, stride, rows, channels,
                          block_width, partial, counters);
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
    countable(n)?;
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
        if self.forward_of_few(engine, pass)? {
            return Ok(());
        }
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
                    let (grid, wide) = along(n, self.outputs, &[y]);
                    let args = [
                        y.into(),
                        b.into(),
                        relu.into(),
                        wide,
                        self.outputs.into(),
                        n.into(),
                    ];
                    engine.launch("bias_relu", grid, &args)
                };
                #[cfg(feature = "cudnn")]
                if let (true, false, Some(dnn)) = (relu && b != 0, self.is_product(), engine.dnn())
                {
                    return dnn.forward_rectified(engine, self.shape(batch), [x, w, y, b], &in_two);
                }
                in_two()
            }
            Then::ReluMaxPool(windows) => {
                countable(n)?;
                let z = engine.scratch(Slot::Undone, n)?;
                self.convolve(engine, at(pass.x)?, at(pass.w)?, z, self.batch(pass.x))?;
                let place = at_option(pass.place)?;
                let wide = is_wide(self.outputs, &[z, b, y]) && place.is_multiple_of(4);
                let n = pass.y.elem_count() / if wide { 4 } else { 1 };
                let args = [
                    z.into(),
                    b.into(),
                    y.into(),
                    place.into(),
                    wide.into(),
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
        if self.backward_of_few(engine, pass, dy, wanted)? {
            return Ok(());
        }
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
        countable(rows * channels)?;
        let dz = engine.scratch(Slot::Undone, rows * channels)?;
        let (y, place, dy) = (at(pass.y)?, at_option(pass.place)?, at(dy)?);
        let first = [y.into(), place.into(), dy.into(), dz.into()];
        let down = windows.height.div_ceil(windows.stride);
        let cells = self.batch(pass.x) * down * windows.width.div_ceil(windows.stride);
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
                let wide = is_wide(channels, &[y, dy, dz]) && place.is_multiple_of(4);
                let n = cells * channels / if wide { 4 } else { 1 };
                let next = [wide.into(), channels.into()];
                let args = [&first[..], &next, &sizes, &[n.into()]].concat();
                engine.launch("relu_pool_backward", Grid::over(n), &args)?;
            }
            Some(db) => {
                let (grid, rest) = engine.over_rows(cells, channels, 1)?;
                let over = [cells.into(), channels.into()];
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
