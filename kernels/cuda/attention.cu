// Causal attention over pages, for any mixture of prefills and decodes (Dao et al. 2022, Dao 2023; sharing of prefixes:
// Ye et al. 2025, FlashInfer).
//
// A *lane row* is one query head of one row of the batch that reads the key head at hand; 16 of them are the rows of a
// fragment, whichever sequences they come from. A *tile* is 64 consecutive positions of a block table. For each row of a
// fragment, a tile gives a *partial*: the greatest score, the sum of exponentials below it, and the values they weigh.
// Partials are folded from the first tile to the last, so a result depends on positions alone: `attention_whole` folds in
// registers (prefill), `attention_split` leaves partials in memory, which `attention_merge` folds by the same function
// (decode). Sequences whose block tables agree over a tile can be rows of one item: its keys are read once for all. A tile
// of which a row sees nothing, beyond its position or before its window, leaves no partial of that row.
//
// Keys and values: see kv_scatter. As codes, they have a scale a head and position. A code is an element exactly, so products
// are of codes; the scale of a key multiplies its score, and that of a value its weight. HEAD_DIM is a multiple of 16.

const int TILE_LEN = 64;
const int N_DIM_TILES = HEAD_DIM / 8;
// Groups of 32 elements in which keys meet queries: lane t holds elements 8t to 8t + 7 of a group.
const int N_KEY_GROUPS = (HEAD_DIM + 31) / 32;
// Elements from one position to the next in shared memory. Two positions' 64 bytes of keys, and eight positions' 16 bytes of
// values, meet no bank twice.
const int KEY_STRIDE = 32 * N_KEY_GROUPS + (N_KEY_GROUPS % 2 ? 0 : 32);
const int VALUE_STRIDE = HEAD_DIM + 8;

#if defined(KV_INT8) || defined(KV_E4M3)
#define HAS_CODES
typedef u8 Stored;
#else
typedef u16 Stored;
#endif

#ifdef HAS_CODES
#ifdef KV_INT8
const float GREATEST_CODE = 127.0f;

DEVICE u8 encode(float value) { return (u8)(signed char)rintf(fminf(fmaxf(value, -GREATEST_CODE), GREATEST_CODE)); }
DEVICE float decode_byte(u32 code) { return (float)(signed char)code; }
#else
// OCP 8-bit floating point, e4m3: a sign, four bits of exponent with a bias of 7, three of mantissa, denormals, no infinity.
const float GREATEST_CODE = 448.0f;
// Its bits are the upper ones of an f32 whose exponent has a bias of 127.
const float BIAS = 0x1p120f;

DEVICE u8 encode(float value) {
    u32 bits = __float_as_uint(fminf(fabsf(value), GREATEST_CODE) / BIAS), odd = bits >> 20 & 1;
    return (u8)((bits + 0x7FFFF + odd) >> 20 | (value < 0.0f ? 0x80 : 0));
}
DEVICE float decode_byte(u32 code) { return __uint_as_float((code & 0x7F) << 20 | (code & 0x80) << 24) * BIAS; }
#endif

// Four codes to four elements.
DEVICE void decode_four(u32 codes, u32& first, u32& second) {
    first = round_pair(decode_byte(codes & 255), decode_byte(codes >> 8 & 255));
    second = round_pair(decode_byte(codes >> 16 & 255), decode_byte(codes >> 24));
}
#endif

// Writes each row's keys and values to its slot of a layer. A layer is [n_pages][keys, values][n_heads][page_size] slots of
// HEAD_DIM elements or codes, and as many scales if they are codes: the greatest of the slot over the greatest code, or 0.
// A warp a slot.
KERNEL(256) kv_scatter(Stored* layer, float* scales, int page_size, int n_heads, const float* x, int width, int first_key,
                       int first_value, const u32* slots, int n_rows) {
    int i = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x & 31;
    if (i >= 2 * n_rows * n_heads) return;
    int row = i / (2 * n_heads), is_value = i / n_heads % 2, head = i % n_heads;
    u64 page = slots[2 * row], offset = slots[2 * row + 1];
    u64 slot = ((2 * page + is_value) * n_heads + head) * page_size + offset;
    Stored* to = layer + slot * HEAD_DIM;
    const float* from = x + (u64)row * width + (is_value ? first_value : first_key) + head * HEAD_DIM;
#ifdef HAS_CODES
    float greatest = 0.0f;
    for (int element = lane; element < HEAD_DIM; element += 32) greatest = fmaxf(greatest, fabsf(from[element]));
    float scale = fminf(warp_max(greatest), GREATEST) / GREATEST_CODE;
    for (int element = lane; element < HEAD_DIM; element += 32)
        to[element] = scale > 0.0f ? encode(from[element] / scale) : 0;
    if (lane == 0) scales[slot] = scale;
#else
    for (int element = lane; element < HEAD_DIM; element += 32) to[element] = round_one(from[element]);
#endif
}

