/* Checks of what happens to flat ranges of parameters: ordered sum, AdamW, casts, initial values, digests. */
#include "check.h"

/* ---------------------------------------------------------------- ordered sum */

enum { SOURCE_TENSORS = 8, MAX_SOURCES = 256 };

typedef struct ordered_sum_case {
    mst_ordered_sum_args args;
    check_tensor *sources[SOURCE_TENSORS]; /* taken in turns where there are more sources */
    check_tensor *result, *norm2;
} ordered_sum_case;

/* Subtrees in lane order, as ranks would send them. */
typedef struct forest_shape {
    size_t sources;
    uint8_t level[MAX_SOURCES];
} forest_shape;

static mst_status call_ordered_sum(const void *context, const mst_kernels *table, mst_queue *queue,
                                   check_view view) {
    const ordered_sum_case *c = context;
    const void *source[MAX_SOURCES];
    mst_ordered_sum_args args = c->args;
    for (size_t s = 0; s < args.sources; s++) source[s] = tensor_at(c->sources[s % SOURCE_TENSORS], view);
    args.source = source;
    args.result = tensor_at(c->result, view);
    args.block_norm2 = tensor_at(c->norm2, view);
    return table->ordered_sum(queue, &args);
}

static ordered_sum_case set_up_ordered_sum(check_trial *trial, size_t count, const forest_shape *forest,
                                           mst_ordered_sum_args args, bool in_place, check_flavour flavour) {
    ordered_sum_case c = {.args = args};
    size_t blocks = (count + MST_BLOCK - 1) / MST_BLOCK;
    c.args.count = count;
    c.args.sources = forest->sources;
    c.args.level = forest->level;
    for (size_t s = 0; s < forest->sources && s < SOURCE_TENSORS; s++) {
        c.sources[s] = trial_tensor(trial, "source", ROLE_IN, args.source_dtype, 1, count, count);
        tensor_fill(c.sources[s], flavour, 1.0);
    }
    if (in_place)
        c.result = trial_alias(trial, "result", c.sources[0], args.result_dtype, count);
    else
        c.result = trial_tensor(trial, "result", args.accumulate ? ROLE_INOUT : ROLE_OUT, args.result_dtype,
                                1, count, count);
    if (args.accumulate) tensor_fill(c.result, flavour, 1.0);
    c.result->bits = true;
    c.norm2 = trial_tensor(trial, "block_norm2", ROLE_OUT, MST_F64, 1, blocks, blocks);
    return c;
}

/*
 * The result has the bits of the specification: the order of fp32 operations is the definition. The norm
 * of a block is a sum of up to 4,096 squares in fp64 in any order: sum_error, with the roundoff of fp64
 * instead of fp32.
 */
static void run_ordered_sum(check_trial *trial, const ordered_sum_case *c) {
    if (trial_run(trial, call_ordered_sum, c, REFERENCE_SAME)) {
        for (size_t b = 0; b < c->norm2->cols; b++)
            *tensor_bound(c->norm2, 0, b) = sum_error(MST_BLOCK) * 0x1p-29 * *tensor_exact(c->norm2, 0, b);
        trial_compare(trial);
    }
    trial_end(trial);
}

static const forest_shape forests[] = {
    {1, {0}},       {1, {5}},          {2, {0, 0}},          {3, {1, 0, 0}},
    {3, {0, 0, 1}}, {4, {0, 0, 0, 0}}, {5, {2, 0, 0, 1, 3}}, {9, {0, 0, 1, 2, 2, 1, 0, 0, 4}},
    {256, {0}},
};

/* Source, wire, result, accumulate: what the header allows. */
static const mst_ordered_sum_args kinds[] = {
    {.source_dtype = MST_F32, .wire = MST_F32, .result_dtype = MST_F32},
    {.source_dtype = MST_F32, .wire = MST_F32, .result_dtype = MST_F32, .accumulate = true},
    {.source_dtype = MST_F32, .wire = MST_BF16, .result_dtype = MST_F32},
    {.source_dtype = MST_F32, .wire = MST_BF16, .result_dtype = MST_BF16},
    {.source_dtype = MST_BF16, .wire = MST_BF16, .result_dtype = MST_F32, .accumulate = true},
    {.source_dtype = MST_BF16, .wire = MST_BF16, .result_dtype = MST_BF16},
    {.source_dtype = MST_BF16, .wire = MST_F32, .result_dtype = MST_F32},
};

