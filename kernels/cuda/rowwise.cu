// Row by row operations, and the moves of rows and pages. A row is one token.

// One over the root of the mean square of a row, by a warp: each lane adds every 32nd element in order.
DEVICE float inverse_rms(const float* row, int width, float eps) {
    float sum = 0.0f;
    for (int i = threadIdx.x & 31; i < width; i += 32) sum = fmaf(row[i], row[i], sum);
    return 1.0f / sqrtf(warp_sum(sum) / (float)width + eps);
}

// out[row] = x[row], normed if there is a weight, as elements; columns from `width` to `stride` become zero. A warp a row.
KERNEL(256) round_rows(const float* x, const float* weight, float eps, int n_rows, int width, int stride, u16* out) {
    int row = blockIdx.x * 8 + threadIdx.x / 32;
    if (row >= n_rows) return;
    x += (u64)row * width;
    float scale = weight ? inverse_rms(x, width, eps) : 1.0f;
    u32* pairs = (u32*)(out + (u64)row * stride);
    for (int pair = threadIdx.x & 31; pair < stride / 2; pair += 32) {
        float values[2];
        for (int i = 0; i < 2; i++) {
            int column = 2 * pair + i;
            values[i] = column < width ? x[column] : 0.0f;
            if (weight && column < width) values[i] = values[i] * scale * weight[column];
        }
        pairs[pair] = round_pair(values[0], values[1]);
    }
}

// out += norm(x). A warp a row.
KERNEL(256) norm_add(const float* x, const float* weight, float eps, int n_rows, int width, float* out) {
    int row = blockIdx.x * 8 + threadIdx.x / 32;
    if (row >= n_rows) return;
    x += (u64)row * width;
    out += (u64)row * width;
    float scale = inverse_rms(x, width, eps);
    for (int i = threadIdx.x & 31; i < width; i += 32) out[i] += x[i] * scale * weight[i];
}

// x *= factor.
KERNEL(256) scale(float* x, float factor, int n_values) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i < n_values) x[i] *= factor;
}

// x = cap * tanh(x / cap).
KERNEL(256) softcap(float* x, float cap, int n_values) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i < n_values) x[i] = cap * tanhf(x[i] / cap);
}

// RMS norm of each head on its own, in place. A warp a head.
KERNEL(256) head_norm(float* x, int width, int first, int n_heads, int head_dim, const float* weight, float eps,
                      int n_rows) {
    int head = blockIdx.x * 8 + threadIdx.x / 32;
    if (head >= n_rows * n_heads) return;
    x += (u64)(head / n_heads) * width + first + head % n_heads * head_dim;
    float scale = inverse_rms(x, head_dim, eps);
    for (int i = threadIdx.x & 31; i < head_dim; i += 32) x[i] = x[i] * scale * weight[i];
}

// The cosines, then the sines, of positions[row] * frequencies, all times `scale`: [n_rows, 2 * n_frequencies]. The turns
// are taken in f64: at position 100,000 an f32 product is off by hundredths of a radian.
KERNEL(256) rope_angles(const float* frequencies, float scale, const u32* positions, int n_frequencies, int n_rows,
                        float* out) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= n_rows * n_frequencies) return;
    int row = i / n_frequencies, frequency = i % n_frequencies;
    double turns = (double)positions[row] * (double)frequencies[frequency] * 0.15915494309189533577;
    float half_turns = (float)(2.0 * (turns - rint(turns)));
    float sine, cosine;
    sincospif(half_turns, &sine, &cosine);
    float* angles = out + (u64)row * 2 * n_frequencies;
    angles[frequency] = cosine * scale;
    angles[n_frequencies + frequency] = sine * scale;
}

// Rotates the first 2 * n_pairs elements of the heads of each row by its angles, in place: elements 2i and 2i + 1 together
// if `is_interleaved`, else i and i + n_pairs. A thread a pair.
KERNEL(256) rope(float* x, int width, int first, int n_heads, int head_dim, const float* angles, int n_pairs,
                 int is_interleaved, int n_rows) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= n_rows * n_heads * n_pairs) return;
    int row = i / (n_heads * n_pairs), head = i / n_pairs % n_heads, pair = i % n_pairs;
    const float* turn = angles + (u64)row * 2 * n_pairs + pair;
    float cosine = turn[0], sine = turn[n_pairs];
    float* a = x + (u64)row * width + first + head * head_dim + (is_interleaved ? 2 * pair : pair);
    float* b = a + (is_interleaved ? 1 : n_pairs);
    float left = *a, right = *b;
    *a = left * cosine - right * sine;
    *b = left * sine + right * cosine;
}

// Copies the first `n_tokens` slots of page `from` to page `to`, in all layers, whose slots are of `slot_len` halves of a
// word. Grid: heads, keys and values, of all layers.
KERNEL(256) copy_page(u16* pool, u64 layer_len, int page_size, int n_heads, int slot_len, u32 from, u32 to, int n_tokens) {
    u64 layer = blockIdx.x / (2 * n_heads), part = blockIdx.x % (2 * n_heads), head_len = (u64)page_size * slot_len;
    u16* head = pool + layer * layer_len + part * head_len;
    u64 page_len = 2 * n_heads * head_len;
    for (int i = threadIdx.x; i < n_tokens * slot_len; i += 256) head[to * page_len + i] = head[from * page_len + i];
}

// out[i] = x[rows[i]]. A block a row.
KERNEL(256) select_rows(const float* x, const u32* rows, int width, float* out) {
    const float* from = x + (u64)rows[blockIdx.x] * width;
    float* to = out + (u64)blockIdx.x * width;
    for (int i = threadIdx.x; i < width; i += 256) to[i] = from[i];
}

// out[i] = activation(x[i]) * x[width + i] of each row of 2 * width.
KERNEL(256) gate_mul(const float* x, int activation, int width, int n_rows, float* out) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= n_rows * width) return;
    const float* row = x + (u64)(i / width) * 2 * width;
    out[i] = activate((Activation)activation, row[i % width]) * row[width + i % width];
}
