/* Samples of whole documents: packed when a source is opened, read document by document. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "muster/files.h"
#include "packed.h"

enum { BOUNDS = 8192 }; /* that are read at once */

/* Lengths of a split's documents while they are read. */
typedef struct length_reading {
    const source *from;
    mst_split split;
    uint64_t bounds[BOUNDS]; /* the first of the documents that follow, and where the last of them ends */
    uint32_t *places;        /* [documents] */
    mst_packing_report report;
} length_reading;

static mst_status bad_bounds(const source *from, mst_split split, uint64_t document) {
    return mst_error(MST_EFORMAT,
                     "'%s': the bounds of document %" PRIu64 " of %s are not in its tokens; the file is "
                     "damaged: build it again",
                     from->path, document, index_split_name(split));
}

/* Notes document `number`, whose bounds are given. */
static mst_status take_document(length_reading *r, uint64_t number, const uint64_t bounds[2],
                                size_t seq_len) {
    if (bounds[0] > bounds[1] || bounds[1] > r->from->index.split[r->split].tokens.count)
        return bad_bounds(r->from, r->split, number);
    const uint64_t tokens = bounds[1] - bounds[0];
    uint64_t places = tokens > 0 ? tokens - 1 : 0;
    if (places > seq_len) {
        r->report.cut++;
        r->report.cut_tokens += places - seq_len;
        places = seq_len;
    }
    r->report.documents += places > 0;
    r->report.places += places;
    r->places[number] = (uint32_t)places;
    return MST_OK;
}

static mst_status read_lengths(length_reading *r, uint64_t count, size_t seq_len) {
    mst_status status = MST_OK;
    const source_file *file = source_file_of(r->from, r->split);
    const uint64_t offset = r->from->index.split[r->split].documents.offset;
    for (uint64_t first = 0; first < count; first += BOUNDS - 1) {
        const uint64_t left = count - first;
        const size_t here = left < BOUNDS - 1 ? (size_t)left : BOUNDS - 1;
        MST_TRY(mst_file_read(file->fd, file->path, offset + first * sizeof *r->bounds, r->bounds,
                              (here + 1) * sizeof *r->bounds));
        for (size_t i = 0; i < here; i++) MST_TRY(take_document(r, first + i, r->bounds + i, seq_len));
    }
done:
    return status;
}

mst_status packed_open(const source *from, mst_split split, size_t seq_len, mst_packing kind,
                       packing *packing_out) {
    mst_status status = MST_OK;
    const uint64_t bounds = from->index.split[split].documents.count, count = bounds > 0 ? bounds - 1 : 0;
    length_reading *r = calloc(1, sizeof *r);
    MST_CHECK(
        !from->is_foreign, MST_ECONFIG,
        "data source '%s' does not say where its documents begin, so they cannot be told apart; build a "
        "token file of muster, or set data.packing: stream",
        from->path);
    MST_CHECK(count < UINT32_MAX, MST_EUNSUPPORTED,
              "data source '%s' has %" PRIu64 " documents; at most %u can be packed", from->path, count,
              UINT32_MAX - 1);
    MST_CHECK(r != NULL, MST_ENOMEM, "out of memory to pack '%s'", from->path);
    *r = (length_reading){.from = from, .split = split};
    r->places = calloc((size_t)count + 1, sizeof *r->places);
    MST_CHECK(r->places != NULL, MST_ENOMEM, "out of memory to pack %" PRIu64 " documents of '%s'", count,
              from->path);
    MST_TRY(read_lengths(r, count, seq_len));
    MST_TRY(packing_deal(r->places, (size_t)count, seq_len, kind, packing_out));
    packing_out->report = r->report;
    packing_out->report.sequences = packing_out->sequences;
done:
    if (r != NULL) free(r->places);
    free(r);
    return status;
}

/* Where a document begins and ends, whose length was looked at when it was packed. */
static mst_status read_bounds(const source *from, mst_split split, uint32_t document, uint64_t bounds[2]) {
    mst_status status = MST_OK;
    const split_index *part = &from->index.split[split];
    const source_file *file = source_file_of(from, split);
    const size_t bytes = 2 * sizeof *bounds;
    MST_TRY(mst_file_read(file->fd, file->path, part->documents.offset + document * sizeof *bounds, bounds,
                          bytes));
    MST_CHECK(bounds[0] + 1 < bounds[1] && bounds[1] <= part->tokens.count, MST_EFORMAT,
              "'%s': document %" PRIu32 " of %s is not what it was when the file was opened", file->path,
              document, index_split_name(split));
done:
    return status;
}

