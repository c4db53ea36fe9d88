//! On a GPU: convolutions of grey or colored images, three by three at stride 1, in fours of outputs.
//!
//! y, place = pool(relu(b + W * x)) in one pass, and dW, db straight from x, y, dy and place where nobody asks for dx: what lies
//! between a convolution and what follows it is many times as large as the images and never written.
//! x (B, H, W, C), W (O, 3, 3, C), y (B, OH, OW, O), or (B, OH/2, OW/2, O) behind a pooling two by two.
//!
//! A sum over 9 or 27 products is too short for a product of matrices: its patches cost more than it does. A thread takes a
//! tile of two by two positions, which is a window of the pooling, for four neighboring outputs: 16 pixels of a channel
//! give 144 products.

use candle_core::Tensor;

use super::{Pass, Wanted};
use crate::nn::Result;
use crate::nn::op::conv2d::{Conv2d, Then};
use crate::nn::op::cuda::{Arg, BLOCK, Engine, Grid, Slot, are_aligned, at, at_option, countable};

/// The most outputs: as many fours as a warp has threads.
const MOST_OUTPUTS: usize = 128;

/// Threads of a block that sums over tiles: each keeps up to 112 sums.
const THREADS: usize = 128;

/// Blocks of a forward pass: six for each processor of the largest cards; each reads the weights first.
const FORWARD_BLOCKS: usize = 132 * 6;

/// Blocks that sum over tiles, as many as run at once on the largest cards: four for each processor, or three where a
/// thread's registers leave room for no more, with colored images.
const BLOCKS: [usize; 2] = [132 * 4, 132 * 3];

/// Tiles that a thread sums by itself, at least.
const TILES: usize = 4;

/// `Tile`: two by two positions of an image; `across` and `down` are how many it has.
/// `few_seen`: the pixels of a channel under a tile, zeros outside the image.
/// `few_gradient`: the gradient of a tile's sums for four outputs, behind a ReLU or a pooling (which has a `place`) or neither.
/// `few_weights` writes for each block its sums, (O, 3, 3, C) and (O); `conv_few_sums` adds them up.
///
/// Blocks are bounded so that three of them fit on a processor of an H100: 112 sums for each thread leave room for few more
/// registers. For other cards the compiler does not get along with 168, and two have to do.
pub(crate) const SOURCE: &str = r"
#define BLOCKS (__CUDA_ARCH__ == 900 ? 3 : 2)
#define BLOCKS_OF_256 __launch_bounds__(256, BLOCKS)
#define BLOCKS_OF_128 __launch_bounds__(128, BLOCKS)

struct Tile { int image, y, x; };

__device__ __forceinline__ Tile tile_of(int tile, int across, int down) {
    int line = tile / across, image = line / down;
    return {image, 2 * (line - image * down), 2 * (tile - line * across)};
}

struct Seen { float of[4][4]; };

template <int C>
__device__ __forceinline__ Seen few_seen(const float *x, Tile tile, int padding, int height, int width, int c) {
    int top = tile.y - padding, left = tile.x - padding;
    const float *from = x + ((tile.image * height + top) * width + left) * C + c;
    Seen seen;
#pragma unroll
    for (int r = 0; r < 4; r++) {
        // A line outside ends where it begins; a column before the first is far beyond any end.
        unsigned end = top + r >= 0 && top + r < height ? width : 0;
#pragma unroll
        for (int q = 0; q < 4; q++) seen.of[r][q] = (unsigned)(left + q) < end ? from[r * width * C + q * C] : 0.0f;
    }
    return seen;
}

