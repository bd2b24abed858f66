// Products of weights [n_rows, n_cols] with tokens: out = x * weights^T on the tensor cores, weights as rows, tokens as
// columns, so that a step of one token and a prefill run the same instructions in the same order.
//
// A *chunk* is 16 weights of a row, a *group* 4 chunks. Lane t of the four that share a row of a fragment holds chunk t of
// a group, and multiplies its weights 4s to 4s + 3 in step s of the group's four: any assignment of the inner dimension
// to slots is right as long as weights and tokens agree, and this one loads 16 bytes at a time.
//
// The order of a sum: the groups of a row are cut into 8 *segments*, by the row's length alone. Each is added up group by
// group, step by step; then the segments are added in order. `narrow` gives each warp of a block a segment, `wide` goes
// through them one after another: the same bits.
//
// Weights lie as elements, rows padded to whole chunks with zeros, or as the codes of blocks of 32 as in GGUF files (16
// bytes of nibbles, value i low and value i + 16 high in byte i, or 32 signed bytes), their f16 scales and, in Q4_1,
// minimums in arrays of their own. Tokens are elements, rows padded to whole groups with zeros.

enum Format { ELEMENTS, Q4_0, Q4_1, Q8_0 };
enum Mode { STORE, ADD, GATE };

struct Weights {
    const u8* codes;
    const u16* scales;
    const u16* minimums;
    // In GATE, the rows of the gate, which are followed by as many of the up.
    int n_rows;
    int n_cols;
    // Where not null, the product is that of these `n_rows` rows alone: an output's bits do not tell which rows are beside it.
    const u32* picks;
};

struct Output {
    Mode mode;
    const float* bias;
    float* values;
    // Elements from one token to the next.
    int width;
    // Of GATE.
    Activation activation;
};

struct Tokens {
    const u16* elements;
    int stride;
    int n_tokens;
};

// 16 weights as they lie in memory.
struct Chunk {
    uint4 low, high;
    u16 scale, minimum;
};

const int N_SEGMENTS = 8;
const int GROUP_LEN = 64;

template <int FORMAT>
DEVICE Chunk load_chunk(const Weights& w, int row, int chunk) {
    int n_chunks = (w.n_cols + 15) / 16;
    Chunk loaded = {{0, 0, 0, 0}, {0, 0, 0, 0}, 0, 0};
    if (row < 0 || chunk >= n_chunks) return loaded;
    u64 at = (u64)row * n_chunks + chunk, block = at / 2;
    const uint4* codes = (const uint4*)w.codes;
    if (FORMAT == ELEMENTS) {
        loaded.low = codes[2 * at];
        loaded.high = codes[2 * at + 1];
        return loaded;
    }
    loaded.low = codes[FORMAT == Q8_0 ? at : block];
    loaded.scale = w.scales[block];
    if (FORMAT == Q4_1) loaded.minimum = w.minimums[block];
    return loaded;
}

// The values of four codes, of quantised formats.
template <int FORMAT>
DEVICE void decode(const Chunk& chunk, int chunk_idx, u32 word, float (&values)[4]) {
    float scale = half_to_float(chunk.scale), minimum = half_to_float(chunk.minimum);
    if (FORMAT == Q8_0) word ^= 0x80808080u;
    else word >>= 4 * (chunk_idx & 1);
    const float offset = FORMAT == Q8_0 ? 128.0f : FORMAT == Q4_0 ? 8.0f : 0.0f;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        u32 code = word >> (8 * i) & (FORMAT == Q8_0 ? 0xFF : 0xF);
        // 2^23 + code: cheaper than a conversion, and exact.
        float value = __uint_as_float(0x4B000000u | code) - (8388608.0f + offset);
        values[i] = value * scale;
        if (FORMAT == Q4_1) values[i] += minimum;
    }
}

