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
// Weights lie as elements, rows padded to whole chunks with zeros, or as blocks of a GGUF format in three arrays: see
// `Packed` in matrix.rs, and `Coding` in blocks.rs for what a format is made of, which these are:
//
// CODE_BITS: 4, 5, 6 or 8 of a code; 16: weights are elements. CODE_OFFSET: what a code is less. BLOCK_LEN: weights of a
// block. BLOCK_SCALES: scales of 32 weights. HAS_MINIMUM.
//
// Tokens are elements, rows padded to whole groups with zeros.

enum Mode { STORE, ADD, GATE };

struct Weights {
    // Elements; bytes; or the low four bits of codes, value i low and value i + 16 high in byte i of 16.
    const u8* codes;
    // The bits above, TOP_BITS of each code: of value i of 32, from bit 8 * (i % 4) + TOP_BITS * (i / 4) % 8 of word
    // TOP_BITS * i / 32 on.
    const u32* tops;
    // Blocks' scales and minimums as in files.
    const u8* scales;
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
    uint4 codes;
    // The other eight elements, or the scales and minimums of a block of small ones.
    uint4 more;
    u32 tops;
    // A scale in the low half, in the high one a minimum or a small scale.
    u32 scales;
};

const int N_SEGMENTS = 8;
const int GROUP_LEN = 64;
const bool IS_ELEMENTS = CODE_BITS == 16;
const int TOP_BITS = CODE_BITS == 5 || CODE_BITS == 6 ? CODE_BITS - 4 : 0;
const int BLOCK_CHUNKS = BLOCK_LEN / 16;
// A block of 256 has eight scales and minimums of six bits, or sixteen scales of eight.
const bool HAS_SMALL_PAIRS = BLOCK_LEN == 256 && HAS_MINIMUM;
const bool HAS_SMALL_SCALES = BLOCK_LEN == 256 && BLOCK_SCALES == 2;
const int SCALE_BYTES = HAS_SMALL_PAIRS ? 16 : HAS_SMALL_SCALES ? 18 : HAS_MINIMUM ? 4 : 2;

DEVICE Chunk load_chunk(const Weights& w, int row, int chunk) {
    int n_chunks = (w.n_cols + 15) / 16;
    Chunk loaded = {{0, 0, 0, 0}, {0, 0, 0, 0}, 0, 0};
    if (row < 0 || chunk >= n_chunks) return loaded;
    u64 at = (u64)row * n_chunks + chunk;
    const uint4* codes = (const uint4*)w.codes;
    if (IS_ELEMENTS) {
        loaded.codes = codes[2 * at];
        loaded.more = codes[2 * at + 1];
        return loaded;
    }
    loaded.codes = codes[CODE_BITS == 8 ? at : at / 2];
    if (TOP_BITS > 0) loaded.tops = w.tops[at * TOP_BITS / 2];
    const u8* scales = w.scales + at / BLOCK_CHUNKS * SCALE_BYTES;
    if (HAS_SMALL_PAIRS) loaded.more = *(const uint4*)scales;
    else if (HAS_SMALL_SCALES) loaded.scales = *(const u16*)(scales + 16) | (u32)scales[chunk % BLOCK_CHUNKS] << 16;
    else loaded.scales = HAS_MINIMUM ? *(const u32*)scales : *(const u16*)scales;
    return loaded;
}

struct Scaling {
    float scale, minimum;
};

// What makes values of a chunk's codes.
DEVICE Scaling scaling_of(const Chunk& chunk, int chunk_idx) {
    if (HAS_SMALL_PAIRS) {
        // The first four pairs whole in six bits; of the others, the low four bits in `rest` and the high two above the first.
        int pair = chunk_idx / 2 % 8, shift = 8 * (pair % 4);
        u32 scale = chunk.more.y >> shift & 0xFF, minimum = chunk.more.z >> shift & 0xFF, rest = chunk.more.w >> shift & 0xFF;
        bool is_first = pair < 4;
        scale = is_first ? scale & 63 : (rest & 15) | scale >> 6 << 4;
        minimum = is_first ? minimum & 63 : rest >> 4 | minimum >> 6 << 4;
        return {half_to_float((u16)chunk.more.x) * (float)scale, -(half_to_float((u16)(chunk.more.x >> 16)) * (float)minimum)};
    }
    float scale = half_to_float((u16)chunk.scales);
    if (HAS_SMALL_SCALES) return {scale * (float)(signed char)(chunk.scales >> 16), 0.0f};
    return {scale, half_to_float((u16)(chunk.scales >> 16))};
}

// Codes 4 * step to 4 * step + 3 of a chunk, one a byte.
DEVICE u32 codes_of(const Chunk& chunk, int chunk_idx, u32 word, int step) {
    if (CODE_BITS == 8) return word;
    word = word >> 4 * (chunk_idx & 1) & 0x0F0F0F0Fu;
    const u32 mask = ((1u << TOP_BITS) - 1) * 0x01010101u;
    if (TOP_BITS > 0) word |= (chunk.tops >> (TOP_BITS * (4 * (chunk_idx & 1) + step)) % 8 & mask) << 4;
    return word;
}