template <int C>
__device__ __forceinline__ void few_forward(const float *x, const float *w, const float *b, float *y, unsigned char *place,
                                            int relu, int pools, int height, int width, int out_height, int out_width,
                                            int padding, int across, int down, int outputs, int n) {
    // One more than there are between neighboring taps: threads that write one output's taps meet in fewer banks.
    __shared__ Floats<4> weights[9 * C * 33];
    int groups = outputs / 4, pitch = groups + 1;
    float *weight = weights[0].v;
    for (int i = threadIdx.x; i < 9 * C * outputs; i += blockDim.x) weight[i % (9 * C) * 4 * pitch + i / (9 * C)] = w[i];
    __syncthreads();
    EACH(i, n) {
        int group = i % groups, o = 4 * group;
        Tile tile = tile_of(i / groups, across, down);
        Floats<4> sums[2][2];
#pragma unroll
        for (int t = 0; t < 4; t++)
#pragma unroll
            for (int v = 0; v < 4; v++) sums[t / 2][t % 2].v[v] = 0.0f;
#pragma unroll
        for (int c = 0; c < C; c++) {
            Seen seen = few_seen<C>(x, tile, padding, height, width, c);
#pragma unroll
            for (int tap = 0; tap < 9; tap++) {
                Floats<4> of = weights[(tap * C + c) * pitch + group];
#pragma unroll
                for (int t = 0; t < 4; t++) {
                    float pixel = seen.of[tap / 3 + t / 2][tap % 3 + t % 2];
#pragma unroll
                    for (int v = 0; v < 4; v++) sums[t / 2][t % 2].v[v] = fmaf(of.v[v], pixel, sums[t / 2][t % 2].v[v]);
                }
            }
        }
        Floats<4> bias;
#pragma unroll
        for (int v = 0; v < 4; v++) bias.v[v] = 0.0f;
        if (b) bias = loaded<4>(b + o);
        if (pools) {
            Floats<4> best = sums[0][0];
            Bytes<4> where;
#pragma unroll
            for (int v = 0; v < 4; v++) where.v[v] = 0;
#pragma unroll
            for (int t = 0; t < 4; t++)
#pragma unroll
                for (int v = 0; v < 4; v++) {
                    // A NaN wins: a diverged network must not look healthy.
                    float value = sums[t / 2][t % 2].v[v];
                    bool wins = value > best.v[v] || value != value;
                    best.v[v] = wins ? value : best.v[v];
                    where.v[v] = wins ? t : where.v[v];
                }
#pragma unroll
            for (int v = 0; v < 4; v++) best.v[v] = rectified(best.v[v] + bias.v[v]);
            int to = i / groups * outputs + o;
            stored<4>(y + to, best);
            if (place) stored<4>(place + to, where);
        } else {
#pragma unroll
            for (int t = 0; t < 4; t++) {
                Floats<4> value = sums[t / 2][t % 2];
#pragma unroll
                for (int v = 0; v < 4; v++) {
                    value.v[v] += bias.v[v];
                    if (relu) value.v[v] = rectified(value.v[v]);
                }
                int oy = tile.y + t / 2, ox = tile.x + t % 2;
                if (oy < out_height && ox < out_width)
                    stored<4>(y + ((tile.image * out_height + oy) * out_width + ox) * outputs + o, value);
            }
        }
    }
}

KERNEL BLOCKS_OF_256 conv_grey_forward(const float *x, const float *w, const float *b, float *y, unsigned char *place,
                                       int relu, int pools, int height, int width, int out_height, int out_width,
                                       int padding, int across, int down, int outputs, int n) {
    few_forward<1>(x, w, b, y, place, relu, pools, height, width, out_height, out_width, padding, across, down, outputs, n);
}

KERNEL BLOCKS_OF_256 conv_color_forward(const float *x, const float *w, const float *b, float *y, unsigned char *place,
                                        int relu, int pools, int height, int width, int out_height, int out_width,
                                        int padding, int across, int down, int outputs, int n) {
    few_forward<3>(x, w, b, y, place, relu, pools, height, width, out_height, out_width, padding, across, down, outputs, n);
}

struct TileGradient { Floats<4> of[2][2]; };