/* Levels that leave more than one value, and combinations that the header rules out. */
static void expect_refusals(check_state *checker) {
    static const struct {
        const char *what;
        forest_shape forest;
        mst_ordered_sum_args args;
    } wrong[] = {
        {"levels 0 1", {2, {0, 1}}, {.source_dtype = MST_F32}},
        {"levels 0 0 0", {3, {0, 0, 0}}, {.source_dtype = MST_F32}},
        {"no sources", {0, {0}}, {.source_dtype = MST_F32}},
        {"bf16 result of an f32 wire", {1, {0}}, {.wire = MST_F32, .result_dtype = MST_BF16}},
        {"bf16 result += root", {1, {0}}, {.wire = MST_BF16, .result_dtype = MST_BF16, .accumulate = true}},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        check_trial trial;
        trial_begin(&trial, checker, "%s", wrong[i].what);
        ordered_sum_case c = set_up_ordered_sum(&trial, 5, &wrong[i].forest, wrong[i].args, false, PLAIN);
        trial_expect(&trial, call_ordered_sum, &c, MST_EINVAL);
        trial_end(&trial);
    }
}

void check_ordered_sum(check_state *checker) {
    static const size_t counts[] = {0, 1, 17, MST_BLOCK, MST_BLOCK + 1, 9001};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        for (size_t f = 0; f < sizeof forests / sizeof *forests; f++) {
            const mst_ordered_sum_args *kind = &kinds[(i + f) % (sizeof kinds / sizeof *kinds)];
            bool in_place = kind->source_dtype == kind->result_dtype && !kind->accumulate && (i + f) % 2;
            check_trial trial;
            trial_begin(&trial, checker, "%zu of %zu sources, %s by wire %s to %s%s%s", counts[i],
                        forests[f].sources, mst_dtype_name(kind->source_dtype), mst_dtype_name(kind->wire),
                        mst_dtype_name(kind->result_dtype), kind->accumulate ? ", +=" : "",
                        in_place ? ", in place" : "");
            ordered_sum_case c = set_up_ordered_sum(&trial, counts[i], &forests[f], *kind, in_place,
                                                    (check_flavour)(i % FLAVOURS));
            if (counts[i] > 16) tensor_set(c.sources[0], 0, 16, f % 2 ? NAN : INFINITY);
            run_ordered_sum(&trial, &c);
        }
    }
    expect_refusals(checker);
}

void bench_ordered_sum(check_state *checker) {
    const size_t count = timed_size(checker, 1 << 20, 32);
    for (int kind = 0; kind < 2; kind++) {
        const mst_ordered_sum_args *args = &kinds[kind ? 4 : 1];
        check_trial trial;
        trial_begin(&trial, checker, "%s 4 sources of 2^%d, +=, norms", mst_dtype_name(args->source_dtype),
                    ilogb((double)count));
        ordered_sum_case c = set_up_ordered_sum(&trial, count, &forests[5], *args, false, PLAIN);
        trial_time(&trial, call_ordered_sum, &c, MST_F32,
                   (double)count * (4.0 * (double)mst_dtype_size(args->source_dtype) + 8.0), 0.0);
        trial_end(&trial);
    }
}

/* ---------------------------------------------------------------- adamw */

enum { PARTS = 150 }; /* at most */

/* What parts are drawn: how many, and of how many elements at least and at most. */
typedef struct parts_shape {
    size_t parts, least, most;
} parts_shape;

typedef struct adamw_case {
    mst_adamw_args args;
    mst_adamw_part parts[PARTS];
    check_tensor *gradient, *m, *v, *master, *weight;
} adamw_case;

