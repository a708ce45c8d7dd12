/* A trainer from its making to its end, and what others ask of it. */
#include "trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t mst_trainer_microbatches(const mst_trainer *t) {
    return t->config.shape.leaf * t->config.shape.lanes * t->config.shape.rounds;
}

size_t mst_trainer_samples_per_step(const mst_trainer *trainer) {
    return mst_trainer_microbatches(trainer) * trainer->config.micro;
}

/* The largest power of two whose product with the tokens of a microbatch is at most 1:
 * scaling by it is exact. */
static double choose_loss_scale(size_t tokens) {
    return ldexp(1.0, -ilogb((double)tokens));
}

static mst_status allocate_records(mst_trainer *t) {
    mst_status status = MST_OK;
    size_t size = (size_t)mst_comm_size(t->comm), tokens = t->config.micro * t->config.seq_len,
           all = mst_trainer_microbatches(t);
    t->tokens = calloc(tokens, sizeof *t->tokens);
    t->targets = calloc(tokens, sizeof *t->targets);
    const bool packed = t->config.packing != MST_PACKING_STREAM;
    if (packed) t->starts = calloc(tokens, sizeof *t->starts);
    t->gradients = calloc(t->layout.unit_count, sizeof *t->gradients);
    t->mine = calloc(all, sizeof *t->mine);
    t->gathered = calloc(all, sizeof *t->gathered);
    t->records = calloc(all, sizeof *t->records);
    t->values = calloc(all, sizeof *t->values);
    t->messages = calloc(size, sizeof *t->messages);
    t->paces = calloc(size, sizeof *t->paces);
    t->bytes_of = calloc(size, sizeof *t->bytes_of);
    t->bytes_of_message = calloc(size, sizeof *t->bytes_of_message);
    t->lane_counts = calloc(size, sizeof *t->lane_counts);
    MST_CHECK(t->tokens && t->targets && (t->starts || !packed) && t->gradients && t->mine && t->gathered &&
                  t->records && t->values && t->messages && t->paces && t->bytes_of && t->bytes_of_message &&
                  t->lane_counts,
              MST_ENOMEM, "trainer: out of memory for the records of %zu microbatches", all);
    for (size_t rank = 0; rank < size; rank++) t->bytes_of_message[rank] = sizeof(mst_step_message);
    MST_TRY(mst_speeds_init(&t->speeds, size));
done:
    return status;
}

void mst_trainer_take_lanes(mst_trainer *t) {
    const mst_sum_shape *shape = &t->config.shape;
    for (int rank = 0; rank < mst_comm_size(t->comm); rank++) {
        size_t first;
        mst_exchange_lanes(t->exchange, rank, &first, &t->lane_counts[rank]);
        t->bytes_of[rank] = shape->rounds * t->lane_counts[rank] * shape->leaf * sizeof(mst_loss);
    }
    mst_exchange_lanes(t->exchange, mst_comm_rank(t->comm), &t->first_lane, &t->lanes);
}

/* What can fail on one rank alone; the caller agrees on the result. */
static mst_status create_local(mst_trainer *t) {
    mst_status status = MST_OK;
    int rank = mst_comm_rank(t->comm), size = mst_comm_size(t->comm);
    const mst_model_options options = {.dtype = t->config.precision,
                                       .micro = t->config.micro,
                                       .seq_len = t->config.seq_len,
                                       .recompute = t->config.recompute,
                                       .head_rows = t->config.head_rows,
                                       .attention_workspace = t->config.attention_workspace,
                                       .lora = t->config.lora,
                                       .graphs = t->config.graphs};
    const bool adapters = t->config.lora.rank > 0;
    t->loss_scale = choose_loss_scale(t->config.micro * t->config.seq_len);
    MST_TRY(mst_model_layout(&t->config.model, &t->model_layout));
    MST_TRY(adapters ? mst_lora_layout(&t->config.model, &t->config.lora, &t->layout)
                     : mst_model_layout(&t->config.model, &t->layout));
    MST_TRY(mst_model_create(&t->config.model, &t->model_layout, &options, t->queue, &t->kernels, &t->model));
    MST_TRY(mst_optimizer_create(&t->config.optimizer, &t->layout, rank, size, t->queue, &t->kernels,
                                 &t->optimizer));
    MST_TRY(allocate_records(t));
done:
    return status;
}

/* The weights that adapters adapt: once for a node, where its ranks share what is trained, too. Collective. */
static mst_status open_frozen(mst_trainer *t) {
    mst_status status = MST_OK;
    if (t->config.lora.rank == 0) goto done;
    MST_TRY(mst_shared_create(t->comm, mst_exchange_shares(t->exchange),
                              mst_frozen_bytes_of(&t->model_layout, t->config.precision), &t->shared));
    MST_TRY(mst_comm_agree(t->comm, mst_frozen_create(&t->model_layout, t->config.precision, t->queue,
                                                      mst_shared_memory(t->shared), &t->frozen)));
done:
    return status;
}