__device__ __forceinline__ TileGradient few_gradient(const float *y, const unsigned char *place, const float *dy, int relu,
                                                     int number, Tile tile, int out_height, int out_width, int outputs,
                                                     int o) {
    TileGradient g;
    if (place) {
        int at = number * outputs + o;
        Floats<4> of_y = loaded<4>(y + at), of_dy = loaded<4>(dy + at);
        Bytes<4> where = loaded<4>(place + at);
#pragma unroll
        for (int t = 0; t < 4; t++)
#pragma unroll
            for (int v = 0; v < 4; v++)
                g.of[t / 2][t % 2].v[v] = where.v[v] == t && of_y.v[v] > 0.0f ? of_dy.v[v] : 0.0f;
        return g;
    }
    Floats<4> of_y[4];
    const float *mask = relu ? y : dy;
#pragma unroll
    for (int t = 0; t < 4; t++) {
        // Beyond the edge a position inside stands in, and counts nothing.
        int oy = min(tile.y + t / 2, out_height - 1), ox = min(tile.x + t % 2, out_width - 1);
        int at = ((tile.image * out_height + oy) * out_width + ox) * outputs + o;
        of_y[t] = loaded<4>(mask + at);
        g.of[t / 2][t % 2] = loaded<4>(dy + at);
    }
#pragma unroll
    for (int t = 0; t < 4; t++)
#pragma unroll
        for (int v = 0; v < 4; v++) {
            bool counts = tile.y + t / 2 < out_height && tile.x + t % 2 < out_width && (!relu || of_y[t].v[v] > 0.0f);
            g.of[t / 2][t % 2].v[v] = counts ? g.of[t / 2][t % 2].v[v] : 0.0f;
        }
    return g;
}

template <int C>
__device__ __forceinline__ void few_weights(const float *x, const float *y, const unsigned char *place, const float *dy,
                                            float *partial, int relu, int height, int width, int out_height,
                                            int out_width, int padding, int across, int down, int outputs, int tiles) {
    int groups = outputs / 4, lanes = blockDim.x / groups, group = threadIdx.x % groups, o = 4 * group;
    Floats<4> sums[9 * C + 1];
#pragma unroll
    for (int s = 0; s <= 9 * C; s++)
#pragma unroll
        for (int v = 0; v < 4; v++) sums[s].v[v] = 0.0f;
#pragma unroll 1
    for (int i = blockIdx.x * lanes + threadIdx.x / groups; i < tiles; i += gridDim.x * lanes) {
        Tile tile = tile_of(i, across, down);
        TileGradient g = few_gradient(y, place, dy, relu, i, tile, out_height, out_width, outputs, o);
#pragma unroll
        for (int c = 0; c < C; c++) {
            Seen seen = few_seen<C>(x, tile, padding, height, width, c);
#pragma unroll
            for (int tap = 0; tap < 9; tap++)
#pragma unroll
                for (int t = 0; t < 4; t++) {
                    float pixel = seen.of[tap / 3 + t / 2][tap % 3 + t % 2];
#pragma unroll
                    for (int v = 0; v < 4; v++)
                        sums[tap * C + c].v[v] = fmaf(g.of[t / 2][t % 2].v[v], pixel, sums[tap * C + c].v[v]);
                }
        }
#pragma unroll
        for (int t = 0; t < 4; t++)
#pragma unroll
            for (int v = 0; v < 4; v++) sums[9 * C].v[v] += g.of[t / 2][t % 2].v[v];
    }
    // Over the threads that have the same outputs: some sums of all threads at a time, each sum then one thread's.
    constexpr int TURN = C == 1 ? 10 : 7;
    // Eight more than there are threads: sums of neighboring numbers then lie in other banks.
    constexpr int PITCH = 136;
    __shared__ float shared[4 * TURN * PITCH];
    partial += blockIdx.x * outputs * (9 * C + 1);
#pragma unroll
    for (int first = 0; first <= 9 * C; first += TURN) {
        __syncthreads();
#pragma unroll
        for (int s = 0; s < TURN; s++)
#pragma unroll
            for (int v = 0; v < 4; v++) shared[(4 * s + v) * PITCH + threadIdx.x] = sums[first + s].v[v];
        __syncthreads();
        for (int i = threadIdx.x; i < 4 * TURN * groups; i += blockDim.x) {
            int number = i / groups, of = i - number * groups, s = first + number / 4, output = 4 * of + number % 4;
            double sum = 0.0;
#pragma unroll 4
            for (int lane = of; lane < 128; lane += groups) sum += shared[number * PITCH + lane];
            // The bias's sums behind the weights', which lie as the weights do.
            partial[s < 9 * C ? output * 9 * C + s : outputs * 9 * C + output] = (float)sum;
        }
    }
}