static mst_status call_adamw(const void *context, const mst_kernels *table, mst_queue *queue,
                             check_view view) {
    const adamw_case *c = context;
    mst_adamw_args args = c->args;
    args.parts = c->parts;
    args.gradient = tensor_at(c->gradient, view);
    args.m = tensor_at(c->m, view);
    args.v = tensor_at(c->v, view);
    args.master = tensor_at(c->master, view);
    args.weight = tensor_at(c->weight, view);
    return table->adamw(queue, &args);
}

/* Parts in any order, some next to each other, some on multiples of four. Returns where the last one's gap ends. */
static size_t draw_parts(check_state *checker, const parts_shape *shape, mst_adamw_part *parts) {
    size_t end = random_below(checker, 9);
    for (size_t p = 0; p < shape->parts; p++) {
        mst_adamw_part part = {.offset = random_below(checker, 2) ? (end + 3) / 4 * 4 : end};
        part.count = shape->least + random_below(checker, shape->most - shape->least + 1);
        part.weight_decay = random_below(checker, 2) ? 0.1 : 0.0;
        part.rounding_key = (uint32_t)random_below(checker, (size_t)1 << 32);
        part.first = 0xfffffff0u - random_below(checker, 99); /* numbers of elements wrap */
        end = part.offset + part.count + (random_below(checker, 2) ? random_below(checker, 9) : 0);
        const size_t place = random_below(checker, p + 1);
        parts[p] = parts[place];
        parts[place] = part;
    }
    return end;
}

static adamw_case set_up_adamw(check_trial *trial, const parts_shape *shape, mst_dtype weight_dtype,
                               mst_dtype moments, double step, check_flavour flavour) {
    adamw_case c = {.args = {.part_count = shape->parts,
                             .weight_dtype = weight_dtype,
                             .moments = moments,
                             .gradient_scale = 0.013,
                             .lr = 3e-4,
                             .beta1 = 0.9,
                             .beta2 = 0.95,
                             .eps = 1e-8}};
    const size_t count = draw_parts(trial->checker, shape, c.parts);
    c.args.correction1 = 1.0 - pow(c.args.beta1, step);
    c.args.correction2_sqrt = sqrt(1.0 - pow(c.args.beta2, step));
    c.gradient = trial_tensor(trial, "gradient", ROLE_IN, MST_F32, 1, count, count);
    c.m = trial_tensor(trial, "m", ROLE_INOUT, moments, 1, count, count);
    c.v = trial_tensor(trial, "v", ROLE_INOUT, moments, 1, count, count);
    c.master = trial_tensor(trial, "master", ROLE_INOUT, MST_F32, 1, count, count);
    c.weight = trial_tensor(trial, "weight", ROLE_OUT, weight_dtype, 1, count, count);
    tensor_fill(c.gradient, flavour, 1.0);
    tensor_fill(c.m, flavour, step > 1.0 ? 0.01 : 0.0);
    for (size_t i = 0; i < count; i++) {
        double square = step > 1.0 ? pow(0.02 * random_normal(trial->checker), 2.0) : 0.0;
        tensor_set(c.v, 0, i, flavour == DENORMAL && i % 2 ? square * 0x1p-120 : square);
    }
    tensor_fill(c.master, PLAIN, 0.05);
    c.weight->bits = true;
    return c;
}

/*
 * fp32 arithmetic on scalars rounded to fp32 (U32 each), every operation rounded, in any order that the
 * formula allows:
 *   g = scale gradient: 2 U32;
 *   m: 2 U32 of beta1 m, 4 U32 of (1 - beta1) g, U32 of the sum;
 *   v likewise, with g twice: 7 U32; squares below the normal range lose up to TINY U32;
 *   the denominator sqrt(v) / c2 + eps: half the relative error of v (or the root of what was lost),
 *   and 4 U32;
 *   step = lr / c1 m / denominator: the errors of m and denominator, and 5 U32;
 *   master (1 - lr decay): 3 U32; the sum U32.
 * m and v are compared with the stored ones of the specification: U32 more, which the rounding of the result
 * stands for. In bf16, two values that differ by no more than their errors may be rounded one step apart, and what was
 * used is up to a step from what is stored: 2^-7 of the value, or the smallest bf16.
 */
