// cuDNN 9's descriptors and its calls on them for four dimensions of single precision: convolutions are patches and
// products of matrices, image by image and group by group.
//
// Formats are as strict as the library's: images and weights both channels first or both channels last. Algorithms that
// need memory fill it with garbage, so that a wrong size is found; those that add in an order of chance take another
// order at every call; FMA_MATH alone computes in full precision, everything else rounds factors to TF32.
#include "emulator.h"
#include <cmath>
#include <cstring>
#include <vector>

namespace {

enum { SUCCESS = 0, BAD_PARAM = 2000, SIZE_INSUFFICIENT = 2006, NOT_SUPPORTED = 3000 };
enum { FIRST = 0, LAST = 1, FLOAT = 0, FMA_MATH = 3 };

struct Tensor {
    int n = 0, c = 0, h = 0, w = 0;
    long sn = 0, sc = 0, sh = 0, sw = 0;
    // The stride of a dimension of one step means nothing.
    static bool is(int size, long stride, long packed) { return size == 1 || stride == packed; }
    bool is_first() const { return is(w, sw, 1) && is(h, sh, w) && is(c, sc, (long)h * w) && is(n, sn, (long)c * h * w); }
    bool is_last() const { return is(c, sc, 1) && is(w, sw, c) && is(h, sh, (long)w * c) && is(n, sn, (long)c * h * w); }
    /// From one pixel to the next of an image without gaps.
    long pixel() const { return w > 1 ? sw : sh; }
    size_t bytes() const { return (size_t)((n - 1) * sn + (c - 1) * sc + (h - 1) * sh + (w - 1) * sw + 1) * 4; }
    long at(long in, long ic, long ih, long iw) const { return in * sn + ic * sc + ih * sh + iw * sw; }
};
struct Filter {
    int k = 0, c = 0, r = 0, s = 0, format = FIRST;
    long size() const { return (long)k * c * r * s; }
};
struct Conv {
    int pad[2] = {}, stride[2] = {1, 1}, dilation[2] = {1, 1}, mode = 1, math = 0, groups = 1;
    bool tf32() const { return math != FMA_MATH; }
};
struct Activation { int mode; double coefficient; };
struct Perf { // the same for the three passes
    int algorithm, status;
    float time;
    size_t memory;
    int deterministic, math, reserved[3];
};

struct Algorithm {
    int number;
    size_t memory;
    bool deterministic, only_3x3, only_first;
};
// In the order in which they are offered; numbers as in the three enumerations.
const std::vector<Algorithm> FORWARD = {
    {1, 4096, true, false, false}, {6, 65536, true, true, true}, {0, 0, true, false, false}, {2, 16384, true, false, true}};
const std::vector<Algorithm> DATA = {{0, 0, false, false, false}, {1, 4096, true, false, false}, {4, 65536, true, true, true}};
const std::vector<Algorithm> WEIGHTS = {{0, 0, false, false, false}, {1, 4096, true, false, false}, {3, 16384, false, false, false}};

int extent(const Conv &conv, int axis, int in, int kernel) {
    int over = in + 2 * conv.pad[axis] - (kernel - 1) * conv.dilation[axis] - 1;
    return over < 0 ? 0 : over / conv.stride[axis] + 1;
}

int fits(const Tensor &x, const Filter &w, const Conv &conv, const Tensor &y) {
    if (x.c != w.c * conv.groups || w.k % conv.groups || y.c != w.k || x.n != y.n) return BAD_PARAM;
    if (y.h != extent(conv, 0, x.h, w.r) || y.w != extent(conv, 1, x.w, w.s) || y.h < 1 || y.w < 1) return BAD_PARAM;
    bool first = x.is_first() && y.is_first(), last = x.is_last() && y.is_last();
    return (w.format == FIRST ? first : last) ? SUCCESS : NOT_SUPPORTED;
}

const Algorithm *find(const std::vector<Algorithm> &all, int number, const Filter &w, const Conv &conv) {
    bool plain = w.r == 3 && w.s == 3 && conv.stride[0] == 1 && conv.stride[1] == 1 && conv.dilation[0] == 1 && conv.groups == 1;
    for (const Algorithm &one : all)
        if (one.number == number && (plain || !one.only_3x3) && (w.format == FIRST || !one.only_first)) return &one;
    return nullptr;
}

int offer(const std::vector<Algorithm> &all, const Tensor &x, const Filter &w, const Conv &conv, const Tensor &y, int wanted,
          int *returned, Perf *results) {
    *returned = 0;
    if (int error = fits(x, w, conv, y)) return error;
    for (bool usable : {true, false}) // what cannot be used comes last and says so
        for (const Algorithm &one : all) {
            if (*returned == wanted || (find(all, one.number, w, conv) != nullptr) != usable) continue;
            results[(*returned)++] = {one.number, usable ? SUCCESS : NOT_SUPPORTED, -1.0f, usable ? one.memory : 0,
                                      one.deterministic, conv.math, {}};
        }
    return SUCCESS;
}

int memory(const std::vector<Algorithm> &all, const Tensor &x, const Filter &w, const Conv &conv, const Tensor &y, int number,
           size_t *bytes) {
    if (int error = fits(x, w, conv, y)) return error;
    const Algorithm *one = find(all, number, w, conv);
    return one ? (*bytes = one->memory, SUCCESS) : NOT_SUPPORTED;
}

/// Checks a call; true in `chance` every other time for algorithms whose order is of chance.
int begin(const char *name, const std::vector<Algorithm> &all, const Tensor &x, const void *px, const Filter &w, const void *pw,
          const Conv &conv, const Tensor &y, const void *py, int number, void *workspace, size_t bytes, bool *chance) {
    static unsigned calls = 0;
    set_last(name);
    size_t needed;
    if (int error = memory(all, x, w, conv, y, number, &needed)) return error;
    if (bytes < needed) return SIZE_INSUFFICIENT;
    std::string text = name;
    require(px, x.bytes(), text + ": x");
    require(pw, (size_t)w.size() * 4, text + ": w");
    require(py, y.bytes(), text + ": y");
    require(workspace, needed, text + ": workspace");
    if (needed) memset(workspace, 0xff, needed);
    *chance = !find(all, number, w, conv)->deterministic && calls++ % 2;
    return SUCCESS;
}

/// The sizes of one group's product: weights k x q, patches q x p, results k x p.
struct Sizes { long k, q, p; };

Sizes sizes(const Filter &w, const Conv &conv, const Tensor &y) {
    return {w.k / conv.groups, (long)w.c * w.r * w.s, (long)y.h * y.w};
}

/// Calls `each(row of patches, channel, output line, input line, first input column)` for all lines of all rows, which come
/// in the order in which the weights lie.
template <typename Each> void patches(const Filter &w, const Conv &conv, const Tensor &y, bool backwards, Each each) {
    long rows = (long)w.c * w.r * w.s;
    for (long i = 0; i < rows; i++) {
        long q = backwards ? rows - 1 - i : i, c, r, s;
        if (w.format == FIRST) c = q / (w.r * w.s), r = q / w.s % w.r, s = q % w.s;
        else c = q % w.c, s = q / w.c % w.s, r = q / w.c / w.s;
        if (conv.mode == 0) r = w.r - 1 - r, s = w.s - 1 - s; // a convolution proper turns the weights
        for (long line = 0; line < y.h; line++)
            each(q, c, line, line * conv.stride[0] - conv.pad[0] + r * conv.dilation[0], s * conv.dilation[1] - conv.pad[1]);
    }
}

void make_patches(const float *image, const Tensor &x, const Filter &w, const Conv &conv, const Tensor &y, float *out) {
    patches(w, conv, y, false, [&](long q, long c, long line, long from, long column) {
        float *to = out + (q * y.h + line) * y.w;
        bool outside = from < 0 || from >= x.h;
        for (long i = 0; i < y.w; i++, column += conv.stride[1])
            to[i] = outside || column < 0 || column >= x.w ? 0.0f : image[x.at(0, c, from, column)];
    });
}

/// to = alpha from + beta to; what is there is not read for beta = 0.
void blend(float *to, float alpha, float from, float beta) { *to = alpha * from + (beta == 0.0f ? 0.0f : beta * *to); }

int forward(const char *name, float alpha, const Tensor &x, const float *px, const Filter &w, const float *pw, const Conv &conv,
            int algorithm, void *workspace, size_t bytes, float beta, const Tensor &y, float *py) {
    bool chance;
    if (int error = begin(name, FORWARD, x, px, w, pw, conv, y, py, algorithm, workspace, bytes, &chance)) return error;
    Sizes size = sizes(w, conv, y);
    std::vector<float> columns((size_t)(size.q * size.p));
    for (int n = 0; n < x.n; n++)
        for (int g = 0; g < conv.groups; g++) {
            make_patches(px + x.at(n, (long)g * w.c, 0, 0), x, w, conv, y, columns.data());
            gemm(size.k, size.p, size.q, alpha, {pw + g * size.k * size.q, size.q, 1}, {columns.data(), size.p, 1}, beta,
                 py + y.at(n, g * size.k, 0, 0), y.sc, y.pixel(), conv.tf32());
        }
    return SUCCESS;
}

float activated(const Activation &activation, float x) {
    switch (activation.mode) {
    case 0: return 1.0f / (1.0f + std::exp(-x));
    case 1: return x < 0.0f ? 0.0f : x;
    case 2: return std::tanh(x);
    case 3: return x < 0.0f ? 0.0f : x > (float)activation.coefficient ? (float)activation.coefficient : x;
    default: return x;
    }
}

template <typename Each> void all(const Tensor &t, Each each) {
    for (int n = 0; n < t.n; n++)
        for (int c = 0; c < t.c; c++)
            for (int h = 0; h < t.h; h++)
                for (int w = 0; w < t.w; w++) each(n, c, h, w);
}

bool same(const Tensor &a, const Tensor &b) { return a.n == b.n && a.c == b.c && a.h == b.h && a.w == b.w; }

float scalar(const void *at) { return *(const float *)at; }

} // namespace

