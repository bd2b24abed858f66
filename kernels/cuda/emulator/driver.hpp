// The part of the CUDA driver's and of NVRTC's interface that the CUDA device uses, over the emulator: a library that can
// take the place of libcuda and of libnvrtc. The generated file that compiles the kernels includes it and defines `variants`.
//
// A "cubin" is the text of the options it was compiled with.
//
// A stream does nothing until it is waited for: launches, and copies from and to pinned memory, are carried out then, in order,
// with what pinned memory holds by then. Pageable memory is read or written before a copy returns, as the driver does it.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "emulator.hpp"

namespace emulator {

typedef std::function<void()> Operation;
// What a launch with these parameters will run, which are copied.
typedef std::function<Operation(void**)> Binder;

template <class... Arguments, size_t... I>
Binder binder_of(void (*kernel)(Arguments...), std::index_sequence<I...>) {
    return [kernel](void** parameters) {
        std::tuple<Arguments...> values(*(Arguments*)parameters[I]...);
        return [kernel, values] { std::apply(kernel, values); };
    };
}

struct Kernel {
    const char* name;
    Binder bind;
    size_t n_parameters;
};

template <class... Arguments>
Kernel kernel_of(const char* name, void (*kernel)(Arguments...)) {
    return {name, binder_of(kernel, std::index_sequence_for<Arguments...>{}), sizeof...(Arguments)};
}

struct Variant {
    // The definitions among the options of a compilation.
    std::vector<const char*> definitions;
    std::vector<Kernel> kernels;
};

// All that can be compiled.
static const std::vector<Variant>& variants();

struct Function {
    const Kernel* kernel;
    unsigned dynamic_limit;
};

struct Program {
    std::string source, options, log;
};

enum { SUCCESS = 0, INVALID = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 101, INVALID_IMAGE = 200, NOT_FOUND = 500, CAPTURED = 900 };

static const size_t TOTAL_MEMORY = (size_t)4 << 30;

static std::mutex mutex;
// The order of threads in the launches of this thread.
static thread_local uint64_t seed;
struct Allocation {
    char* mapped;
    size_t n_mapped, n_bytes;
};
static std::map<uint64_t, Allocation> allocations;
static size_t n_allocated;

typedef std::vector<Operation> Graph;

struct Stream {
    std::vector<Operation> waiting;
    // None while the stream is not captured.
    std::unique_ptr<Graph> captured;

    void add(Operation operation) { (captured ? *captured : waiting).push_back(std::move(operation)); }