static void bounds_of_adamw(const adamw_case *c, const mst_adamw_part *part, size_t i) {
    const mst_adamw_args *args = &c->args;
    double g = fabs(tensor_initial(c->gradient, 0, i) * args->gradient_scale);
    double old_m = fabs(tensor_initial(c->m, 0, i)), old_v = tensor_initial(c->v, 0, i),
           lost = 4.0 * TINY * U32;
    double m = fabs(*tensor_exact(c->m, 0, i)), v = *tensor_exact(c->v, 0, i);
    const bool narrow = args->moments == MST_BF16;
    double m_step = narrow ? 0x1p-7 * m + 0x1p-133 : 0.0, v_step = narrow ? 0x1p-7 * v + 0x1p-133 : 0.0;
    double m_error = U32 * (2.0 * args->beta1 * old_m + 4.0 * (1.0 - args->beta1) * g + m + m_step) + lost;
    double v_error =
        U32 * (2.0 * args->beta2 * old_v + 7.0 * (1.0 - args->beta2) * g * g + v + v_step) + lost;
    double used_v = v - v_step > 0.0 ? v - v_step : 0.0; /* or more */
    double root = sqrt(used_v), root_error = used_v > v_error ? v_error / root : sqrt(v + v_step + v_error);
    double denominator = root / args->correction2_sqrt + args->eps;
    double denominator_error = root_error / args->correction2_sqrt + 4.0 * U32 * denominator;
    double rate = args->lr / args->correction1, step = rate * (m + m_step) / denominator;
    double kept = fabs(tensor_initial(c->master, 0, i) * (1.0 - args->lr * part->weight_decay));
    *tensor_bound(c->m, 0, i) = m_error + m_step;
    *tensor_bound(c->v, 0, i) = v_error + v_step;
    *tensor_bound(c->master, 0, i) = rate * m_error / denominator +
                                     step * (denominator_error / denominator + 5.0 * U32) + 3.0 * U32 * kept +
                                     U32 * fabs(*tensor_exact(c->master, 0, i));
    /* The copy has the bits of the body's own master, rounded. */
    float master = (float)tensor_result(c->master, 0, i);
    *tensor_exact(c->weight, 0, i) =
        args->weight_dtype == MST_BF16 ? mst_bf16_to_f32(mst_bf16_from_f32(master)) : master;
}

/* What lies between parts keeps its bits. */
static void check_gap(check_trial *trial, const adamw_case *c, size_t i) {
    const check_tensor *outputs[] = {c->m, c->v, c->master, c->weight};
    for (size_t t = 0; t < sizeof outputs / sizeof *outputs; t++) {
        const double before = tensor_initial(outputs[t], 0, i), after = tensor_result(outputs[t], 0, i);
        if (after != before && !(isnan(before) && isnan(after)))
            trial_fail(trial, "%s[%zu] is in no part and became %.9g", outputs[t]->name, i, after);
    }
}

/*
 * Moments in bf16 are rounded by the bits that the header says: values that differ by a few U32 end apart about once in 2^12
 * elements, and those rounded by other bits in a third of them. One more is NaN.
 */
static void check_rounding(check_trial *trial, const check_tensor *moment) {
    size_t apart = 0;
    for (size_t i = 0; i < moment->cols; i++)
        apart += tensor_result(moment, 0, i) != *tensor_exact(moment, 0, i);
    if (apart > 3 + moment->cols / 64)
        trial_fail(trial, "%s: %zu of %zu are rounded by other bits", moment->name, apart, moment->cols);
}

/* The part of an element; NULL where it is in none. */
static const mst_adamw_part *part_of(const adamw_case *c, size_t i) {
    for (size_t p = 0; p < c->args.part_count; p++)
        if (i - c->parts[p].offset < c->parts[p].count) return &c->parts[p];
    return NULL;
}

