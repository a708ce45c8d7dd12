/* Device memory that the kernels of a pass take for themselves. */
#include "family.h"
#include "muster/footprint.h"

/* The most that sums over rows take for the vectors of a list: norms' weights, and biases. */
static size_t most_sums(const mst_model_config *config, const mst_tensor_spec *spec, size_t rows) {
    size_t most = 0;
    for (; spec->name; spec++) {
        if (spec->cols != MST_EXTENT_NONE) continue;
        const size_t vectors = spec->rows == MST_EXTENT_HEAD ? rows * config->n_heads : rows;
        const size_t bytes = mst_column_sum_bytes(vectors, mst_extent_of(config, spec->rows));
        if (bytes > most) most = bytes;
    }
    return most;
}

/* Of attention's backward pass by a library; 0 where the library is not to be had for it. */
static size_t attention_scratch(const mst_model_config *config, const mst_model_options *options) {
    const size_t bytes = mst_attention_workspace(options->micro, options->seq_len, config->n_heads,
                                                 config->n_kv_heads, config->head_dim);
    const bool possible = options->dtype == MST_BF16 && config->head_dim % 8 == 0 && !options->forward_only;
    return possible && bytes <= options->attention_workspace ? bytes : 0;
}

size_t mst_model_scratch_of(const mst_model_config *config, const mst_model_options *options) {
    const mst_family *family = mst_family_get(config->family);
    const size_t rows = options->micro * options->seq_len;
    size_t most = MST_PRODUCT_WORKSPACE;
    const size_t others[] = {most_sums(config, family->layer, rows), most_sums(config, family->head, rows),
                             attention_scratch(config, options)};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i] > most) most = others[i];
    return most;
}
