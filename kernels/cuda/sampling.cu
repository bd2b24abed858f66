// Logits to one token a row: the definition is sampling.rs, whose very tokens these are, for weights are whole numbers and
// their sums do not depend on who adds what.
//
// A block takes a row. Its warps have consecutive stretches of the row's tokens, in words of 32: a word of which the mask
// allows nothing is not read. What is kept of the candidates is told by the least score and, among its equals, the last
// token, so nothing is sorted or moved: a *descent* finds the score at which the sum of a measure from the best candidate
// down reaches a goal, eight bits of it at a time, and a *walk* the token at which the sum in the order of ids passes one.

const int N_WARPS = 16;
const int N_BINS = 256;
const u32 NO_TOKEN = ~0u;

// One row's choice: `Request` in sample.rs.
struct Request {
    // The row; where its mask begins, in words, or -1; adjustments.
    int row, n_tokens, mask, first_adjustment, n_adjustments, wants_logprob;
    // 0 or less: all.
    int top_k;
    // 0: greedy.
    float temperature, top_p, least_below;
    double random;
};

// `Adjustment` in sampling.rs.
struct Adjustment {
    u32 token;
    float repetition, less, more;
};

// `Answer` in sample.rs. The last three, where they are asked for, are of the row before its adjustments.
struct Answer {
    u32 token;
    float logit, greatest;
    u32 unused;
    u64 total;
};

struct Row {
    const float* logits;
    // None: all are allowed.
    const u32* mask;
    int n_tokens;
    float temperature;
    // The greatest score, the least that is kept, the least order of those that are kept and the last token of that order.
    float greatest, least;
    u32 least_order;
    u32 last_token;
    // Shared: sums by warp, and by bin.
    u64* of_warp;
    u64* bins;
    // Shared: what one thread found for all, a number and a sum.
    u64* found;
};

enum Measure { COUNT, WEIGHT, TIES };

// A number as a whole one, greater where it is greater; zero and its negative are the same.
DEVICE u32 order_of(float number) {
    u32 bits = __float_as_uint(number + 0.0f);
    return bits ^ (bits >> 31 ? ~0u : 1u << 31);
}

DEVICE float number_of(u32 order) { return __uint_as_float(order ^ (order >> 31 ? 1u << 31 : ~0u)); }

// See `weight` in sampling.rs: the same operations in the same order.
DEVICE u64 weight_of(float below) {
    if (!(below >= -28.0f)) return 0;
    const float rounder = 12582912.0f;
    float turns = (below * 1.44269504088896341f + rounder) - rounder;
    float rest = (below - turns * 0.6933594f) - turns * -2.1219444e-4f;
    float power = 1.0f / 5040.0f;
    power = power * rest + 1.0f / 720.0f;
    power = power * rest + 1.0f / 120.0f;
    power = power * rest + 1.0f / 24.0f;
    power = power * rest + 1.0f / 6.0f;
    power = power * rest + 0.5f;
    power = power * rest + 1.0f;
    power = power * rest + 1.0f;
    return (u64)(power * 16777216.0f) << 16 >> (int)-turns;
}

DEVICE u64 warp_total(u64 value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(~0u, value, distance);
    return value;
}

// The sum of this lane's value and those of the lanes before it.
DEVICE u64 warp_running(u64 value) {
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
        u64 before = __shfl_up_sync(~0u, value, distance);
        if (lane >= distance) value += before;
    }
    return value;
}

// Calls visit(token, is_allowed) for the words of this thread's warp in which something is allowed, by all lanes at once.
template <class Visit>
DEVICE void each_word(const Row& row, Visit visit) {
    int warp = threadIdx.x / 32, lane = threadIdx.x & 31;
    int n_words = (row.n_tokens + 31) / 32, n_own = (n_words + N_WARPS - 1) / N_WARPS;
    int end = min((warp + 1) * n_own, n_words);
#pragma unroll 4
    for (int word = warp * n_own; word < end; word++) {
        u32 bits = row.mask ? row.mask[word] : ~0u;
        if (bits == 0) continue;
        int token = 32 * word + lane;
        visit((u32)token, (bits >> lane & 1) && token < row.n_tokens);
    }
}