// The values of the four codes in the bytes of a word.
DEVICE void decode(u32 word, const Scaling& scaling, float (&values)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        // 2^23 + code: cheaper than a conversion, and exact.
        float code = __uint_as_float(0x4B000000u | (word >> (8 * i) & 0xFF)) - (8388608.0f + CODE_OFFSET);
        values[i] = code * scaling.scale;
        if (HAS_MINIMUM) values[i] += scaling.minimum;
    }
}

// The pairs of elements of a chunk: 2s and 2s + 1 are for step s.
DEVICE void decode_chunk(const Chunk& chunk, int chunk_idx, u32 (&pairs)[8]) {
    u32 words[8] = {chunk.codes.x, chunk.codes.y, chunk.codes.z, chunk.codes.w,
                    chunk.more.x,  chunk.more.y,  chunk.more.z,  chunk.more.w};
    Scaling scaling = scaling_of(chunk, chunk_idx);
#pragma unroll
    for (int step = 0; step < 4; step++) {
        if (IS_ELEMENTS) {
            pairs[2 * step] = words[2 * step];
            pairs[2 * step + 1] = words[2 * step + 1];
        } else {
            float values[4];
            decode(codes_of(chunk, chunk_idx, words[step], step), scaling, values);
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
template <int N_TILES>
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
        decode_chunk(load_chunk(w, upper, chunk), chunk, above);
        decode_chunk(load_chunk(w, lower, chunk), chunk, below);
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
DEVICE void multiply_wide(const Weights& w, const Tokens& x, const Output& out) {
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
        for (int i = 0; i < 2; i++) next[i] = load_chunk(w, rows[i], 4 * group + chunk_of);
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
            decode_chunk(next[i], 4 * group + chunk_of, pairs);
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
KERNEL(128) gather(const u8* codes, const u32* tops, const u8* scales, int n_rows, int n_cols, const u32* rows, float* out) {
    Weights w = {codes, tops, scales, n_rows, n_cols, nullptr};
    u64 row = blockIdx.x;
    int n_chunks = (n_cols + 15) / 16;
    for (int chunk = threadIdx.x; chunk < n_chunks; chunk += 128) {
        Chunk loaded = load_chunk(w, rows[row], chunk);
        u32 words[8] = {loaded.codes.x, loaded.codes.y, loaded.codes.z, loaded.codes.w,
                        loaded.more.x,  loaded.more.y,  loaded.more.z,  loaded.more.w};
        Scaling scaling = scaling_of(loaded, chunk);
        float* to = out + row * n_cols + 16 * chunk;
        for (int i = 0; i < 16 && 16 * chunk + i < n_cols; i++) {
            if (IS_ELEMENTS) {
                to[i] = element_to_float((u16)(words[i / 2] >> (16 * (i % 2))));
            } else {
                float values[4];
                decode(codes_of(loaded, chunk, words[i / 4], i / 4), scaling, values);
                to[i] = values[i % 4];
            }
        }
    }
}

#define PRODUCT_PARAMETERS                                                                                              \
    const u8 *codes, const u32 *tops, const u8 *scales, int n_rows, int n_cols, const u32 *picks, const u16 *x,         \
        int x_stride, int n_tokens, int mode, const float *bias, float *out, int out_width, int activation
#define PRODUCT_ARGUMENTS                                                                                               \
    {codes, tops, scales, n_rows, n_cols, picks}, {x, x_stride, n_tokens},                                              \
        { (Mode) mode, bias, out, out_width, (Activation)activation }
// Blocks that a multiprocessor holds at least. Left to itself, ptxas would fit one more with a register too few, and spill it:
// a narrow one for compute capability 12, and in one format a wide one for 9.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
#define NARROW_8_BOUNDS 256, CODE_BITS == 8 ? 3 : 4
#else
#define NARROW_8_BOUNDS 256
#endif
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 900
#define WIDE_BOUNDS 256, 1
#else
#define WIDE_BOUNDS 256
#endif
KERNEL(NARROW_8_BOUNDS) narrow_8(PRODUCT_PARAMETERS) { narrow<1>(PRODUCT_ARGUMENTS); }
KERNEL(256) narrow_32(PRODUCT_PARAMETERS) { narrow<4>(PRODUCT_ARGUMENTS); }
KERNEL(WIDE_BOUNDS) wide(PRODUCT_PARAMETERS) { multiply_wide(PRODUCT_ARGUMENTS); }
#undef PRODUCT_PARAMETERS
#undef PRODUCT_ARGUMENTS
#undef NARROW_8_BOUNDS
#undef WIDE_BOUNDS