// Batch and pool, the same for all blocks.
struct Attention {
    const float* x;
    // Elements of a row of x, the first of the queries, and the heads of queries that share a head of keys.
    int width, first_query, group_len;
    const Stored* layer;
    // Of the layer's slots, if they are of codes.
    const float* scales;
    int page_size, n_kv_heads;
    // What a product is multiplied by, and the binary logarithm of e with it: weights are powers of two. With a cap, the
    // logarithm is in the cap instead: a score is softcap * tanh(product * scale). 0: none.
    float scale, softcap;
    // Positions that a row sees, its own among them.
    int window;
    const u32* pages;
    // [n_entries]: row of x, last position it sees, first partial.
    const int* entries;
};

// Rows and positions of one block: see `ITEM_LEN` in plan.rs.
struct Item {
    int first_entry, first_lane_row, n_lane_rows, first_tile, n_tiles, first_page, n_positions;
};

struct Partial {
    // Of rows g and g + 8.
    float greatest[2], sums[2];
    float values[N_DIM_TILES][4];
};

// The queries of rows g and g + 8, by group, half of a group and row: pairs of elements.
typedef u32 Queries[N_KEY_GROUPS][2][2][2];

DEVICE const int* entry_of(const Attention& a, const Item& item, int lane_row) {
    return a.entries + 3 * (item.first_entry + (item.first_lane_row + lane_row) / a.group_len);
}

DEVICE int head_of(const Attention& a, const Item& item, int lane_row, int kv_head) {
    return kv_head * a.group_len + (item.first_lane_row + lane_row) % a.group_len;
}

// Last positions of the 16 rows from `first` on. Rows that do not exist see nothing.
DEVICE void load_limits(const Attention& a, const Item& item, int first, int (&limits)[2]) {
#pragma unroll
    for (int row = 0; row < 2; row++) {
        int lane_row = first + (threadIdx.x & 31) / 4 + 8 * row;
        limits[row] = lane_row < item.n_lane_rows ? entry_of(a, item, lane_row)[1] : -1;
    }
}

// The first position that a row sees whose last is `limit`, or less than 0, and its tile.
DEVICE int first_seen(int window, int limit) { return limit + 1 - window; }
DEVICE int first_tile_seen(int window, int limit) {
    int first = first_seen(window, limit);
    return first > 0 ? first / TILE_LEN : 0;
}

// Whether a row sees anything of a tile.
DEVICE bool sees(const Attention& a, int limit, int tile) {
    return TILE_LEN * tile <= limit && TILE_LEN * (tile + 1) > first_seen(a.window, limit);
}

// Queries of the 16 rows from `first` on.
DEVICE void load_queries(const Attention& a, const Item& item, int first, int kv_head, Queries& queries) {
    int lane = threadIdx.x & 31, t = lane % 4;
#pragma unroll
    for (int row = 0; row < 2; row++) {
        int lane_row = first + lane / 4 + 8 * row;
        bool exists = lane_row < item.n_lane_rows;
        const int* entry = exists ? entry_of(a, item, lane_row) : a.entries;
        int head = exists ? head_of(a, item, lane_row, kv_head) : 0;
        const float* x = a.x + (u64)entry[0] * a.width + a.first_query + head * HEAD_DIM;
#pragma unroll
        for (int group = 0; group < N_KEY_GROUPS; group++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int element = 32 * group + 8 * t + 2 * i;
                bool is_wanted = exists && element < HEAD_DIM;
                queries[group][i / 2][row][i % 2] = is_wanted ? round_pair(x[element], x[element + 1]) : 0;
            }
    }
}

// The slot of a position's key; that of its value is `n_kv_heads * page_size` later.
DEVICE u64 slot_of(const Attention& a, const Item& item, int kv_head, int position) {
    u64 page = a.pages[item.first_page + position / a.page_size];
    return (2 * page * a.n_kv_heads + kv_head) * a.page_size + position % a.page_size;
}

