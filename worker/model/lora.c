/* Low-rank adapters: what they are of, where their tensors stand, and their part of both passes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decoder.h"

#define WEIGHT_END ".weight"
#define PEFT_START "base_model.model." /* what PEFT wraps a model in */

enum { WORD_MAX = 64 };

static uint64_t bit_of(mst_role role) {
    return UINT64_C(1) << role;
}
_Static_assert(MST_ROLE_COUNT <= 64, "a bit for each role");

static bool is_target(const mst_lora *lora, mst_role role) {
    return mst_role_is_projection(role) && (lora->targets & bit_of(role)) != 0;
}

/* ---- names ---- */

/* "self_attn.q_proj.weight" is called "q_proj". @param word_out [WORD_MAX] */
static const char *short_name(const mst_tensor_spec *spec, char *word_out) {
    const size_t length = strlen(spec->name) - strlen(WEIGHT_END);
    size_t start = length;
    while (start > 0 && spec->name[start - 1] != '.') start--;
    snprintf(word_out, WORD_MAX, "%.*s", (int)(length - start), spec->name + start);
    return word_out;
}

/* "q_proj, k_proj, ...", each once. */
static void list_names(const mst_family *family, char *text, size_t room) {
    char word[WORD_MAX], before[WORD_MAX];
    text[0] = '\0';
    for (const mst_tensor_spec *spec = family->layer; spec->name; spec++) {
        bool again = !mst_role_is_projection(spec->role);
        for (const mst_tensor_spec *s = family->layer; s < spec && !again; s++)
            again =
                mst_role_is_projection(s->role) && strcmp(short_name(s, before), short_name(spec, word)) == 0;
        const size_t used = strlen(text);
        if (!again) snprintf(text + used, room - used, "%s%s", used > 0 ? ", " : "", short_name(spec, word));
    }
}

/* All projections of a name: GPT-2 has two that are called c_proj. */
static uint64_t targets_named(const mst_family *family, const char *name) {
    char word[WORD_MAX];
    const bool all = strcmp(name, "all-linear") == 0;
    uint64_t targets = 0;
    for (const mst_tensor_spec *spec = family->layer; spec->name; spec++)
        if (mst_role_is_projection(spec->role) && (all || strcmp(short_name(spec, word), name) == 0))
            targets |= bit_of(spec->role);
    return targets;
}

mst_status mst_lora_targets(mst_family_id id, const char *names, uint64_t *targets_out) {
    mst_status status = MST_OK;
    const mst_family *family = mst_family_get(id);
    char known[256];
    *targets_out = 0;
    for (const char *at = names; *at != '\0';) {
        const size_t length = strcspn(at, ",");
        char word[WORD_MAX];
        snprintf(word, sizeof word, "%.*s", (int)(length < WORD_MAX ? length : WORD_MAX - 1), at);
        const uint64_t found = targets_named(family, word);
        if (found == 0) list_names(family, known, sizeof known);
        MST_CHECK(
            found != 0, MST_ECONFIG,
            "lora.targets: '%s' is no projection of a layer in family %s; it has %s, and all-linear for all",
            word, family->name, known);
        *targets_out |= found;
        at += length + (at[length] == ',');
    }
    MST_CHECK(*targets_out != 0, MST_ECONFIG,
              "lora.targets: names nothing; all-linear is for all projections");
done:
    return status;
}

/* ---- layout ---- */

/* The two tensors of a projection, behind those that the layout has. */
static void add_pair(const mst_model_config *config, const mst_lora *lora, const mst_tensor_spec *spec,
                     const char *prefix, mst_layout *layout) {
    const mst_family *family = mst_family_get(config->family);
    mst_unit *unit = &layout->units[layout->unit_count];
    const size_t rows = mst_extent_of(config, spec->rows), cols = mst_extent_of(config, spec->cols),
                 in = family->in_out ? rows : cols, out = family->in_out ? cols : rows;
    const size_t shapes[2][2] = {{lora->rank, in}, {out, lora->rank}};
    for (int i = 0; i < 2; i++) {
        mst_tensor *tensor = &layout->tensors[layout->tensor_count++];
        *tensor = (mst_tensor){.dims = 2,
                               .shape = {shapes[i][0], shapes[i][1]},
                               .count = shapes[i][0] * shapes[i][1],
                               .unit = (uint32_t)layout->unit_count,
                               .offset = unit->blocks * MST_BLOCK,
                               .init_bound = i == 0 ? 1 / sqrt((double)in) : 0};
        snprintf(tensor->name, sizeof tensor->name, PEFT_START "%s%.*s.lora_%c" WEIGHT_END, prefix,
                 (int)(strlen(spec->name) - strlen(WEIGHT_END)), spec->name, "AB"[i]);
        unit->blocks += mst_blocks_of(tensor->count);
        layout->parameters += tensor->count;
    }
}

