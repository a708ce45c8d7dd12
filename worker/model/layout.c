/* Where every parameter stands: built from the family's table, a pure function of the config. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "family.h"
#include "muster/random.h"

/* The model has no tensor of its own for this entry. */
static bool left_out(const mst_model_config *config, const mst_tensor_spec *spec) {
    return spec->role == MST_ROLE_LM_HEAD && config->tie_embeddings;
}

static size_t count_tensors(const mst_model_config *config, const mst_tensor_spec *spec) {
    size_t count = 0;
    for (; spec->name; spec++) count += !left_out(config, spec);
    return count;
}

static void fill_tensor(const mst_model_config *config, const mst_tensor_spec *spec, mst_tensor *tensor) {
    tensor->dims = spec->cols == MST_EXTENT_NONE ? 1 : 2;
    tensor->shape[0] = mst_extent_of(config, spec->rows);
    tensor->shape[1] = mst_extent_of(config, spec->cols);
    tensor->count = tensor->shape[0] * tensor->shape[1];
    tensor->embedding = spec->role == MST_ROLE_TOKENS || spec->role == MST_ROLE_POSITIONS;
    tensor->init_mean = spec->init == MST_INIT_ONE;
    if (spec->init == MST_INIT_NORMAL) tensor->init_deviation = config->init_deviation;
    if (spec->init == MST_INIT_RESIDUAL)
        tensor->init_deviation = config->init_deviation / sqrt(2.0 * (double)config->n_layers);
}

/* Appends the unit whose name is set, with a tensor for each entry of the list. */
static void add_unit(const mst_model_config *config, const mst_tensor_spec *spec, const char *prefix,
                     mst_layout *layout) {
    mst_unit *unit = &layout->units[layout->unit_count];
    unit->first_tensor = layout->tensor_count;
    unit->first_block = layout->blocks;
    for (; spec->name; spec++) {
        if (left_out(config, spec)) continue;
        mst_tensor *tensor = &layout->tensors[layout->tensor_count++];
        snprintf(tensor->name, sizeof tensor->name, "%s%s", prefix, spec->name);
        fill_tensor(config, spec, tensor);
        tensor->unit = (uint32_t)layout->unit_count;
        tensor->offset = unit->blocks * MST_BLOCK;
        unit->blocks += mst_blocks_of(tensor->count);
        layout->parameters += tensor->count;
    }
    unit->tensors = layout->tensor_count - unit->first_tensor;
    layout->blocks += unit->blocks;
    layout->unit_count++;
}

mst_status mst_model_layout(const mst_model_config *config, mst_layout *layout_out) {
    mst_status status = MST_OK;
    mst_layout layout = {.tied = config->tie_embeddings};
    MST_TRY(mst_model_config_check(config));
    const mst_family *family = mst_family_get(config->family);
    size_t units = config->n_layers + 2;
    size_t tensors = count_tensors(config, family->embedding) + count_tensors(config, family->head) +
                     config->n_layers * count_tensors(config, family->layer);
    layout.units = calloc(units, sizeof *layout.units);
    layout.tensors = calloc(tensors, sizeof *layout.tensors);
    MST_CHECK(layout.units && layout.tensors, MST_ENOMEM, "model layout: no memory for %zu tensors", tensors);

    snprintf(layout.units[0].name, sizeof layout.units[0].name, "embedding");
    add_unit(config, family->embedding, "", &layout);
    for (size_t i = 0; i < config->n_layers; i++) {
        char prefix[64];
        snprintf(prefix, sizeof prefix, "%s%zu.", family->layer_prefix, i);
        snprintf(layout.units[1 + i].name, sizeof layout.units[1 + i].name, "layer %zu", i);
        add_unit(config, family->layer, prefix, &layout);
    }
    snprintf(layout.units[units - 1].name, sizeof layout.units[units - 1].name, "head");
    add_unit(config, family->head, "", &layout);
    *layout_out = layout;
    layout = (mst_layout){0};
done:
    mst_layout_clear(&layout);
    return status;
}

void mst_layout_clear(mst_layout *layout) {
    free(layout->tensors);
    free(layout->units);
    *layout = (mst_layout){0};
}

void mst_shard_range(const mst_unit *unit, int rank, int size, size_t *first_block_out, size_t *blocks_out) {
    size_t first = unit->blocks * (size_t)rank / (size_t)size;
    *first_block_out = first;
    *blocks_out = unit->blocks * ((size_t)rank + 1) / (size_t)size - first;
}

