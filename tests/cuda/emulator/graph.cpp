// Graphs: while a stream takes down, what would be done is kept instead, and done when the graph is launched.
//
// As a real device, this one takes down only what goes to the stream: whoever copies from or to the host, takes or gives
// back memory or waits meanwhile is refused. Libraries begin with a call that costs nothing and leaves a node.
#include "emulator.h"
#include <memory>

namespace {

enum { SUCCESS = 0, INVALID_VALUE = 1, INVALID_HANDLE = 400, ILLEGAL_STATE = 401 };

// Each thread has a stream of its own here, as in the programs that this device is for.
thread_local Graph *taking = nullptr;
thread_local const void *stream_taking = nullptr;

struct Parameters { // CUDA_KERNEL_NODE_PARAMS_v2
    Kernel *kernel;
    unsigned gx, gy, gz, bx, by, bz, shared;
    void **args, **extra;
    void *kern, *context;
};

} // namespace

struct Executable { std::vector<std::shared_ptr<Node>> nodes; Graph *graph; };

bool is_taking() { return taking != nullptr; }

bool take_down(std::function<int()> work) {
    if (!taking) return false;
    taking->nodes.push_back(std::make_shared<Node>(Node{std::move(work), nullptr, {}, {}, 0, {}}));
    return true;
}

bool take_kernel(Kernel *kernel, Three grid, Three block, unsigned shared, void **args) {
    if (!taking) return false;
    auto node = std::make_shared<Node>(Node{nullptr, kernel, grid, block, shared, {}});
    node->tell(args);
    taking->nodes.push_back(node);
    return true;
}

void Node::tell(void **args) {
    arguments.clear();
    for (int i = 0; kernel->kinds[i]; i++) arguments.push_back(*(uint64_t *)args[i]);
}

API int cuStreamBeginCapture_v2(void *stream, int mode) {
    if (mode < 0 || mode > 2) return INVALID_VALUE;
    if (taking) return ILLEGAL_STATE;
    return taking = new Graph, stream_taking = stream, SUCCESS;
}
API int cuStreamEndCapture(void *stream, Graph **graph) {
    *graph = nullptr;
    if (!taking || stream != stream_taking) return ILLEGAL_STATE;
    *graph = taking;
    return taking = nullptr, SUCCESS;
}
API int cuStreamIsCapturing(void *, int *status) { return *status = taking ? 1 : 0, SUCCESS; }
API int cuStreamGetCaptureInfo_v3(void *stream, int *status, uint64_t *, Graph **, const Node *const **nodes, const void **edges, size_t *count) {
    thread_local const Node *last;
    if (!taking || stream != stream_taking) return *status = 0, SUCCESS;
    *status = 1;
    last = taking->nodes.empty() ? nullptr : taking->nodes.back().get();
    *nodes = &last;
    if (edges) *edges = nullptr;
    return *count = last ? 1 : 0, SUCCESS;
}
API int cuGraphInstantiateWithFlags(Executable **executable, Graph *graph, unsigned long long flags) {
    if (flags) return INVALID_VALUE;
    auto made = new Executable{{}, graph};
    for (const auto &node : graph->nodes) made->nodes.push_back(std::make_shared<Node>(*node));
    return *executable = made, SUCCESS;
}
API int cuGraphExecDestroy(Executable *executable) { return delete executable, SUCCESS; }
API int cuGraphDestroy(Graph *graph) { return delete graph, SUCCESS; }
API int cuGraphUpload(Executable *, void *) { return SUCCESS; }
API int cuGraphExecKernelNodeSetParams_v2(Executable *executable, Node *node, const Parameters *told) {
    for (size_t i = 0; i < executable->nodes.size(); i++) {
        if (executable->graph->nodes[i].get() != node) continue;
        Node &own = *executable->nodes[i];
        if (!own.kernel || told->kernel != own.kernel || told->extra) return INVALID_VALUE;
        own.grid = {told->gx, told->gy, told->gz};
        own.block = {told->bx, told->by, told->bz};
        own.shared = told->shared;
        return own.tell(told->args), SUCCESS;
    }
    return INVALID_HANDLE;
}
API int cuGraphLaunch(Executable *executable, void *stream) {
    if (is_taking()) return ILLEGAL_STATE;
    for (const auto &node : executable->nodes) {
        int error;
        if (node->kernel) {
            std::vector<void *> args;
            for (uint64_t &argument : node->arguments) args.push_back(&argument);
            error = launch(node->kernel, node->grid, node->block, node->shared, args.data());
        } else {
            error = node->work();
        }
        if (error) return error;
    }
    return (void)stream, SUCCESS;
}
