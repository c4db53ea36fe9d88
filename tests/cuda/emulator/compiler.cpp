// NVRTC: a kernel's source becomes a shared library of the host.
//
// The source is preprocessed as NVRTC would, without any header; what only a GPU knows is rewritten (shared arrays, and
// a door to each kernel that takes its parameters as the driver gets them); the host's compiler does the rest against
// device.h. Results are kept in a folder for temporary files under a digest of all that they were made of, and the
// "machine code" is a text that names the library.
#include "emulator.h"
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <fstream>
#include <set>
#include <spawn.h>
#include <sstream>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern char **environ;

namespace {

const char MARKER[] = "// emulated device, image of ";

struct Program {
    std::string source, name, log, image;
    std::vector<std::pair<std::string, std::string>> headers;
    bool real = false; // made for a card, not for an architecture of PTX
};

std::string read(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

void write(const std::string &path, const std::string &text) {
    std::ofstream file(path, std::ios::binary);
    file << text;
    if (!file.flush()) die("%s cannot be written", path.c_str());
}

/// FNV-1a, 64 bits.
std::string digest(const std::string &text) {
    uint64_t hash = 0xcbf29ce484222325;
    for (unsigned char byte : text) hash = (hash ^ byte) * 0x100000001b3;
    char name[17];
    snprintf(name, sizeof name, "%016llx", (unsigned long long)hash);
    return name;
}

/// device.h lies beside this library.
struct Self {
    std::string header, made_with;
    Self() {
        Dl_info info;
        if (!dladdr((void *)&digest, &info)) die("the library does not know where it is");
        char *path = realpath(info.dli_fname, nullptr);
        if (!path) die("%s is gone", info.dli_fname);
        std::string library = path;
        free(path);
        header = library.substr(0, library.rfind('/') + 1) + "device.h";
        if (access(header.c_str(), R_OK) != 0) die("%s is missing", header.c_str());
        made_with = digest(read(header) + read(library));
    }
};

const Self &self() {
    static Self found;
    return found;
}

std::string folder() {
    const char *base = getenv("TMPDIR");
    std::string path = std::string(base && *base ? base : "/tmp") + "/emulated-device-" + std::to_string(getuid());
    mkdir(path.c_str(), 0700);
    return path;
}

/// The host's compiler; what it says goes to a file.
bool compiler(std::vector<std::string> words, const std::string &log) {
    const char *name = getenv("CXX");
    words.insert(words.begin(), name && *name ? name : "c++");
    std::vector<char *> argv;
    for (std::string &word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t child;
    int failed = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ), status = 0;
    posix_spawn_file_actions_destroy(&actions);
    if (failed) die("%s cannot be started", argv[0]);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool in_word(char c) { return isalnum((unsigned char)c) || c == '_'; }

std::string trimmed(std::string text) {
    for (size_t at; (at = text.find('\n')) != std::string::npos;) text[at] = ' ';
    while (!text.empty() && isspace((unsigned char)text.back())) text.pop_back();
    size_t begin = 0;
    while (begin < text.size() && isspace((unsigned char)text[begin])) begin++;
    return text.substr(begin);
}

void drop(std::string &text, const std::string &word) {
    for (size_t at; (at = text.find(word)) != std::string::npos;) text.erase(at, word.size());
}

/// Splits at commas outside all brackets.
std::vector<std::string> listed(const std::string &text) {
    std::vector<std::string> parts(1);
    int depth = 0;
    for (char c : text) {
        depth += (strchr("([{<", c) != nullptr) - (strchr(")]}>", c) != nullptr);
        if (c == ',' && depth == 0) parts.emplace_back();
        else parts.back() += c;
    }
    for (std::string &part : parts) part = trimmed(part);
    if (parts.size() == 1 && parts[0].empty()) parts.clear();
    return parts;
}

/// Where the name that a declarator declares begins and ends.
std::pair<size_t, size_t> declared(const std::string &text) {
    size_t end = std::min(text.find('['), text.size());
    while (end > 0 && !in_word(text[end - 1])) end--;
    size_t begin = end;
    while (begin > 0 && in_word(text[begin - 1])) begin--;
    return {begin, end};
}

size_t find_word(const std::string &text, const std::string &word, size_t from) {
    for (size_t at = text.find(word, from); at != std::string::npos; at = text.find(word, at + 1))
        if ((at == 0 || !in_word(text[at - 1])) && !in_word(text[at + word.size()])) return at;
    return std::string::npos;
}

/// `__shared__ T a[n], b;` becomes static and is filled with garbage in each block; `extern __shared__ T a[];` becomes
/// the address that a launch's dynamic memory has.
std::string with_shared(const std::string &source) {
    const std::string word = "__shared__";
    std::string out;
    size_t done = 0;
    for (size_t at; (at = find_word(source, word, done)) != std::string::npos;) {
        size_t end = source.find(';', at);
        if (end == std::string::npos) break;
        std::string before = source.substr(done, at - done), text = trimmed(source.substr(at + word.size(), end - at - word.size()));
        std::string head = trimmed(before);
        bool dynamic = head.size() >= 6 && head.compare(head.size() - 6, 6, "extern") == 0;
        std::vector<std::string> parts = listed(text);
        if (parts.empty()) break;
        if (dynamic) {
            before.erase(before.rfind("extern"));
            auto [begin, stop] = declared(parts[0]);
            std::string type = parts[0].substr(0, begin), name = parts[0].substr(begin, stop - begin);
            out += before + type + " *" + name + " = (" + type + " *)emulated->dynamic;";
        } else {
            out += before + "static " + text + ";";
            for (const std::string &part : parts) {
                auto [begin, stop] = declared(part);
                out += " EMULATED_FRESH(" + part.substr(begin, stop - begin) + ")";
            }
        }
        done = end + 1;
    }
    return out + source.substr(std::min(done, source.size()));
}

/// For each kernel a function that takes its parameters as the driver does.
std::string doors(const std::string &source) {
    const std::string word = "__global__", bounds = "__launch_bounds__", show = "__attribute__((visibility(\"default\"))) ";
    std::string out;
    std::set<std::string> seen;
    for (size_t at = 0; (at = find_word(source, word, at)) != std::string::npos; at++) {
        size_t before = at;
        while (before > 0 && isspace((unsigned char)source[before - 1])) before--;
        if (before > 0 && source[before - 1] == '>') continue; // a template has no name to be asked for
        size_t open = source.find('(', at), limit = source.find(bounds, at);
        std::string bound = "0";
        if (limit != std::string::npos && limit < open) {
            size_t close = source.find(')', open);
            bound = listed(source.substr(open + 1, close - open - 1)).at(0);
            open = source.find('(', close);
        }
        if (open == std::string::npos) break;
        size_t close = open, depth = 0;
        do depth += (source[close] == '(') - (source[close] == ')');
        while (depth > 0 && ++close < source.size());
        std::string head = trimmed(source.substr(at, open - at));
        std::string name = head.substr(declared(head).first), call, kinds;
        if (!seen.insert(name).second) continue; // declared before
        std::vector<std::string> parameters = listed(source.substr(open + 1, close - open - 1));
        for (size_t i = 0; i < parameters.size(); i++) {
            std::string text = parameters[i];
            for (const char *gone : {"__restrict__", "__restrict", "__grid_constant__"}) drop(text, gone);
            std::string type = trimmed(text.substr(0, declared(text).first));
            bool address = type.find('*') != std::string::npos;
            kinds += address ? 'p' : 'v';
            call += (i ? ", " : "") + std::string("*(") + type + " *)values[" + std::to_string(i) + "]";
        }
        out += "extern \"C\" " + show + "void " + name + "__door(void **values) { " + name + "(" + call + "); }\n";
        out += "extern \"C\" { " + show + "char " + name + "__kinds[] = \"" + kinds + "\"; ";
        out += show + "int " + name + "__bound = " + bound + "; }\n";
    }
    return out;
}

/// Options that change what is compiled go on to the host's compiler; those that are known change nothing here.
bool sorted(const std::string &option, Program *program, std::vector<std::string> *flags) {
    auto begins = [&](const char *with) { return option.compare(0, strlen(with), with) == 0; };
    auto value = [&] { return option.substr(option.find('=') + 1); };
    if (begins("--gpu-architecture=") || begins("-arch=")) {
        program->real = value().compare(0, 3, "sm_") == 0;
        return program->real || value().compare(0, 8, "compute_") == 0;
    }
    if (begins("-D") || begins("-U") || begins("-I")) return flags->push_back(option), option.size() > 2;
    if (begins("--define-macro=")) return flags->push_back("-D" + value()), true;
    if (begins("--include-path=")) return flags->push_back("-I" + value()), true;
    for (const char *known : {"--std=", "-std=", "--fmad=", "-fmad=", "--ftz=", "-ftz=", "--prec-div=", "-prec-div=",
                              "--prec-sqrt=", "-prec-sqrt=", "--use_fast_math", "-use_fast_math",
                              "--extra-device-vectorization", "-extra-device-vectorization", "--maxrregcount=",
                              "-maxrregcount=", "--restrict", "-restrict", "--generate-line-info", "-lineinfo",
                              "--device-debug", "-G", "--disable-warnings", "-w", "--default-device", "-default-device",
                              "--device-int128", "--split-compile=", "--minimal", "-minimal", "--dopt=", "-dopt="})
        if (begins(known)) return true;
    return false;
}

int compile(Program *program, const std::vector<std::string> &flags) {
    std::string made = program->source + self().made_with + (program->real ? "r" : "v");
    for (const std::string &flag : flags) made += '\0' + flag;
    for (const auto &[name, text] : program->headers) made += '\0' + name + '\0' + text;
    std::string place = folder() + "/" + digest(made), library = place + ".so";
    program->image = MARKER + self().made_with + "\n" + library + "\n";
    if (access(library.c_str(), R_OK) == 0) return 0;
    std::string work = place + ".XXXXXX";
    if (!mkdtemp(work.data())) die("no folder %s", work.c_str());
    for (const auto &[name, text] : program->headers) write(work + "/" + name, text);
    std::string name = program->name.substr(program->name.rfind('/') + 1), log = work + "/log";
    write(work + "/source.cu", "#line 1 \"" + name + "\"\n" + program->source);
    std::vector<std::string> words = {"-E", "-x", "c++", "-std=c++17", "-nostdinc", "-nostdinc++", "-I" + work,
                                      "-D__CUDACC__", "-D__CUDACC_RTC__", "-D__CUDA_ARCH__=900", "-D__NVCC__",
                                      "-DEMULATED_DEVICE"};
    words.insert(words.end(), flags.begin(), flags.end());
    words.insert(words.end(), {work + "/source.cu", "-o", work + "/expanded"});
    bool good = compiler(words, log);
    if (good) {
        std::string text = read(work + "/expanded");
        write(work + "/kernels.cpp", "#include \"" + self().header + "\"\n" + with_shared(text) + "\n" + doors(text));
        // No contraction by chance, and no assumption about aliasing that NVRTC does not make.
        good = compiler({"-O2", "-std=c++17", "-shared", "-fPIC", "-w", "-fvisibility=hidden", "-fno-strict-aliasing",
                         "-o", work + "/made.so", work + "/kernels.cpp"}, log);
    }
    program->log = read(log);
    if (good && rename((work + "/made.so").c_str(), library.c_str()) != 0) die("%s cannot be written", library.c_str());
    if (!getenv("EMULATED_KEEP"))
        for (const char *file : {"source.cu", "expanded", "kernels.cpp", "log"}) unlink((work + "/" + file).c_str());
    for (const auto &[header, text] : program->headers) unlink((work + "/" + header).c_str());
    rmdir(work.c_str());
    return good ? 0 : 6;
}

} // namespace

int load_image(const void *image, std::string *library) {
    const char *text = (const char *)image;
    if (strncmp(text, MARKER, sizeof MARKER - 1) != 0) return 0; // for a GPU: a module whose kernels cannot run
    std::stringstream lines(text + sizeof MARKER - 1);
    std::string made_with;
    std::getline(lines, made_with);
    std::getline(lines, *library);
    // Kept from another day: what it names is gone, or was made by another build of this.
    return made_with == self().made_with && access(library->c_str(), R_OK) == 0 ? 0 : 200;
}

API int nvrtcVersion(int *major, int *minor) { return *major = 13, *minor = 0, 0; }

API const char *nvrtcGetErrorString(int result) {
    switch (result) {
    case 0: return "NVRTC_SUCCESS";
    case 3: return "NVRTC_ERROR_INVALID_INPUT";
    case 5: return "NVRTC_ERROR_INVALID_OPTION";
    case 6: return "NVRTC_ERROR_COMPILATION";
    default: return "NVRTC_ERROR unknown";
    }
}

API int nvrtcCreateProgram(Program **program, const char *source, const char *name, int count, const char *const *headers,
                           const char *const *names) {
    if (!source) return 3;
    *program = new Program{source, name ? name : "default_program", "", "", {}};
    for (int i = 0; i < count; i++) (*program)->headers.emplace_back(names[i], headers[i]);
    return 0;
}

API int nvrtcDestroyProgram(Program **program) {
    delete *program;
    *program = nullptr;
    return 0;
}

API int nvrtcCompileProgram(Program *program, int count, const char *const *options) {
    std::vector<std::string> flags;
    for (int i = 0; i < count; i++)
        if (!sorted(options[i], program, &flags)) {
            program->log = std::string("unrecognized option ") + options[i];
            return 5;
        }
    return compile(program, flags);
}

API int nvrtcGetProgramLogSize(Program *program, size_t *size) { return *size = program->log.size() + 1, 0; }
API int nvrtcGetProgramLog(Program *program, char *log) { return strcpy(log, program->log.c_str()), 0; }
API int nvrtcGetPTXSize(Program *program, size_t *size) { return *size = program->image.size() + 1, 0; }
API int nvrtcGetPTX(Program *program, char *image) { return strcpy(image, program->image.c_str()), 0; }
API int nvrtcGetCUBINSize(Program *program, size_t *size) { return *size = program->real ? program->image.size() + 1 : 0, 0; }
API int nvrtcGetCUBIN(Program *program, char *image) { return program->real ? (strcpy(image, program->image.c_str()), 0) : 3; }
