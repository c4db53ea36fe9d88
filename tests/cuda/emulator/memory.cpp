// The memory of the emulated devices: limited, filled with NaN, and guarded on both sides.
//
// EMULATED_MEMORY: bytes, or with K, M or G at the end, for each device, with commas between; "none": no device.
// Default: one device of 8G.
#include "emulator.h"
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace {

struct Allocation {
    size_t bytes;
    int device;
    char *base;
};

// A NaN with a mark of its own: reading over the edge shows in results, writing over it is found.
constexpr uint32_t GUARD = 0xffc0dead;
constexpr size_t EDGE = 512;           // the driver aligns to 256 at least
constexpr size_t KEPT = 32 << 20;      // bytes of freed memory that are watched for late writes
std::recursive_mutex lock;
std::map<char *, Allocation> live;
std::deque<std::pair<char *, Allocation>> freed;
size_t kept = 0;
std::string last = "none";

struct Device { size_t total, used; };

std::vector<Device> &all() {
    static std::vector<Device> found = [] {
        const char *text = getenv("EMULATED_MEMORY");
        std::vector<Device> devices;
        std::string rest = text && *text ? text : "8G";
        if (rest == "none") return devices;
        while (!rest.empty()) {
            char *end;
            size_t bytes = strtoull(rest.c_str(), &end, 10);
            for (const char *unit = "KMG", *at = strchr(unit, *end ? *end : '?'); at && unit <= at; unit++) bytes <<= 10;
            devices.push_back({bytes, 0});
            size_t comma = rest.find(',');
            rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
        }
        return devices;
    }();
    return found;
}

size_t rounded(size_t bytes) { return (bytes + EDGE - 1) / EDGE * EDGE; }

void guard(char *at) {
    for (size_t i = 0; i < EDGE; i += 4) memcpy(at + i, &GUARD, 4);
}

bool is_whole(const char *at) {
    for (size_t i = 0; i < EDGE; i += 4)
        if (memcmp(at + i, &GUARD, 4) != 0) return false;
    return true;
}

void check(const char *address, const Allocation &a, const char *state) {
    for (bool after : {false, true})
        if (!is_whole(after ? address + a.bytes : address - EDGE))
            die("written %s an allocation of %zu bytes (%s) at %p; last: %s", after ? "behind" : "before", a.bytes, state,
                (const void *)address, last.c_str());
}

void check_freed(const char *address, const Allocation &a) {
    check(address, a, "freed");
    // All 0xff: equal to itself moved by one byte.
    if (a.bytes && (address[0] != '\xff' || memcmp(address, address + 1, a.bytes - 1) != 0))
        die("written into memory of %zu bytes at %p after it was freed; last: %s", a.bytes, (const void *)address, last.c_str());
}

/// The allocation that holds an address.
std::map<char *, Allocation>::iterator holder(const void *address) {
    auto next = live.upper_bound((char *)address);
    if (next == live.begin()) return live.end();
    auto found = std::prev(next);
    return (char *)address < found->first + found->second.bytes ? found : live.end();
}

} // namespace

void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("emulated device: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

void set_last(const std::string &name) {
    std::lock_guard<std::recursive_mutex> hold(lock);
    last = name;
}

int devices() { return (int)all().size(); }

void memory_of(int device, size_t *available, size_t *total) {
    std::lock_guard<std::recursive_mutex> hold(lock);
    *total = all()[device].total;
    *available = all()[device].total - all()[device].used;
}

int allocate(int device, size_t bytes, void **address) {
    std::lock_guard<std::recursive_mutex> hold(lock);
    Device &of = all()[device];
    if (bytes > of.total || rounded(bytes) > of.total - of.used) return 2;
    char *base = (char *)aligned_alloc(EDGE, rounded(bytes) + 3 * EDGE);
    if (!base) return 2;
    char *at = base + EDGE;
    guard(base);
    memset(at, 0xff, bytes);
    guard(at + bytes);
    of.used += rounded(bytes);
    live[at] = {bytes, device, base};
    *address = at;
    return 0;
}

int release(void *address) {
    std::lock_guard<std::recursive_mutex> hold(lock);
    if (!address) return 0;
    auto found = live.find((char *)address);
    if (found == live.end()) return 1;
    Allocation a = found->second;
    check(found->first, a, "live");
    live.erase(found);
    all()[a.device].used -= rounded(a.bytes);
    if (a.bytes > KEPT / 4) {
        free(a.base);
        return 0;
    }
    memset(address, 0xff, a.bytes);
    freed.emplace_back((char *)address, a);
    for (kept += a.bytes; kept > KEPT || freed.size() > 4096; freed.pop_front()) {
        check_freed(freed.front().first, freed.front().second);
        kept -= freed.front().second.bytes;
        free(freed.front().second.base);
    }
    return 0;
}

bool is_live(const void *address) {
    std::lock_guard<std::recursive_mutex> hold(lock);
    return holder(address) != live.end();
}

void require(const void *address, size_t bytes, const std::string &what) {
    if (bytes == 0) return;
    std::lock_guard<std::recursive_mutex> hold(lock);
    auto found = holder(address);
    if (found == live.end())
        die("%s: %p is no memory of the device, or freed; last: %s", what.c_str(), address, last.c_str());
    size_t left = found->first + found->second.bytes - (char *)address;
    if (bytes > left)
        die("%s: %zu bytes at %p, where an allocation of %zu bytes has %zu left; last: %s", what.c_str(), bytes, address,
            found->second.bytes, left, last.c_str());
}

void check_guards() {
    std::lock_guard<std::recursive_mutex> hold(lock);
    for (const auto &[address, a] : live) check(address, a, "live");
}

int missing(const char *name, int error) {
    static std::map<std::string, bool> named;
    std::lock_guard<std::recursive_mutex> hold(lock);
    if (!std::exchange(named[name], true)) fprintf(stderr, "emulated device: %s is not implemented\n", name);
    return error;
}