// Calls visit(token, order, measured) likewise; what is not kept measures 0.
template <class Visit>
DEVICE void each_measured(const Row& row, Measure measure, Visit visit) {
    each_word(row, [&](u32 token, bool is_allowed) {
        float logit = is_allowed ? row.logits[token] : -INFINITY;
        u64 measured = 0;
        u32 order = 0;
        if (logit > -INFINITY) {
            float score = fminf(fmaxf(logit / row.temperature, -GREATEST), GREATEST);
            order = order_of(score);
            bool is_last = order == row.least_order;
            if (score >= row.least && (order > row.least_order || (is_last && token <= row.last_token)))
                measured = measure == WEIGHT ? weight_of(score - row.greatest) : measure == COUNT || is_last;
        }
        visit(token, order, measured);
    });
}

// The sum of a measure; leaves those of each warp.
DEVICE u64 sum_of(const Row& row, Measure measure) {
    u64 sum = 0;
    each_measured(row, measure, [&](u32, u32, u64 measured) { sum += measured; });
    sum = warp_total(sum);
    __syncthreads();
    if (threadIdx.x % 32 == 0) row.of_warp[threadIdx.x / 32] = sum;
    __syncthreads();
    u64 total = 0;
    for (int warp = 0; warp < N_WARPS; warp++) total += row.of_warp[warp];
    return total;
}

// The first token at which the sum of a measure, in the order of ids, is above `goal`: less than its sum, whose parts by
// warp are at hand.
DEVICE u32 walk(const Row& row, Measure measure, u64 goal) {
    int warp = threadIdx.x / 32;
    u64 before = 0;
    for (int i = 0; i < warp; i++) before += row.of_warp[i];
    if (before <= goal && goal < before + row.of_warp[warp]) {
        each_measured(row, measure, [&](u32 token, u32, u64 measured) {
            u64 reached = before + warp_running(measured);
            if (reached > goal && reached - measured <= goal) row.found[0] = token;
            before = __shfl_sync(~0u, reached, 31);
        });
    }
    __syncthreads();
    u32 token = (u32)row.found[0];
    __syncthreads();
    return token;
}

// Adds what candidates of the orders that begin with `prefix` measure to the bins of their next eight bits.
DEVICE void fill_bins(const Row& row, Measure measure, u32 prefix, int shift) {
    __syncthreads();
    if (threadIdx.x < N_BINS) row.bins[threadIdx.x] = 0;
    __syncthreads();
    // Neighbours often share a bin: what a thread has for one is added when the next begins.
    u32 bin = 0;
    u64 sum = 0;
    each_measured(row, measure, [&](u32, u32 order, u64 measured) {
        if (measured == 0 || (shift < 24 && order >> (shift + 8) != prefix)) return;
        u32 next = order >> shift & (N_BINS - 1);
        if (next != bin) {
            if (sum > 0) atomicAdd(row.bins + bin, sum);
            bin = next;
            sum = 0;
        }
        sum += measured;
    });
    if (sum > 0) atomicAdd(row.bins + bin, sum);
    __syncthreads();
}

// Keeps the fewest best candidates whose measures reach `goal`, which is from 1 to the sum of all.
DEVICE void descend(Row& row, Measure measure, u64 goal) {
    u32 prefix = 0;
    u64 above = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        fill_bins(row, measure, prefix, shift);
        // A warp goes through the bins from the greatest, eight a lane.
        if (threadIdx.x < 32) {
            u64 own = 0;
            int first = N_BINS - 1 - 8 * threadIdx.x;
            for (int i = 0; i < 8; i++) own += row.bins[first - i];
            u64 reached = above + warp_running(own), before = reached - own;
            if (before < goal && reached >= goal) {
                int bin = first;
                while (before + row.bins[bin] < goal) before += row.bins[bin--];
                row.found[0] = bin;
                row.found[1] = before;
            }
        }
        __syncthreads();
        prefix = prefix << 8 | (u32)row.found[0];
        above = row.found[1];
    }
    u64 each = measure == COUNT ? 1 : weight_of(number_of(prefix) - row.greatest);
    u64 n_ties = (goal - above + each - 1) / each;
    // The last token that was kept stays one of those of its own order.
    if (prefix != row.least_order) row.last_token = NO_TOKEN;
    row.least_order = prefix;
    sum_of(row, TIES);
    row.last_token = walk(row, TIES, n_ties - 1);
}

