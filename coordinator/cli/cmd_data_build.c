/* muster data build */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "commands.h"
#include "inputs.h"
#include "muster/tokenizer.h"

static const cli_option build_options[] = {
    {.name = "output",
     .letter = 'o',
     .argument = "FILE.h5",
     .required = true,
     .help = "the token file; an older one is replaced only when the new one is complete"},
    {.name = "tokenizer",
     .letter = 't',
     .argument = "bytes|FILE.json",
     .help =
         "a tokenizer.json in Hugging Face's format (see 'muster tokenizer train'); bytes: every byte is a "
         "token, 258 with the specials (default: bytes)"},
    {.name = "end",
     .argument = "TOKEN",
     .help =
         "the special token that ends a document, such as '<|endoftext|>' (default: the one of a well-known "
         "name that the tokenizer has)"},
    CLI_INPUT_OPTIONS,
    {.name = "heldout-list",
     .argument = "FILE",
     .help = "write the paths of the files that held-out documents came from, one on each line"},
    {0},
};

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void print_report(const char *output, const mst_build_report *report, double seconds) {
    const double mib = (double)report->bytes_read / (1 << 20);
    char hex[MST_DIGEST_HEX];
    mst_digest_to_hex(&report->digest, hex);
    printf("read       %llu file%s, %.1f MiB in %.1f s (%.0f MiB/s)\n", (unsigned long long)report->files,
           report->files == 1 ? "" : "s", mib, seconds, mib / (seconds > 1e-3 ? seconds : 1e-3));
    printf("documents  %llu, %llu duplicate%s dropped; %llu empty one%s skipped\n",
           (unsigned long long)report->documents, (unsigned long long)report->duplicates,
           report->duplicates == 1 ? "" : "s", (unsigned long long)report->empty,
           report->empty == 1 ? "" : "s");
    printf("train      %llu document%s, %llu tokens\n", (unsigned long long)report->train_documents,
           report->train_documents == 1 ? "" : "s", (unsigned long long)report->train_tokens);
    printf("held out   %llu document%s, %llu tokens\n", (unsigned long long)report->heldout_documents,
           report->heldout_documents == 1 ? "" : "s", (unsigned long long)report->heldout_tokens);
    printf("wrote      %s, tokens %s\n", output, hex);
}

/* The tokenizer that a user names, and its encoder; NULL for bytes. */
static mst_status open_tokenizer(const cli_args *args, mst_tokenizer **tokenizer_out,
                                 mst_encoder **encoder_out) {
    mst_status status = MST_OK;
    const char *name = cli_text(args, "tokenizer", "bytes"), *end = cli_text(args, "end", NULL);
    if (strcmp(name, "bytes") != 0) {
        MST_TRY(mst_tokenizer_load(name, tokenizer_out));
        MST_TRY(mst_tokenizer_encoder(*tokenizer_out, end, encoder_out));
    } else {
        MST_CHECK(end == NULL, MST_ECONFIG, "data build: --end wants a --tokenizer with special tokens");
    }
done:
    return status;
}

static mst_status build(const cli_args *args) {
    mst_status status = MST_OK;
    mst_build_report report;
    mst_tokenizer *tokenizer = NULL;
    mst_encoder *encoder = NULL;
    mst_build_options options;
    MST_TRY(cli_inputs(args, &options));
    options.heldout_list = cli_text(args, "heldout-list", NULL);
    MST_TRY(open_tokenizer(args, &tokenizer, &encoder));
    options.encoder = encoder;
    const double begin = seconds_now();
    MST_TRY(mst_data_build(&options, &report));
    print_report(options.output, &report, seconds_now() - begin);
    if (options.heldout_fraction > 0 && report.heldout_documents == 0)
        printf("note: the held-out split is empty. Documents are held out whole, and there are only %llu: "
               "give more of them\n"
               "      (a .jsonl file has one on each line), or --heldout 0 to say that none is wanted.\n",
               (unsigned long long)report.train_documents);
done:
    mst_tokenizer_encoder_destroy(&encoder);
    mst_tokenizer_destroy(&tokenizer);
    return status;
}

const cli_command cli_data_build = {
    .name = "data build",
    .summary = "turn text into a token file for training",
    .description =
        "Reads files, and in folders everything below that matches, in bytewise order of the names; hidden\n"
        "files are passed over. A .jsonl file has a document on each line, any other file is one document.\n"
        "Exact duplicates are kept once. The same input gives the same file, byte for byte; its format is\n"
        "described in docs/data-format.md (HDF5: h5py opens it).",
    .operands = cli_input_operands,
    .options = build_options,
    .example = "muster data build texts/ more.jsonl.zst -t tokenizer.json -o tokens.h5 --heldout 0.02\n"
               "muster data build src/ --glob '*.c' -o code.h5",
    .run = build,
};
