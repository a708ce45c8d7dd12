/* muster eval: the loss of a checkpoint on token files, or how many questions it answers right. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "choices.h"
#include "commands.h"
#include "json.h"
#include "muster/inference.h"
#include "muster/sources.h"

static const cli_operand operands[] = {
    {.name = "CKPT", .help = CLI_CKPT_HELP},
    {.name = "FILE",
     .help =
         "token files, of muster or another trainer, taken together; default: the sources it was trained on",
     .optional = true,
     .many = true},
    {0}};

static const cli_option options[] = {
    {.name = "split", .argument = "heldout|train", .help = "default heldout"},
    {.name = "batches", .argument = "N", .help = "only the first N microbatches; default: the whole split"},
    {.name = "dtype",
     .argument = "uint16|uint32",
     .help = "the type of tokens in a FILE without a header; default: data.dtype of its training"},
    CLI_CHOICES_OPTIONS,
    {.name = "json", .help = "print one line of JSON"},
    {.name = "precision", .argument = "f32|bf16", .help = "default: the one it was trained in"},
    {.name = "threads", .argument = "N", .help = "default: all cores that this process may use"},
    {0}};

/* What --dtype says. */
static mst_status read_type(const cli_args *args, mst_token_type *type_out) {
    mst_status status = MST_OK;
    const char *type = cli_text(args, "dtype", NULL);
    *type_out = MST_TOKENS_AUTO;
    if (type == NULL) goto done;
    MST_CHECK(strcmp(type, "uint16") == 0 || strcmp(type, "uint32") == 0, MST_ECONFIG,
              "--dtype: '%s' is neither uint16 nor uint32", type);
    *type_out = strcmp(type, "uint16") == 0 ? MST_TOKENS_UINT16 : MST_TOKENS_UINT32;
done:
    return status;
}

static mst_status open_data(const cli_args *args, const mst_inference *inference, mst_data **data_out) {
    mst_status status = MST_OK;
    const char *const *paths = cli_operands(args) + 1;
    const size_t count = cli_operand_count(args) - 1;
    mst_source_config *given = calloc(count + 1, sizeof *given);
    MST_CHECK(given != NULL, MST_ENOMEM, "eval: out of memory");
    for (size_t i = 0; i < count; i++) given[i] = (mst_source_config){.path = paths[i], .weight = 1};
    mst_sources_instead instead = {.sources = count > 0 ? given : NULL, .source_count = count};
    MST_TRY(read_type(args, &instead.type));
    if (!mst_inference_bytes_are_tokens(inference)) instead.tokenizer = mst_inference_tokenizer(inference);
    status = mst_sources_open(mst_inference_config(inference), &instead, data_out);
    if (status != MST_OK && count == 0)
        mst_error_context(status, "the data of the training (name other files behind the checkpoint)");
done:
    free(given);
    return status;
}

static void print_text(const char *checkpoint, const char *split, const mst_evaluation *e) {
    printf("checkpoint     %s\n", checkpoint);
    printf("split          %s\n", split);
    printf("tokens         %" PRIu64 "\n", e->tokens);
    printf("bytes          %" PRIu64 "\n", e->bytes);
    printf("loss           %.6f nats per token\n", e->loss);
    printf("perplexity     %.4f\n", e->perplexity);
    if (isnan(e->bits_per_byte) && !isnan(e->loss))
        printf("bits per byte  not known: the data does not say which text its tokens stand for\n");
    else
        printf("bits per byte  %.6f\n", e->bits_per_byte);
}

static mst_status print_json(const char *checkpoint, const char *split, const mst_evaluation *e) {
    return cli_json_print(json_pack(
        "{s:o, s:s, s:I, s:I, s:o, s:o, s:o}", "checkpoint", cli_json_text(checkpoint), "split", split,
        "tokens", (json_int_t)e->tokens, "bytes", (json_int_t)e->bytes, "loss", cli_json_number(e->loss),
        "perplexity", cli_json_number(e->perplexity), "bits_per_byte", cli_json_number(e->bits_per_byte)));
}

static mst_status evaluate(const cli_args *args, mst_inference *inference) {
    mst_status status = MST_OK;
    mst_data *data = NULL;
    mst_evaluation result;
    uint64_t batches = 0;
    const char *split = cli_text(args, "split", "heldout");
    MST_CHECK(strcmp(split, "heldout") == 0 || strcmp(split, "train") == 0, MST_ECONFIG,
              "--split: '%s' is neither heldout nor train", split);
    MST_TRY(cli_whole(args, "batches", 1, UINT64_MAX, &batches));
    MST_TRY(open_data(args, inference, &data));
    MST_TRY(mst_inference_evaluate(inference, data, split[0] == 'h' ? MST_SPLIT_HELDOUT : MST_SPLIT_TRAIN,
                                   batches, &result));
    if (cli_flag(args, "json"))
        MST_TRY(print_json(mst_inference_path(inference), split, &result));
    else
        print_text(mst_inference_path(inference), split, &result);
done:
    mst_data_close(&data);
    return status;
}

static mst_status run(const cli_args *args) {
    mst_status status = MST_OK;
    mst_inference *inference = NULL;
    uint64_t threads = 0;
    MST_TRY(cli_check_choices(args));
    MST_TRY(cli_whole(args, "threads", 1, 1024, &threads));
    MST_TRY(mst_inference_open(cli_operands(args)[0], cli_text(args, "precision", NULL), (int)threads,
                               &inference));
    MST_TRY(cli_flag(args, "choices") ? cli_choices(args, inference) : evaluate(args, inference));
done:
    mst_inference_close(&inference);
    return status;
}

const cli_command cli_eval = {
    .name = "eval",
    .summary = "the loss of a checkpoint on token files, or its accuracy in multiple choice",
    .description =
        "Every token of the split but the first of each file is predicted once, from the tokens before\n"
        "it in its window of data.seq_len: loss, perplexity and bits per byte.\n\n"
        "With --choices: how many questions it answers right, when it takes of each one's answers that "
        "whose\n"
        "tokens have the lowest mean loss behind the question. docs/generate.md describes all figures.",
    .operands = operands,
    .options = options,
    .example = "muster eval runs/tiny-llama\nmuster eval runs/tiny-llama/checkpoints/step-00000100 other.h5 "
               "--split train --json\n"
               "muster eval smollm2.h5 --choices hellaswag_val.jsonl --details answers.jsonl",
    .run = run,
};
