// What common.cu says in PTX, once for each variant of the kernels: included in a namespace with ELEMENT_F16 as wanted.

#ifdef ELEMENT_F16
static const bool IS_F16 = true;
#else
static const bool IS_F16 = false;
#endif

DEVICE uint16_t round_to_element(float value) {
    if (!IS_F16) return emulator::float_to_bfloat(value);
    return emulator::float_to_half(fminf(fmaxf(value, -65504.0f), 65504.0f));
}
DEVICE uint32_t round_pair(float low, float high) {
    return round_to_element(low) | (uint32_t)round_to_element(high) << 16;
}
DEVICE float half_to_float(uint16_t half) { return emulator::half_to_float(half); }
DEVICE void multiply_add(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    emulator::multiply_add(c, {a0, a1, a2, a3}, {b0, b1}, IS_F16);
}
DEVICE void load_transposed(uint32_t (&m)[4], const uint16_t* row) { emulator::load_transposed(m, row); }
DEVICE void copy_async(void* to, const void* from, bool is_wanted) { emulator::start_copy(to, from, is_wanted); }
DEVICE void commit_copies() { emulator::end_copy_group(); }
template <int N>
DEVICE void wait_for_copies() {
    emulator::wait_for_copy_groups(N);
}