static void add_layer(const mst_model_config *config, const mst_lora *lora, size_t number,
                      mst_layout *layout) {
    const mst_family *family = mst_family_get(config->family);
    mst_unit *unit = &layout->units[layout->unit_count];
    char prefix[64];
    snprintf(prefix, sizeof prefix, "%s%zu.", family->layer_prefix, number);
    snprintf(unit->name, sizeof unit->name, "adapters %zu", number);
    unit->first_tensor = layout->tensor_count;
    unit->first_block = layout->blocks;
    for (const mst_tensor_spec *spec = family->layer; spec->name; spec++)
        if (is_target(lora, spec->role)) add_pair(config, lora, spec, prefix, layout);
    unit->tensors = layout->tensor_count - unit->first_tensor;
    layout->blocks += unit->blocks;
    layout->unit_count++;
}

mst_status mst_lora_layout(const mst_model_config *config, const mst_lora *lora, mst_layout *layout_out) {
    mst_status status = MST_OK;
    mst_layout layout = {0};
    size_t pairs = 0;
    *layout_out = layout;
    MST_TRY(mst_model_config_check(config));
    MST_CHECK(lora->rank >= 1 && lora->rank <= 65536, MST_ECONFIG, "lora.rank is %zu; it must be 1 to 65536",
              lora->rank);
    for (int role = 0; role < MST_ROLE_COUNT; role++) pairs += is_target(lora, (mst_role)role);
    MST_CHECK(pairs > 0, MST_ECONFIG, "lora.targets: names nothing that family %s has",
              mst_family_name(config->family));
    layout.units = calloc(config->n_layers, sizeof *layout.units);
    layout.tensors = calloc(2 * pairs * config->n_layers, sizeof *layout.tensors);
    MST_CHECK(layout.units && layout.tensors, MST_ENOMEM, "adapters: no memory for %zu tensors",
              2 * pairs * config->n_layers);
    for (size_t i = 0; i < config->n_layers; i++) add_layer(config, lora, i, &layout);
    *layout_out = layout;
    layout = (mst_layout){0};
done:
    mst_layout_clear(&layout);
    return status;
}

bool mst_lora_find(const mst_model_config *config, const mst_layout *adapters, const char *weight,
                   mst_lora_pair *pair_out) {
    char name[MST_NAME_MAX + 64];
    const size_t length = strlen(weight), tail = strlen(WEIGHT_END);
    if (length < tail || strcmp(weight + length - tail, WEIGHT_END) != 0) return false;
    snprintf(name, sizeof name, PEFT_START "%.*s.lora_A" WEIGHT_END, (int)(length - tail), weight);
    for (size_t i = 0; i < adapters->tensor_count; i++) {
        if (strcmp(adapters->tensors[i].name, name) != 0) continue;
        *pair_out = (mst_lora_pair){.a = i, .b = i + 1, .in_out = mst_family_get(config->family)->in_out};
        return true;
    }
    return false;
}

/* The same for every layer, so the first one's. */
void mst_lora_describe(mst_model *model) {
    const mst_lora *lora = &model->options.lora;
    const bool in_out = model->family->in_out;
    size_t offset = 0;
    if (lora->rank == 0) return;
    for (const mst_tensor_spec *spec = model->family->layer; spec->name; spec++) {
        if (!is_target(lora, spec->role)) continue;
        const mst_part *w = &model->part[spec->role];
        mst_adapter *adapter = &model->adapter[spec->role];
        adapter->a = (mst_part){offset, lora->rank, in_out ? w->rows : w->cols};
        offset += mst_blocks_of(adapter->a.rows * adapter->a.cols) * MST_BLOCK;
        adapter->b = (mst_part){offset, in_out ? w->cols : w->rows, lora->rank};
        offset += mst_blocks_of(adapter->b.rows * adapter->b.cols) * MST_BLOCK;
    }
}

mst_flops mst_lora_flops(const mst_model_config *config, const mst_layout *layout, const mst_layout *adapters,
                         size_t seq_len) {
    mst_flops flops = mst_model_flops(config, layout, seq_len);
    /* No gradients of the model's matrices: two products of three. */
    flops.dense = flops.dense * 2 / 3 + 6 * (double)adapters->parameters;
    return flops;
}

/* ---- the passes ---- */

static const void *weight_of(const mst_held *held, const mst_part *part) {
    return mst_at(held->adapters, part->offset, held->pass->model->dtype);
}

