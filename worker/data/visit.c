/* The documents of a build, one by one and whole, for who needs the text and not the token file. */
#include <stdlib.h>

#include "documents.h"
#include "inputs.h"
#include "judge.h"
#include "text.h"

typedef struct visitor {
    document_judge judge;
    mst_document_fn *visit;
    void *context;
    const char *path; /* of the file that is being read */
    document_text text;
    uint64_t visited;
} visitor;

static mst_status take_piece(void *context, const uint8_t *bytes, size_t count) {
    mst_status status = MST_OK;
    visitor *v = context;
    MST_TRY(text_append(&v->text, bytes, count, v->path));
    MST_TRY(judge_piece(&v->judge, bytes, count));
done:
    return status;
}

static mst_status take_end(void *context) {
    mst_status status = MST_OK;
    visitor *v = context;
    verdict judged;
    mst_split split;
    MST_TRY(judge_end(&v->judge, &judged, &split));
    if (judged == VERDICT_KEPT) {
        v->visited++;
        MST_TRY(v->visit(v->context, v->text.bytes, v->text.count, split, v->path));
    }
    v->text.count = 0;
done:
    return status;
}

mst_status mst_data_documents(const mst_build_options *options, mst_document_fn *visit, void *context) {
    mst_status status = MST_OK;
    visitor v = {.visit = visit, .context = context};
    document_sink sink = {take_piece, take_end, &v, false};
    input_list inputs = {0};
    document_file file;
    MST_TRY(judge_init(&v.judge, options));
    MST_TRY(inputs_collect(options, &inputs));
    for (size_t i = 0; i < inputs.count; i++) {
        v.path = inputs.paths[i];
        MST_TRY(documents_read(v.path, judge_field(options), &sink, &file));
    }
    MST_CHECK(v.visited > 0, MST_ECONFIG, "no text in %zu files: nothing to read", inputs.count);
done:
    inputs_clear(&inputs);
    judge_clear(&v.judge);
    free(v.text.bytes);
    return status;
}
