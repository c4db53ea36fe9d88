//! On a GPU: the questions by cuBLAS; paths, leaves and gradients in 64 bits as on the host, each sum by one block in one
//! order.

use candle_core::Tensor;

use super::{Output, Prediction, Tree};
use crate::nn::Result;
use crate::nn::op::cuda::{Engine, Grid, Operand, Product, Slot, at};

/// Nodes are numbered as on the host. `kind`: 0 the scores of training, 1 the mean of all leaves, 2 the most probable leaf.
/// Kernels without `EACH` have a block for each example.
pub(crate) const SOURCE: &str = r"
KERNEL soft_tree_answers(float *p, const float *b, double beta, int questions, int n) {
    EACH(i, n) {
        double z = beta * ((double)p[i] + (double)b[i % questions]);
        p[i] = (float)(1.0 / (1.0 + exp(-z)));
    }
}

KERNEL soft_tree_paths(const float *p, double *paths, int questions, int nodes, int n) {
    EACH(i, n) {
        const float *own = p + i / nodes * questions;
        // Counted from 1, a node's binary digits behind the first are the turns on its path.
        int node = i % nodes + 1, turns = 0, place = 0;
        while (node >> (turns + 1)) turns++;
        double path = 1.0;
        for (int turn = turns - 1; turn >= 0; turn--) {
            int right = node >> turn & 1;
            path *= right ? (double)own[place] : 1.0 - (double)own[place];
            place = 2 * place + 1 + right;
        }
        paths[i] = path;
    }
}

KERNEL soft_tree_log_leaves(const float *leaves, double *log_q, int classes, int n) {
    EACH(l, n) {
        const float *row = leaves + l * classes;
        float highest = row[0];
        for (int k = 1; k < classes; k++) highest = fmaxf(highest, row[k]);
        double sum = 0.0;
        for (int k = 0; k < classes; k++) sum += exp((double)row[k] - (double)highest);
        double log_sum = (double)highest + log(sum);
        for (int k = 0; k < classes; k++) log_q[l * classes + k] = (double)row[k] - log_sum;
    }
}

// Sum over the leaves of P times log Q, or times Q.
__device__ __forceinline__ double over_leaves(const double *paths, const double *log_q, bool logs, int leaves, int classes) {
    double sum = 0.0;
    for (int l = threadIdx.x; l < leaves; l += blockDim.x)
        sum += paths[l] * (logs ? log_q[l * classes] : exp(log_q[l * classes]));
    return of_block(sum);
}

KERNEL soft_tree_forward(const double *paths, const double *log_q, float *y, int kind, int questions, int leaves, int classes) {
    __shared__ double highest[256];
    __shared__ int places[256];
    const double *own = paths + blockIdx.x * (questions + leaves) + questions;
    float *row = y + blockIdx.x * classes;
    int t = threadIdx.x;
    if (kind == 2) {
        highest[t] = -1.0;
        places[t] = 0;
        for (int l = t; l < leaves; l += blockDim.x)
            if (own[l] > highest[t]) { highest[t] = own[l]; places[t] = l; }
        for (int half = blockDim.x / 2; half > 0; half /= 2) {
            __syncthreads();
            if (t < half) {
                double other = highest[t + half];
                int there = places[t + half];
                // The first of equals, as on the host.
                if (other > highest[t] || (other == highest[t] && there < places[t])) { highest[t] = other; places[t] = there; }
            }
        }
        __syncthreads();
        for (int k = t; k < classes; k += blockDim.x) row[k] = (float)log_q[places[0] * classes + k];
        return;
    }
    for (int k = 0; k < classes; k++) {
        double sum = over_leaves(own, log_q + k, kind == 0, leaves, classes);
        if (t == 0) row[k] = (float)(kind == 0 ? sum : log(fmax(sum, 1e-30)));
    }
}

// What each example says of a leaf's log-probability, for P = 1.
KERNEL soft_tree_shares(const double *paths, const double *log_q, const float *dy, double *g, int scores, int questions,
                        int leaves, int classes) {
    const double *own = paths + blockIdx.x * (questions + leaves) + questions;
    for (int k = 0; k < classes; k++) {
        double value = (double)dy[blockIdx.x * classes + k];
        if (!scores) value /= fmax(over_leaves(own, log_q + k, false, leaves, classes), 1e-30);
        if (threadIdx.x == 0) g[blockIdx.x * classes + k] = value;
    }
}

// Alpha of each question, or -1 where too few come to it; then the sum of P.
KERNEL soft_tree_alphas(const float *p, const double *paths, double *alphas, int batch, int questions, int nodes) {
    EACH(i, questions) {
        double right = 0.0, all = 0.0;
        for (int b = 0; b < batch; b++) {
            double path = paths[b * nodes + i];
            right += path * (double)p[b * questions + i];
            all += path;
        }
        alphas[i] = all > 1e-6 * batch ? fmin(fmax(right / all, 1e-6), 1.0 - 1e-6) : -1.0;
        alphas[questions + i] = all;
    }
}

