/*
 * Loss and every gradient of all model families on a GPU against those of the CPU bodies, one microbatch each.
 * With attention by a library too, where there is one.
 *   check_model: exit status 77 where there is no GPU
 */
#include "unit/model_fixture.h"

static const uint64_t seed = 77;
static const double loss_scale = 1, z_coefficient = 1e-4;

/* What is compared. Odd sizes, which the matrix library may refuse; and sizes that its fast products and tensor cores take. */
typedef struct model_case {
    mst_family_id family;
    mst_dtype dtype;
    bool even;
    fixture cpu;
    mst_loss loss; /* of the CPU */
} model_case;

enum { CASES = 4 * MST_FAMILY_COUNT };

static mst_model_config config_of(const model_case *c) {
    mst_model_config config = fixture_config(c->family, 2, 4, 2);
    if (c->even) {
        config.vocab_size = 320;
        config.d_model = 128;
        config.head_dim = 32;
        config.d_ff = 256;
    }
    return config;
}

/* @param library the attention library's name, or "" */
static mst_model_options options_of(const model_case *c, const char *library) {
    const size_t workspace = library[0] ? (size_t)1 << 30 : 0;
    return (mst_model_options){
        .dtype = c->dtype, .micro = 2, .seq_len = c->even ? 64 : 33, .attention_workspace = workspace};
}

/* ---- on the CPU, before the GPU is opened: from then on the process's device memory is the GPU's ---- */

static void compute_on_cpu(model_case *c) {
    const mst_model_config config = config_of(c);
    const mst_model_options options = options_of(c, "");
    fixture_init(&c->cpu, &config, &options, MST_DEVICE_CPU, 2, seed);
    CHECK_OK(fixture_train(&c->cpu, loss_scale, z_coefficient, &c->loss));
    mst_model_destroy(&c->cpu.model);
}

/* ---- on the GPU: the fixture's weights and gradients have copies there ---- */

typedef struct device_copies {
    fixture *f;
    void *weights[FIXTURE_UNITS], *gradients[FIXTURE_UNITS];
} device_copies;

static size_t unit_bytes(const fixture *f, size_t unit, mst_dtype dtype) {
    return f->layout.units[unit].blocks * MST_BLOCK * mst_dtype_size(dtype);
}

static void make_copies(fixture *f, device_copies *copies_out) {
    *copies_out = (device_copies){.f = f};
    for (size_t u = 0; u < f->layout.unit_count; u++) {
        const size_t bytes = unit_bytes(f, u, f->options.dtype);
        fixture_need(mst_memory_alloc(MST_SPACE_DEVICE, bytes, &copies_out->weights[u]));
        fixture_need(mst_memory_copy(f->queue, copies_out->weights[u], f->weights[u], bytes));
        fixture_need(mst_memory_alloc(MST_SPACE_DEVICE, unit_bytes(f, u, mst_dtype_acc(f->options.dtype)),
                                      &copies_out->gradients[u]));
    }
}

/* Brings the gradients back. */
static void end_copies(device_copies *copies) {
    const fixture *f = copies->f;
    for (size_t u = 0; u < f->layout.unit_count; u++) {
        CHECK_OK(mst_memory_copy(f->queue, f->gradients[u], copies->gradients[u],
                                 unit_bytes(f, u, mst_dtype_acc(f->options.dtype))));
        mst_memory_free(MST_SPACE_DEVICE, &copies->weights[u]);
        mst_memory_free(MST_SPACE_DEVICE, &copies->gradients[u]);
    }
}

static mst_status copies_acquire(void *context, size_t unit, const void **weights_out) {
    *weights_out = ((const device_copies *)context)->weights[unit];
    return MST_OK;
}
static void copies_release(void *context, size_t unit) {
    (void)context, (void)unit;
}

static mst_status train(device_copies *copies, mst_loss *loss_out) {
    const fixture *f = copies->f;
    const mst_weight_source source = {copies, copies_acquire, copies_release};
    const mst_gradient_sink sink = {.gradients = copies->gradients};
    return mst_model_settle(f->model, mst_model_train(f->model, &source, f->tokens, f->targets, NULL,
                                                      loss_scale, z_coefficient, &sink, loss_out));
}

/*
 * Both round at the same places and differ by the order of their sums. fp32: test_model holds the CPU's gradients to 1e-5 of the
 * specification's and its loss to 1e-6; twice that between two such bodies. bf16: a last bit that falls otherwise is 2^-8 of an
 * element, and such bits meet in a few dozen roundings on the way back through two layers; their sum is like a random walk.
 * A library rounds probabilities where they are normalised, the CPU before: as much again comes from there.
 */
static void compare(const model_case *c, const fixture *gpu, const mst_loss *loss, const char *library) {
    const bool narrow = c->dtype == MST_BF16;
    const double most = (narrow ? 0.02 : 2e-5) * (library[0] ? 2 : 1),
                 off = fabs(loss->loss / c->loss.loss - 1);
    double worst = 0;
    CHECK(loss->valid == c->loss.valid, "%llu valid tokens", (unsigned long long)loss->valid);
    CHECK(off <= (narrow ? 2e-3 : 2e-6), "loss %.9g, on the CPU %.9g", loss->loss, c->loss.loss);
    for (size_t t = 0; t < gpu->layout.tensor_count; t++) {
        const mst_tensor *tensor = &gpu->layout.tensors[t];
        const double error = fixture_gradient_error(gpu, &c->cpu, tensor);
        CHECK(error <= most, "%s, %s: gradient off by %.3g", mst_family_name(c->family), tensor->name, error);
        worst = fmax(worst, error);
    }
    printf("%s %s %s%s%s: loss off by %.1e, gradients of %zu tensors by %.1e at most\n",
           mst_family_name(c->family), mst_dtype_name(c->dtype), c->even ? "even" : "odd",
           library[0] ? ", " : "", library, off, gpu->layout.tensor_count, worst);
}

static void check_on_gpu(const model_case *c, const char *library) {
    fixture gpu;
    device_copies copies;
    mst_loss loss = {0};
    const mst_model_config config = config_of(c);
    const mst_model_options options = options_of(c, library);
    fixture_init(&gpu, &config, &options, MST_DEVICE_CUDA, 1, seed);
    make_copies(&gpu, &copies);
    CHECK_OK(train(&copies, &loss));
    end_copies(&copies);
    compare(c, &gpu, &loss, library);
    fixture_clear(&gpu);
}

int main(void) {
    static model_case cases[CASES];
    mst_kernels kernels;
    char library[64];
    for (size_t i = 0; i < CASES; i++) {
        cases[i].family = (mst_family_id)(i / 4);
        cases[i].dtype = i % 2 ? MST_BF16 : MST_F32;
        cases[i].even = i / 2 % 2;
        compute_on_cpu(&cases[i]);
    }
    if (mst_kernels_open(MST_DEVICE_CUDA, NULL, &kernels) != MST_OK) SKIP("%s", mst_error_message());
    mst_kernels_attention_library(library, sizeof library);
    for (size_t i = 0; i < CASES; i++) {
        check_on_gpu(&cases[i], "");
        if (library[0] && cases[i].dtype == MST_BF16 && cases[i].even) check_on_gpu(&cases[i], library);
        fixture_clear(&cases[i].cpu);
    }
    return test_finish("check_model");
}
