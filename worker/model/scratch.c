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

size_t mst_model_scratch_of(const mst_model_config *config, const mst_model_options *options) {
    const mst_family *family = mst_family_get(config->family);
    const size_t rows = options->micro * options->seq_len;
    size_t most = MST_PRODUCT_WORKSPACE;
    const size_t sums[] = {most_sums(config, family->layer, rows), most_sums(config, family->head, rows)};
    for (size_t i = 0; i < 2; i++)
        if (sums[i] > most) most = sums[i];
    return most;
}