/* low = scale x A^T */
static mst_status go_low(const mst_held *held, const mst_adapter *adapter, const void *x) {
    const mst_model *model = held->pass->model;
    mst_matmul_args low = {
        .m = model->rows,
        .n = adapter->a.rows,
        .k = adapter->a.cols,
        .dtype = model->dtype,
        .c_dtype = model->dtype,
        .b_transposed = true,
        .a = x,
        .lda = adapter->a.cols,
        .b = weight_of(held, &adapter->a),
        .ldb = adapter->a.cols,
        .c = model->low,
        .ldc = adapter->a.rows,
        .scale = model->options.lora.scale,
    };
    return model->kernels->matmul(model->queue, &low);
}

/* y += low B^T. Where y is narrower than ACC, both terms are rounded before they are added, as PEFT does it. */
static mst_status come_back(const mst_held *held, const mst_adapter *adapter, const mst_product *product) {
    mst_status status = MST_OK;
    const mst_model *model = held->pass->model;
    const bool at_once = model->dtype == model->acc;
    mst_matmul_args up = {
        .m = model->rows,
        .n = adapter->b.rows,
        .k = adapter->b.cols,
        .dtype = model->dtype,
        .c_dtype = model->dtype,
        .b_transposed = true,
        .a = model->low,
        .lda = adapter->b.cols,
        .b = weight_of(held, &adapter->b),
        .ldb = adapter->b.cols,
        .c = at_once ? product->y : model->low_out,
        .ldc = product->ldy,
        .accumulate = at_once,
    };
    MST_TRY(model->kernels->matmul(model->queue, &up));
    if (!at_once)
        MST_TRY(mst_add(model, adapter->b.rows, product->ldy, product->y, model->low_out, product->y));
done:
    return status;
}

mst_status mst_lora_forward(const mst_held *held, const mst_product *product, const void *x) {
    mst_status status = MST_OK;
    const mst_model *model = held->pass->model;
    const mst_adapter *adapter = &model->adapter[product->role];
    if (!mst_is_adapted(model, product->role)) goto done;
    MST_TRY(go_low(held, adapter, x));
    MST_TRY(come_back(held, adapter, product));
done:
    return status;
}

/* += a^T b, [rows, cols] of a part of the adapters' gradients. */
static mst_status add_gradient(const mst_held *held, const mst_part *part, const void *a, size_t lda,
                               const void *b, size_t ldb) {
    const mst_model *model = held->pass->model;
    mst_matmul_args gradient = {
        .m = part->rows,
        .n = part->cols,
        .k = model->rows,
        .dtype = model->dtype,
        .c_dtype = model->acc,
        .a_transposed = true,
        .a = a,
        .lda = lda,
        .b = b,
        .ldb = ldb,
        .c = mst_at(held->adapter_gradients, part->offset, model->acc),
        .ldc = part->cols,
        .accumulate = true,
    };
    return model->kernels->matmul(model->queue, &gradient);
}

/* c [rows, n] = scale a b, or c += a b in ACC. */
static mst_status multiply(const mst_model *model, const void *a, size_t lda, size_t k, const void *b,
                           size_t n, void *c, bool add) {
    mst_matmul_args args = {
        .m = model->rows,
        .n = n,
        .k = k,
        .dtype = model->dtype,
        .c_dtype = add ? model->acc : model->dtype,
        .a = a,
        .lda = lda,
        .b = b,
        .ldb = n,
        .c = c,
        .ldc = n,
        .accumulate = add,
        .scale = add ? 0 : model->options.lora.scale,
    };
    return model->kernels->matmul(model->queue, &args);
}

/* scale x A^T is computed again: it is thin, and need not be kept for every layer then. */
mst_status mst_lora_backward(const mst_held *held, const mst_product *product, const void *x, void *dx) {
    mst_status status = MST_OK;
    const mst_model *model = held->pass->model;
    const mst_part *a = &model->adapter[product->role].a, *b = &model->adapter[product->role].b;
    if (!mst_is_adapted(model, product->role)) goto done;
    MST_TRY(go_low(held, &model->adapter[product->role], x));
    MST_TRY(add_gradient(held, b, product->y, product->ldy, model->low, b->cols));
    MST_TRY(
        multiply(model, product->y, product->ldy, b->rows, weight_of(held, b), b->cols, model->dlow, false));
    MST_TRY(add_gradient(held, a, model->dlow, a->rows, x, a->cols));
    MST_TRY(multiply(model, model->dlow, a->rows, a->rows, weight_of(held, a), a->cols, dx, true));
done:
    return status;
}
