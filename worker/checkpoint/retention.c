/* Which checkpoints of a run stay. */
#include <math.h>
#include <stdlib.h>

#include "folder.h"
#include "muster/checkpoint.h"

static mst_status look_into(const char *folder, mst_checkpoint_entry *entry) {
    char path[CKPT_PATH_MAX];
    mst_checkpoint_meta meta = {0};
    mst_checkpoint_digests digests;
    mst_status status = ckpt_step_path(folder, entry->step, path);
    if (status != MST_OK) return status;
    entry->loss = entry->bits_per_byte = NAN;
    entry->readable = mst_checkpoint_open(path, &meta, &digests) == MST_OK;
    if (entry->readable && meta.heldout.valid > 0) {
        entry->loss = meta.heldout.loss;
        entry->bits_per_byte = meta.heldout.bits_per_byte;
    }
    mst_checkpoint_meta_clear(&meta);
    return MST_OK;
}

mst_status mst_checkpoint_list(const char *folder, mst_checkpoint_entry **entries_out, size_t *count_out) {
    mst_status status = MST_OK;
    mst_checkpoint_entry *entries = NULL;
    uint64_t *steps = NULL;
    size_t count = 0;
    *entries_out = NULL;
    *count_out = 0;
    MST_TRY(ckpt_list_steps(folder, &steps, &count));
    entries = calloc(count + 1, sizeof *entries);
    MST_CHECK(entries != NULL, MST_ENOMEM, "no memory to list %zu checkpoints of %s", count, folder);
    for (size_t i = 0; i < count; i++) {
        entries[i].step = steps[i];
        MST_TRY(look_into(folder, &entries[i]));
    }
    *entries_out = entries;
    *count_out = count;
    entries = NULL;
done:
    free(entries);
    free(steps);
    return status;
}

/* The lowest loss that is not marked yet, the earliest of equal ones; NULL: none is left. */
static mst_checkpoint_entry *next_best(mst_checkpoint_entry *entries, size_t count) {
    mst_checkpoint_entry *best = NULL;
    for (size_t i = 0; i < count; i++)
        if (!entries[i].best && isfinite(entries[i].loss) && (best == NULL || entries[i].loss <= best->loss))
            best = &entries[i];
    return best;
}

void mst_checkpoint_choose(mst_checkpoint_entry *entries, size_t count, const mst_checkpoint_wishes *wishes) {
    uint64_t newer = 0; /* of those that are readable */
    bool rollback = false;
    for (size_t i = 0; i < count; i++) {
        mst_checkpoint_entry *entry = &entries[i];
        const bool multiple = wishes->rollback > 0 && entry->step % wishes->rollback == 0;
        entry->best = false;
        entry->stays = !entry->readable || wishes->newest == 0 || newer < wishes->newest ||
                       (wishes->every > 0 && entry->step % wishes->every == 0) || (multiple && !rollback);
        newer += entry->readable;
        rollback = rollback || (multiple && entry->readable);
    }
    for (uint64_t i = 0; i < wishes->best; i++) {
        mst_checkpoint_entry *entry = next_best(entries, count);
        if (entry == NULL) break;
        entry->best = entry->stays = true;
    }
}

mst_status mst_checkpoint_is_best(const char *folder, uint64_t best, uint64_t step, double loss,
                                  bool *is_out) {
    mst_checkpoint_entry *entries;
    size_t count, better = 0;
    mst_status status = mst_checkpoint_list(folder, &entries, &count);
    for (size_t i = 0; i < count; i++) better += entries[i].step < step && entries[i].loss <= loss;
    *is_out = isfinite(loss) && better < best;
    free(entries);
    return status;
}

mst_status mst_checkpoint_prune(const char *folder, const mst_checkpoint_wishes *wishes) {
    mst_status status = MST_OK;
    mst_checkpoint_entry *entries = NULL;
    size_t count = 0;
    if (wishes->newest == 0) return MST_OK;
    MST_TRY(mst_checkpoint_list(folder, &entries, &count));
    mst_checkpoint_choose(entries, count, wishes);
    for (size_t i = 0; i < count; i++) {
        char gone[CKPT_PATH_MAX];
        if (entries[i].stays) continue;
        MST_TRY(ckpt_take_out(folder, entries[i].step, ".gone-", gone));
        MST_TRY(ckpt_folder_sync(folder)); /* see ckpt_folder_recover */
        ckpt_folder_discard(gone);
    }
done:
    free(entries);
    return status;
}