API int cudnnCreate(void **handle) {
    static int it;
    return *handle = &it, devices() ? SUCCESS : 1001;
}
API int cudnnDestroy(void *) { return SUCCESS; }
API int cudnnSetStream(void *, void *) { return SUCCESS; }
API size_t cudnnGetVersion() { return 91002; }
API size_t cudnnGetCudartVersion() { return 13000; }
API int cudnnOpsVersionCheck() { return SUCCESS; }
API int cudnnCnnVersionCheck() { return SUCCESS; }
API int cudnnAdvVersionCheck() { return SUCCESS; }
API const char *cudnnGetErrorString(int status) {
    switch (status) {
    case SUCCESS: return "CUDNN_STATUS_SUCCESS";
    case BAD_PARAM: return "CUDNN_STATUS_BAD_PARAM";
    case SIZE_INSUFFICIENT: return "CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT";
    case NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
    default: return "CUDNN_STATUS_INTERNAL_ERROR";
    }
}

// Descriptors.
API int cudnnCreateTensorDescriptor(Tensor **t) { return *t = new Tensor, SUCCESS; }
API int cudnnDestroyTensorDescriptor(Tensor *t) { return delete t, SUCCESS; }
API int cudnnSetTensor4dDescriptorEx(Tensor *t, int type, int n, int c, int h, int w, int sn, int sc, int sh, int sw) {
    if (type != FLOAT) return NOT_SUPPORTED;
    if (n < 1 || c < 1 || h < 1 || w < 1) return BAD_PARAM;
    return *t = {n, c, h, w, sn, sc, sh, sw}, SUCCESS;
}
API int cudnnSetTensor4dDescriptor(Tensor *t, int format, int type, int n, int c, int h, int w) {
    if (format == FIRST) return cudnnSetTensor4dDescriptorEx(t, type, n, c, h, w, c * h * w, h * w, w, 1);
    if (format == LAST) return cudnnSetTensor4dDescriptorEx(t, type, n, c, h, w, c * h * w, 1, w * c, c);
    return NOT_SUPPORTED;
}
API int cudnnSetTensorNdDescriptor(Tensor *t, int type, int count, const int *dims, const int *strides) {
    if (count != 4) return NOT_SUPPORTED;
    return cudnnSetTensor4dDescriptorEx(t, type, dims[0], dims[1], dims[2], dims[3], strides[0], strides[1], strides[2], strides[3]);
}
API int cudnnCreateFilterDescriptor(Filter **f) { return *f = new Filter, SUCCESS; }
API int cudnnDestroyFilterDescriptor(Filter *f) { return delete f, SUCCESS; }
API int cudnnSetFilter4dDescriptor(Filter *f, int type, int format, int k, int c, int h, int w) {
    if (type != FLOAT || (format != FIRST && format != LAST)) return NOT_SUPPORTED;
    if (k < 1 || c < 1 || h < 1 || w < 1) return BAD_PARAM;
    return *f = {k, c, h, w, format}, SUCCESS;
}
API int cudnnSetFilterNdDescriptor(Filter *f, int type, int format, int count, const int *dims) {
    return count == 4 ? cudnnSetFilter4dDescriptor(f, type, format, dims[0], dims[1], dims[2], dims[3]) : NOT_SUPPORTED;
}
API int cudnnCreateConvolutionDescriptor(Conv **c) { return *c = new Conv, SUCCESS; }
API int cudnnDestroyConvolutionDescriptor(Conv *c) { return delete c, SUCCESS; }
API int cudnnSetConvolution2dDescriptor(Conv *c, int ph, int pw, int sh, int sw, int dh, int dw, int mode, int type) {
    if (type != FLOAT) return NOT_SUPPORTED;
    if (ph < 0 || pw < 0 || sh < 1 || sw < 1 || dh < 1 || dw < 1) return BAD_PARAM;
    return *c = {{ph, pw}, {sh, sw}, {dh, dw}, mode, c->math, c->groups}, SUCCESS;
}
API int cudnnSetConvolutionNdDescriptor(Conv *c, int count, const int *pad, const int *stride, const int *dilation, int mode, int type) {
    if (count != 2) return NOT_SUPPORTED;
    return cudnnSetConvolution2dDescriptor(c, pad[0], pad[1], stride[0], stride[1], dilation[0], dilation[1], mode, type);
}
API int cudnnSetConvolutionMathType(Conv *c, int math) { return c->math = math, SUCCESS; }
API int cudnnGetConvolutionMathType(Conv *c, int *math) { return *math = c->math, SUCCESS; }
API int cudnnSetConvolutionGroupCount(Conv *c, int groups) { return groups < 1 ? BAD_PARAM : (c->groups = groups, SUCCESS); }
API int cudnnGetConvolutionGroupCount(Conv *c, int *groups) { return *groups = c->groups, SUCCESS; }
API int cudnnGetConvolution2dForwardOutputDim(Conv *conv, Tensor *x, Filter *f, int *n, int *c, int *h, int *w) {
    return *n = x->n, *c = f->k, *h = extent(*conv, 0, x->h, f->r), *w = extent(*conv, 1, x->w, f->s), SUCCESS;
}
API int cudnnCreateActivationDescriptor(Activation **a) { return *a = new Activation{5, 0}, SUCCESS; }
API int cudnnDestroyActivationDescriptor(Activation *a) { return delete a, SUCCESS; }
API int cudnnSetActivationDescriptor(Activation *a, int mode, int, double coefficient) {
    return mode > 5 || mode == 4 ? NOT_SUPPORTED : (*a = {mode, coefficient}, SUCCESS);
}