// Starts the copies of a tile's keys, or of its values, by `n_threads` threads of which this is one. Codes become elements
// on the way.
DEVICE void fetch(const Attention& a, const Item& item, int kv_head, int tile, bool is_value, u16* to, int thread,
                  int n_threads) {
    const int piece_len = 16 / sizeof(Stored), n_pieces = HEAD_DIM / piece_len;
    u64 offset = is_value ? (u64)a.n_kv_heads * a.page_size : 0;
    int stride = is_value ? VALUE_STRIDE : KEY_STRIDE;
    for (int i = thread; i < TILE_LEN * n_pieces; i += n_threads) {
        int place = i / n_pieces, piece = i % n_pieces, position = TILE_LEN * tile + place;
        bool is_wanted = position < item.n_positions;
        u64 slot = slot_of(a, item, kv_head, is_wanted ? position : 0) + offset;
        const Stored* from = a.layer + slot * HEAD_DIM + piece_len * piece;
        u16* piece_to = to + place * stride + piece_len * piece;
#ifdef HAS_CODES
        uint4 codes = {0, 0, 0, 0}, low, high;
        if (is_wanted) codes = *(const uint4*)from;
        decode_four(codes.x, low.x, low.y);
        decode_four(codes.y, low.z, low.w);
        decode_four(codes.z, high.x, high.y);
        decode_four(codes.w, high.z, high.w);
        ((uint4*)piece_to)[0] = low;
        ((uint4*)piece_to)[1] = high;
#else
        copy_async(piece_to, from, is_wanted);
#endif
    }
    commit_copies();
}

// Scores of 16 rows and a tile, from keys in shared memory: scores[i] are of positions 8i + 2t and 8i + 2t + 1.
DEVICE void score(const Queries& queries, const u16* keys, float (&scores)[8][4]) {
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const u16* key = keys + (8 * i + lane / 4) * KEY_STRIDE + 8 * (lane % 4);
#pragma unroll
        for (int j = 0; j < 4; j++) scores[i][j] = 0.0f;
#pragma unroll
        for (int group = 0; group < N_KEY_GROUPS; group++) {
            uint4 b = {0, 0, 0, 0};
            // The last group of an odd multiple of 16 is half empty.
            if (32 * group + 8 * (lane % 4) < HEAD_DIM) b = *(const uint4*)(key + 32 * group);
            const auto& q = queries[group];
            multiply_add(scores[i], q[0][0][0], q[0][1][0], q[0][0][1], q[0][1][1], b.x, b.y);
            multiply_add(scores[i], q[1][0][0], q[1][1][0], q[1][0][1], q[1][1][1], b.z, b.w);
        }
    }
}

// Multiplies products with codes of a tile by the scales of its keys, or weights by those of its values.
DEVICE void apply_scales(const Attention& a, const Item& item, int kv_head, int tile, bool is_value, float (&products)[8][4]) {
#ifdef HAS_CODES
    u64 offset = is_value ? (u64)a.n_kv_heads * a.page_size : 0;
#pragma unroll
    for (int i = 0; i < 16; i++) {
        int position = TILE_LEN * tile + 8 * (i / 2) + 2 * (threadIdx.x % 4) + i % 2;
        float scale = position < item.n_positions ? a.scales[slot_of(a, item, kv_head, position) + offset] : 0.0f;
        products[i / 2][i % 2] *= scale;
        products[i / 2][2 + i % 2] *= scale;
    }
#endif
}

// Turns the scores of a tile that begins at position `first` into weights below the greatest score of each row.
DEVICE void weigh(const Attention& a, float (&scores)[8][4], int first, const int (&limits)[2], Partial& partial) {
    int t = threadIdx.x % 4;
#pragma unroll
    for (int row = 0; row < 2; row++) {
        float greatest = -INFINITY, sum = 0.0f;
#pragma unroll
        for (int i = 0; i < 16; i++) {
            float& score = scores[i / 2][2 * row + i % 2];
            int position = first + 8 * (i / 2) + 2 * t + i % 2;
            bool is_seen = position <= limits[row] && position >= first_seen(a.window, limits[row]);
            score *= a.scale;
            if (a.softcap > 0.0f) score = a.softcap * tanhf(score);
            if (!is_seen) score = -INFINITY;
            greatest = fmaxf(greatest, score);
        }
        greatest = fmaxf(greatest, __shfl_xor_sync(~0u, greatest, 1));
        greatest = fmaxf(greatest, __shfl_xor_sync(~0u, greatest, 2));
        // A row that sees nothing here has no weights.
        float below = greatest == -INFINITY ? 0.0f : greatest;
#pragma unroll
        for (int i = 0; i < 16; i++) {
            float& score = scores[i / 2][2 * row + i % 2];
            score = exp2f(score - below);
            sum += score;
        }
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        partial.greatest[row] = greatest;
        partial.sums[row] = sum;
    }
}