    int finish() {
        if (captured) return CAPTURED;
        std::vector<Operation> operations;
        operations.swap(waiting);
        for (const Operation& operation : operations) operation();
        return SUCCESS;
    }
};

// A card that is held; each has streams of its own.
struct Context {
    std::vector<Stream*> streams;
};
static thread_local Context* current;
// Pinned memory: where it begins, and its bytes.
static std::map<uint64_t, size_t> pinned;

static bool is_pinned(const void* address) {
    std::lock_guard<std::mutex> guard(mutex);
    auto after = pinned.upper_bound((uint64_t)address);
    if (after == pinned.begin()) return false;
    --after;
    return (uint64_t)address < after->first + after->second;
}

// Fresh memory holds NaNs, ends at a page that cannot be touched, and is aligned to 16 bytes.
static int allocate(uint64_t* address, size_t n_bytes) {
    std::lock_guard<std::mutex> guard(mutex);
    size_t page = sysconf(_SC_PAGESIZE), n_used = (n_bytes + 15) / 16 * 16;
    if (n_bytes == 0) return INVALID;
    if (n_bytes > TOTAL_MEMORY - n_allocated) return OUT_OF_MEMORY;
    size_t n_mapped = (n_used + page - 1) / page * page + page;
    char* mapped = (char*)mmap(nullptr, n_mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return OUT_OF_MEMORY;
    mprotect(mapped + n_mapped - page, page, PROT_NONE);
    char* start = mapped + n_mapped - page - n_used;
    if (n_bytes <= ((size_t)64 << 20)) memset(start, 0xFF, n_used);
    allocations[(uint64_t)start] = {mapped, n_mapped, n_bytes};
    n_allocated += n_bytes;
    *address = (uint64_t)start;
    return SUCCESS;
}

static int release(uint64_t address) {
    std::lock_guard<std::mutex> guard(mutex);
    auto found = allocations.find(address);
    if (found == allocations.end()) return INVALID;
    munmap(found->second.mapped, found->second.n_mapped);
    n_allocated -= found->second.n_bytes;
    allocations.erase(found);
    return SUCCESS;
}

static int launch(Function* function, unsigned x, unsigned y, unsigned z, unsigned n_threads, unsigned n_dynamic,
                  Stream* stream, void** parameters) {
    if (x == 0 || y == 0 || z == 0 || n_dynamic > function->dynamic_limit) return INVALID;
    Operation kernel = function->kernel->bind(parameters);
    uint64_t own_seed = seed;
    stream->add([=] {
        for (block_index.z = 0; block_index.z < z; block_index.z++)
            for (block_index.y = 0; block_index.y < y; block_index.y++)
                for (block_index.x = 0; block_index.x < x; block_index.x++)
                    run_block(kernel, n_threads, n_dynamic, own_seed);
    });
    return SUCCESS;
}

static int upload(uint64_t to, const void* from, size_t n, Stream* stream) {
    if (is_pinned(from)) {
        stream->add([=] { memcpy((void*)to, from, n); });
    } else {
        std::string bytes((const char*)from, n);
        stream->add([=] { memcpy((void*)to, bytes.data(), n); });
    }
    return SUCCESS;
}

static int download(void* to, uint64_t from, size_t n, Stream* stream) {
    stream->add([=] { memcpy(to, (void*)from, n); });
    return is_pinned(to) ? SUCCESS : stream->finish();
}

static bool has_option(const std::string& options, const char* option) {
    return options.find(std::string(option) + "\n") != std::string::npos;
}

static const Variant* variant_of(const std::string& options) {
    size_t n_definitions = 0;
    for (size_t at = 0; (at = options.find("-D", at)) != std::string::npos; at++) n_definitions++;
    for (const Variant& variant : variants()) {
        bool fits = variant.definitions.size() == n_definitions;
        for (const char* option : variant.definitions) fits = fits && has_option(options, option);
        if (fits) return &variant;
    }
    return nullptr;
}

extern "C" {
void emulator_set_seed(uint64_t value) { seed = value; }

int cuInit(unsigned) { return SUCCESS; }
int cuDriverGetVersion(int* version) { return *version = 13000, SUCCESS; }
int cuDeviceGetCount(int* count) { return *count = 1, SUCCESS; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, ordinal == 0 ? SUCCESS : NO_DEVICE; }
int cuDeviceGetName(char* name, int len, int) { return snprintf(name, len, "emulator"), SUCCESS; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
    // Compute capability 8.0.
    *value = attribute == 75 ? 8 : 0;
    return SUCCESS;
}
int cuDevicePrimaryCtxRetain(void** context, int) { return *context = new Context{}, SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
int cuCtxSetCurrent(void* context) { return current = (Context*)context, SUCCESS; }
int cuMemGetInfo_v2(size_t* free, size_t* total) {
    std::lock_guard<std::mutex> guard(mutex);
    *total = TOTAL_MEMORY;
    *free = TOTAL_MEMORY - n_allocated;
    return SUCCESS;
}
int cuMemAlloc_v2(uint64_t* address, size_t n_bytes) { return allocate(address, n_bytes); }
int cuMemFree_v2(uint64_t address) {
    for (Stream* stream : current->streams) stream->finish();
    return release(address);
}
int cuMemAllocHost_v2(void** start, size_t n_bytes) {
    uint64_t address;
    int code = allocate(&address, n_bytes);
    if (code != SUCCESS) return code;
    std::lock_guard<std::mutex> guard(mutex);
    pinned[address] = n_bytes;
    return *start = (void*)address, SUCCESS;
}
int cuMemFreeHost(void* start) {
    {
        std::lock_guard<std::mutex> guard(mutex);
        if (pinned.erase((uint64_t)start) == 0) return INVALID;
    }
    return release((uint64_t)start);
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t n, void* stream) {
    return upload(to, from, n, (Stream*)stream);
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t n, void* stream) {
    return download(to, from, n, (Stream*)stream);
}
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t n, void* stream) {
    ((Stream*)stream)->add([=] { memset((void*)to, value, n); });
    return SUCCESS;
}
int cuStreamCreate(void** stream, unsigned) {
    current->streams.push_back(new Stream{});
    return *stream = current->streams.back(), SUCCESS;
}
// What is asked of a stream that is being destroyed is still done; the process keeps the rest, which is small.
int cuStreamDestroy_v2(void* stream) { return ((Stream*)stream)->finish(); }
int cuStreamSynchronize(void* stream) { return ((Stream*)stream)->finish(); }
int cuStreamBeginCapture_v2(void* stream, unsigned) {
    if (((Stream*)stream)->captured) return INVALID;
    ((Stream*)stream)->captured.reset(new Graph{});
    return SUCCESS;
}
int cuStreamEndCapture(void* stream, void** graph) {
    *graph = ((Stream*)stream)->captured.release();
    return *graph ? SUCCESS : INVALID;
}
int cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) {
    return *executable = new Graph(*(Graph*)graph), SUCCESS;
}
int cuGraphLaunch(void* executable, void* stream) {
    for (const Operation& operation : *(Graph*)executable) ((Stream*)stream)->add(operation);
    return SUCCESS;
}
int cuGraphDestroy(void* graph) { return delete (Graph*)graph, SUCCESS; }
int cuGraphExecDestroy(void* executable) { return delete (Graph*)executable, SUCCESS; }
int cuModuleLoadData(void** module, const void* image) {
    *module = (void*)variant_of((const char*)image);
    return *module ? SUCCESS : INVALID_IMAGE;
}
int cuModuleUnload(void*) { return SUCCESS; }
int cuModuleGetFunction(void** function, void* module, const char* name) {
    for (const Kernel& kernel : ((const Variant*)module)->kernels)
        if (strcmp(kernel.name, name) == 0) {
            *function = new Function{&kernel, 48 << 10};
            return SUCCESS;
        }
    return NOT_FOUND;
}
int cuFuncSetAttribute(void* function, int attribute, int value) {
    // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, on a card with the least there is.
    if (attribute != 8 || value > (99 << 10)) return INVALID;
    ((Function*)function)->dynamic_limit = value;
    return SUCCESS;
}
int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned n_threads, unsigned, unsigned,
                   unsigned n_dynamic, void* stream, void** parameters, void**) {
    return launch((Function*)function, x, y, z, n_threads, n_dynamic, (Stream*)stream, parameters);
}
int cuGetErrorName(int code, const char** name) {
    *name = code == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_UNKNOWN";
    return SUCCESS;
}

int nvrtcVersion(int* major, int* minor) { return *major = 13, *minor = 999, SUCCESS; }
int nvrtcCreateProgram(void** program, const char* source, const char*, int, const char* const*, const char* const*) {
    *program = new Program{source, "", ""};
    return SUCCESS;
}
int nvrtcCompileProgram(void* program, int n_options, const char* const* options) {
    for (int i = 0; i < n_options; i++) ((Program*)program)->options += std::string(options[i]) + "\n";
    return SUCCESS;
}
int nvrtcGetProgramLogSize(void* program, size_t* size) { return *size = ((Program*)program)->log.size() + 1, SUCCESS; }
int nvrtcGetProgramLog(void* program, char* log) { return strcpy(log, ((Program*)program)->log.c_str()), SUCCESS; }
int nvrtcGetCUBINSize(void* program, size_t* size) { return *size = ((Program*)program)->options.size() + 1, SUCCESS; }
int nvrtcGetCUBIN(void* program, char* cubin) { return strcpy(cubin, ((Program*)program)->options.c_str()), SUCCESS; }
int nvrtcDestroyProgram(void** program) { return delete (Program*)*program, SUCCESS; }
}

}  // namespace emulator
