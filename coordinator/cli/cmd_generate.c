/* muster generate: text that goes on from a prompt. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "muster/inference.h"

static const cli_operand operands[] = {
    {.name = "CKPT", .help = "a checkpoint folder, or a run folder: its newest checkpoint"}, {0}};

static const cli_option options[] = {
    {.name = "prompt", .letter = 'p', .argument = "TEXT", .help = "the text to go on from", .required = true},
    {.name = "tokens", .letter = 'n', .argument = "N", .help = "at most so many tokens; default 200"},
    {.name = "temperature",
     .letter = 't',
     .argument = "T",
     .help = "0: always the likeliest token; default 0.8"},
    {.name = "top-p",
     .argument = "P",
     .help = "draw among the likeliest tokens that together have probability P; default 1"},
    {.name = "seed", .argument = "N", .help = "of the draws; default 0"},
    {.name = "precision", .argument = "TYPE", .help = "f32 or bf16; default: the one it was trained in"},
    {.name = "threads", .argument = "N", .help = "default: all cores that this process may use"},
    {0}};

static mst_status print_token(void *context, int32_t token) {
    uint8_t byte;
    (void)context;
    const size_t bytes = mst_bytes_decode(&token, 1, &byte);
    if (fwrite(&byte, 1, bytes, stdout) != bytes || fflush(stdout) != 0)
        return mst_error(MST_EIO, "cannot write to standard output: %s", strerror(errno));
    return MST_OK;
}

static mst_status run(const cli_args *args) {
    mst_status status = MST_OK;
    mst_inference *inference = NULL;
    mst_sampling sampling = {.temperature = 0.8, .top_p = 1};
    uint64_t tokens = 200, threads = 0;
    const char *prompt = cli_text(args, "prompt", "");
    const size_t length = strlen(prompt);
    int32_t *encoded = calloc(length + 1, sizeof *encoded);
    MST_CHECK(encoded != NULL, MST_ENOMEM, "prompt: out of memory");
    MST_CHECK(length > 0, MST_ECONFIG, "--prompt is empty: give at least one character");
    MST_TRY(cli_whole(args, "tokens", 1, UINT64_C(1) << 32, &tokens));
    MST_TRY(cli_real(args, "temperature", 0, 100, &sampling.temperature));
    MST_TRY(cli_real(args, "top-p", 1e-6, 1, &sampling.top_p));
    MST_TRY(cli_whole(args, "seed", 0, UINT64_MAX, &sampling.seed));
    MST_TRY(cli_whole(args, "threads", 1, 1024, &threads));
    MST_TRY(mst_inference_open(cli_operands(args)[0], cli_text(args, "precision", NULL), (int)threads,
                               &inference));
    mst_bytes_encode((const uint8_t *)prompt, length, encoded);
    fputs(prompt, stdout);
    MST_TRY(mst_inference_generate(inference, encoded, length, (size_t)tokens, MST_BYTE_EOS, &sampling,
                                   print_token, NULL));
    putchar('\n');
done:
    mst_inference_close(&inference);
    free(encoded);
    return status;
}

const cli_command cli_generate = {
    .name = "generate",
    .summary = "text that goes on from a prompt",
    .operands = operands,
    .options = options,
    .example = "muster generate runs/tiny-llama --prompt \"Once upon a time\" --tokens 100 --seed 1",
    .run = run,
};
