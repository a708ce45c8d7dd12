/* The whole model's gradient in fp64 against finite differences of its loss,
 * without any other implementation. */
#include "model_fixture.h"

enum { SAMPLES = 12 }; /* elements of a tensor that are looked at */
static const double loss_scale = 0.7, z_coefficient = 0.05;

static double objective(fixture *f) {
    mst_loss loss = {0};
    CHECK_OK(fixture_loss(f, &loss));
    return loss_scale * (loss.loss + z_coefficient * loss.zloss);
}

/*
 * Sixth-order central difference. With h = 1e-3 and weights of order 0.1 the truncation error is about
 * h^6 / 140 = 1e-20 times the seventh derivative, and rounding gives about 50 (loss) * 1e-16 * 1.8 / h = 1e-11. The
 * norm of a short query that has a small length has large high derivatives: fourth order leaves 2e-8 there.
 */
static double difference(fixture *f, const mst_tensor *tensor, size_t i) {
    static const double h = 1e-3, factor[3] = {45, -9, 1};
    double *weight = (double *)f->weights[tensor->unit] + tensor->offset + i, kept = *weight, sum = 0;
    for (int s = 1; s <= 3; s++) {
        *weight = kept + s * h;
        double above = objective(f);
        *weight = kept - s * h;
        sum += factor[s - 1] * (above - objective(f));
    }
    *weight = kept;
    return sum / (60 * h);
}

/*
 * Relative error over a random sample of elements. Gradients of whole samples have norms of 1e-2 and
 * more here, so errors of about 1e-11 give 1e-9, which is far below any mistake in a formula.
 */
static double check_tensor(fixture *f, const mst_tensor *tensor, uint64_t seed) {
    double wrong = 0, norm = 0;
    for (size_t s = 0; s < SAMPLES; s++) {
        double u =
            mst_random_uniform(seed, MST_RANDOM_TEST, 2000 + (uint64_t)(tensor - f->layout.tensors), s);
        size_t i = tensor->count <= SAMPLES ? s % tensor->count : (size_t)(u * (double)tensor->count);
        double expected = difference(f, tensor, i);
        double seen = ((const double *)f->gradients[tensor->unit])[tensor->offset + i];
        wrong += (seen - expected) * (seen - expected);
        norm += expected * expected;
    }
    double error = sqrt(wrong / norm);
    CHECK(norm > 1e-8, "%s: the sample's gradient is %g: too small to tell", tensor->name, sqrt(norm));
    CHECK(error <= 1e-9, "%s: relative error %.3g", tensor->name, error);
    return error;
}

/* @param starts [14] or NULL */
static void check_model(const mst_model_config *config, const int32_t *starts, uint64_t seed) {
    fixture f;
    mst_model_options options = {.dtype = MST_F64, .micro = 2, .seq_len = 7};
    fixture_init(&f, config, &options, MST_DEVICE_REF, 1, seed);
    f.starts = starts;
    mst_loss loss = {0};
    CHECK_OK(fixture_train(&f, loss_scale, z_coefficient, &loss));
    CHECK(loss.valid == 11, "%zu valid tokens", (size_t)loss.valid);
    double worst = 0;
    for (size_t t = 0; t < f.layout.tensor_count; t++) {
        double error = check_tensor(&f, &f.layout.tensors[t], seed);
        worst = error > worst ? error : worst;
    }
    printf("%s heads %zu/%zu %s%s: %zu tensors, worst relative error %.2e\n", mst_family_name(config->family),
           config->n_heads, config->n_kv_heads, config->tie_embeddings ? "tied" : "untied",
           starts ? ", documents" : "", f.layout.tensor_count, worst);
    fixture_clear(&f);
}

int main(void) {
    const uint64_t seed = 20240607;
    static const int32_t documents[14] = {0, 0, 0, 3, 3, 3, 3, 0, 1, 1, 3, 3, 3, 6};
    printf("seed %llu\n", (unsigned long long)seed);
    for (int family = 0; family < MST_FAMILY_COUNT; family++) {
        for (int tied = 0; tied < 2; tied++) {
            mst_model_config config = fixture_config((mst_family_id)family, 2, 3, 1);
            config.max_seq_len = 9; /* two positions are never reached */
            config.tie_embeddings = tied;
            check_model(&config, NULL, seed);
            config = fixture_config((mst_family_id)family, 2, 4, 2);
            config.max_seq_len = 7;
            config.tie_embeddings = !tied;
            check_model(&config, NULL, seed + 1);
            if (tied) check_model(&config, documents, seed + 5);
        }
    }
    mst_model_config wide = fixture_config(MST_FAMILY_LLAMA, 2, 4, 2);
    wide.head_dim = 6; /* n_heads * head_dim is not d_model */
    check_model(&wide, NULL, seed + 2);
    wide.family = MST_FAMILY_QWEN3;
    check_model(&wide, NULL, seed + 3);
    mst_model_config scaled = fixture_config(MST_FAMILY_LLAMA, 2, 4, 2);
    scaled.rope_theta = 100, scaled.rope_original_seq_len = 16; /* pairs of all three kinds */
    scaled.rope_factor = 8, scaled.rope_low_freq_factor = 0.2, scaled.rope_high_freq_factor = 1;
    check_model(&scaled, NULL, seed + 4);
    return test_finish("test_model_gradient");
}
