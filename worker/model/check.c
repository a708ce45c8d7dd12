/* Checks of a model's numbers: each alone against its range, then against each other. */
#include "family.h"

/* Far beyond any model, and small enough that no product of sizes overflows. */
enum {
    MAX_VOCAB = 1 << 24,
    MAX_WIDTH = 1 << 20,
    MAX_LAYERS = 1 << 12,
    MAX_HEADS = 1 << 12,
    MAX_POSITIONS = 1 << 24
};

static mst_status check_size(const char *key, size_t value, size_t limit) {
    mst_status status = MST_OK;
    MST_CHECK(value >= 1 && value <= limit, MST_ECONFIG, "model.%s is %zu; it must be 1 to %zu", key, value,
              limit);
done:
    return status;
}

static mst_status check_sizes(const mst_model_config *config) {
    mst_status status = MST_OK;
    MST_TRY(check_size("vocab_size", config->vocab_size, MAX_VOCAB));
    MST_TRY(check_size("d_model", config->d_model, MAX_WIDTH));
    MST_TRY(check_size("n_layers", config->n_layers, MAX_LAYERS));
    MST_TRY(check_size("n_heads", config->n_heads, MAX_HEADS));
    MST_TRY(check_size("n_kv_heads", config->n_kv_heads, MAX_HEADS));
    MST_TRY(check_size("head_dim", config->head_dim, MAX_WIDTH));
    MST_TRY(check_size("d_ff", config->d_ff, MAX_WIDTH));
done:
    return status;
}

static mst_status check_heads(const mst_model_config *config, const mst_family *family) {
    mst_status status = MST_OK;
    size_t heads = config->n_heads, kv_heads = config->n_kv_heads, head_dim = config->head_dim;
    MST_CHECK(config->d_model % heads == 0, MST_ECONFIG,
              "model.n_heads is %zu; it must divide model.d_model, which is %zu", heads, config->d_model);
    MST_CHECK(heads % kv_heads == 0, MST_ECONFIG,
              "model.n_kv_heads is %zu; it must divide model.n_heads, which is %zu", kv_heads, heads);
    MST_CHECK(family->grouped_heads || kv_heads == heads, MST_ECONFIG,
              "model.n_kv_heads is %zu; family %s has no grouped heads: leave it out or set it to "
              "model.n_heads, %zu",
              kv_heads, family->name, heads);
    MST_CHECK(family->free_head_dim || heads * head_dim == config->d_model, MST_ECONFIG,
              "model.head_dim is %zu; in family %s it must be model.d_model / model.n_heads, %zu", head_dim,
              family->name, config->d_model / heads);
done:
    return status;
}

/* Llama 3's scaling of rotary frequencies. */
static mst_status check_scaling(const mst_model_config *config) {
    mst_status status = MST_OK;
    double factor = config->rope_factor, low = config->rope_low_freq_factor,
           high = config->rope_high_freq_factor;
    MST_CHECK(factor == 0 || (factor >= 1 && factor <= 1e6), MST_ECONFIG,
              "model.rope_factor is %g; it must be 1 (no scaling) to 1e6", factor);
    if (factor == 0 || factor == 1) goto done;
    MST_CHECK(low > 0 && low <= 1e6, MST_ECONFIG,
              "model.rope_low_freq_factor is %g; it must be above 0 and at most 1e6, usually 1", low);
    MST_CHECK(high > low && high <= 1e6, MST_ECONFIG,
              "model.rope_high_freq_factor is %g; it must be above model.rope_low_freq_factor, %g, and at "
              "most 1e6, "
              "usually 4",
              high, low);
    MST_TRY(check_size("rope_original_seq_len", config->rope_original_seq_len, MAX_POSITIONS));
done:
    return status;
}

static mst_status check_positions(const mst_model_config *config, const mst_family *family) {
    mst_status status = MST_OK;
    if (family->positions == MST_POSITIONS_LEARNED) {
        MST_TRY(check_size("max_seq_len", config->max_seq_len, MAX_POSITIONS));
        MST_CHECK(config->rope_factor == 0 || config->rope_factor == 1, MST_ECONFIG,
                  "model.rope_factor is %g; family %s has no rotary positions: leave it out",
                  config->rope_factor, family->name);
    } else {
        MST_CHECK(config->head_dim % 2 == 0, MST_ECONFIG,
                  "model.head_dim is %zu; it must be even, since rotary positions turn pairs",
                  config->head_dim);
        MST_CHECK(config->rope_theta >= 1 && config->rope_theta <= 1e12, MST_ECONFIG,
                  "model.rope_theta is %g; it must be 1 to 1e12, usually 10000", config->rope_theta);
        MST_TRY(check_scaling(config));
    }
done:
    return status;
}

mst_status mst_model_config_check(const mst_model_config *config) {
    mst_status status = MST_OK;
    const mst_family *family = mst_family_get(config->family);
    MST_CHECK(family, MST_ECONFIG, "model.family is number %d; families are 0 to %d", (int)config->family,
              MST_FAMILY_COUNT - 1);
    MST_TRY(check_sizes(config));
    MST_TRY(check_heads(config, family));
    MST_TRY(check_positions(config, family));
    MST_CHECK(config->norm_eps > 0 && config->norm_eps < 1, MST_ECONFIG,
              "model.norm_eps is %g; it must be above 0 and below 1, usually 1e-5", config->norm_eps);
    MST_CHECK(config->init_deviation > 0 && config->init_deviation <= 10, MST_ECONFIG,
              "model.init_deviation is %g; it must be above 0 and at most 10, usually 0.02",
              config->init_deviation);
done:
    return status;
}