// The pairs of elements of a chunk: 2s and 2s + 1 are for step s.
template <int FORMAT>
DEVICE void decode_chunk(const Chunk& chunk, int chunk_idx, u32 (&pairs)[8]) {
    u32 words[8] = {chunk.low.x,  chunk.low.y,  chunk.low.z,  chunk.low.w,
                    chunk.high.x, chunk.high.y, chunk.high.z, chunk.high.w};
#pragma unroll
    for (int step = 0; step < 4; step++) {
        if (FORMAT == ELEMENTS) {
            pairs[2 * step] = words[2 * step];
            pairs[2 * step + 1] = words[2 * step + 1];
        } else {
            float values[4];
            decode<FORMAT>(chunk, chunk_idx, words[step], values);
            pairs[2 * step] = round_pair(values[0], values[1]);
            pairs[2 * step + 1] = round_pair(values[2], values[3]);
        }
    }
}

// The row of the weights in row `i` of the 16 of a tile, or -1. In GATE, the first eight are of the gate and the last of
// the up, so that one lane has both: c[0] and c[2].
DEVICE int weight_row(const Weights& w, Mode mode, int tile, int i) {
    int row = mode == GATE ? 8 * tile + i % 8 : 16 * tile + i;
    if (row >= w.n_rows) return -1;
    if (w.picks) return w.picks[row];
    return mode == GATE && i >= 8 ? w.n_rows + row : row;
}

DEVICE int segment_start(int segment, int n_cols) {
    int n_groups = (n_cols + GROUP_LEN - 1) / GROUP_LEN;
    return segment * n_groups / N_SEGMENTS;
}

// Hands a lane's part of a tile of 16 rows and 8 tokens over.
DEVICE void put(const Output& out, const float (&c)[4], const Weights& w, int tile, int first_token, int n_tokens) {
    int lane = threadIdx.x & 31, g = lane / 4;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int token = first_token + 2 * (lane % 4) + i;
        if (token >= n_tokens) continue;
        float* row = out.values + (u64)token * out.width;
        if (out.mode == GATE) {
            if (8 * tile + g < w.n_rows) row[8 * tile + g] = activate(out.activation, c[i]) * c[2 + i];
            continue;
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int at = 16 * tile + g + 8 * half;
            if (at >= w.n_rows) continue;
            float value = c[2 * half + i] + (out.bias ? out.bias[at] : 0.0f);
            row[at] = out.mode == ADD ? row[at] + value : value;
        }
    }
}

// A block: 16 rows and 8 * N_TILES tokens; a warp a segment.
template <int FORMAT, int N_TILES>
DEVICE void narrow(const Weights& w, const Tokens& x, const Output& out) {
    SHARED(float, partials, 256 * 4 * N_TILES);
    int lane = threadIdx.x & 31, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    int tile = blockIdx.x, first_token = blockIdx.y * 8 * N_TILES;
    int upper = weight_row(w, out.mode, tile, g), lower = weight_row(w, out.mode, tile, g + 8);
    float sums[N_TILES][4] = {};
    int end = segment_start(warp + 1, w.n_cols);
#pragma unroll 2
    for (int group = segment_start(warp, w.n_cols); group < end; group++) {
        int chunk = 4 * group + t;
        u32 above[8], below[8];
        decode_chunk<FORMAT>(load_chunk<FORMAT>(w, upper, chunk), chunk, above);
        decode_chunk<FORMAT>(load_chunk<FORMAT>(w, lower, chunk), chunk, below);
#pragma unroll
        for (int i = 0; i < N_TILES; i++) {
            int token = first_token + 8 * i + g;
            uint4 low = {0, 0, 0, 0}, high = {0, 0, 0, 0};
            if (token < x.n_tokens) {
                const uint4* from = (const uint4*)(x.elements + (u64)token * x.stride + 16 * chunk);
                low = from[0];
                high = from[1];
            }
            multiply_add(sums[i], above[0], below[0], above[1], below[1], low.x, low.y);
            multiply_add(sums[i], above[2], below[2], above[3], below[3], low.z, low.w);
            multiply_add(sums[i], above[4], below[4], above[5], below[5], high.x, high.y);
            multiply_add(sums[i], above[6], below[6], above[7], below[7], high.z, high.w);
        }
    }
    // [segment][tile][lane][4]
    for (int i = 0; i < N_TILES; i++)
        for (int j = 0; j < 4; j++) partials[((warp * N_TILES + i) * 32 + lane) * 4 + j] = sums[i][j];
    __syncthreads();
    if (warp >= N_TILES) return;
    float totals[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int segment = 0; segment < N_SEGMENTS; segment++)
        for (int j = 0; j < 4; j++) totals[j] += partials[((segment * N_TILES + warp) * 32 + lane) * 4 + j];
    put(out, totals, w, tile, first_token + 8 * warp, x.n_tokens);
}