KERNEL soft_tree_backward(const float *p, const double *paths, const double *log_q, const double *g, const double *alphas,
                          double *d_paths, float *dz, double beta, double penalty, int scores, int questions, int leaves,
                          int classes) {
    int nodes = questions + leaves;
    const double *path = paths + blockIdx.x * nodes, *own = g + blockIdx.x * classes;
    const float *answers = p + blockIdx.x * questions;
    double *d = d_paths + blockIdx.x * nodes;
    for (int l = threadIdx.x; l < leaves; l += blockDim.x) {
        double sum = 0.0;
        for (int k = 0; k < classes; k++) sum += own[k] * (scores ? log_q[l * classes + k] : exp(log_q[l * classes + k]));
        d[questions + l] = sum;
    }
    // Level by level from below; a level has as many questions as come before it, and one.
    for (int count = leaves / 2; count > 0; count /= 2) {
        __syncthreads();
        for (int n = threadIdx.x; n < count; n += blockDim.x) {
            int place = count - 1 + n;
            double right = (double)answers[place], d_left = d[2 * place + 1], d_right = d[2 * place + 2];
            double d_p = path[place] * (d_right - d_left), value = (1.0 - right) * d_left + right * d_right;
            if (alphas && alphas[place] > 0.0) {
                double alpha = alphas[place], all = alphas[questions + place];
                double d_alpha = -(penalty / count) * 0.5 * (1.0 / alpha - 1.0 / (1.0 - alpha));
                d_p += d_alpha * path[place] / all;
                value += d_alpha * (right - alpha) / all;
            }
            d[place] = value;
            dz[blockIdx.x * questions + place] = (float)(d_p * right * (1.0 - right) * beta);
        }
    }
}

KERNEL soft_tree_sums(const double *paths, const double *log_q, const double *g, double *sums, int scores, int batch,
                      int questions, int nodes, int classes, int n) {
    EACH(i, n) {
        int l = i / classes, k = i % classes;
        double q = scores ? 1.0 : exp(log_q[i]), sum = 0.0;
        for (int b = 0; b < batch; b++) sum += paths[b * nodes + questions + l] * (g[b * classes + k] * q);
        sums[i] = sum;
    }
}

KERNEL soft_tree_d_leaves(const double *sums, const double *log_q, float *d, int classes, int n) {
    EACH(i, n) {
        double all = 0.0;
        for (int k = 0; k < classes; k++) all += sums[i / classes * classes + k];
        d[i] = (float)(sums[i] - exp(log_q[i]) * all);
    }
}

KERNEL soft_tree_d_bias(const float *dz, float *db, int batch, int questions) {
    EACH(i, questions) {
        float sum = 0.0f;
        for (int b = 0; b < batch; b++) sum += dz[b * questions + i];
        db[i] = sum;
    }
}
";

/// As [`super::Values`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnDevice<'a> {
    pub(crate) w: &'a Tensor,
    pub(crate) b: &'a Tensor,
    pub(crate) leaves: &'a Tensor,
}

/// As [`super::Wanted`]; dx is added to what is there where it `adds`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) dx: Option<&'a Tensor>,
    pub(crate) adds: bool,
    pub(crate) dw: Option<&'a Tensor>,
    pub(crate) db: Option<&'a Tensor>,
    pub(crate) d_leaves: Option<&'a Tensor>,
}

/// Where a pass keeps what it needs: 64 bits but for `p` and `dz`.
struct Room {
    batch: usize,
    log_q: u64,
    paths: u64,
    d_paths: u64,
    g: u64,
    sums: u64,
    alphas: u64,
    p: u64,
    dz: u64,
}

impl Room {
    fn new(engine: &Engine, tree: &Tree, batch: usize) -> Result<Self> {
        let (questions, leaves) = (tree.questions(), tree.leaves());
        let of_leaves = leaves * tree.classes;
        let wide = [
            of_leaves,
            batch * tree.nodes(),
            batch * tree.nodes(),
            batch * tree.classes,
            of_leaves,
            2 * questions,
        ];
        let narrow = batch * questions;
        let floats = 2 * wide.iter().sum::<usize>() + 2 * narrow;
        let mut next = engine.scratch(Slot::Tree, floats)?;
        let mut after = |bytes: usize| {
            let here = next;
            next += bytes as u64;
            here
        };
        let [log_q, paths, d_paths, g, sums, alphas] = wide.map(|count| after(8 * count));
        let [p, dz] = [(); 2].map(|()| after(4 * narrow));
        Ok(Self {
            batch,
            log_q,
            paths,
            d_paths,
            g,
            sums,
            alphas,
            p,
            dz,
        })
    }