// Values of a tile in shared memory, weighed.
DEVICE void add_values(const float (&weights)[8][4], const u16* values, Partial& partial) {
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int i = 0; i < N_DIM_TILES; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) partial.values[i][j] = 0.0f;
#pragma unroll
    for (int step = 0; step < 4; step++) {
        const float(&left)[4] = weights[2 * step];
        const float(&right)[4] = weights[2 * step + 1];
        u32 a0 = round_pair(left[0], left[1]), a1 = round_pair(left[2], left[3]);
        u32 a2 = round_pair(right[0], right[1]), a3 = round_pair(right[2], right[3]);
        const u16* row = values + (16 * step + lane % 16) * VALUE_STRIDE + lane / 16 * 8;
#pragma unroll
        for (int i = 0; i < N_DIM_TILES; i += 2) {
            u32 b[4];
            load_transposed(b, row + 8 * i);
            multiply_add(partial.values[i], a0, a1, a2, a3, b[0], b[1]);
            multiply_add(partial.values[i + 1], a0, a1, a2, a3, b[2], b[3]);
        }
    }
}

// What a sum so far and a further partial are to be multiplied by before they are added.
DEVICE void fold(float& greatest, float& sum, float next_greatest, float next_sum, float& old_factor, float& new_factor) {
    float both = fmaxf(greatest, next_greatest);
    old_factor = exp2f(greatest - both);
    new_factor = exp2f(next_greatest - both);
    sum = sum * old_factor + next_sum * new_factor;
    greatest = both;
}

DEVICE Item load_item(const int* items) {
    const int* i = items + 7 * blockIdx.x;
    return {i[0], i[1], i[2], i[3], i[4], i[5], i[6]};
}

#define ATTENTION_PARAMETERS                                                                                            \
    const float *x, int width, int first_query, int group_len, const Stored *layer, const float *scales, int page_size,  \
        int n_kv_heads, float scale, float softcap, int window, const u32 *pages, const int *entries, const int *items
#define ATTENTION_ARGUMENTS                                                                                             \
    { x, width, first_query, group_len, layer, scales, page_size, n_kv_heads, scale, softcap, window, pages, entries }

#if HEAD_DIM <= 128
// Grid: items of up to 64 lane rows, heads of keys. Each warp folds all tiles of its 16 rows.
KERNEL(128) attention_whole(ATTENTION_PARAMETERS, float* out, int out_width) {
    Attention a = ATTENTION_ARGUMENTS;
    DYNAMIC_SHARED(shared);
    u16* keys = (u16*)shared;
    u16* values = keys + TILE_LEN * KEY_STRIDE;
    Item item = load_item(items);
    int kv_head = blockIdx.y, first = threadIdx.x / 32 * 16, lane = threadIdx.x & 31;
    Queries queries;
    int limits[2];
    load_limits(a, item, first, limits);
    load_queries(a, item, first, kv_head, queries);
    // The first row of a span sees furthest back.
    int first_tile = first_tile_seen(window, entry_of(a, item, 0)[1]);
    float greatest[2] = {-INFINITY, -INFINITY}, sums[2] = {0.0f, 0.0f};
    float totals[N_DIM_TILES][4];
#pragma unroll
    for (int i = 0; i < 4 * N_DIM_TILES; i++) totals[i / 4][i % 4] = 0.0f;
    fetch(a, item, kv_head, first_tile, false, keys, threadIdx.x, 128);
    for (int tile = first_tile; tile < item.n_tiles; tile++) {
        fetch(a, item, kv_head, tile, true, values, threadIdx.x, 128);
        Partial partial;
        float scores[8][4];
        wait_for_copies<1>();
        __syncthreads();
        score(queries, keys, scores);
        __syncthreads();
        if (tile + 1 < item.n_tiles) {
            fetch(a, item, kv_head, tile + 1, false, keys, threadIdx.x, 128);
        } else {
            commit_copies();
        }
        apply_scales(a, item, kv_head, tile, false, scores);
        weigh(a, scores, TILE_LEN * tile, limits, partial);
        apply_scales(a, item, kv_head, tile, true, scores);
        wait_for_copies<1>();
        __syncthreads();
        add_values(scores, values, partial);
        __syncthreads();
#pragma unroll
        for (int row = 0; row < 2; row++) {
            if (!sees(a, limits[row], tile)) continue;
            float old_factor, new_factor;
            fold(greatest[row], sums[row], partial.greatest[row], partial.sums[row], old_factor, new_factor);
#pragma unroll
            for (int i = 0; i < 2 * N_DIM_TILES; i++) {
                float& total = totals[i / 2][2 * row + i % 2];
                total = total * old_factor + partial.values[i / 2][2 * row + i % 2] * new_factor;
            }
        }
    }
#pragma unroll
    for (int row = 0; row < 2; row++) {
        int lane_row = first + lane / 4 + 8 * row;
        if (lane_row >= item.n_lane_rows) continue;
        float* to = out + (u64)entry_of(a, item, lane_row)[0] * out_width + head_of(a, item, lane_row, kv_head) * HEAD_DIM;
#pragma unroll
        for (int i = 0; i < 2 * N_DIM_TILES; i++)
            to[8 * (i / 2) + 2 * (lane % 4) + i % 2] = totals[i / 2][2 * row + i % 2] / sums[row];
    }
}
#endif