KERNEL BLOCKS_OF_128 conv_grey_weights(const float *x, const float *y, const unsigned char *place, const float *dy,
                                       float *partial, int relu, int height, int width, int out_height, int out_width,
                                       int padding, int across, int down, int outputs, int tiles) {
    few_weights<1>(x, y, place, dy, partial, relu, height, width, out_height, out_width, padding, across, down, outputs, tiles);
}

KERNEL BLOCKS_OF_128 conv_color_weights(const float *x, const float *y, const unsigned char *place, const float *dy,
                                        float *partial, int relu, int height, int width, int out_height, int out_width,
                                        int padding, int across, int down, int outputs, int tiles) {
    few_weights<3>(x, y, place, dy, partial, relu, height, width, out_height, out_width, padding, across, down, outputs, tiles);
}

KERNEL conv_few_sums(const float *parts, float *dw, float *db, int weights, int rows, int columns, int block_width,
                     double *partial, unsigned int *counters) {
    over_rows<1, 16>(rows, columns, block_width, partial, counters, [&](int r, int c) {
        return parts[r * columns + c];
    }, [&](int r, int c, float value, float *sums) {
        sums[0] += value;
    }, [&](int c, double *sums) {
        if (c < weights) dw[c] = (float)sums[0];
        else if (db) db[c - weights] = (float)sums[0];
    });
}
";

/// The tiles of a convolution over some images.
struct Tiles {
    across: usize,
    down: usize,
    count: usize,
}

impl Conv2d {
    /// The tiles, if there are kernels for this convolution and what follows it, at these addresses.
    fn tiles(&self, batch: usize, aligned: &[u64], place: u64) -> Result<Option<Tiles>> {
        let g = &self.geometry;
        let fours = self.outputs / 4;
        let suits = g.kernel == 3
            && g.stride == 1
            && matches!(g.channels, 1 | 3)
            && self.outputs.is_multiple_of(4)
            && fours.is_power_of_two()
            && self.outputs <= MOST_OUTPUTS
            && are_aligned(aligned)
            && place.is_multiple_of(4);
        let (across, down) = match self.then {
            Then::ReluMaxPool(windows) if windows.kernel == 2 && windows.stride == 2 => {
                (windows.out_width(), windows.out_height())
            }
            Then::ReluMaxPool(_) => return Ok(None),
            Then::Nothing | Then::Relu => (g.out_width().div_ceil(2), g.out_height().div_ceil(2)),
        };
        if !suits {
            return Ok(None);
        }
        countable(batch * g.image().max(self.values()))?;
        let count = batch * across * down;
        Ok(Some(Tiles {
            across,
            down,
            count,
        }))
    }

    /// What both passes are told of the shape.
    fn sizes_of_few(&self, tiles: &Tiles) -> [Arg; 8] {
        let g = &self.geometry;
        [
            g.height.into(),
            g.width.into(),
            g.out_height().into(),
            g.out_width().into(),
            g.padding.into(),
            tiles.across.into(),
            tiles.down.into(),
            self.outputs.into(),
        ]
    }

    /// Whether a library is likely to be as fast: where neither bias nor ReLU nor pooling follows, no pass is saved, and 27
    /// products for each output are enough work for it.
    fn is_for_library(&self, engine: &Engine, has_bias: bool) -> bool {
        let alone = !has_bias && self.then == Then::Nothing;
        alone && self.geometry.channels > 1 && has_library(engine)
    }

