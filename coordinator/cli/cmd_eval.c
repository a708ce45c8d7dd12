/* muster eval: the loss of a checkpoint on a token file. */
#include <math.h>
#include <string.h>

#include "commands.h"
#include "muster/inference.h"

static const cli_operand operands[] = {
    {.name = "CKPT", .help = "a checkpoint folder, or a run folder: its newest checkpoint"}, {0}};

static const cli_option options[] = {
    {.name = "data", .argument = "TOKENS.h5", .help = "token file; default: the sources it was trained on"},
    {.name = "split", .argument = "NAME", .help = "heldout or train; default heldout"},
    {.name = "batches", .argument = "N", .help = "only the first N microbatches; default all"},
    {.name = "precision", .argument = "TYPE", .help = "f32 or bf16; default: the one it was trained in"},
    {.name = "threads", .argument = "N", .help = "default: all cores that this process may use"},
    {0}};

static mst_status open_data(const cli_args *args, const mst_config *config, mst_data **data_out) {
    const char *path = cli_text(args, "data", NULL);
    const mst_source_config given = {.path = path, .weight = 1};
    const mst_data_config data = {.sources = path != NULL ? &given : config->data.sources,
                                  .source_count = path != NULL ? 1 : config->data.source_count,
                                  .seq_len = config->data.seq_len,
                                  .seed = config->run.seed};
    return mst_data_open(&data, data_out);
}

static mst_status run(const cli_args *args) {
    mst_status status = MST_OK;
    mst_inference *inference = NULL;
    mst_data *data = NULL;
    mst_evaluation result;
    uint64_t batches = 0, threads = 0;
    const char *split = cli_text(args, "split", "heldout");
    MST_CHECK(strcmp(split, "heldout") == 0 || strcmp(split, "train") == 0, MST_ECONFIG,
              "--split: '%s' is neither heldout nor train", split);
    MST_TRY(cli_whole(args, "batches", 1, UINT64_MAX, &batches));
    MST_TRY(cli_whole(args, "threads", 1, 1024, &threads));
    MST_TRY(mst_inference_open(cli_operands(args)[0], cli_text(args, "precision", NULL), (int)threads,
                               &inference));
    MST_TRY(open_data(args, mst_inference_config(inference), &data));
    MST_TRY(mst_inference_evaluate(inference, data, split[0] == 'h' ? MST_SPLIT_HELDOUT : MST_SPLIT_TRAIN,
                                   batches, &result));
    printf("checkpoint     %s\n", mst_inference_path(inference));
    printf("tokens         %llu (%s)\n", (unsigned long long)result.tokens, split);
    printf("loss           %.6f nats per token\n", result.loss);
    printf("perplexity     %.4f\n", exp(result.loss));
    printf("bits per byte  %.4f\n", result.loss / log(2.0)); /* one token is one byte */
done:
    mst_data_close(&data);
    mst_inference_close(&inference);
    return status;
}

const cli_command cli_eval = {
    .name = "eval",
    .summary = "the loss, perplexity and bits per byte of a checkpoint on a token file",
    .operands = operands,
    .options = options,
    .example = "muster eval runs/tiny-llama\nmuster eval runs/tiny-llama/checkpoints/step-00000100 --data "
               "other.h5 --split train",
    .run = run,
};