const int WIDE_ROWS = 128;
const int WIDE_TOKENS = 64;
// Elements from a row of a stage to the next: 8 more than a group, so that eight lanes' 16 bytes meet no bank twice.
const int STAGE_STRIDE = GROUP_LEN + 8;
const int STAGE_LEN = (WIDE_ROWS + WIDE_TOKENS) * STAGE_STRIDE;

// One group of a warp's 32 rows and 32 tokens.
DEVICE void multiply_group(const u16* weights, const u16* tokens, float (&sums)[2][4][4]) {
    int lane = threadIdx.x & 31, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    weights += (warp / 2 * 32 + g) * STAGE_STRIDE + 16 * t;
    tokens += (warp % 2 * 32 + g) * STAGE_STRIDE + 16 * t;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        uint4 a[2][2];
#pragma unroll
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < 2; j++)
                a[i][j] = *(const uint4*)(weights + (16 * i + 8 * j) * STAGE_STRIDE + 8 * half);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            uint4 b = *(const uint4*)(tokens + 8 * j * STAGE_STRIDE + 8 * half);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                multiply_add(sums[i][j], a[i][0].x, a[i][1].x, a[i][0].y, a[i][1].y, b.x, b.y);
                multiply_add(sums[i][j], a[i][0].z, a[i][1].z, a[i][0].w, a[i][1].w, b.z, b.w);
            }
        }
    }
}