static void run_adamw(check_trial *trial, const adamw_case *c) {
    if (!trial_run(trial, call_adamw, c, REFERENCE_SAME)) return;
    for (size_t i = 0; i < c->master->cols; i++) {
        const mst_adamw_part *part = part_of(c, i);
        if (part)
            bounds_of_adamw(c, part, i);
        else
            check_gap(trial, c, i);
    }
    if (c->args.moments == MST_BF16) {
        check_rounding(trial, c->m);
        check_rounding(trial, c->v);
    }
    trial_compare(trial);
}

void check_adamw(check_state *checker) {
    static const parts_shape shapes[] = {
        {0, 0, 0},       {1, 0, 0},         {1, 1, 1},     {1, 17, 17}, {1, MST_BLOCK, MST_BLOCK},
        {1, 9001, 9001}, {3, 0, 9},         {12, 1, 2000}, {64, 1, 40}, {65, 1, 40},
        {PARTS, 0, 20},  {2, 17000, 20000},
    };
    for (size_t i = 0; i < 8 * sizeof shapes / sizeof *shapes; i++) {
        const parts_shape *shape = &shapes[i / 8];
        const size_t kind = i + i / 8; /* so that all kinds meet all alignments */
        mst_dtype weight_dtype = kind & 1 ? MST_BF16 : MST_F32, moments = kind & 4 ? MST_BF16 : MST_F32;
        double step = kind & 2 ? 100.0 : 1.0;
        check_flavour flavour = (check_flavour)(i % FLAVOURS);
        check_trial trial;
        trial_begin(&trial, checker, "%zu parts of %zu to %zu, weight %s, moments %s, step %g, flavour %d",
                    shape->parts, shape->least, shape->most, mst_dtype_name(weight_dtype),
                    mst_dtype_name(moments), step, (int)flavour);
        adamw_case c = set_up_adamw(&trial, shape, weight_dtype, moments, step, flavour);
        if (c.parts[0].count > 16) {
            tensor_set(c.gradient, 0, c.parts[0].offset + 16, NAN);
            tensor_set(c.gradient, 0, c.parts[0].offset + 3, 0.0);
        }
        run_adamw(&trial, &c);
        trial_end(&trial);
    }
}

void bench_adamw(check_state *checker) {
    const size_t count = timed_size(checker, 1 << 20, 32);
    for (int i = 0; i < 4; i++) {
        const mst_dtype dtype = i & 1 ? MST_BF16 : MST_F32, moments = i & 2 ? MST_BF16 : MST_F32;
        const size_t bytes = 12 + 4 * mst_dtype_size(moments) + mst_dtype_size(dtype); /* of an element */
        check_trial trial;
        trial_begin(&trial, checker, "weight %s, moments %s 2^%d", mst_dtype_name(dtype),
                    mst_dtype_name(moments), ilogb((double)count));
        adamw_case c = set_up_adamw(&trial, &(parts_shape){1, count, count}, dtype, moments, 100.0, PLAIN);
        c.parts[0].offset = 0;
        trial_time(&trial, call_adamw, &c, MST_F32, (double)(count * bytes), 0.0);
        trial_end(&trial);
    }
}

/* ---------------------------------------------------------------- cast */

typedef struct cast_case {
    check_tensor *source, *result;
} cast_case;

static mst_status call_cast(const void *context, const mst_kernels *table, mst_queue *queue,
                            check_view view) {
    const cast_case *c = context;
    mst_cast_args args = {.count = c->source->cols,
                          .source = tensor_at(c->source, view),
                          .source_dtype = c->source->dtype,
                          .result = tensor_at(c->result, view),
                          .result_dtype = c->result->dtype};
    return table->cast(queue, &args);
}

static cast_case set_up_cast(check_trial *trial, size_t count, mst_dtype source, mst_dtype result,
                             check_flavour flavour) {
    cast_case c = {.source = trial_tensor(trial, "source", ROLE_IN, source, 1, count, count)};
    c.result = trial_tensor(trial, "result", ROLE_OUT, result, 1, count, count);
    c.result->bits = true; /* one rounding, to nearest even: no choice */
    tensor_fill(c.source, flavour, 1.0);
    return c;
}

