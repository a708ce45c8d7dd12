/* Several documents in a sequence, each of which sees only itself: what a model makes of them packed and alone. */
#include "model_fixture.h"

enum { SEQ = 150, SEQUENCES = 2, DOCUMENTS = 7, VOCAB = 211 };
static const uint64_t seed = 20260301;

/* Sequence, begin and length. The first sequence is full; the second has padding behind its documents. */
typedef struct document {
    size_t sequence, begin, length;
} document;
static const document documents[DOCUMENTS] = {{0, 0, 1},  {0, 1, 70},  {0, 71, 64}, {0, 135, 15},
                                              {1, 0, 33}, {1, 33, 88}, {1, 121, 9}};

static void fill_starts(int32_t starts[SEQUENCES * SEQ]) {
    for (size_t r = 0; r < SEQUENCES * SEQ; r++) starts[r] = r < SEQ ? 0 : 130; /* the padding's */
    for (size_t d = 0; d < DOCUMENTS; d++)
        for (size_t t = 0; t < documents[d].length; t++)
            starts[documents[d].sequence * SEQ + documents[d].begin + t] = (int32_t)documents[d].begin;
}

/* Positions where another document is learned have no target. @param only DOCUMENTS: all are learned */
static void fill_targets(fixture *f, size_t only) {
    for (size_t r = 0; r < SEQUENCES * SEQ; r++) f->targets[r] = -1;
    for (size_t d = 0; d < DOCUMENTS; d++)
        for (size_t t = 0; t < documents[d].length; t++) {
            const size_t r = documents[d].sequence * SEQ + documents[d].begin + t;
            if (only == DOCUMENTS || only == d)
                f->targets[r] = (int32_t)((r * 31 + (size_t)f->tokens[r]) % VOCAB);
        }
}

static mst_model_config config_of(mst_family_id family) {
    mst_model_config config = fixture_config(family, 2, 6, 2);
    config.vocab_size = VOCAB;
    return config;
}

/* One document as a sequence of its own, with the tokens and targets that it has in `packed`. */
static void init_alone(fixture *f, const fixture *packed, size_t d, mst_device device) {
    const document *of = &documents[d];
    const size_t from = of->sequence * SEQ + of->begin;
    mst_model_options options = packed->options;
    options.micro = 1;
    options.seq_len = of->length;
    fixture_init(f, &packed->config, &options, device, 2, seed);
    memcpy(f->tokens, packed->tokens + from, of->length * sizeof *f->tokens);
    memcpy(f->targets, packed->targets + from, of->length * sizeof *f->targets);
}

/* Adds the gradients of one model to those of another. */
static void add_gradients(fixture *sum, const fixture *f) {
    for (size_t u = 0; u < f->layout.unit_count; u++)
        for (size_t i = 0; i < f->layout.units[u].blocks * MST_BLOCK; i++)
            fixture_set(sum->gradients[u], i, MST_F32,
                        fixture_get(sum->gradients[u], i, MST_F32) +
                            fixture_get(f->gradients[u], i, MST_F32));
}

/*
 * The loss of each document is that of the document alone, and the gradient of all is the sum of theirs. Attention computes
 * the same bits; products of other shapes may round otherwise. fp32: some tens of roundings of 2^-24. bf16: a value that
 * rounds to its neighbour is off by 2^-8, and of a loss of some tokens one such value in a hundred counts; gradients
 * are sums over fewer tokens, where several may differ.
 */
static void check_alone(mst_family_id family, mst_dtype dtype, mst_device device) {
    fixture packed, sum;
    static int32_t starts[SEQUENCES * SEQ];
    const mst_model_config config = config_of(family);
    mst_model_options options = {.dtype = dtype, .micro = SEQUENCES, .seq_len = SEQ};
    const double bound = dtype == MST_F32 ? 2e-6 : 1e-3, gradient_bound = dtype == MST_F32 ? 1e-5 : 2e-2;
    double worst = 0, worst_gradient = 0;
    fixture_init(&packed, &config, &options, device, 2, seed);
    fixture_init(&sum, &config, &options, device, 1, seed);
    fill_starts(starts);
    packed.starts = starts;
    for (size_t d = 0; d < DOCUMENTS; d++) {
        fixture alone;
        mst_loss here = {0}, there = {0};
        fill_targets(&packed, d);
        init_alone(&alone, &packed, d, device);
        CHECK_OK(fixture_loss(&packed, &here));
        CHECK_OK(fixture_train(&alone, 1, 1e-4, &there));
        CHECK(here.valid == documents[d].length && there.valid == here.valid, "%zu targets",
              (size_t)here.valid);
        const double error = fabs(here.loss / there.loss - 1);
        CHECK(error <= bound, "%s %s: loss of document %zu is %.9g, alone %.9g", mst_family_name(family),
              mst_dtype_name(dtype), d, here.loss, there.loss);
        worst = error > worst ? error : worst;
        add_gradients(&sum, &alone);
        fixture_clear(&alone);
    }
    mst_loss all = {0};
    fill_targets(&packed, DOCUMENTS);
    CHECK_OK(fixture_train(&packed, 1, 1e-4, &all));
    for (size_t t = 0; t < packed.layout.tensor_count; t++) {
        const double error = fixture_gradient_error(&packed, &sum, &packed.layout.tensors[t]);
        CHECK(error <= gradient_bound, "%s %s: gradient of %s is off by %.3g", mst_family_name(family),
              mst_dtype_name(dtype), packed.layout.tensors[t].name, error);
        worst_gradient = error > worst_gradient ? error : worst_gradient;
    }
    printf("%s %s: packed and alone: loss %.1e, gradients %.1e\n", mst_family_name(family),
           mst_dtype_name(dtype), worst, worst_gradient);
    fixture_clear(&packed);
    fixture_clear(&sum);
}