// Grid: items of up to 16 lane rows and as many tiles as a block has warps, heads of keys. Each warp leaves the partials
// of one tile: [n_partials][n_heads] of HEAD_DIM values, and of a greatest score and a sum.
KERNEL(128) attention_split(ATTENTION_PARAMETERS, float* partial_values, float* partial_sums) {
    Attention a = ATTENTION_ARGUMENTS;
    DYNAMIC_SHARED(shared);
    Item item = load_item(items);
    int kv_head = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    // Keys, and then values in the same place: the copies are a warp's own.
    u16* stage = (u16*)shared + warp * TILE_LEN * (KEY_STRIDE > VALUE_STRIDE ? KEY_STRIDE : VALUE_STRIDE);
    if (warp >= item.n_tiles) return;
    int tile = item.first_tile + warp;
    int limits[2];
    load_limits(a, item, 0, limits);
    bool is_seen = sees(a, limits[0], tile) || sees(a, limits[1], tile);
    if (warp_sum(is_seen ? 1.0f : 0.0f) == 0.0f) return;
    fetch(a, item, kv_head, tile, false, stage, lane, 32);
    Queries queries;
    load_queries(a, item, 0, kv_head, queries);
    Partial partial;
    float scores[8][4];
    wait_for_copies<0>();
    __syncwarp();
    score(queries, stage, scores);
    __syncwarp();
    fetch(a, item, kv_head, tile, true, stage, lane, 32);
    apply_scales(a, item, kv_head, tile, false, scores);
    weigh(a, scores, TILE_LEN * tile, limits, partial);
    apply_scales(a, item, kv_head, tile, true, scores);
    wait_for_copies<0>();
    __syncwarp();
    add_values(scores, stage, partial);
#pragma unroll
    for (int row = 0; row < 2; row++) {
        int lane_row = lane / 4 + 8 * row;
        if (!sees(a, limits[row], tile)) continue;
        const int* entry = entry_of(a, item, lane_row);
        u64 at = (u64)(entry[2] + tile) * (n_kv_heads * group_len) + head_of(a, item, lane_row, kv_head);
#pragma unroll
        for (int i = 0; i < 2 * N_DIM_TILES; i++)
            partial_values[at * HEAD_DIM + 8 * (i / 2) + 2 * (lane % 4) + i % 2] = partial.values[i / 2][2 * row + i % 2];
        if (lane % 4 == 0) {
            partial_sums[2 * at] = partial.greatest[row];
            partial_sums[2 * at + 1] = partial.sums[row];
        }
    }
}

// Grid: entries, query heads. Folds the partials of all tiles of an entry; a thread an element.
KERNEL(256) attention_merge(const int* entries, int n_heads, int window, const float* partial_values,
                            const float* partial_sums, float* out, int out_width) {
    const int* entry = entries + 3 * blockIdx.x;
    int head = blockIdx.y, element = threadIdx.x, n_tiles = entry[1] / TILE_LEN + 1;
    if (element >= HEAD_DIM) return;
    float greatest = -INFINITY, sum = 0.0f, total = 0.0f;
#pragma unroll 4
    for (int tile = first_tile_seen(window, entry[1]); tile < n_tiles; tile++) {
        u64 at = (u64)(entry[2] + tile) * n_heads + head;
        float old_factor, new_factor;
        fold(greatest, sum, partial_sums[2 * at], partial_sums[2 * at + 1], old_factor, new_factor);
        total = total * old_factor + partial_values[at * HEAD_DIM + element] * new_factor;
    }
    out[(u64)entry[0] * out_width + head * HEAD_DIM + element] = total / sum;
}