    /// Answers, paths and leaves, which both passes begin with.
    fn fill(&self, engine: &Engine, tree: &Tree, x: &Tensor, values: OnDevice<'_>) -> Result<()> {
        let (i, d, leaves) = (tree.questions(), tree.features, tree.leaves());
        let product = Product {
            m: self.batch,
            n: i,
            k: d,
            a: rows(at(x)?, d),
            b: Operand {
                transposed: true,
                ..rows(at(values.w)?, d)
            },
            c: self.p,
            adds: false,
        };
        engine.multiply(&product)?;
        let n = self.batch * i;
        let args = [
            self.p.into(),
            at(values.b)?.into(),
            tree.beta.into(),
            i.into(),
            n.into(),
        ];
        engine.launch("soft_tree_answers", Grid::over(n), &args)?;
        let n = self.batch * tree.nodes();
        let args = [
            self.p.into(),
            self.paths.into(),
            i.into(),
            tree.nodes().into(),
            n.into(),
        ];
        engine.launch("soft_tree_paths", Grid::over(n), &args)?;
        let args = [
            at(values.leaves)?.into(),
            self.log_q.into(),
            tree.classes.into(),
            leaves.into(),
        ];
        engine.launch("soft_tree_log_leaves", Grid::over(leaves), &args)
    }
}

fn rows(address: u64, row: usize) -> Operand {
    Operand {
        address,
        row,
        transposed: false,
    }
}

fn kind(output: Output) -> i32 {
    match output {
        Output::Scores => 0,
        Output::Log(Prediction::Expected) => 1,
        Output::Log(Prediction::MaxPath) => 2,
    }
}

/// As [`Tree::forward`].
pub(crate) fn forward(
    engine: &Engine,
    tree: &Tree,
    output: Output,
    x: &Tensor,
    values: OnDevice<'_>,
    y: &Tensor,
) -> Result<()> {
    let room = Room::new(engine, tree, y.elem_count() / tree.classes)?;
    room.fill(engine, tree, x, values)?;
    let args = [
        room.paths.into(),
        room.log_q.into(),
        at(y)?.into(),
        kind(output).into(),
        tree.questions().into(),
        tree.leaves().into(),
        tree.classes.into(),
    ];
    engine.launch("soft_tree_forward", Grid::blocks(room.batch, 1), &args)
}

/// As [`Tree::backward`].
pub(crate) fn backward(
    engine: &Engine,
    tree: &Tree,
    output: Output,
    x: &Tensor,
    values: OnDevice<'_>,
    dy: &Tensor,
    wanted: Wanted<'_>,
) -> Result<()> {
    let (d, i, leaves, k) = (tree.features, tree.questions(), tree.leaves(), tree.classes);
    let room = Room::new(engine, tree, dy.elem_count() / k)?;
    let batch = room.batch;
    room.fill(engine, tree, x, values)?;
    let scores = output == Output::Scores;
    let each = Grid::blocks(batch, 1);
    let args = [
        room.paths.into(),
        room.log_q.into(),
        at(dy)?.into(),
        room.g.into(),
        scores.into(),
        i.into(),
        leaves.into(),
        k.into(),
    ];
    engine.launch("soft_tree_shares", each, &args)?;
    let is_priced = scores && tree.penalty > 0.0;
    if is_priced {
        let args = [
            room.p.into(),
            room.paths.into(),
            room.alphas.into(),
            batch.into(),
            i.into(),
            tree.nodes().into(),
        ];
        engine.launch("soft_tree_alphas", Grid::over(i), &args)?;
    }
    let args = [
        room.p.into(),
        room.paths.into(),
        room.log_q.into(),
        room.g.into(),
        if is_priced { room.alphas } else { 0 }.into(),
        room.d_paths.into(),
        room.dz.into(),
        tree.beta.into(),
        tree.penalty.into(),
        scores.into(),
        i.into(),
        leaves.into(),
        k.into(),
    ];
    engine.launch("soft_tree_backward", each, &args)?;
    if let Some(d_leaves) = wanted.d_leaves {
        let n = leaves * k;
        let args = [
            room.paths.into(),
            room.log_q.into(),
            room.g.into(),
            room.sums.into(),
            scores.into(),
            batch.into(),
            i.into(),
            tree.nodes().into(),
            k.into(),
            n.into(),
        ];
        engine.launch("soft_tree_sums", Grid::over(n), &args)?;
        let args = [
            room.sums.into(),
            room.log_q.into(),
            at(d_leaves)?.into(),
            k.into(),
            n.into(),
        ];
        engine.launch("soft_tree_d_leaves", Grid::over(n), &args)?;
    }
    if let Some(db) = wanted.db {
        let args = [room.dz.into(), at(db)?.into(), batch.into(), i.into()];
        engine.launch("soft_tree_d_bias", Grid::over(i), &args)?;
    }
    if let Some(dw) = wanted.dw {
        let product = Product {
            m: i,
            n: d,
            k: batch,
            a: Operand {
                transposed: true,
                ..rows(room.dz, i)
            },
            b: rows(at(x)?, d),
            c: at(dw)?,
            adds: false,
        };
        engine.multiply(&product)?;
    }
    if let Some(dx) = wanted.dx {
        let product = Product {
            m: batch,
            n: d,
            k: i,
            a: rows(room.dz, i),
            b: rows(at(values.w)?, d),
            c: at(dx)?,
            adds: wanted.adds,
        };
        engine.multiply(&product)?;
    }
    Ok(())
}