/* Other tokens in the other documents and in the padding change no bit of a document's loss; without starts they do. */
static void check_apart(mst_family_id family, mst_dtype dtype) {
    fixture f;
    static int32_t starts[SEQUENCES * SEQ];
    const mst_model_config config = config_of(family);
    mst_model_options options = {.dtype = dtype, .micro = SEQUENCES, .seq_len = SEQ, .forward_only = true};
    const size_t d = 2, from = documents[d].begin, end = from + documents[d].length;
    fixture_init(&f, &config, &options, MST_DEVICE_CPU, 2, seed);
    fill_starts(starts);
    fill_targets(&f, d);
    mst_loss losses[2][2];
    for (int changed = 0; changed < 2; changed++) {
        f.starts = starts;
        CHECK_OK(fixture_loss(&f, &losses[0][changed]));
        f.starts = NULL;
        CHECK_OK(fixture_loss(&f, &losses[1][changed]));
        for (size_t r = 0; r < SEQUENCES * SEQ; r++)
            if (r < from || r >= end) f.tokens[r] = (f.tokens[r] + 1) % VOCAB;
    }
    CHECK(memcmp(&losses[0][0], &losses[0][1], sizeof losses[0][0]) == 0, "%s %s: its neighbours matter",
          mst_family_name(family), mst_dtype_name(dtype));
    CHECK(isfinite(losses[0][0].loss) && isfinite(losses[1][0].loss) &&
              losses[1][0].loss != losses[1][1].loss,
          "without starts its neighbours do not matter");
    fixture_clear(&f);
}

/* The same bits with any number of threads. */
static void check_threads(mst_family_id family, mst_dtype dtype) {
    fixture one, many;
    static int32_t starts[SEQUENCES * SEQ];
    const mst_model_config config = config_of(family);
    mst_model_options options = {.dtype = dtype, .micro = SEQUENCES, .seq_len = SEQ};
    mst_loss a = {0}, b = {0};
    fixture_init(&one, &config, &options, MST_DEVICE_CPU, 1, seed);
    fixture_init(&many, &config, &options, MST_DEVICE_CPU, 3, seed);
    fill_starts(starts);
    one.starts = many.starts = starts;
    CHECK_OK(fixture_train(&one, 1, 1e-4, &a));
    CHECK_OK(fixture_train(&many, 1, 1e-4, &b));
    CHECK(memcmp(&a, &b, sizeof a) == 0, "loss with 3 threads");
    for (size_t u = 0; u < one.layout.unit_count; u++)
        CHECK(memcmp(one.gradients[u], many.gradients[u],
                     one.layout.units[u].blocks * MST_BLOCK * sizeof(float)) == 0,
              "%s %s: gradient of %s with 3 threads", mst_family_name(family), mst_dtype_name(dtype),
              one.layout.units[u].name);
    fixture_clear(&one);
    fixture_clear(&many);
}

static void check_refused(void) {
    static const int32_t wrong[][6] = {{1, 1, 1, 1, 1, 1},
                                       {0, 0, 1, 1, 1, 1},
                                       {0, 0, 2, 2, 0, 0},
                                       {0, 0, 0, 0, 5, 5},
                                       {-1, -1, -1, -1, -1, -1}};
    static const int32_t right[] = {0, 0, 2, 3, 3, 5};
    fixture f;
    const mst_model_config config = fixture_config(MST_FAMILY_LLAMA, 1, 2, 1);
    mst_model_options options = {.dtype = MST_F32, .micro = 1, .seq_len = 6};
    mst_loss loss = {0};
    fixture_init(&f, &config, &options, MST_DEVICE_CPU, 1, seed);
    f.starts = right;
    CHECK_OK(fixture_loss(&f, &loss));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        f.starts = wrong[i];
        CHECK_STATUS(fixture_loss(&f, &loss), MST_EINVAL);
        CHECK_STATUS(fixture_train(&f, 1, 0, &loss), MST_EINVAL);
    }
    fixture_clear(&f);
}

int main(void) {
    printf("seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < MST_FAMILY_COUNT; i++) {
        const mst_family_id family = (mst_family_id)i;
        check_alone(family, MST_F32, MST_DEVICE_CPU);
        check_alone(family, MST_BF16, MST_DEVICE_CPU);
        check_apart(family, MST_F32);
        check_apart(family, MST_BF16);
    }
    check_alone(MST_FAMILY_GPT2, MST_F32, MST_DEVICE_REF);
    check_threads(MST_FAMILY_LLAMA, MST_F32);
    check_threads(MST_FAMILY_LLAMA, MST_BF16);
    check_threads(MST_FAMILY_GPT2, MST_BF16);
    check_refused();
    return test_finish("test_model_packed");
}
