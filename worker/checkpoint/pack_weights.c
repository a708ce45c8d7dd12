/* A packed checkpoint of weights that stand elsewhere. The source is read twice: its digests have to be known before the file's
 * structure is written, and what is copied is compared with them. */
#include <stdlib.h>
#include <string.h>

#include "pack.h"
#include "pieces.h"

enum { PART = 256 * MST_BLOCK }; /* elements that are read at a time: 4 MiB */

typedef struct weights {
    const mst_checkpoint_context *context;
    const mst_weights_source *source;
    size_t *order;       /* tensors of the layout by name */
    mst_digest *digests; /* of all blocks, tensors in name order */
    float *values;       /* [PART] */
    mst_digest found[PART / MST_BLOCK];
} weights;

static mst_status read_part(weights *w, size_t place, uint64_t first, uint64_t count) {
    mst_status status = MST_OK;
    const mst_block_digest_args args = {
        .count = (size_t)count, .dtype = MST_F32, .data = w->values, .digest = w->found};
    MST_TRY(w->source->read(w->source->context, w->order[place], first, count, w->values));
    MST_TRY(w->context->kernels->block_digest(w->context->queue, &args));
    MST_TRY(mst_queue_sync(w->context->queue));
done:
    return status;
}

static uint64_t part_of(const mst_manifest_tensor *tensor, uint64_t first) {
    return tensor->count - first < PART ? tensor->count - first : PART;
}

/* --- first pass --- */

static mst_status hash_weights(weights *w, ckpt_pack *p, mst_digest *digest_out) {
    mst_status status = MST_OK;
    mst_digest *next = w->digests;
    MST_TRY(ckpt_kind_begin(p->hasher));
    for (size_t t = 0; t < p->from.tensor_count; t++) {
        const mst_manifest_tensor *tensor = &p->from.tensors[t];
        MST_TRY(ckpt_kind_tensor(p->hasher, tensor->name, tensor->dims, tensor->shape));
        for (uint64_t first = 0, count; first < tensor->count; first += count) {
            count = part_of(tensor, first);
            const size_t bytes = mst_blocks_of(count) * sizeof *next;
            MST_TRY(read_part(w, t, first, count));
            memcpy(next, w->found, bytes);
            MST_TRY(mst_hasher_update(p->hasher, next, bytes));
            next += mst_blocks_of(count);
            ckpt_pack_report(p, count);
        }
    }
    MST_TRY(mst_hasher_finish(p->hasher, digest_out));
done:
    return status;
}

/* The digest of moments that are zero everywhere. */
static mst_status hash_zeros(weights *w, ckpt_pack *p, mst_digest *digest_out) {
    mst_status status = MST_OK;
    mst_digest whole, tail;
    memset(w->values, 0, MST_BLOCK * sizeof *w->values);
    MST_TRY(mst_digest_of(w->values, MST_BLOCK * sizeof *w->values, &whole));
    MST_TRY(ckpt_kind_begin(p->hasher));
    for (size_t t = 0; t < p->from.tensor_count; t++) {
        const mst_manifest_tensor *tensor = &p->from.tensors[t];
        MST_TRY(ckpt_kind_tensor(p->hasher, tensor->name, tensor->dims, tensor->shape));
        for (uint64_t block = 0; block < tensor->count / MST_BLOCK; block++)
            MST_TRY(mst_hasher_update(p->hasher, &whole, sizeof whole));
        if (tensor->count % MST_BLOCK == 0) continue;
        MST_TRY(mst_digest_of(w->values, (size_t)(tensor->count % MST_BLOCK) * sizeof *w->values, &tail));
        MST_TRY(mst_hasher_update(p->hasher, &tail, sizeof tail));
    }
    MST_TRY(mst_hasher_finish(p->hasher, digest_out));
done:
    return status;
}

static mst_status hash_all(weights *w, ckpt_pack *p) {
    mst_status status = MST_OK;
    mst_manifest *from = &p->from;
    w->digests = calloc((size_t)from->blocks, sizeof *w->digests);
    w->values = malloc(PART * sizeof *w->values);
    MST_CHECK(w->digests != NULL && w->values != NULL, MST_ENOMEM,
              "pack: no memory for the digests of %llu blocks", (unsigned long long)from->blocks);
    MST_TRY(mst_hasher_create(&p->hasher));
    MST_TRY(hash_weights(w, p, &from->kinds[MST_KIND_MASTER]));
    MST_TRY(hash_zeros(w, p, &from->kinds[MST_KIND_EXP_AVG]));
    from->kinds[MST_KIND_EXP_AVG_SQ] = from->kinds[MST_KIND_EXP_AVG];
    MST_TRY(ckpt_state_digest(from->kinds, &from->meta, &from->state));
done:
    mst_hasher_destroy(&p->hasher);
    return status;
}

/* --- second pass --- */