// Algorithms and their memory.
API int cudnnGetConvolutionForwardAlgorithm_v7(void *, Tensor *x, Filter *w, Conv *conv, Tensor *y, int wanted, int *returned, Perf *results) {
    return offer(FORWARD, *x, *w, *conv, *y, wanted, returned, results);
}
API int cudnnGetConvolutionBackwardDataAlgorithm_v7(void *, Filter *w, Tensor *y, Conv *conv, Tensor *x, int wanted, int *returned, Perf *results) {
    return offer(DATA, *x, *w, *conv, *y, wanted, returned, results);
}
API int cudnnGetConvolutionBackwardFilterAlgorithm_v7(void *, Tensor *x, Tensor *y, Conv *conv, Filter *w, int wanted, int *returned, Perf *results) {
    return offer(WEIGHTS, *x, *w, *conv, *y, wanted, returned, results);
}
API int cudnnGetConvolutionForwardWorkspaceSize(void *, Tensor *x, Filter *w, Conv *conv, Tensor *y, int algorithm, size_t *bytes) {
    return memory(FORWARD, *x, *w, *conv, *y, algorithm, bytes);
}
API int cudnnGetConvolutionBackwardDataWorkspaceSize(void *, Filter *w, Tensor *y, Conv *conv, Tensor *x, int algorithm, size_t *bytes) {
    return memory(DATA, *x, *w, *conv, *y, algorithm, bytes);
}
API int cudnnGetConvolutionBackwardFilterWorkspaceSize(void *, Tensor *x, Tensor *y, Conv *conv, Filter *w, int algorithm, size_t *bytes) {
    return memory(WEIGHTS, *x, *w, *conv, *y, algorithm, bytes);
}

