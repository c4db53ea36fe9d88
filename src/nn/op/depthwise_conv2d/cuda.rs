//! On a GPU: a thread computes four neighboring positions of four neighboring channels, from columns it loads once.
//! Weights lie as (k, k, C).

use candle_core::Tensor;

use crate::nn::Result;
use crate::nn::op::batch_norm2d::cuda::is_wide;
use crate::nn::op::conv2d::cuda::sizes;
use crate::nn::op::cuda::{Engine, Grid, at, at_option, countable};
use crate::nn::op::geometry::Geometry;

/// Neighboring positions of a thread, as in the kernels.
const POSITIONS: usize = 4;

/// `correlate_three`: kernels of three by three, spelt out; with `flipped` weights it gives dx from dy at stride 1.
/// `depthwise_*`: any kernel, one position at a time.
/// The gradient of the weights is a sum over lines of positions, kept for all nine weights at once; with other kernels
/// each weight of each channel is a column of its own.
pub(crate) const SOURCE: &str = r"
#define POSITIONS 4

template <int V> __device__ __forceinline__ Floats<V> all_of(float value) {
    Floats<V> all;
#pragma unroll
    for (int v = 0; v < V; v++) all.v[v] = value;
    return all;
}

template <int V> __device__ __forceinline__ void add_products(Floats<V> &sums, const Floats<V> &a, const Floats<V> &b) {
#pragma unroll
    for (int v = 0; v < V; v++) sums.v[v] = fmaf(a.v[v], b.v[v], sums.v[v]);
}

template <int V> __device__ __forceinline__ void stored_behind(float *to, Floats<V> values, int relu) {
#pragma unroll
    for (int v = 0; v < V; v++) values.v[v] = relu && values.v[v] < 0.0f ? 0.0f : values.v[v];
    stored<V>(to, values);
}

template <int V, int S>
__device__ __forceinline__ void correlate_three(const float *x, const float *w, const float *b, float *y, int relu,
                                                int flipped, int channels, int height, int width, int out_height,
                                                int out_width, int padding, int n) {
    int groups = channels / V, segments = (out_width + POSITIONS - 1) / POSITIONS;
    EACH(i, n) {
        int c = i % groups * V, ox = i / groups % segments * POSITIONS, line = i / groups / segments;
        int first = ox * S - padding, top = line % out_height * S - padding, image = line / out_height;
        Floats<V> sums[POSITIONS];
        Floats<V> start = b ? loaded<V>(b + c) : all_of<V>(0.0f);
#pragma unroll
        for (int t = 0; t < POSITIONS; t++) sums[t] = start;
#pragma unroll
        for (int ky = 0; ky < 3; ky++) {
            int py = top + ky;
            if (py < 0 || py >= height) continue;
            Floats<V> weights[3];
#pragma unroll
            for (int kx = 0; kx < 3; kx++)
                weights[kx] = loaded<V>(w + (flipped ? 8 - ky * 3 - kx : ky * 3 + kx) * channels + c);
            const float *from = x + (image * height + py) * width * channels + c;
#pragma unroll
            for (int column = 0; column < (POSITIONS - 1) * S + 3; column++) {
                int px = first + column;
                Floats<V> pixel = px >= 0 && px < width ? loaded<V>(from + px * channels) : all_of<V>(0.0f);
#pragma unroll
                for (int t = 0; t < POSITIONS; t++)
                    if (column >= t * S && column < t * S + 3) add_products<V>(sums[t], weights[column - t * S], pixel);
            }
        }
        float *to = y + (line * out_width + ox) * channels + c;
#pragma unroll
        for (int t = 0; t < POSITIONS; t++)
            if (ox + t < out_width) stored_behind<V>(to + t * channels, sums[t], relu);
    }
}

