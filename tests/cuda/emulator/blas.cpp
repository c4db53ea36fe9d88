// cuBLAS in single precision: matrices column by column, factors in main memory or on the device (here the same).
#include "emulator.h"
#include <cmath>
#include <cstdlib>

namespace {

enum { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum { PLAIN = 0, FLOAT = 0 };
enum { COMPUTE_32F = 68, COMPUTE_32F_PEDANTIC = 69, COMPUTE_32F_FAST_TF32 = 77 };

struct Handle {
    void *stream = nullptr;
    int pointers = 0, math = 0; // math: 2 is pedantic, 3 TF32
    bool tf32() const { return math == 3; }
};

size_t extent(long rows, long columns, long ld) { return rows && columns ? (size_t)((columns - 1) * ld + rows) * 4 : 0; }

int product(const char *name, bool tf32, int ta, int tb, long m, long n, long k, const float *alpha, const float *a, long lda,
            long long sa, const float *b, long ldb, long long sb, const float *beta, float *c, long ldc, long long sc, int batch) {
    long a_rows = ta == PLAIN ? m : k, a_columns = ta == PLAIN ? k : m, b_rows = tb == PLAIN ? k : n, b_columns = tb == PLAIN ? n : k;
    if (m < 0 || n < 0 || k < 0 || batch < 0 || lda < std::fmax(1, a_rows) || ldb < std::fmax(1, b_rows) || ldc < std::fmax(1, m))
        return INVALID_VALUE;
    if (!alpha || !beta) return INVALID_VALUE;
    if (take_down([=, alpha = *alpha, beta = *beta] {
            return product(name, tf32, ta, tb, m, n, k, &alpha, a, lda, sa, b, ldb, sb, &beta, c, ldc, sc, batch);
        }))
        return SUCCESS;
    set_last(name);
    if (!m || !n) return SUCCESS;
    for (int i = 0; i < batch; i++, a += sa, b += sb, c += sc) {
        if (*alpha != 0.0f) {
            require(a, extent(a_rows, a_columns, lda), std::string(name) + ": A");
            require(b, extent(b_rows, b_columns, ldb), std::string(name) + ": B");
        }
        require(c, extent(m, n, ldc), std::string(name) + ": C");
        Strided left = ta == PLAIN ? Strided{a, 1, lda} : Strided{a, lda, 1};
        Strided right = tb == PLAIN ? Strided{b, 1, ldb} : Strided{b, ldb, 1};
        gemm(m, n, k, *alpha, left, right, *beta, c, 1, ldc, tf32);
    }
    return SUCCESS;
}

int kind(const Handle *handle, int a, int b, int c, int compute, bool *tf32) {
    if (a != FLOAT || b != FLOAT || c != FLOAT) return NOT_SUPPORTED;
    if (compute != COMPUTE_32F && compute != COMPUTE_32F_PEDANTIC && compute != COMPUTE_32F_FAST_TF32) return NOT_SUPPORTED;
    *tf32 = compute == COMPUTE_32F_FAST_TF32 || (compute == COMPUTE_32F && handle->tf32());
    return SUCCESS;
}

/// Where a vector's element lies; a negative step begins at the end.
long place(long i, long n, long step) { return step >= 0 ? i * step : (i - n + 1) * step; }

void need(const float *x, long n, long step, const char *name) {
    if (n > 0) require(x, (size_t)((n - 1) * std::labs(step) + 1) * 4, name);
}

} // namespace

API int cublasCreate_v2(Handle **handle) { return *handle = new Handle, SUCCESS; }
API int cublasDestroy_v2(Handle *handle) { return delete handle, SUCCESS; }
API int cublasGetVersion_v2(Handle *, int *version) { return *version = 130000, SUCCESS; }
API int cublasSetStream_v2(Handle *handle, void *stream) { return handle->stream = stream, SUCCESS; }
API int cublasGetStream_v2(Handle *handle, void **stream) { return *stream = handle->stream, SUCCESS; }
API int cublasSetWorkspace_v2(Handle *, void *at, size_t bytes) { return require(at, bytes, "cublasSetWorkspace"), SUCCESS; }
API int cublasSetPointerMode_v2(Handle *handle, int mode) { return handle->pointers = mode, SUCCESS; }
API int cublasGetPointerMode_v2(Handle *handle, int *mode) { return *mode = handle->pointers, SUCCESS; }
API int cublasSetMathMode(Handle *handle, int mode) { return handle->math = mode & 15, SUCCESS; }
API int cublasGetMathMode(Handle *handle, int *mode) { return *mode = handle->math, SUCCESS; }
API int cublasSetAtomicsMode(Handle *, int) { return SUCCESS; }
API const char *cublasGetStatusString(int status) {
    return status == 0 ? "CUBLAS_STATUS_SUCCESS" : status == INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE" : "CUBLAS_STATUS_NOT_SUPPORTED";
}
API const char *cublasGetStatusName(int status) { return cublasGetStatusString(status); }

API int cublasSgemm_v2(Handle *handle, int ta, int tb, int m, int n, int k, const float *alpha, const float *a, int lda,
                       const float *b, int ldb, const float *beta, float *c, int ldc) {
    return product("cublasSgemm", handle->tf32(), ta, tb, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0, 1);
}
API int cublasSgemmStridedBatched(Handle *handle, int ta, int tb, int m, int n, int k, const float *alpha, const float *a,
                                  int lda, long long sa, const float *b, int ldb, long long sb, const float *beta, float *c,
                                  int ldc, long long sc, int batch) {
    return product("cublasSgemmStridedBatched", handle->tf32(), ta, tb, m, n, k, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc, sc, batch);
}
API int cublasGemmEx(Handle *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int a_type, int lda,
                     const void *b, int b_type, int ldb, const void *beta, void *c, int c_type, int ldc, int compute, int) {
    bool tf32;
    if (int error = kind(handle, a_type, b_type, c_type, compute, &tf32)) return error;
    return product("cublasGemmEx", tf32, ta, tb, m, n, k, (const float *)alpha, (const float *)a, lda, 0, (const float *)b, ldb, 0,
                   (const float *)beta, (float *)c, ldc, 0, 1);
}
API int cublasGemmStridedBatchedEx(Handle *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a,
                                   int a_type, int lda, long long sa, const void *b, int b_type, int ldb, long long sb,
                                   const void *beta, void *c, int c_type, int ldc, long long sc, int batch, int compute, int) {
    bool tf32;
    if (int error = kind(handle, a_type, b_type, c_type, compute, &tf32)) return error;
    return product("cublasGemmStridedBatchedEx", tf32, ta, tb, m, n, k, (const float *)alpha, (const float *)a, lda, sa,
                   (const float *)b, ldb, sb, (const float *)beta, (float *)c, ldc, sc, batch);
}
API int cublasSgemv_v2(Handle *handle, int trans, int m, int n, const float *alpha, const float *a, int lda, const float *x,
                       int incx, const float *beta, float *y, int incy) {
    if (m < 0 || n < 0 || lda < std::fmax(1, m) || !incx || !incy) return INVALID_VALUE;
    long out = trans == PLAIN ? m : n, in = trans == PLAIN ? n : m;
    set_last("cublasSgemv");
    need(x, in, incx, "cublasSgemv: x");
    need(y, out, incy, "cublasSgemv: y");
    require(a, extent(m, n, lda), "cublasSgemv: A");
    for (long i = 0; i < out; i++) {
        double sum = 0;
        for (long j = 0; j < in; j++) sum += (double)a[trans == PLAIN ? i + j * lda : j + i * lda] * x[place(j, in, incx)];
        float *to = y + place(i, out, incy);
        *to = (float)(*alpha * sum) + (*beta == 0.0f ? 0.0f : *beta * *to);
    }
    return (void)handle, SUCCESS;
}
API int cublasSaxpy_v2(Handle *, int n, const float *alpha, const float *x, int incx, float *y, int incy) {
    need(x, n, incx, "cublasSaxpy: x");
    need(y, n, incy, "cublasSaxpy: y");
    for (long i = 0; i < n; i++) y[place(i, n, incy)] += *alpha * x[place(i, n, incx)];
    return SUCCESS;
}
API int cublasSscal_v2(Handle *, int n, const float *alpha, float *x, int incx) {
    need(x, n, incx, "cublasSscal: x");
    for (long i = 0; i < n; i++) x[place(i, n, incx)] *= *alpha;
    return SUCCESS;
}
API int cublasSdot_v2(Handle *, int n, const float *x, int incx, const float *y, int incy, float *result) {
    need(x, n, incx, "cublasSdot: x");
    need(y, n, incy, "cublasSdot: y");
    double sum = 0;
    for (long i = 0; i < n; i++) sum += (double)x[place(i, n, incx)] * y[place(i, n, incy)];
    return *result = (float)sum, SUCCESS;
}
API int cublasSasum_v2(Handle *, int n, const float *x, int incx, float *result) {
    need(x, n, incx, "cublasSasum: x");
    double sum = 0;
    for (long i = 0; i < n; i++) sum += std::fabs(x[place(i, n, incx)]);
    return *result = (float)sum, SUCCESS;
}
API int cublasSgeam(Handle *, int ta, int tb, int m, int n, const float *alpha, const float *a, int lda, const float *beta,
                    const float *b, int ldb, float *c, int ldc) {
    set_last("cublasSgeam");
    bool with_a = *alpha != 0.0f, with_b = *beta != 0.0f;
    if (with_a) require(a, ta == PLAIN ? extent(m, n, lda) : extent(n, m, lda), "cublasSgeam: A");
    if (with_b) require(b, tb == PLAIN ? extent(m, n, ldb) : extent(n, m, ldb), "cublasSgeam: B");
    require(c, extent(m, n, ldc), "cublasSgeam: C");
    for (long j = 0; j < n; j++)
        for (long i = 0; i < m; i++) {
            float left = with_a ? *alpha * a[ta == PLAIN ? i + j * lda : j + i * lda] : 0.0f;
            c[i + j * ldc] = left + (with_b ? *beta * b[tb == PLAIN ? i + j * ldb : j + i * ldb] : 0.0f);
        }
    return SUCCESS;
}