/* Ties, overflow, the smallest and the largest, both zeros, infinities, NaN. */
static void set_cast_extremes(const cast_case *c) {
    static const double extremes[] = {1.00390625,  1.01171875,     0x1.010001p0,
                                      -1.00390625, 0x1.fffffep127, -0x1.fffffep127,
                                      0x1.fep127,  0x1.feffffp127, 0x1p-149,
                                      -0x1p-149,   0x1p-133,       0x1.8p-134,
                                      0x1p-134,    0x1p-126,       0.0,
                                      -0.0,        INFINITY,       -INFINITY,
                                      NAN,         1e300,          1.0 + 0x1p-8 + 0x1p-40};
    for (size_t i = 0; i < sizeof extremes / sizeof *extremes; i++) tensor_set(c->source, 0, i, extremes[i]);
}

/* A NaN keeps its sign, as mst_bf16_from_f32 defines. */
static void check_nan_sign(check_trial *trial, const cast_case *c) {
    for (size_t i = 0; i < c->source->cols; i++) {
        double source = tensor_initial(c->source, 0, i), result = tensor_result(c->result, 0, i);
        if (isnan(source) && !!signbit(source) != !!signbit(result))
            trial_fail(trial, "NaN %zu changed its sign", i);
    }
}

void check_cast(check_state *checker) {
    static const size_t counts[] = {0, 1, 17, 4099};
    int dtypes = takes_f64(checker) ? 3 : 2;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        for (int pair = 0; pair < dtypes * dtypes; pair++) {
            mst_dtype source = (mst_dtype)(pair / dtypes), result = (mst_dtype)(pair % dtypes);
            check_flavour flavour = (check_flavour)((i + (size_t)pair) % FLAVOURS);
            check_trial trial;
            trial_begin(&trial, checker, "%zu of %s to %s, flavour %d", counts[i], mst_dtype_name(source),
                        mst_dtype_name(result), (int)flavour);
            cast_case c = set_up_cast(&trial, counts[i], source, result, flavour);
            if (counts[i] > 100) {
                set_cast_extremes(&c);
                tensor_set(c.source, 0, 30, -NAN);
            }
            if (trial_run(&trial, call_cast, &c, REFERENCE_SAME)) {
                check_nan_sign(&trial, &c);
                trial_compare(&trial);
            }
            trial_end(&trial);
        }
    }
}

void bench_cast(check_state *checker) {
    const size_t count = timed_size(checker, 1 << 20, 16);
    for (int narrow = 0; narrow < 2; narrow++) {
        check_trial trial;
        trial_begin(&trial, checker, narrow ? "f32 to bf16 2^%d" : "bf16 to f32 2^%d", ilogb((double)count));
        cast_case c =
            set_up_cast(&trial, count, narrow ? MST_F32 : MST_BF16, narrow ? MST_BF16 : MST_F32, PLAIN);
        trial_time(&trial, call_cast, &c, MST_F32, 6.0 * (double)count, 0.0);
        trial_end(&trial);
    }
}

/* ---------------------------------------------------------------- initial values */

typedef struct random_case {
    mst_random_normal_args args;
    check_tensor *result;
} random_case;

static mst_status call_random(const void *context, const mst_kernels *table, mst_queue *queue,
                              check_view view) {
    const random_case *c = context;
    mst_random_normal_args args = c->args;
    args.result = tensor_at(c->result, view);
    return table->random_normal(queue, &args);
}

static random_case set_up_random(check_trial *trial, mst_random_normal_args args) {
    random_case c = {.args = args};
    c.args.seed = trial->checker->seed;
    c.result = trial_tensor(trial, "result", ROLE_OUT, MST_F32, 1, args.count, args.count);
    c.result->bits = true; /* stored runs depend on it */
    return c;
}