// A block: 128 rows and 64 tokens; a warp 32 rows and 32 tokens. Two stages in shared memory: the next group is on its way
// while one is multiplied.
template <int FORMAT>
DEVICE void wide(const Weights& w, const Tokens& x, const Output& out) {
    DYNAMIC_SHARED(shared);
    u16* stages = (u16*)shared;
    int warp = threadIdx.x / 32;
    int first_tile = blockIdx.x * 8, first_token = blockIdx.y * WIDE_TOKENS;
    int n_groups = segment_start(N_SEGMENTS, w.n_cols);
    // A thread brings the same chunk of two rows, and two of the 16-byte pieces of the tokens.
    int chunk_of = threadIdx.x % 4, row_of = threadIdx.x / 4;
    int rows[2];
    for (int i = 0; i < 2; i++) {
        int row = row_of + 64 * i;
        rows[i] = weight_row(w, out.mode, first_tile + row / 16, row % 16);
    }
    Chunk next[2];
    auto fetch = [&](int group, u16* stage) {
        for (int i = 0; i < 2; i++) next[i] = load_chunk<FORMAT>(w, rows[i], 4 * group + chunk_of);
        for (int i = 0; i < 2; i++) {
            int piece = threadIdx.x + 256 * i, token = first_token + piece / 8;
            bool is_wanted = token < x.n_tokens;
            const u16* from = x.elements + (u64)(is_wanted ? token : 0) * x.stride + GROUP_LEN * group + piece % 8 * 8;
            copy_async(stage + (WIDE_ROWS + piece / 8) * STAGE_STRIDE + piece % 8 * 8, from, is_wanted);
        }
        commit_copies();
    };
    float totals[2][4][4] = {}, sums[2][4][4] = {};
    fetch(0, stages);
    int segment = 0;
    for (int group = 0; group < n_groups; group++) {
        u16* stage = stages + group % 2 * STAGE_LEN;
        for (int i = 0; i < 2; i++) {
            u32 pairs[8];
            decode_chunk<FORMAT>(next[i], 4 * group + chunk_of, pairs);
            uint4* to = (uint4*)(stage + (row_of + 64 * i) * STAGE_STRIDE + 16 * chunk_of);
            to[0] = {pairs[0], pairs[1], pairs[2], pairs[3]};
            to[1] = {pairs[4], pairs[5], pairs[6], pairs[7]};
        }
        wait_for_copies<0>();
        __syncthreads();
        if (group + 1 < n_groups) fetch(group + 1, stages + (group + 1) % 2 * STAGE_LEN);
        multiply_group(stage, stage + WIDE_ROWS * STAGE_STRIDE, sums);
        bool is_last = group + 1 == n_groups;
        while (segment < N_SEGMENTS && (is_last || group + 1 >= segment_start(segment + 1, w.n_cols))) {
            segment++;
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        totals[i][j][k] += sums[i][j][k];
                        sums[i][j][k] = 0.0f;
                    }
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            put(out, totals[i][j], w, first_tile + warp / 2 * 2 + i, first_token + warp % 2 * 32 + 8 * j, x.n_tokens);
}

// out[i] = row rows[i] of the weights, as they are stored. A block a row.
template <int FORMAT>
DEVICE void gather(const Weights& w, const u32* rows, float* out) {
    u64 row = blockIdx.x;
    int n_chunks = (w.n_cols + 15) / 16;
    for (int chunk = threadIdx.x; chunk < n_chunks; chunk += 128) {
        Chunk loaded = load_chunk<FORMAT>(w, rows[row], chunk);
        u32 words[8] = {loaded.low.x,  loaded.low.y,  loaded.low.z,  loaded.low.w,
                        loaded.high.x, loaded.high.y, loaded.high.z, loaded.high.w};
        float* to = out + row * w.n_cols + 16 * chunk;
        for (int i = 0; i < 16 && 16 * chunk + i < w.n_cols; i++) {
            if (FORMAT == ELEMENTS) {
                to[i] = element_to_float((u16)(words[i / 2] >> (16 * (i % 2))));
            } else {
                float values[4];
                decode<FORMAT>(loaded, chunk, words[i / 4], values);
                to[i] = values[i % 4];
            }
        }
    }
}

#define PRODUCT_PARAMETERS                                                                                              \
    const u8 *codes, const u16 *scales, const u16 *minimums, int n_rows, int n_cols, const u32 *picks, const u16 *x,  \
        int x_stride, int n_tokens, int mode, const float *bias, float *out, int out_width, int activation
#define PRODUCT_ARGUMENTS                                                                                               \
    {codes, scales, minimums, n_rows, n_cols, picks}, {x, x_stride, n_tokens},                                          \
        { (Mode) mode, bias, out, out_width, (Activation)activation }
// For compute capability 12, ptxas would fit a fifth block with a register too few, and spill it.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
#define NARROW_8_BOUNDS 256, 4
#else
#define NARROW_8_BOUNDS 256
#endif
#define FORMAT_KERNELS(format, name)                                                                                    \
    KERNEL(NARROW_8_BOUNDS) narrow_8_##name(PRODUCT_PARAMETERS) { narrow<format, 1>(PRODUCT_ARGUMENTS); }               \
    KERNEL(256) narrow_32_##name(PRODUCT_PARAMETERS) { narrow<format, 4>(PRODUCT_ARGUMENTS); }                          \
    KERNEL(256) wide_##name(PRODUCT_PARAMETERS) { wide<format>(PRODUCT_ARGUMENTS); }                                    \
    KERNEL(128) gather_##name(const u8* codes, const u16* scales, const u16* minimums, int n_rows, int n_cols,          \
                              const u32* rows, float* out) {                                                            \
        gather<format>({codes, scales, minimums, n_rows, n_cols, nullptr}, rows, out);                                  \
    }

FORMAT_KERNELS(ELEMENTS, elements)
FORMAT_KERNELS(Q4_0, q4_0)
FORMAT_KERNELS(Q4_1, q4_1)
FORMAT_KERNELS(Q8_0, q8_0)
