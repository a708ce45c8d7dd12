/* Optimizer state in host memory: what AdamW in pieces leaves has the bits of AdamW on the whole, parts cut or not. Without a GPU
 * both memories are the CPU's. */
#include <stdlib.h>

#include "muster/optimizer.h"
#include "muster/random.h"
#include "offload.h"
#include "test.h"

enum { ARRAYS = 5, SHORT = 100 };
static const uint64_t seed = 11;

/* gradient, m, v, master and weight */
typedef struct state {
    void *array[ARRAYS];
} state;

static mst_dtype dtype_of(const mst_adamw_args *args, size_t array) {
    return array == 4 ? args->weight_dtype : array == 1 || array == 2 ? args->moments : MST_F32;
}

static state random_state(const mst_adamw_args *args, size_t count) {
    state s;
    uint32_t bits[4] = {0};
    for (size_t a = 0; a < ARRAYS; a++) {
        const mst_dtype dtype = dtype_of(args, a);
        s.array[a] = malloc(count * mst_dtype_size(dtype));
        for (size_t i = 0; i < count; i++) {
            if (i % 4 == 0) mst_random_bits(seed, MST_RANDOM_TEST, a, i / 4, bits);
            const float drawn = (float)bits[i % 4] * 0x1p-32f,
                        value = a == 2 ? drawn : 2 * drawn - 1; /* v >= 0 */
            if (dtype == MST_BF16)
                ((mst_bf16 *)s.array[a])[i] = mst_bf16_from_f32(value);
            else
                ((float *)s.array[a])[i] = value;
        }
    }
    return s;
}

static state copy_of(const mst_adamw_args *args, size_t count, const state *from) {
    state s;
    for (size_t a = 0; a < ARRAYS; a++) {
        const size_t bytes = count * mst_dtype_size(dtype_of(args, a));
        s.array[a] = malloc(bytes);
        memcpy(s.array[a], from->array[a], bytes);
    }
    return s;
}

static mst_adamw_args args_with(mst_adamw_args args, const state *s) {
    args.gradient = s->array[0];
    args.m = s->array[1];
    args.v = s->array[2];
    args.master = s->array[3];
    args.weight = s->array[4];
    return args;
}

static void check_pieces(mst_dtype weight_dtype, mst_dtype moments) {
    const size_t piece = mst_optimizer_offload_bytes() / (4 * sizeof(float)), count = 3 * piece + SHORT;
    /* Up to the end of a piece; over two ends; none; within a piece; within the last, short one, with a gap behind. */
    const mst_adamw_part parts[] = {
        {.offset = 3 * piece - SHORT, .count = SHORT, .rounding_key = 3},
        {.offset = 2 * SHORT, .count = 2 * piece, .weight_decay = 0.1, .rounding_key = 4, .first = 4096},
        {.offset = 9 * piece, .count = 0},
        {.offset = 7, .count = SHORT, .weight_decay = 0.2, .rounding_key = 5},
        {.offset = 3 * piece + 1, .count = SHORT / 2, .rounding_key = 6}};
    const mst_adamw_args update = {.parts = parts,
                                   .part_count = sizeof parts / sizeof *parts,
                                   .moments = moments,
                                   .weight_dtype = weight_dtype,
                                   .gradient_scale = 0.5,
                                   .lr = 1e-2,
                                   .beta1 = 0.9,
                                   .beta2 = 0.95,
                                   .eps = 1e-8,
                                   .correction1 = 0.4,
                                   .correction2_sqrt = 0.5};
    const state whole = random_state(&update, count), pieces = copy_of(&update, count, &whole);
    const mst_adamw_args at_once = args_with(update, &whole), in_pieces = args_with(update, &pieces);
    mst_queue *device = NULL;
    mst_offload offload;
    CHECK_OK(mst_queue_create(1, &device));
    CHECK_OK(mst_offload_init(device, 2, update.part_count, &offload));
    CHECK_OK(offload.kernels.adamw(offload.queue, &at_once));
    CHECK_OK(mst_offload_adamw(&offload, &in_pieces));
    for (size_t a = 0; a < ARRAYS; a++) {
        CHECK(memcmp(whole.array[a], pieces.array[a], count * mst_dtype_size(dtype_of(&update, a))) == 0,
              "array %zu, weight %s, moments %s: other bits in pieces", a, mst_dtype_name(weight_dtype),
              mst_dtype_name(moments));
        free(whole.array[a]);
        free(pieces.array[a]);
    }
    mst_offload_clear(&offload);
    mst_queue_destroy(&device);
}

int main(void) {
    printf("seed %llu\n", (unsigned long long)seed);
    check_pieces(MST_F32, MST_F32);
    check_pieces(MST_BF16, MST_BF16);
    return test_finish("test_offload");
}