// The greatest logit that is allowed, as its order in the high half, and the lowest token that has it, inverted, in the low
// half; 0 if nothing is allowed. What is not a number counts as negative infinity.
DEVICE u64 best_of(const Row& row) {
    u64 best = 0;
    each_word(row, [&](u32 token, bool is_allowed) {
        if (!is_allowed) return;
        float logit = row.logits[token];
        u64 own = (u64)order_of(logit == logit ? logit : -INFINITY) << 32 | ~token;
        best = own > best ? own : best;
    });
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        u64 other = __shfl_xor_sync(~0u, best, distance);
        best = other > best ? other : best;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) row.of_warp[threadIdx.x / 32] = best;
    __syncthreads();
    for (int warp = 0; warp < N_WARPS; warp++) best = row.of_warp[warp] > best ? row.of_warp[warp] : best;
    return best;
}

// Begins with all candidates at this temperature; false if there is none.
DEVICE bool begin(Row& row, float temperature, u64 best) {
    float logit = number_of((u32)(best >> 32));
    row.temperature = temperature;
    row.greatest = fminf(fmaxf(logit / temperature, -GREATEST), GREATEST);
    row.least = -INFINITY;
    row.least_order = 0;
    row.last_token = NO_TOKEN;
    return best != 0 && logit > -INFINITY;
}

// See `choose` in sampling.rs.
DEVICE u32 choose(Row& row, const Request& request) {
    u64 best = best_of(row);
    if (best == 0) return NO_TOKEN;
    bool is_greedy = request.temperature == 0.0f || request.top_k == 1;
    if (is_greedy || !begin(row, request.temperature, best)) return ~(u32)best;
    if (request.top_k > 0 && sum_of(row, COUNT) > (u64)request.top_k) descend(row, COUNT, request.top_k);
    u64 total;
    if (request.top_p < 1.0f) {
        total = sum_of(row, WEIGHT);
        u64 goal = (u64)ceil((double)request.top_p * (double)total);
        descend(row, WEIGHT, goal < 1 ? 1 : goal < total ? goal : total);
    }
    row.least = row.greatest + request.least_below;
    total = sum_of(row, WEIGHT);
    u64 goal = (u64)(request.random * (double)total);
    return walk(row, WEIGHT, goal < total ? goal : total - 1);
}

// A block a request. The logits are [n_rows][n_vocab], and no two requests are of the same row, which is adjusted in place and
// left as it was; `raw` has a place for each adjustment.
KERNEL(512) sample(float* logits, int n_vocab, const u32* masks, const Adjustment* adjustments, float* raw,
                   const Request* requests, Answer* answers) {
    SHARED(u64, of_warp, N_WARPS);
    SHARED(u64, bins, N_BINS);
    SHARED(u64, found, 2);
    Request request = requests[blockIdx.x];
    float* own = logits + (u64)request.row * n_vocab;
    Row row;
    row.logits = own;
    row.of_warp = of_warp;
    row.bins = bins;
    row.found = found;
    Answer answer = {NO_TOKEN, 0.0f, 0.0f, 0, 0};
    if (request.wants_logprob) {
        row.mask = nullptr;
        row.n_tokens = n_vocab;
        if (begin(row, 1.0f, best_of(row))) answer.total = sum_of(row, WEIGHT);
        answer.greatest = row.greatest;
        __syncthreads();
    }
    for (int i = threadIdx.x; i < request.n_adjustments; i += 512) {
        Adjustment a = adjustments[request.first_adjustment + i];
        float logit = own[a.token];
        raw[request.first_adjustment + i] = logit;
        own[a.token] = (logit > 0.0f ? logit / a.repetition : logit * a.repetition) - a.less + a.more;
    }
    __syncthreads();
    row.mask = request.mask < 0 ? nullptr : masks + request.mask;
    row.n_tokens = request.n_tokens;
    answer.token = choose(row, request);
    __syncthreads();
    for (int i = threadIdx.x; i < request.n_adjustments; i += 512)
        own[adjustments[request.first_adjustment + i].token] = raw[request.first_adjustment + i];
    __syncthreads();
    if (answer.token != NO_TOKEN) answer.logit = own[answer.token];
    if (threadIdx.x == 0) answers[blockIdx.x] = answer;
}