    /// The forward pass, unless there is no kernel for it.
    pub(super) fn forward_of_few(&self, engine: &Engine, pass: Pass<'_>) -> Result<bool> {
        let (x, w, b, y) = (at(pass.x)?, at(pass.w)?, at_option(pass.b)?, at(pass.y)?);
        let place = at_option(pass.place)?;
        let Some(tiles) = self.tiles(self.batch(pass.x), &[b, y], place)? else {
            return Ok(false);
        };
        if self.is_for_library(engine, b != 0) {
            return Ok(false);
        }
        let n = tiles.count * self.outputs / 4;
        let first = [x.into(), w.into(), b.into(), y.into(), place.into()];
        let pools = matches!(self.then, Then::ReluMaxPool(_));
        let next = [(self.then == Then::Relu).into(), pools.into()];
        let args = [&first[..], &next, &self.sizes_of_few(&tiles), &[n.into()]].concat();
        let kernel = match self.geometry.channels {
            1 => "conv_grey_forward",
            _ => "conv_color_forward",
        };
        let grid = Grid::blocks(n.div_ceil(BLOCK).min(FORWARD_BLOCKS), 1);
        engine.launch(kernel, grid, &args)?;
        Ok(true)
    }

    /// The gradients of the weights and the bias, where that of the input is not wanted; unless there is no kernel for it.
    pub(super) fn backward_of_few(
        &self,
        engine: &Engine,
        pass: Pass<'_>,
        dy: &Tensor,
        wanted: Wanted<'_>,
    ) -> Result<bool> {
        let (None, Some(dw)) = (wanted.dx, wanted.dw) else {
            return Ok(false);
        };
        if self.is_for_library(engine, wanted.db.is_some()) {
            return Ok(false);
        }
        let (x, y, dy) = (at(pass.x)?, at(pass.y)?, at(dy)?);
        let pools = matches!(self.then, Then::ReluMaxPool(_));
        let place = if pools { at_option(pass.place)? } else { 0 };
        if pools && place == 0 {
            return Ok(false);
        }
        let Some(tiles) = self.tiles(self.batch(pass.x), &[y, dy], place)? else {
            return Ok(false);
        };
        let weights = self.outputs * self.geometry.depth();
        let columns = weights + self.outputs;
        let lanes = THREADS / (self.outputs / 4);
        let blocks = tiles
            .count
            .div_ceil(lanes * TILES)
            .clamp(1, BLOCKS[usize::from(self.geometry.channels > 1)]);
        let parts = engine.scratch(Slot::Undone, blocks * columns)?;
        let first = [x.into(), y.into(), place.into(), dy.into(), parts.into()];
        let relu = [(self.then == Then::Relu).into()];
        let sizes = self.sizes_of_few(&tiles);
        let args = [&first[..], &relu, &sizes, &[tiles.count.into()]].concat();
        let grid = Grid {
            blocks: (blocks, 1),
            threads: THREADS,
        };
        let kernel = match self.geometry.channels {
            1 => "conv_grey_weights",
            _ => "conv_color_weights",
        };
        engine.launch(kernel, grid, &args)?;
        let (grid, rest) = engine.over_rows(blocks, columns, 1)?;
        let first = [parts.into(), at(dw)?.into(), at_option(wanted.db)?.into()];
        let over = [weights.into(), blocks.into(), columns.into()];
        let args = [&first[..], &over, &rest].concat();
        engine.launch("conv_few_sums", grid, &args)?;
        Ok(true)
    }
}

/// Whether convolutions go to cuDNN.
fn has_library(engine: &Engine) -> bool {
    #[cfg(feature = "cudnn")]
    let found = engine.dnn().is_some();
    #[cfg(not(feature = "cudnn"))]
    let found = {
        let _ = engine;
        false
    };
    found
}
