/* muster data build, muster data show */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "commands.h"
#include "muster/config.h"
#include "muster/data.h"

/* ---- build ---- */

static const cli_operand build_operands[] = {
    {.name = "INPUT", .help = "a file, or a folder to search", .many = true},
    {0},
};

static const cli_option build_options[] = {
    {.name = "output",
     .letter = 'o',
     .argument = "FILE.h5",
     .required = true,
     .help = "the token file; an older one is replaced only when the new one is complete"},
    {.name = "tokenizer",
     .argument = "KIND",
     .help = "bytes: every byte is a token, 258 with the specials (default: bytes)"},
    {.name = "glob",
     .argument = "PATTERN",
     .help = "which file names to read in folders (default: *.txt and *.jsonl, also with .gz and .zst)"},
    {.name = "field",
     .argument = "NAME",
     .help = "the field of a .jsonl line that holds the text (default: text)"},
    {.name = "heldout",
     .argument = "FRACTION",
     .help = "share of the documents that is kept from training, 0 to 0.5 (default: 0.01)"},
    {.name = "seed",
     .argument = "N",
     .help = "which documents are held out; the same seed and fraction split alike in every token file "
             "(default: 0)"},
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
    printf("read       %llu files, %.1f MiB in %.1f s (%.0f MiB/s)\n", (unsigned long long)report->files, mib,
           seconds, mib / (seconds > 1e-3 ? seconds : 1e-3));
    printf("documents  %llu, %llu duplicates dropped; %llu empty ones skipped\n",
           (unsigned long long)report->documents, (unsigned long long)report->duplicates,
           (unsigned long long)report->empty);
    printf("train      %llu documents, %llu tokens\n", (unsigned long long)report->train_documents,
           (unsigned long long)report->train_tokens);
    printf("held out   %llu documents, %llu tokens\n", (unsigned long long)report->heldout_documents,
           (unsigned long long)report->heldout_tokens);
    printf("wrote      %s, tokens %s\n", output, hex);
}

static mst_status build(const cli_args *args) {
    mst_status status = MST_OK;
    mst_build_report report;
    const char *tokenizer = cli_text(args, "tokenizer", "bytes");
    mst_build_options options = {.inputs = cli_operands(args),
                                 .input_count = cli_operand_count(args),
                                 .glob = cli_text(args, "glob", NULL),
                                 .text_field = cli_text(args, "field", NULL),
                                 .output = cli_text(args, "output", NULL),
                                 .heldout_fraction = 0.01};
    MST_CHECK(strcmp(tokenizer, "bytes") == 0, MST_ECONFIG,
              "data build: --tokenizer: '%s' is not known; there is only 'bytes'", tokenizer);
    MST_TRY(cli_real(args, "heldout", 0, 0.5, &options.heldout_fraction));
    MST_TRY(cli_whole(args, "seed", 0, UINT64_MAX, &options.seed));
    const double begin = seconds_now();
    MST_TRY(mst_data_build(&options, &report));
    print_report(options.output, &report, seconds_now() - begin);
    if (options.heldout_fraction > 0 && report.heldout_documents == 0)
        printf("note: the held-out split is empty. Documents are held out whole, and there are only %llu: "
               "give more of them\n"
               "      (a .jsonl file has one on each line), or --heldout 0 to say that none is wanted.\n",
               (unsigned long long)report.train_documents);
done:
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
    .operands = build_operands,
    .options = build_options,
    .example = "muster data build texts/ more.jsonl.zst -o tokens.h5 --heldout 0.02\n"
               "muster data build src/ --glob '*.c' -o code.h5",
    .run = build,
};

/* ---- show ---- */

static const cli_operand show_operands[] = {
    {.name = "CONFIG.yaml", .help = "the config of a run"},
    {0},
};

static const cli_option show_options[] = {
    {.name = "step", .argument = "S", .help = "step of the run, from 1, as in its messages and metrics"},
    {.name = "sample",
     .argument = "N",
     .help = "instead of --step: the sample at which the step's batch begins; after a rollback metrics.jsonl "
             "says it"},
    {.name = "micro", .argument = "I", .help = "microbatch of the step, from 0 (default: 0)"},
    {.name = "set",
     .argument = "KEY=VALUE",
     .repeated = true,
     .help = "set one key of the config, as in 'muster train'"},
    {0},
};

/* The length of the UTF-8 character that begins here and is fit for a terminal, or 0. Not fit are controls
 * (C0, C1) and those that turn the direction of writing, with which a text could show what it is not. */
static size_t printable(const uint8_t *bytes, size_t count) {
    if (bytes[0] < 0x80) return bytes[0] >= ' ' && bytes[0] != 0x7F;
    size_t length = bytes[0] >= 0xF0 ? 4 : bytes[0] >= 0xE0 ? 3 : 2;
    if (bytes[0] < 0xC2 || bytes[0] > 0xF4 || count < length) return 0;
    uint32_t code = bytes[0] & (0xFFU >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xC0) != 0x80) return 0;
        code = code << 6 | (bytes[i] & 0x3F);
    }
    static const uint32_t smallest[] = {0, 0, 0xA0, 0x800, 0x10000};
    bool surrogate = code >= 0xD800 && code <= 0xDFFF;
    bool turning = (code >= 0x200E && code <= 0x200F) || (code >= 0x2028 && code <= 0x202E) ||
                   (code >= 0x2066 && code <= 0x2069);
    return code < smallest[length] || code > 0x10FFFF || surrogate || turning ? 0 : length;
}

