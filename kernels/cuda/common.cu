// What every kernel shares: 16-bit elements, fragments of the tensor cores, asynchronous copies.
//
// There is no #include here: NVRTC compiles these files with nothing but itself. `EMULATED` is defined by
// emulator/emulator.hpp, which gives the same names a meaning on a CPU.
//
// ELEMENT_F16: elements (activations on their way into a product, keys and values) are f16; else they are bf16.
// HEAD_DIM: elements of an attention head. KV_INT8, KV_E4M3: keys and values are codes of eight bits, see attention.cu.
//
// Every sum is taken in an order that depends on positions only: see docs/gpu.md.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifndef EMULATED
#define DEVICE __device__ __forceinline__
#define KERNEL(n_threads) extern "C" __global__ void __launch_bounds__(n_threads)
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) u8 name[]
#define INFINITY __int_as_float(0x7F800000)

// Two values to a pair of elements, `low` in the low half; to the nearest, ties to even.
DEVICE u32 round_pair(float low, float high) {
    u32 pair;
#ifdef ELEMENT_F16
    // An activation beyond f16 becomes its greatest number, never infinity.
    low = fminf(fmaxf(low, -65504.0f), 65504.0f);
    high = fminf(fmaxf(high, -65504.0f), 65504.0f);
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
#else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
#endif
    return pair;
}

DEVICE float half_to_float(u16 half) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
}

// c += a x b for a [16, 16], b [16, 8], c [16, 8] f32. With g = lane / 4 and t = lane % 4, a lane holds
//   a[0] (g, 2t..), a[1] (g + 8, 2t..), a[2] (g, 2t + 8..), a[3] (g + 8, 2t + 8..), pairs along the inner dimension,
//   b[0] (2t.., g), b[1] (2t + 8.., g), and c[0], c[1] (g, 2t..), c[2], c[3] (g + 8, 2t..).
DEVICE void multiply_add(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
#ifdef ELEMENT_F16
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
#endif
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Four transposed 8 x 8 matrices from shared memory: lane i gives the address of row i % 8 of matrix i / 8, and gets
// rows 2t and 2t + 1 of column g of each.
DEVICE void load_transposed(u32 (&m)[4], const u16* row) {
    u32 address = (u32)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
                 : "r"(address));
}

// Starts a copy of 16 bytes to shared memory, or of zeros where not `is_wanted`.
DEVICE void copy_async(void* to, const void* from, bool is_wanted) {
    u32 address = (u32)__cvta_generic_to_shared(to), n_bytes = is_wanted ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(n_bytes) : "memory");
}
// Ends a group of copies.
DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until no more than `N` groups of this thread's copies are under way.
template <int N>
DEVICE void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
#endif

const float GREATEST = 3.402823466e38f;

DEVICE u16 round_one(float value) { return (u16)(round_pair(value, 0.0f) & 0xFFFF); }

DEVICE float element_to_float(u16 element) {
#ifdef ELEMENT_F16
    return half_to_float(element);
#else
    return __uint_as_float((u32)element << 16);
#endif
}

// The sum over a warp, the same in every lane and in any order of lanes.
DEVICE float warp_sum(float value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(~0u, value, distance);
    return value;
}

DEVICE float warp_max(float value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) value = fmaxf(value, __shfl_xor_sync(~0u, value, distance));
    return value;
}

// What becomes of a gate before it multiplies: `Activation` in device.rs.
enum Activation { SILU, GELU_TANH };

// x times the logistic function, of x itself or of GELU's argument: (1 + tanh(y)) / 2 is the logistic function of 2y.
DEVICE float activate(Activation activation, float x) {
    const float twice_root = 1.5957691216057308f;  // of 2 / pi
    float argument = activation == SILU ? x : twice_root * (x + 0.044715f * x * x * x);
    return x / (1.0f + expf(-argument));
}