// Convolutions.
API int cudnnConvolutionForward(void *, const void *alpha, Tensor *x, const float *px, Filter *w, const float *pw, Conv *conv,
                                int algorithm, void *workspace, size_t bytes, const void *beta, Tensor *y, float *py) {
    auto work = [=, alpha = scalar(alpha), beta = scalar(beta), x = *x, w = *w, conv = *conv, y = *y] {
        return forward("cudnnConvolutionForward", alpha, x, px, w, pw, conv, algorithm, workspace, bytes, beta, y, py);
    };
    return take_down(work) ? SUCCESS : work();
}
API int cudnnConvolutionBiasActivationForward(void *handle, const void *alpha, Tensor *x, const float *px, Filter *w, const float *pw,
                                              Conv *conv, int algorithm, void *workspace, size_t bytes, const void *other,
                                              Tensor *z, const float *pz, Tensor *b, const float *pb, Activation *activation,
                                              Tensor *y, float *py) {
    auto later = [=, alpha = scalar(alpha), other = scalar(other), x = *x, w = *w, conv = *conv, z = *z, b = *b, activation = *activation,
                  y = *y]() mutable {
        return cudnnConvolutionBiasActivationForward(handle, &alpha, &x, px, &w, pw, &conv, algorithm, workspace, bytes, &other, &z,
                                                     pz, &b, pb, &activation, &y, py);
    };
    if (is_taking()) return take_down(later), SUCCESS;
    const char *name = "cudnnConvolutionBiasActivationForward";
    if (activation->mode != 1 && !(activation->mode == 5 && algorithm == 1)) return NOT_SUPPORTED;
    if (!same(*z, *y) || b->c != y->c || b->n != 1 || b->h != 1 || b->w != 1) return BAD_PARAM;
    require(pb, b->bytes(), std::string(name) + ": bias");
    require(py, y->bytes(), std::string(name) + ": y");
    float added = scalar(other);
    if (added != 0.0f) {
        require(pz, z->bytes(), std::string(name) + ": z");
        all(*y, [&](int n, int c, int h, int w) { py[y->at(n, c, h, w)] = added * pz[z->at(n, c, h, w)]; });
    }
    float beta = added != 0.0f ? 1.0f : 0.0f;
    if (int error = forward(name, scalar(alpha), *x, px, *w, pw, *conv, algorithm, workspace, bytes, beta, *y, py)) return error;
    all(*y, [&](int n, int c, int h, int w) {
        float *at = py + y->at(n, c, h, w);
        *at = activated(*activation, *at + pb[b->at(0, c, 0, 0)]);
    });
    return SUCCESS;
}
API int cudnnConvolutionBackwardData(void *handle, const void *alpha, Filter *w, const float *pw, Tensor *y, const float *py, Conv *conv,
                                     int algorithm, void *workspace, size_t bytes, const void *beta, Tensor *x, float *px) {
    auto later = [=, alpha = scalar(alpha), beta = scalar(beta), w = *w, y = *y, conv = *conv, x = *x]() mutable {
        return cudnnConvolutionBackwardData(handle, &alpha, &w, pw, &y, py, &conv, algorithm, workspace, bytes, &beta, &x, px);
    };
    if (is_taking()) return take_down(later), SUCCESS;
    bool chance;
    if (int error = begin("cudnnConvolutionBackwardData", DATA, *x, px, *w, pw, *conv, *y, py, algorithm, workspace, bytes, &chance))
        return error;
    Sizes size = sizes(*w, *conv, *y);
    std::vector<float> columns((size_t)(size.q * size.p)), image;
    Tensor one = {1, w->c, x->h, x->w, 0, (long)x->h * x->w, x->w, 1};
    for (int n = 0; n < x->n; n++)
        for (int g = 0; g < conv->groups; g++) {
            gemm(size.q, size.p, size.k, 1.0f, {pw + g * size.k * size.q, 1, size.q}, {py + y->at(n, g * size.k, 0, 0), y->sc, y->pixel()},
                 0.0f, columns.data(), size.p, 1, conv->tf32());
            image.assign((size_t)w->c * x->h * x->w, 0.0f);
            patches(*w, *conv, *y, chance, [&](long q, long c, long line, long to, long column) {
                if (to < 0 || to >= x->h) return;
                const float *from = columns.data() + (q * y->h + line) * y->w;
                for (long i = 0; i < y->w; i++, column += conv->stride[1])
                    if (column >= 0 && column < x->w) image[(size_t)one.at(0, c, to, column)] += from[i];
            });
            all(one, [&](int, int c, int h, int v) {
                blend(px + x->at(n, (long)g * w->c + c, h, v), scalar(alpha), image[(size_t)one.at(0, c, h, v)], scalar(beta));
            });
        }
    return SUCCESS;
}
API int cudnnConvolutionBackwardFilter(void *handle, const void *alpha, Tensor *x, const float *px, Tensor *y, const float *py, Conv *conv,
                                       int algorithm, void *workspace, size_t bytes, const void *beta, Filter *w, float *pw) {
    auto later = [=, alpha = scalar(alpha), beta = scalar(beta), x = *x, y = *y, conv = *conv, w = *w]() mutable {
        return cudnnConvolutionBackwardFilter(handle, &alpha, &x, px, &y, py, &conv, algorithm, workspace, bytes, &beta, &w, pw);
    };
    if (is_taking()) return take_down(later), SUCCESS;
    bool chance;
    if (int error = begin("cudnnConvolutionBackwardFilter", WEIGHTS, *x, px, *w, pw, *conv, *y, py, algorithm, workspace, bytes, &chance))
        return error;
    Sizes size = sizes(*w, *conv, *y);
    std::vector<float> columns((size_t)(size.q * size.p)), sum((size_t)w->size(), 0.0f);
    for (int i = 0; i < x->n; i++) {
        int n = chance ? x->n - 1 - i : i;
        for (int g = 0; g < conv->groups; g++) {
            make_patches(px + x->at(n, (long)g * w->c, 0, 0), *x, *w, *conv, *y, columns.data());
            gemm(size.k, size.q, size.p, 1.0f, {py + y->at(n, g * size.k, 0, 0), y->sc, y->pixel()}, {columns.data(), 1, size.p}, 1.0f,
                 sum.data() + g * size.k * size.q, size.q, 1, conv->tf32());
        }
    }
    for (long i = 0; i < w->size(); i++) blend(pw + i, scalar(alpha), sum[(size_t)i], scalar(beta));
    return SUCCESS;
}
API int cudnnConvolutionBackwardBias(void *, const void *alpha, Tensor *y, const float *py, const void *beta, Tensor *b, float *pb) {
    if (b->c != y->c || b->n != 1 || b->h != 1 || b->w != 1) return BAD_PARAM;
    set_last("cudnnConvolutionBackwardBias");
    require(py, y->bytes(), "cudnnConvolutionBackwardBias: dy");
    require(pb, b->bytes(), "cudnnConvolutionBackwardBias: db");
    std::vector<double> sums((size_t)y->c, 0.0);
    all(*y, [&](int n, int c, int h, int w) { sums[(size_t)c] += py[y->at(n, c, h, w)]; });
    for (int c = 0; c < y->c; c++) blend(pb + b->at(0, c, 0, 0), scalar(alpha), (float)sums[(size_t)c], scalar(beta));
    return SUCCESS;
}