KERNEL depthwise_three(const float *x, const float *w, const float *b, float *y, int relu, int flipped, int wide,
                       int channels, int height, int width, int out_height, int out_width, int stride, int padding,
                       int n) {
    if (wide && stride == 1)
        correlate_three<4, 1>(x, w, b, y, relu, flipped, channels, height, width, out_height, out_width, padding, n);
    else if (wide)
        correlate_three<4, 2>(x, w, b, y, relu, flipped, channels, height, width, out_height, out_width, padding, n);
    else if (stride == 1)
        correlate_three<1, 1>(x, w, b, y, relu, flipped, channels, height, width, out_height, out_width, padding, n);
    else
        correlate_three<1, 2>(x, w, b, y, relu, flipped, channels, height, width, out_height, out_width, padding, n);
}

KERNEL depthwise_forward(const float *x, const float *w, const float *b, float *y, int relu, int channels, int height,
                         int width, int out_height, int out_width, int kernel, int stride, int padding, int n) {
    EACH(i, n) {
        int c = i % channels, ox = i / channels % out_width, line = i / channels / out_width;
        int first = ox * stride - padding, top = line % out_height * stride - padding, image = line / out_height;
        float sum = b ? b[c] : 0.0f;
        for (int ky = 0; ky < kernel; ky++) {
            int py = top + ky;
            if (py < 0 || py >= height) continue;
            for (int kx = 0; kx < kernel; kx++) {
                int px = first + kx;
                if (px < 0 || px >= width) continue;
                sum = fmaf(w[(ky * kernel + kx) * channels + c], x[((image * height + py) * width + px) * channels + c], sum);
            }
        }
        y[i] = relu ? rectified(sum) : sum;
    }
}

template <int V, int K, int S>
__device__ __forceinline__ void depthwise_gather(const float *dy, const float *w, float *dx, int channels, int height,
                                                 int width, int out_height, int out_width, int any_kernel,
                                                 int any_stride, int padding, int n) {
    int kernel = K ? K : any_kernel, stride = S ? S : any_stride, groups = channels / V;
    EACH(i, n) {
        int c = i % groups * V, px = i / groups % width, line = i / groups / width;
        int py = line % height, image = line / height;
        Floats<V> sums = all_of<V>(0.0f);
        for (int ky = 0; ky < kernel; ky++) {
            int down = py + padding - ky;
            if (down < 0 || down % stride || down / stride >= out_height) continue;
            for (int kx = 0; kx < kernel; kx++) {
                int right = px + padding - kx;
                if (right < 0 || right % stride || right / stride >= out_width) continue;
                int row = (image * out_height + down / stride) * out_width + right / stride;
                add_products<V>(sums, loaded<V>(w + (ky * kernel + kx) * channels + c), loaded<V>(dy + row * channels + c));
            }
        }
        stored<V>(dx + i * V, sums);
    }
}

KERNEL depthwise_backward(const float *dy, const float *w, float *dx, int wide, int channels, int height, int width,
                          int out_height, int out_width, int kernel, int stride, int padding, int n) {
    if (wide && kernel == 3 && stride == 2)
        depthwise_gather<4, 3, 2>(dy, w, dx, channels, height, width, out_height, out_width, 3, 2, padding, n);
    else if (wide)
        depthwise_gather<4, 0, 0>(dy, w, dx, channels, height, width, out_height, out_width, kernel, stride, padding, n);
    else
        depthwise_gather<1, 0, 0>(dy, w, dx, channels, height, width, out_height, out_width, kernel, stride, padding, n);
}

