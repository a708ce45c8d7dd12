/* Loss on held-out data: microbatches dealt to the ranks, summed in their order. */
#include "trainer.h"

#include <math.h>

#define LN2 0.69314718055994530942

/* Fixed number of microbatches between gathers, whatever the rank count. */
enum { EVALUATION_CHUNK = 64 };

/* What one microbatch of held-out data gave. */
typedef struct heldout_record {
    uint64_t bytes;
    mst_loss loss;
} heldout_record;

/* Microbatches to evaluate: `chosen` of `whole`, evenly spread. */
typedef struct heldout_choice {
    uint64_t chosen, whole;
} heldout_choice;

/* Number `i` of those chosen: i * whole / chosen, whose product might overflow. */
static uint64_t chosen_microbatch(heldout_choice choice, uint64_t i) {
    return i * (choice.whole / choice.chosen) + i * (choice.whole % choice.chosen) / choice.chosen;
}

static mst_status evaluate_chunk(mst_trainer *t, heldout_choice choice, uint64_t first, size_t count,
                                 heldout_record *sum) {
    mst_status status = MST_OK, mine = MST_OK;
    const mst_weight_source weights = mst_trainer_weights(t);
    const size_t rank = (size_t)mst_comm_rank(t->comm), size = (size_t)mst_comm_size(t->comm);
    heldout_record all[EVALUATION_CHUNK] = {{0}}, here[EVALUATION_CHUNK] = {{0}};
    const size_t targets = t->config.micro * t->config.seq_len;
    size_t bytes_of[1024], begin = count * rank / size, end = count * (rank + 1) / size;
    MST_CHECK(size <= 1024, MST_EUNSUPPORTED, "evaluation: %zu ranks are more than 1024", size);
    for (size_t r = 0; r < size; r++) bytes_of[r] = (count * (r + 1) / size - count * r / size) * sizeof *all;
    for (size_t i = begin; i < begin + (count + size - 1) / size; i++) {
        if (i >= end || mine != MST_OK) {
            const mst_status stood_by = mst_trainer_stand_by(t, MST_PASS_FORWARD);
            if (mine == MST_OK) mine = stood_by;
            continue;
        }
        mst_watchdog_progress(t->watchdog, "data", t->position.step);
        mine =
            mst_data_read(t->data, MST_SPLIT_HELDOUT, chosen_microbatch(choice, first + i) * t->config.micro,
                          t->config.micro, t->tokens, t->targets, t->starts);
        const mst_status begun = mst_trainer_begin_pass(t, MST_PASS_FORWARD);
        if (mine == MST_OK) mine = begun;
        heldout_record *one = &here[i - begin];
        if (mine == MST_OK)
            mine = mst_model_loss(t->model, &weights, t->tokens, t->targets, t->starts, &one->loss);
        mine = mst_trainer_end_pass(t, mine);
        one->bytes = mst_data_bytes(t->data, t->targets, targets);
    }
    mine = mst_trainer_settle(t, mine);
    mst_watchdog_waiting(t->watchdog, "evaluate", t->position.step);
    MST_TRY(mst_comm_agree(t->comm, mine));
    MST_TRY(mst_comm_allgather(t->comm, here, bytes_of, all));
    for (size_t i = 0; i < count; i++) {
        sum->loss.loss += all[i].loss.loss;
        sum->loss.valid += all[i].loss.valid;
        sum->bytes += all[i].bytes;
    }
done:
    return status;
}

mst_status mst_trainer_evaluate(mst_trainer *trainer, uint64_t batches, mst_heldout *heldout_out) {
    mst_trainer *t = trainer;
    mst_status status = MST_OK;
    const uint64_t whole = mst_data_samples(t->data, MST_SPLIT_HELDOUT) / t->config.micro;
    const uint64_t count = batches < whole ? batches : whole;
    const heldout_choice choice = {count, whole};
    heldout_record sum = {0};
    for (uint64_t first = 0; first < count; first += EVALUATION_CHUNK) {
        const uint64_t left = count - first;
        MST_TRY(evaluate_chunk(t, choice, first, left < EVALUATION_CHUNK ? (size_t)left : EVALUATION_CHUNK,
                               &sum));
    }
    const mst_loss *loss = &sum.loss;
    *heldout_out = (mst_heldout){.loss = loss->valid > 0 ? loss->loss / (double)loss->valid : NAN,
                                 .bits_per_byte = sum.bytes > 0 ? loss->loss / LN2 / (double)sum.bytes : NAN,
                                 .valid = loss->valid,
                                 .bytes = sum.bytes};
done:
    return status;
}
