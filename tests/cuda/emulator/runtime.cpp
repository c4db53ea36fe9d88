// What static kernels in a binary register at its start, and the generator of random numbers that candle makes with each
// device: both must be there, neither does anything.
#include "emulator.h"

API int cudaRuntimeGetVersion(int *version) { return *version = 13000, 0; }
API int cudaDriverGetVersion(int *version) { return *version = 13000, 0; }
API int cudaGetDeviceCount(int *count) { return *count = devices(), *count ? 0 : 100; }
API int cudaGetDevice(int *device) { return *device = 0, 0; }
API int cudaSetDevice(int) { return 0; }
API int cudaGetLastError() { return 0; }
API int cudaPeekAtLastError() { return 0; }
API int cudaDeviceSynchronize() { return check_guards(), 0; }
API const char *cudaGetErrorString(int) { return "an error of the emulated device"; }
API const char *cudaGetErrorName(int) { return "cudaErrorUnknown"; }
API int cudaFuncSetAttribute(const void *, int, int) { return 0; }
API int cudaLaunchKernel(const void *, Three, Three, void **, size_t, void *) { die("a kernel of candle's own library was asked for"); }
API int cudaLaunchKernelExC(const void *, const void *, void **) { die("a kernel of candle's own library was asked for"); }

// A binary's static initializers call these; none of their kernels is ever launched.
API void **__cudaRegisterFatBinary(void *) {
    static void *handle;
    return &handle;
}
API void __cudaRegisterFatBinaryEnd(void **) {}
API void __cudaUnregisterFatBinary(void **) {}
API void __cudaRegisterFunction(void **, const char *, char *, const char *, int, void *, void *, void *, void *, int *) {}
API void __cudaRegisterVar(void **, char *, char *, const char *, int, size_t, int, int) {}
API char __cudaInitModule(void **) { return 1; }
API unsigned __cudaPushCallConfiguration(Three, Three, size_t, void *) { return 0; }
API int __cudaPopCallConfiguration(Three *, Three *, size_t *, void *) { return 0; }
API int __cudaGetKernel(void **, const void *) { return 0; }
API int __cudaLaunchKernel(void *, Three, Three, void **, size_t, void *) { die("a kernel of candle's own library was asked for"); }

API int curandCreateGenerator(void **generator, int) {
    static int it;
    return *generator = &it, 0;
}
API int curandDestroyGenerator(void *) { return 0; }
API int curandSetStream(void *, void *) { return 0; }
API int curandSetPseudoRandomGeneratorSeed(void *, unsigned long long) { return 0; }
API int curandSetGeneratorOffset(void *, unsigned long long) { return 0; }
API int curandGetVersion(int *version) { return *version = 10400, 0; }