// Element by element.
API int cudnnAddTensor(void *, const void *alpha, Tensor *a, const float *pa, const void *beta, Tensor *c, float *pc) {
    auto matches = [](int one, int other) { return one == 1 || one == other; };
    if (!matches(a->n, c->n) || !matches(a->c, c->c) || !matches(a->h, c->h) || !matches(a->w, c->w)) return BAD_PARAM;
    set_last("cudnnAddTensor");
    require(pa, a->bytes(), "cudnnAddTensor: A");
    require(pc, c->bytes(), "cudnnAddTensor: C");
    all(*c, [&](int n, int k, int h, int w) {
        long from = a->at(a->n == 1 ? 0 : n, a->c == 1 ? 0 : k, a->h == 1 ? 0 : h, a->w == 1 ? 0 : w);
        blend(pc + c->at(n, k, h, w), scalar(alpha), pa[from], scalar(beta));
    });
    return SUCCESS;
}
API int cudnnActivationForward(void *, Activation *activation, const void *alpha, Tensor *x, const float *px, const void *beta,
                               Tensor *y, float *py) {
    if (!same(*x, *y)) return BAD_PARAM;
    set_last("cudnnActivationForward");
    require(px, x->bytes(), "cudnnActivationForward: x");
    require(py, y->bytes(), "cudnnActivationForward: y");
    all(*x, [&](int n, int c, int h, int w) {
        blend(py + y->at(n, c, h, w), scalar(alpha), activated(*activation, px[x->at(n, c, h, w)]), scalar(beta));
    });
    return SUCCESS;
}
