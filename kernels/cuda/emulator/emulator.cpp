// See emulator.hpp.
#include "emulator.hpp"

namespace emulator {

thread_local Block block;
thread_local Index block_index;

static const size_t STACK_LEN = 64 << 10;
static thread_local std::vector<char*> stacks;
static thread_local const std::function<void()>* running;

void fail(const char* what) {
    fprintf(stderr, "emulator: %s\n", what);
    abort();
}

// Stores the callee's registers on the stack, then goes on at another stack.
extern "C" void emulator_switch(void** from, void* to);
#if defined(__x86_64__)
asm(R"(
.text
.globl emulator_switch
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
static void prepare(Fiber& fiber, void (*entry)()) {
    void** top = (void**)(fiber.stack + STACK_LEN);
    *--top = nullptr;  // keeps the stack at 8 modulo 16 where the entry begins, as after a call
    *--top = (void*)entry;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    fiber.stack_pointer = top;
}
#elif defined(__aarch64__)
asm(R"(
.text
.globl emulator_switch
emulator_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x2, sp
    str x2, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
static void prepare(Fiber& fiber, void (*entry)()) {
    void** top = (void**)(fiber.stack + STACK_LEN) - 20;
    memset(top, 0, 160);
    top[11] = (void*)entry;
    fiber.stack_pointer = top;
}
#else
#error "the emulator's fibers are written for x86-64 and AArch64"
#endif

void yield() {
    // A fiber keeps its place in the vector while the block runs.
    Fiber& fiber = self();
    emulator_switch(&fiber.stack_pointer, block.scheduler_stack_pointer);
}

static void release_if_all_wait() {
    if (block.n_live > 0 && block.n_arrived == block.n_live) {
        block.n_arrived = 0;
        block.generation++;
    }
}

static void enter() {
    (*running)();
    Fiber& fiber = self();
    for (const auto& group : fiber.copies)
        for (const Copy& copy : group)
            if (copy.is_wanted) fail("a thread ended with copies under way");
    fiber.has_ended = true;
    Warp& warp = own_warp();
    warp.n_live--;
    if (warp.n_arrived > 0) fail("a lane left while its warp waits for it");
    block.n_live--;
    release_if_all_wait();
    yield();
}

static uint64_t next_random(uint64_t& state) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

void run_block(const std::function<void()>& kernel, unsigned n_threads, unsigned n_dynamic, uint64_t seed) {
    if (n_threads == 0 || n_threads % 32 != 0 || n_threads > 1024) fail("a block is whole warps, at most 32");
    const size_t canary = 64;
    running = &kernel;
    while (stacks.size() < n_threads) stacks.push_back((char*)malloc(STACK_LEN));
    block.fibers.assign(n_threads, Fiber{});
    block.warps.assign(n_threads / 32, Warp{32, 0, 0, nullptr});
    block.n_live = n_threads;
    block.n_arrived = 0;
    block.generation = 0;
    block.poisoned.clear();
    block.dynamic.assign(n_dynamic + canary, 0xFF);
    block.copies_at_once = seed % 2 == 1;
    block.order.resize(n_threads);
    for (size_t i = 0; i < n_threads; i++) {
        block.order[i] = i;
        block.fibers[i].stack = stacks[i];
        block.fibers[i].thread = {(unsigned)i, 0, 0};
        block.fibers[i].copies.resize(1);
        prepare(block.fibers[i], enter);
    }
    uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
    if (seed > 0)
        for (size_t i = n_threads; i > 1; i--) std::swap(block.order[i - 1], block.order[next_random(state) % i]);
    size_t n_turns_in_vain = 0;
    while (block.n_live > 0) {
        int n_live = block.n_live;
        unsigned generation = block.generation;
        uint64_t progress = 0;
        for (const Warp& warp : block.warps) progress += warp.generation + warp.n_arrived;
        progress += block.n_arrived;
        for (size_t i : block.order) {
            if (block.fibers[i].has_ended) continue;
            block.current = i;
            emulator_switch(&block.scheduler_stack_pointer, block.fibers[i].stack_pointer);
        }
        uint64_t now = 0;
        for (const Warp& warp : block.warps) now += warp.generation + warp.n_arrived;
        now += block.n_arrived;
        bool is_stuck = n_live == block.n_live && generation == block.generation && progress == now;
        n_turns_in_vain = is_stuck ? n_turns_in_vain + 1 : 0;
        if (n_turns_in_vain > 2) fail("every thread waits for another");
    }
    for (size_t i = 0; i < canary; i++)
        if (block.dynamic[n_dynamic + i] != 0xFF) fail("a write beyond dynamic shared memory");
}

void poison_once(void* shared, size_t n_bytes) {
    for (void* known : block.poisoned)
        if (known == shared) return;
    block.poisoned.push_back(shared);
    memset(shared, 0xFF, n_bytes);
}

void barrier() {
    unsigned generation = block.generation;
    block.n_arrived++;
    release_if_all_wait();
    while (block.generation == generation) yield();
}

static void land(const Copy& copy) {
    if (copy.is_wanted) memcpy(copy.to, copy.from, 16);
    else memset(copy.to, 0, 16);
}

void start_copy(void* to, const void* from, bool is_wanted) {
    if ((uintptr_t)to % 16 != 0 || (uintptr_t)from % 16 != 0) fail("a copy that is not aligned to 16 bytes");
    Copy copy = {to, from, is_wanted};
    if (block.copies_at_once) land(copy);
    else self().copies.back().push_back(copy);
}

void end_copy_group() { self().copies.emplace_back(); }

void wait_for_copy_groups(size_t n_left) {
    auto& copies = self().copies;
    // The last group is not committed.
    while (copies.size() - 1 > n_left) {
        for (const Copy& copy : copies.front()) land(copy);
        copies.erase(copies.begin());
    }
}

float half_to_float(uint16_t half) {
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    float value;
    if (exponent == 31) value = mantissa ? NAN : INFINITY;
    else if (exponent == 0) value = ldexpf((float)mantissa, -24);
    else value = ldexpf((float)(mantissa + 1024), exponent - 25);
    return half & 0x8000 ? -value : value;
}

uint16_t float_to_half(float value) {
    uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    float size = fabsf(value);
    if (std::isnan(value)) return 0x7FFF;
    if (size >= 65520.0f) return sign | 0x7C00;
    if (size < 0x1p-14f) return sign | (uint16_t)rintf(size * 0x1p24f);
    int exponent;
    float fraction = frexpf(size, &exponent);  // in [0.5, 1)
    unsigned mantissa = (unsigned)rintf(fraction * 2048.0f);
    return sign | (uint16_t)(((exponent + 14) << 10) + mantissa - 1024);
}

uint16_t float_to_bfloat(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if (std::isnan(value)) return 0x7FFF;
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

void multiply_add(float* c, const uint32_t (&a)[4], const uint32_t (&b)[2], bool is_f16) {
    struct Operands {
        float* c;
        const uint32_t *a, *b;
        bool is_f16;
    } mine = {c, a, b, is_f16};
    collective("mma", &mine, [](void** lanes) {
        float left[16][16], right[8][16];
        for (int lane = 0; lane < 32; lane++) {
            const auto* from = (const Operands*)lanes[lane];
            int g = lane / 4, t = lane % 4;
            auto half_of = [&](uint32_t pair, int i) { return element_to_float(pair >> (16 * i), from->is_f16); };
            for (int i = 0; i < 2; i++) {
                left[g][2 * t + i] = half_of(from->a[0], i);
                left[g + 8][2 * t + i] = half_of(from->a[1], i);
                left[g][2 * t + 8 + i] = half_of(from->a[2], i);
                left[g + 8][2 * t + 8 + i] = half_of(from->a[3], i);
                right[g][2 * t + i] = half_of(from->b[0], i);
                right[g][2 * t + 8 + i] = half_of(from->b[1], i);
            }
        }
        for (int lane = 0; lane < 32; lane++) {
            auto* to = (Operands*)lanes[lane];
            for (int i = 0; i < 4; i++) {
                int row = lane / 4 + i / 2 * 8, column = 2 * (lane % 4) + i % 2;
                double sum = to->c[i];
                for (int k = 0; k < 16; k++) sum += (double)left[row][k] * right[column][k];
                to->c[i] = (float)sum;
            }
        }
    });
}

void load_transposed(uint32_t* m, const uint16_t* row) {
    struct Operands {
        uint32_t* m;
        const uint16_t* row;
    } mine = {m, row};
    if ((uintptr_t)row % 16 != 0) fail("a row of ldmatrix that is not aligned to 16 bytes");
    collective("ldmatrix", &mine, [](void** lanes) {
        for (int lane = 0; lane < 32; lane++)
            for (int matrix = 0; matrix < 4; matrix++) {
                auto element = [&](int r) {
                    return (uint32_t)((const Operands*)lanes[8 * matrix + r])->row[lane / 4];
                };
                ((Operands*)lanes[lane])->m[matrix] = element(2 * (lane % 4)) | element(2 * (lane % 4) + 1) << 16;
            }
    });
}

}  // namespace emulator