static mst_status feed(ckpt_pack *p, const ckpt_sink *sink) {
    mst_status status = MST_OK;
    weights *w = p->feed_context;
    const mst_digest *expected = w->digests;
    for (size_t t = 0; t < p->from.tensor_count; t++) {
        const mst_manifest_tensor *tensor = &p->from.tensors[t];
        for (uint64_t first = 0, count; first < tensor->count; first += count) {
            count = part_of(tensor, first);
            MST_TRY(read_part(w, t, first, count));
            MST_CHECK(memcmp(w->found, expected, mst_blocks_of(count) * sizeof *expected) == 0, MST_EFORMAT,
                      "tensor %s changed while it was read, at element %llu", tensor->name,
                      (unsigned long long)first);
            MST_TRY(sink->put(sink->context, &p->to.pieces[t], first, w->values, count, w->found));
            expected += mst_blocks_of(count);
        }
    }
done:
    return status;
}

/* --- what the manifest says --- */

static mst_status copy_text(const char *text, char **copy_out) {
    *copy_out = strdup(text != NULL ? text : "");
    return *copy_out != NULL ? MST_OK : mst_error(MST_ENOMEM, "pack: no memory for the checkpoint's texts");
}

static mst_status describe_meta(const mst_checkpoint_meta *meta, mst_checkpoint_meta *copy_out) {
    mst_status status = MST_OK;
    mst_checkpoint_meta copy = *meta;
    copy.run_id = copy.device_class = copy.config = copy.versions = copy.choices = NULL;
    copy.tokenizer = NULL;
    copy.companions = NULL;
    MST_TRY(copy_text(meta->run_id, &copy.run_id));
    MST_TRY(copy_text(meta->device_class, &copy.device_class));
    MST_TRY(copy_text(meta->config, &copy.config));
    MST_TRY(copy_text(meta->versions, &copy.versions));
done:
    *copy_out = copy;
    return status;
}

static mst_status describe_file(const char *name, const void *content, size_t bytes,
                                mst_manifest_file *file_out) {
    if (content == NULL) return MST_OK;
    memcpy(file_out->name, name, strlen(name) + 1);
    file_out->bytes = bytes;
    return mst_digest_of(content, bytes, &file_out->digest);
}

static mst_status describe(const weights *w, const mst_layout *layout, const mst_checkpoint_meta *meta,
                           mst_manifest *from) {
    mst_status status = MST_OK;
    MST_TRY(describe_meta(meta, &from->meta));
    memcpy(from->digests.name, CKPT_DIGESTS_NAME, sizeof CKPT_DIGESTS_NAME);
    MST_TRY(describe_file(CKPT_TOKENIZER_NAME, meta->tokenizer,
                          meta->tokenizer != NULL ? strlen(meta->tokenizer) : 0, &from->tokenizer));
    MST_TRY(describe_file(CKPT_COMPANIONS_NAME, meta->companions, meta->companion_bytes, &from->companions));
    from->tensors = calloc(layout->tensor_count, sizeof *from->tensors);
    MST_CHECK(from->tensors != NULL, MST_ENOMEM, "pack: no memory for %zu tensors", layout->tensor_count);
    from->tensor_count = layout->tensor_count;
    for (size_t i = 0; i < layout->tensor_count; i++) {
        const mst_tensor *tensor = &layout->tensors[w->order[i]];
        mst_manifest_tensor *to = &from->tensors[i];
        *to = (mst_manifest_tensor){.dims = tensor->dims,
                                    .shape = {tensor->shape[0], tensor->shape[1]},
                                    .count = tensor->count,
                                    .first_block = from->blocks};
        memcpy(to->name, tensor->name, sizeof to->name);
        from->blocks += mst_blocks_of(to->count);
    }
done:
    return status;
}

mst_status mst_checkpoint_pack_weights(const mst_checkpoint_context *context, const mst_layout *layout,
                                       const mst_checkpoint_meta *meta, const mst_weights_source *source,
                                       const char *output, const mst_pack_options *options,
                                       mst_checkpoint_digests *digests_out) {
    mst_status status = MST_OK;
    weights *w = calloc(1, sizeof *w);
    ckpt_pack p = {.context = context,
                   .options = options,
                   .weights_only = true,
                   .tokenizer = meta->tokenizer,
                   .companions = meta->companions,
                   .feed = feed,
                   .feed_context = w};
    MST_CHECK(w != NULL, MST_ENOMEM, "pack: no memory for %zu bytes", sizeof *w);
    *w = (weights){.context = context, .source = source};
    MST_TRY(ckpt_name_order(layout, &w->order));
    MST_TRY(describe(w, layout, meta, &p.from));
    for (size_t i = 0; i < p.from.tensor_count; i++) p.all += p.from.tensors[i].count * sizeof *w->values;
    MST_TRY(hash_all(w, &p));
    MST_TRY(ckpt_pack_write(&p, output, digests_out));
done:
    ckpt_pack_clear(&p);
    if (w != NULL) {
        free(w->order);
        free(w->digests);
        free(w->values);
    }
    free(w);
    return status;
}