mst_status mst_trainer_create(const mst_trainer_config *config, mst_comm *comm, mst_data *data,
                              mst_queue *queue, const mst_kernels *kernels, mst_watchdog *watchdog,
                              mst_trainer **trainer_out) {
    mst_status status = MST_OK;
    mst_trainer *t = calloc(1, sizeof *t);
    *trainer_out = NULL;
    if (t == NULL) {
        status = mst_error(MST_ENOMEM, "trainer: out of memory");
    } else {
        *t = (mst_trainer){.config = *config,
                           .comm = comm,
                           .data = data,
                           .queue = queue,
                           .kernels = *kernels,
                           .watchdog = watchdog};
        status = create_local(t);
    }
    MST_TRY(mst_comm_agree(comm, status));
    MST_TRY(mst_exchange_create(comm, config->transport, &config->shape, NULL, config->precision, &t->layout,
                                queue, &t->kernels, &t->exchange));
    mst_trainer_take_lanes(t);
    MST_TRY(open_frozen(t));
    *trainer_out = t;
    t = NULL;
done:
    mst_trainer_destroy(&t);
    return status;
}

void mst_trainer_destroy(mst_trainer **trainer) {
    mst_trainer *t = *trainer;
    if (t == NULL) return;
    mst_exchange_destroy(&t->exchange);
    mst_optimizer_destroy(&t->optimizer);
    mst_model_destroy(&t->model);
    mst_frozen_destroy(&t->frozen);
    mst_shared_destroy(&t->shared);
    mst_layout_clear(&t->layout);
    mst_layout_clear(&t->model_layout);
    free(t->tokens);
    free(t->targets);
    free(t->starts);
    free(t->gradients);
    free(t->mine);
    free(t->gathered);
    free(t->records);
    free(t->values);
    free(t->messages);
    free(t->paces);
    free(t->bytes_of);
    free(t->bytes_of_message);
    free(t->lane_counts);
    mst_speeds_clear(&t->speeds);
    free(t);
    *trainer = NULL;
}

void mst_trainer_give_up(mst_trainer *trainer, mst_comm *rest) {
    mst_exchange_give_up(trainer->exchange, rest);
}

mst_status mst_trainer_publish(mst_trainer *t) {
    mst_status status = MST_OK;
    for (size_t unit = 0; unit < t->layout.unit_count && status == MST_OK; unit++) {
        mst_watchdog_unit(t->watchdog, "publish", unit, t->position.step);
        status = mst_optimizer_write_weights(t->optimizer, unit, mst_exchange_own_weights(t->exchange, unit),
                                             t->config.precision);
    }
    mst_watchdog_waiting(t->watchdog, "publish", t->position.step);
    MST_TRY(mst_comm_agree(t->comm, status));
    MST_TRY(mst_exchange_publish(t->exchange));
done:
    return status;
}

mst_status mst_trainer_init(mst_trainer *trainer) {
    mst_trainer *t = trainer;
    mst_status status = MST_OK;
    mst_shard *shards = mst_optimizer_shards(t->optimizer);
    for (size_t unit = 0; unit < t->layout.unit_count && status == MST_OK; unit++) {
        mst_shard *shard = &shards[unit];
        mst_watchdog_progress(t->watchdog, "initialise", 0);
        const size_t bytes = shard->blocks * MST_BLOCK * mst_dtype_size(shard->moments);
        status = mst_memory_fill(t->queue, shard->m, 0, bytes);
        if (status == MST_OK) status = mst_memory_fill(t->queue, shard->v, 0, bytes);
        if (status != MST_OK) break;
        status = mst_model_init_blocks(&t->config.model, &t->layout, unit, t->config.seed, shard->first_block,
                                       shard->blocks, t->queue, &t->kernels, shard->master);
    }
    mst_watchdog_waiting(t->watchdog, "initialise", 0);
    MST_TRY(mst_comm_agree(t->comm, status));
    t->position = (mst_position){0};
    MST_TRY(mst_trainer_publish(t));
done:
    return status;
}

mst_status mst_trainer_restore(mst_trainer *trainer, const mst_position *position) {
    trainer->position = *position;
    return mst_trainer_publish(trainer);
}

/* ---- what others ask ---- */

const mst_position *mst_trainer_position(const mst_trainer *trainer) {
    return &trainer->position;
}
const mst_layout *mst_trainer_layout(const mst_trainer *trainer) {
    return &trainer->layout;
}
const mst_layout *mst_trainer_model_layout(const mst_trainer *trainer) {
    return &trainer->model_layout;
}
mst_frozen *mst_trainer_frozen(mst_trainer *trainer) {
    return trainer->frozen;
}
bool mst_trainer_fills_frozen(const mst_trainer *trainer) {
    return mst_shared_is_filler(trainer->shared);
}
mst_status mst_trainer_frozen_filled(mst_trainer *trainer) {
    return mst_shared_filled(trainer->shared);
}
mst_shard *mst_trainer_shards(mst_trainer *trainer) {
    return mst_optimizer_shards(trainer->optimizer);
}
const char *mst_trainer_transport(const mst_trainer *trainer) {
    return mst_exchange_transport(trainer->exchange);
}

const char *mst_trainer_graphs_failure(const mst_trainer *trainer) {
    return mst_model_graphs_failure(trainer->model);
}

const double *mst_trainer_paces(const mst_trainer *trainer) {
    return trainer->paces;
}

size_t mst_trainer_bytes(const mst_trainer *trainer) {
    const mst_trainer *t = trainer;
    const size_t frozen = t->shared ? mst_shared_bytes(t->shared) : 0;
    return mst_exchange_bytes(t->exchange) + mst_optimizer_bytes(t->optimizer) + mst_model_bytes(t->model) +
           frozen;
}

mst_flops mst_trainer_flops(const mst_trainer *trainer) {
    const mst_trainer *t = trainer;
    return t->frozen ? mst_lora_flops(&t->config.model, &t->model_layout, &t->layout, t->config.seq_len)
                     : mst_model_flops(&t->config.model, &t->model_layout, t->config.seq_len);
}