/* Reads one document to the places from `at` on. @param at_out behind it */
static mst_status read_document(mst_data *data, mst_split split, const source *from, uint32_t document,
                                size_t at, const sample_buffers *out, size_t *at_out) {
    mst_status status = MST_OK;
    const size_t room = data->seq_len - at;
    uint64_t bounds[2];
    MST_TRY(read_bounds(from, split, document, bounds));
    const uint64_t wanted = bounds[1] - bounds[0] - 1;
    const size_t count = wanted < room ? (size_t)wanted : room;
    const token_place place = {.from = from, .first_token = bounds[0]};
    MST_TRY(reader_read(data, split, &place, count, out->tokens + at, out->targets + at));
    for (size_t t = at; t < at + count; t++) out->starts[t] = (int32_t)at;
    *at_out = at + count;
done:
    return status;
}

mst_status packed_read(mst_data *data, mst_split split, const source *from, uint64_t sequence,
                       const sample_buffers *out) {
    mst_status status = MST_OK;
    const packing *p = &from->packed[split];
    size_t at = 0;
    for (uint32_t i = p->first[sequence]; i < p->first[sequence + 1]; i++)
        MST_TRY(read_document(data, split, from, p->documents[i], at, out, &at));
    for (size_t t = at; t < data->seq_len; t++) {
        out->tokens[t] = 0;
        out->targets[t] = -1;
        out->starts[t] = (int32_t)at;
    }
done:
    return status;
}

void mst_data_packing_report(const mst_data *data, mst_split split, mst_packing_report *report_out) {
    *report_out = (mst_packing_report){0};
    for (size_t i = 0; i < data->source_count; i++) {
        const mst_packing_report *one = &data->sources[i].packed[split].report;
        report_out->documents += one->documents;
        report_out->sequences += one->sequences;
        report_out->places += one->places;
        report_out->cut += one->cut;
        report_out->cut_tokens += one->cut_tokens;
    }
}

/* ---- what is learned of them ---- */

/* Whether a document has a target among the places that a sequence has for it. @param bounds its own */
static mst_status has_target(mst_data *data, const source *from, mst_split split, const uint64_t bounds[2],
                             bool *has_out) {
    mst_status status = MST_OK;
    const source_file *file = source_file_of(from, split);
    const uint64_t tokens = bounds[1] - bounds[0];
    const size_t count = tokens - 1 < data->seq_len ? (size_t)tokens - 1 : data->seq_len;
    MST_TRY(mst_file_read(file->fd, file->path, from->index.split[split].loss_mask.offset + bounds[0] + 1,
                          data->mask, count));
    *has_out = false;
    for (size_t i = 0; i < count && !*has_out; i++) *has_out = data->mask[i] != 0;
done:
    return status;
}

/* Through the file in its order: packing has the longest first, which no disk likes. */
static mst_status count_untargeted(mst_data *data, const source *from, mst_split split,
                                   uint64_t *untargeted) {
    enum { SOME = 512 };
    mst_status status = MST_OK;
    const split_index *part = &from->index.split[split];
    const source_file *file = source_file_of(from, split);
    const uint64_t count = part->documents.count - 1;
    uint64_t bounds[SOME];
    for (uint64_t first = 0; first < count; first += SOME - 1) {
        const size_t here = count - first < SOME - 1 ? (size_t)(count - first) : SOME - 1;
        MST_TRY(mst_file_read(file->fd, file->path, part->documents.offset + first * sizeof *bounds, bounds,
                              (here + 1) * sizeof *bounds));
        for (size_t i = 0; i < here; i++) {
            bool has = true;
            MST_CHECK(bounds[i] <= bounds[i + 1] && bounds[i + 1] <= part->tokens.count, MST_EFORMAT,
                      "'%s': document %" PRIu64 " of %s is not what it was when the file was opened",
                      file->path, first + i, index_split_name(split));
            if (bounds[i + 1] - bounds[i] > 1) MST_TRY(has_target(data, from, split, bounds + i, &has));
            *untargeted += !has;
        }
    }
done:
    return status;
}

mst_status mst_data_untargeted(mst_data *data, mst_split split, uint64_t *documents_out) {
    mst_status status = MST_OK;
    *documents_out = 0;
    for (size_t i = 0; i < data->source_count; i++) {
        const source *from = &data->sources[i];
        if (from->packed[split].sequences > 0 && from->index.split[split].has_loss_mask)
            MST_TRY(count_untargeted(data, from, split, documents_out));
    }
done:
    return status;
}