template <int S>
__device__ __forceinline__ void weights_of_three(const float *x, const float *dy, float *dw, int height, int width,
                                                 int out_height, int out_width, int padding, int rows, int channels,
                                                 int block_width, double *partial, unsigned int *counters) {
    int segments = (out_width + POSITIONS - 1) / POSITIONS;
    constexpr int COLUMNS = (POSITIONS - 1) * S + 3;
    struct Seen { float g[POSITIONS], pixels[3][COLUMNS]; };
    // All that three lines need, with zeros beyond their ends: a line left out would be a branch between the loads.
    over_rows<9, 1>(rows, channels, block_width, partial, counters, [&](int r, int c) {
        int ox = r % segments * POSITIONS, line = r / segments;
        int first = ox * S - padding, top = line % out_height * S - padding, image = line / out_height;
        const float *gradients = dy + (line * out_width + ox) * channels + c;
        Seen seen;
#pragma unroll
        for (int t = 0; t < POSITIONS; t++) seen.g[t] = ox + t < out_width ? gradients[t * channels] : 0.0f;
#pragma unroll
        for (int ky = 0; ky < 3; ky++) {
            int py = top + ky, end = py >= 0 && py < height ? width : 0;
            const float *from = x + ((image * height + py) * width + first) * channels + c;
#pragma unroll
            for (int column = 0; column < COLUMNS; column++) {
                int px = first + column;
                seen.pixels[ky][column] = px >= 0 && px < end ? from[column * channels] : 0.0f;
            }
        }
        return seen;
    }, [&](int r, int c, const Seen &seen, float *sums) {
#pragma unroll
        for (int ky = 0; ky < 3; ky++)
#pragma unroll
            for (int column = 0; column < COLUMNS; column++)
#pragma unroll
                for (int t = 0; t < POSITIONS; t++)
                    if (column >= t * S && column < t * S + 3)
                        sums[ky * 3 + column - t * S] = fmaf(seen.g[t], seen.pixels[ky][column], sums[ky * 3 + column - t * S]);
    }, [&](int c, double *sums) {
#pragma unroll
        for (int tap = 0; tap < 9; tap++) dw[tap * channels + c] = (float)sums[tap];
    });
}

KERNEL depthwise_weights_three(const float *x, const float *dy, float *dw, int height, int width, int out_height,
                               int out_width, int padding, int rows, int channels, int block_width, double *partial,
                               unsigned int *counters) {
    weights_of_three<1>(x, dy, dw, height, width, out_height, out_width, padding, rows, channels, block_width, partial,
                        counters);
}

KERNEL depthwise_weights_three_by_two(const float *x, const float *dy, float *dw, int height, int width, int out_height,
                                      int out_width, int padding, int rows, int channels, int block_width,
                                      double *partial, unsigned int *counters) {
    weights_of_three<2>(x, dy, dw, height, width, out_height, out_width, padding, rows, channels, block_width, partial,
                        counters);
}

KERNEL depthwise_weights(const float *x, const float *dy, float *dw, int channels, int height, int width, int out_height,
                         int out_width, int kernel, int stride, int padding, int rows, int columns, int block_width,
                         double *partial, unsigned int *counters) {
    struct Seen { float g, pixel; };
    over_rows<1, 4>(rows, columns, block_width, partial, counters, [&](int r, int column) {
        int c = column % channels, tap = column / channels, ox = r % out_width, line = r / out_width;
        int py = line % out_height * stride + tap / kernel - padding, px = ox * stride + tap % kernel - padding;
        bool inside = py >= 0 && py < height && px >= 0 && px < width;
        const float *from = x + ((line / out_height * height + py) * width + px) * channels + c;
        return Seen{dy[r * channels + c], inside ? *from : 0.0f};
    }, [&](int r, int column, Seen seen, float *sums) {
        sums[0] = fmaf(seen.g, seen.pixel, sums[0]);
    }, [&](int column, double *sums) { dw[column] = (float)sums[0]; });
}
";

/// As [`super::forward`], with a bias and no scale.
pub(crate) fn forward(
    engine: &Engine,
    geometry: &Geometry,
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    relu: bool,
    y: &Tensor,
) -> Result<()> {
    let g = geometry;
    countable(x.elem_count().max(y.elem_count()))?;
    let (x, w, b, to) = (at(x)?, at(w)?, at_option(b)?, at(y)?);
    if is_spelt_out(g) {
        return three(engine, g, [x, w, b, to], relu, false, y.elem_count());
    }
    let n = y.elem_count();
    let first = [x.into(), w.into(), b.into(), to.into(), relu.into()];
    let args = [&first[..], &sizes(g), &[n.into()]].concat();
    engine.launch("depthwise_forward", Grid::over(n), &args)
}