static size_t clamp(size_t value, size_t low, size_t high) {
    return value < low ? low : value > high ? high : value;
}

/* Elements [first, first + count) of a tensor whose values are uniform; a few blocks at a time, as they may go to a GPU. */
static mst_status init_uniform(const mst_tensor *tensor, size_t number, uint64_t seed, size_t first,
                               size_t count, mst_queue *queue, float *master) {
    mst_status status = MST_OK;
    float values[MST_BLOCK];
    for (size_t done = 0, some; done < count; done += some) {
        some = count - done < MST_BLOCK ? count - done : MST_BLOCK;
        for (size_t i = 0; i < some; i++) {
            const double u = mst_random_uniform(seed, MST_RANDOM_INIT, number, first + done + i);
            values[i] = (float)(tensor->init_bound * (2 * u - 1));
        }
        MST_TRY(mst_memory_copy(queue, master + done, values, some * sizeof *values));
    }
done:
    return status;
}

/* The part of a tensor, padding included, that lies in [begin, end) of its unit;
 * master stands for element `begin`. */
static mst_status init_part(const mst_tensor *tensor, size_t number, uint64_t seed, size_t begin, size_t end,
                            mst_queue *queue, const mst_kernels *kernels, float *master) {
    mst_status status = MST_OK;
    size_t values_end = tensor->offset + tensor->count;
    size_t padded_end = tensor->offset + mst_blocks_of(tensor->count) * MST_BLOCK;
    size_t from = clamp(tensor->offset, begin, end);
    size_t until = clamp(values_end, begin, end);
    size_t zeros_until = clamp(padded_end, begin, end);
    mst_random_normal_args values = {
        .count = until - from,
        .seed = seed,
        .stream = number,
        .first = from - tensor->offset,
        .mean = tensor->init_mean,
        .deviation = tensor->init_deviation,
        .limit = 3,
        .result = master + (from - begin),
    };
    if (values.count > 0 && tensor->init_bound > 0)
        MST_TRY(init_uniform(tensor, number, seed, values.first, values.count, queue, values.result));
    else if (values.count > 0)
        MST_TRY(kernels->random_normal(queue, &values));
    mst_random_normal_args zeros = {
        .count = zeros_until - until, .limit = 3, .result = master + (until - begin)};
    if (zeros.count > 0) MST_TRY(kernels->random_normal(queue, &zeros));
done:
    return status;
}

mst_status mst_model_init_blocks(const mst_model_config *config, const mst_layout *layout, size_t unit,
                                 uint64_t seed, size_t first_block, size_t blocks, mst_queue *queue,
                                 const mst_kernels *kernels, float *master) {
    mst_status status = MST_OK;
    (void)config; /* the layout has what the table and the config said */
    MST_CHECK(unit < layout->unit_count, MST_EINVAL, "model: initial values of unit %zu; there are %zu units",
              unit, layout->unit_count);
    const mst_unit *u = &layout->units[unit];
    MST_CHECK(first_block <= u->blocks && blocks <= u->blocks - first_block, MST_EINVAL,
              "model: initial values of %zu blocks from %zu on; unit %s has %zu blocks", blocks, first_block,
              u->name, u->blocks);
    size_t begin = first_block * MST_BLOCK, end = (first_block + blocks) * MST_BLOCK;
    for (size_t i = 0; i < u->tensors; i++) {
        size_t number = u->first_tensor + i;
        MST_TRY(init_part(&layout->tensors[number], number, seed, begin, end, queue, kernels, master));
    }
done:
    return status;
}

mst_flops mst_model_flops(const mst_model_config *config, const mst_layout *layout, size_t seq_len) {
    /* The head multiplies by the whole table, tied or not; looking an embedding up multiplies nothing. */
    double used = (double)config->vocab_size * (double)config->d_model;
    for (size_t i = 0; i < layout->tensor_count; i++) {
        const mst_tensor *tensor = &layout->tensors[i];
        bool in_layer = tensor->unit != 0 && tensor->unit != layout->unit_count - 1;
        if (in_layer && tensor->dims == 2) used += (double)tensor->count;
    }
    double scores =
        12.0 * (double)config->n_layers * (double)(config->n_heads * config->head_dim) * (double)seq_len;
    return (mst_flops){.dense = 6 * used, .attention = scores / 2};
}