void check_random_normal(check_state *checker) {
    static const mst_random_normal_args cases[] = {
        {.count = 0},
        {.count = 1, .deviation = 1.0},
        {.count = 17, .stream = 3, .first = 12345678901, .deviation = 0.02, .limit = 3.0},
        {.count = 9001, .stream = 7, .first = 4096, .mean = 1.0, .deviation = 0.02, .limit = 2.0},
        {.count = 5000, .stream = 1, .first = 1, .deviation = 0.5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_trial trial;
        trial_begin(&trial, checker, "%zu from %llu", cases[i].count, (unsigned long long)cases[i].first);
        random_case c = set_up_random(&trial, cases[i]);
        if (trial_run(&trial, call_random, &c, REFERENCE_SAME)) trial_compare(&trial);
        trial_end(&trial);
    }
}

void bench_random_normal(check_state *checker) {
    check_trial trial;
    trial_begin(&trial, checker, "f32 2^20");
    random_case c =
        set_up_random(&trial, (mst_random_normal_args){.count = 1 << 20, .deviation = 0.02, .limit = 3.0});
    trial_time(&trial, call_random, &c, MST_F32, 4.0 * (1 << 20), 0.0);
    trial_end(&trial);
}

/* ---------------------------------------------------------------- block digests */

enum { DIGEST_BLOCKS = 256 }; /* at most */

typedef struct digest_case {
    check_tensor *data, *digest, *checksum; /* a digest is 16 words of 16 bits, a checksum 4 */
} digest_case;

static mst_status call_digest(const void *context, const mst_kernels *table, mst_queue *queue,
                              check_view view) {
    const digest_case *c = context;
    uint64_t checksums[DIGEST_BLOCKS]; /* aligned, as the tensor need not be */
    mst_block_digest_args args = {.count = c->data->cols,
                                  .dtype = c->data->dtype,
                                  .data = tensor_at(c->data, view),
                                  .digest = tensor_at(c->digest, view),
                                  .checksum = checksums};
    mst_status status = table->block_digest(queue, &args);
    if (status == MST_OK)
        memcpy(tensor_at(c->checksum, view), checksums, c->checksum->rows * sizeof *checksums);
    return status;
}

static digest_case set_up_digest(check_trial *trial, size_t count, mst_dtype dtype) {
    digest_case c = {.data = trial_tensor(trial, "data", ROLE_IN, dtype, 1, count, count)};
    size_t blocks = (count + MST_BLOCK - 1) / MST_BLOCK, words = MST_DIGEST_BYTES / 2;
    tensor_fill(c.data, PLAIN, 1.0);
    c.digest = trial_tensor(trial, "digest", ROLE_OUT, MST_BF16, blocks, words, words);
    c.digest->bits = c.digest->words = true;
    words = sizeof(uint64_t) / 2;
    c.checksum = trial_tensor(trial, "checksum", ROLE_OUT, MST_BF16, blocks, words, words);
    c.checksum->bits = c.checksum->words = true;
    return c;
}

void check_block_digest(check_state *checker) {
    static const size_t counts[] = {0, 1, MST_BLOCK - 1, MST_BLOCK, MST_BLOCK + 1, 3 * MST_BLOCK + 17};
    for (size_t i = 0; i < 2 * sizeof counts / sizeof *counts; i++) {
        mst_dtype dtype = i & 1 ? MST_BF16 : MST_F32;
        check_trial trial;
        trial_begin(&trial, checker, "%zu of %s", counts[i / 2], mst_dtype_name(dtype));
        digest_case c = set_up_digest(&trial, counts[i / 2], dtype);
        if (trial_run(&trial, call_digest, &c, REFERENCE_SAME)) trial_compare(&trial);
        trial_end(&trial);
    }
}

void bench_block_digest(check_state *checker) {
    check_trial trial;
    trial_begin(&trial, checker, "f32 2^20");
    digest_case c = set_up_digest(&trial, 1 << 20, MST_F32);
    trial_time(&trial, call_digest, &c, MST_F32, 4.0 * (1 << 20), 0.0);
    trial_end(&trial);
}
