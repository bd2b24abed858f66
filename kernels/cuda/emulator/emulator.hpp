// A GPU as loops: runs the kernels of this folder, compiled as C++, on a CPU, for tests.
//
// Each thread of a block is a fiber. Blocks run one after another; a fiber runs until it must wait: at a barrier of the
// block, or at an operation of its warp, which the last lane to arrive carries out for all. Shared and fresh global memory
// hold NaNs; an access beyond the end of an allocation is a segmentation fault; asynchronous copies land as late as they
// may, or at once; fibers take turns in an order that a seed chooses. What depends on any of it gives other bits, or none.
//
// Fragments: PTX ISA, "Matrix Fragments for mma.m16n8k16" and "ldmatrix".
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

struct uint4 {
    unsigned x, y, z, w;
};

namespace emulator {

struct Index {
    unsigned x, y, z;
};

struct Copy {
    void* to;
    const void* from;
    bool is_wanted;
};

struct Fiber {
    void* stack_pointer;
    char* stack;
    Index thread;
    bool has_ended;
    // What a warp's operation takes from and gives to this lane.
    void* operands;
    // Copies under way, by group; the last group is open.
    std::vector<std::vector<Copy>> copies;
};

struct Warp {
    int n_live, n_arrived;
    unsigned generation;
    const char* operation;
};

struct Block {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<size_t> order;
    int n_live, n_arrived;
    unsigned generation;
    size_t current;
    void* scheduler_stack_pointer;
    std::vector<void*> poisoned;
    std::vector<unsigned char> dynamic;
    bool copies_at_once;
};

extern thread_local Block block;
extern thread_local Index block_index;

[[noreturn]] void fail(const char* what);
void yield();
void run_block(const std::function<void()>& kernel, unsigned n_threads, unsigned n_dynamic, uint64_t seed);
void poison_once(void* shared, size_t n_bytes);
void barrier();
void start_copy(void* to, const void* from, bool is_wanted);
void end_copy_group();
void wait_for_copy_groups(size_t n_left);

inline Fiber& self() { return block.fibers[block.current]; }
inline Warp& own_warp() { return block.warps[block.current / 32]; }

// Runs `operation(operands)` once all live lanes of the warp have brought theirs.
template <class Operation>
void collective(const char* name, void* operands, Operation operation) {
    Warp& warp = own_warp();
    self().operands = operands;
    if (warp.n_arrived == 0) warp.operation = name;
    if (warp.operation != name) fail("lanes of a warp are at different operations");
    unsigned generation = warp.generation;
    if (++warp.n_arrived == 32) {
        void* of_lane[32];
        for (size_t lane = 0; lane < 32; lane++)
            of_lane[lane] = block.fibers[block.current / 32 * 32 + lane].operands;
        operation(of_lane);
        warp.n_arrived = 0;
        warp.generation++;
    } else {
        if (warp.n_live < 32) fail("a lane has left its warp's operation");
        while (warp.generation == generation) yield();
    }
}

float half_to_float(uint16_t half);
uint16_t float_to_half(float value);
uint16_t float_to_bfloat(float value);

inline float element_to_float(uint16_t element, bool is_f16) {
    if (is_f16) return half_to_float(element);
    uint32_t bits = (uint32_t)element << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

void multiply_add(float* c, const uint32_t (&a)[4], const uint32_t (&b)[2], bool is_f16);
void load_transposed(uint32_t* m, const uint16_t* row);

}  // namespace emulator

#define EMULATED
#define DEVICE static inline
#define KERNEL(n_threads) static void
#define SHARED(type, name, count)                  \
    alignas(16) static thread_local type name[count]; \
    emulator::poison_once(name, sizeof(name))
#define DYNAMIC_SHARED(name) unsigned char* name = emulator::block.dynamic.data()
#define threadIdx (emulator::self().thread)
#define blockIdx (emulator::block_index)

static inline void __syncthreads() { emulator::barrier(); }
static inline void __syncwarp() {
    emulator::collective("syncwarp", nullptr, [](void**) {});
}
static inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, 4);
    return bits;
}
using std::min;
namespace emulator {
// The value of the lane that each lane names; its own where there is none.
template <class T>
T shuffle(const char* name, T value, int source) {
    struct Operands {
        T in, out;
        int source;
    } mine = {value, value, source};
    collective(name, &mine, [](void** lanes) {
        for (int lane = 0; lane < 32; lane++) {
            auto* to = (Operands*)lanes[lane];
            if (to->source >= 0) to->out = ((Operands*)lanes[to->source])->in;
        }
    });
    return mine.out;
}
inline int own_lane() { return block.current % 32; }
}  // namespace emulator
template <class T>
T __shfl_xor_sync(unsigned, T value, int distance) {
    return emulator::shuffle("shfl_xor", value, emulator::own_lane() ^ distance);
}
template <class T>
T __shfl_up_sync(unsigned, T value, int distance) {
    return emulator::shuffle("shfl_up", value, emulator::own_lane() - distance);
}
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
    return emulator::shuffle("shfl", value, lane);
}
static inline unsigned long long atomicAdd(unsigned long long* to, unsigned long long value) {
    unsigned long long before = *to;
    *to += value;
    return before;
}
static inline void sincospif(float x, float* sine, float* cosine) {
    *sine = (float)sin((double)x * 3.14159265358979323846);
    *cosine = (float)cos((double)x * 3.14159265358979323846);
}