/// As [`super::backward`], for the output's gradient behind any ReLU, at an address; the bias's gradient is the sum of
/// its columns ([`undo`](crate::nn::op::conv2d::cuda::undo)).
pub(crate) fn backward(
    engine: &Engine,
    geometry: &Geometry,
    x: &Tensor,
    w: &Tensor,
    dy: u64,
    dx: Option<&Tensor>,
    dw: Option<&Tensor>,
) -> Result<()> {
    let images = x.elem_count() / geometry.image();
    countable(
        images * geometry.channels * geometry.positions().max(geometry.height * geometry.width),
    )?;
    if let Some(dw) = dw {
        backward_weights(engine, geometry, x, dy, dw)?;
    }
    match dx {
        Some(dx) => backward_input(engine, geometry, w, dy, dx),
        None => Ok(()),
    }
}

fn backward_input(engine: &Engine, g: &Geometry, w: &Tensor, dy: u64, dx: &Tensor) -> Result<()> {
    let n = dx.elem_count();
    let (w, dx) = (at(w)?, at(dx)?);
    if is_spelt_out(g) && g.stride == 1 && g.padding < g.kernel {
        // A correlation of dy with the weights turned around.
        let turned = Geometry {
            height: g.out_height(),
            width: g.out_width(),
            padding: g.kernel - 1 - g.padding,
            ..*g
        };
        return three(engine, &turned, [dy, w, 0, dx], false, true, n);
    }
    let wide = is_wide(g.channels, &[dy, w, dx]);
    let n = if wide { n / 4 } else { n };
    let first = [dy.into(), w.into(), dx.into(), wide.into()];
    let args = [&first[..], &sizes(g), &[n.into()]].concat();
    engine.launch("depthwise_backward", Grid::over(n), &args)
}

fn backward_weights(engine: &Engine, g: &Geometry, x: &Tensor, dy: u64, dw: &Tensor) -> Result<()> {
    let lines = x.elem_count() / g.image() * g.out_height();
    let first = [at(x)?.into(), dy.into(), at(dw)?.into()];
    if is_spelt_out(g) {
        let rows = lines * g.out_width().div_ceil(POSITIONS);
        let (grid, rest) = engine.over_rows(rows, g.channels, 9)?;
        let sizes = [
            g.height.into(),
            g.width.into(),
            g.out_height().into(),
            g.out_width().into(),
            g.padding.into(),
            rows.into(),
            g.channels.into(),
        ];
        let kernel = match g.stride {
            1 => "depthwise_weights_three",
            _ => "depthwise_weights_three_by_two",
        };
        return engine.launch(kernel, grid, &[&first[..], &sizes, &rest].concat());
    }
    let rows = lines * g.out_width();
    let columns = g.depth();
    let (grid, rest) = engine.over_rows(rows, columns, 1)?;
    let over = [rows.into(), columns.into()];
    let args = [&first[..], &sizes(g), &over, &rest].concat();
    engine.launch("depthwise_weights", grid, &args)
}

/// Whether there are kernels for these very numbers.
fn is_spelt_out(g: &Geometry) -> bool {
    g.kernel == 3 && matches!(g.stride, 1 | 2)
}

/// A correlation of `n` results with kernels of three by three: from x, w and b to y.
fn three(
    engine: &Engine,
    g: &Geometry,
    addresses: [u64; 4],
    relu: bool,
    flipped: bool,
    n: usize,
) -> Result<()> {
    let wide = is_wide(g.channels, &addresses);
    let lines = n / (g.channels * g.out_width());
    let groups = if wide { g.channels / 4 } else { g.channels };
    let threads = lines * g.out_width().div_ceil(POSITIONS) * groups;
    let [x, w, b, y] = addresses;
    let args = [
        x.into(),
        w.into(),
        b.into(),
        y.into(),
        relu.into(),
        flipped.into(),
        wide.into(),
        g.channels.into(),
        g.height.into(),
        g.width.into(),
        g.out_height().into(),
        g.out_width().into(),
        g.stride.into(),
        g.padding.into(),
        threads.into(),
    ];
    engine.launch("depthwise_three", Grid::over(threads), &args)
}