/* Prints bytes so that a terminal shows all of them; a line of the text is a line on the screen. */
static void print_text(const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count;) {
        size_t length = printable(bytes + i, count - i);
        if (bytes[i] == '\n')
            fputs("\\n\n  ", stdout);
        else if (bytes[i] == '\t')
            fputs("\\t", stdout);
        else if (bytes[i] == '\r')
            fputs("\\r", stdout);
        else if (bytes[i] == '\\')
            fputs("\\\\", stdout);
        else if (length > 0)
            fwrite(bytes + i, 1, length, stdout);
        else
            printf("\\x%02x", bytes[i]);
        i += length > 0 ? length : 1;
    }
}

static void print_special(int32_t token) {
    if (token == MST_BYTE_EOS)
        fputs("<eos>", stdout);
    else if (token == MST_BYTE_PAD)
        fputs("<pad>", stdout);
    else if (token < 0)
        fputs("<?>", stdout); /* a last target that does not count: it is not in the tokens */
    else
        printf("<%d>", (int)token);
}

/* Prints one sequence: its tokens and the last target, between [- and -] what is no target.
 * @param bytes [seq_len + 1] room */
static void print_sequence(const int32_t *tokens, const int32_t *targets, size_t seq_len, uint8_t *bytes) {
    bool masked = false;
    size_t waiting = 0;
    fputs("  ", stdout);
    for (size_t t = 0; t <= seq_len; t++) {
        int32_t token = t < seq_len ? tokens[t] : targets[seq_len - 1];
        bool is_masked = t > 0 && targets[t - 1] < 0;
        bool is_byte = token >= 0 && token < MST_BYTE_EOS;
        if (is_masked != masked || !is_byte) {
            print_text(bytes, waiting);
            waiting = 0;
        }
        if (is_masked != masked) fputs(is_masked ? "[-" : "-]", stdout);
        masked = is_masked;
        if (is_byte)
            bytes[waiting++] = (uint8_t)token;
        else
            print_special(token);
    }
    print_text(bytes, waiting);
    fputs(masked ? "-]\n" : "\n", stdout);
}

/* Prints `micro` sequences of the training order, from sample `first` on. */
static mst_status print_microbatch(mst_data *data, uint64_t first, size_t micro, size_t seq_len) {
    mst_status status = MST_OK;
    int32_t *tokens = malloc(seq_len * sizeof *tokens), *targets = malloc(seq_len * sizeof *targets);
    uint8_t *bytes = malloc(seq_len + 1);
    MST_CHECK(tokens != NULL && targets != NULL && bytes != NULL, MST_ENOMEM,
              "no memory for a sequence of %zu tokens", seq_len);
    for (size_t i = 0; i < micro; i++) {
        mst_sample_place place;
        size_t valid = 0;
        uint64_t end;
        MST_TRY(mst_data_locate(data, MST_SPLIT_TRAIN, first + i, &place));
        MST_TRY(mst_data_read(data, MST_SPLIT_TRAIN, first + i, 1, tokens, targets));
        for (size_t t = 0; t < seq_len; t++) valid += targets[t] >= 0;
        end = place.first_token + seq_len;
        printf("\nsequence %zu: sample %llu, %s, epoch %llu, tokens %llu to %llu, %zu of %zu targets count\n",
               i, (unsigned long long)first + i, place.path, (unsigned long long)place.epoch,
               (unsigned long long)place.first_token, (unsigned long long)end, valid, seq_len);
        print_sequence(tokens, targets, seq_len, bytes);
    }
done:
    free(tokens);
    free(targets);
    free(bytes);
    return status;
}

static mst_status show(const cli_args *args) {
    mst_status status = MST_OK;
    mst_config config = {0};
    mst_data *data = NULL;
    const char *const *overrides;
    size_t override_count = cli_texts(args, "set", &overrides);
    uint64_t step = 1, micro = 0, sample = 0;
    MST_CHECK(cli_flag(args, "step") != cli_flag(args, "sample"), MST_ECONFIG,
              "data show: give either --step or --sample");
    MST_TRY(mst_config_load(cli_operands(args)[0], overrides, override_count, stderr, &config));
    const mst_sum_shape *shape = &config.batch.shape;
    const size_t microbatches = shape->leaf * shape->lanes * shape->rounds;
    MST_TRY(cli_whole(args, "step", 1, config.run.steps, &step));
    MST_TRY(cli_whole(args, "micro", 0, microbatches - 1, &micro));
    sample = (step - 1) * microbatches * config.batch.micro;
    MST_TRY(cli_whole(args, "sample", 0, UINT64_C(1) << 62, &sample));
    const mst_data_config wanted = {config.data.sources, config.data.source_count, config.data.seq_len,
                                    config.run.seed};
    MST_TRY(mst_data_open(&wanted, &data));
    if (cli_flag(args, "step")) printf("step %llu, ", (unsigned long long)step);
    printf("microbatch %llu of %zu (from 0): %zu sequences of %zu tokens\n", (unsigned long long)micro,
           microbatches, config.batch.micro, config.data.seq_len);
    MST_TRY(
        print_microbatch(data, sample + micro * config.batch.micro, config.batch.micro, config.data.seq_len));
done:
    mst_data_close(&data);
    mst_config_clear(&config);
    return status;
}

const cli_command cli_data_show = {
    .name = "data show",
    .summary = "print the text and the mask of one microbatch",
    .description = "Prints what microbatch I of step S trains on, from the config and the token files alone: "
                   "sequences with\n"
                   "their sources and places. Controls are shown as \\n, \\t, \\x07, specials as <eos>; a "
                   "new line begins after\n"
                   "every \\n. What stands between [- and -] is read, but is no target of the loss.",
    .operands = show_operands,
    .options = show_options,
    .example = "muster data show configs/tiny-llama.yaml --step 120 --micro 3",
    .run = show,
};
