/* muster data show: the text and the mask of one microbatch. */
#include <stdlib.h>

#include "commands.h"
#include "muster/config.h"
#include "muster/sources.h"
#include "muster/tokenizer.h"

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

/* A special token by its name; by its number where the tokenizer is not known. */
static void print_special(const mst_tokenizer *tokenizer, int32_t token) {
    size_t bytes = 0;
    bool special = false;
    const uint8_t *name = tokenizer != NULL ? mst_tokenizer_piece(tokenizer, token, &bytes, &special) : NULL;
    if (name != NULL)
        print_text(name, bytes);
    else if (token < 0)
        fputs("<?>", stdout); /* a last target that does not count: it is not in the tokens */
    else
        printf("<%d>", (int)token);
}

/* Text that waits to be printed: a character may stand in several tokens. */
static void print_waiting(mst_byte_list *waiting) {
    print_text(waiting->at, waiting->count);
    waiting->count = 0;
}

/* Prints one sequence: its tokens and the last target, between [- and -] what is no target. */
static mst_status print_sequence(const mst_tokenizer *tokenizer, const int32_t *tokens,
                                 const int32_t *targets, size_t seq_len, mst_byte_list *waiting) {
    mst_status status = MST_OK;
    bool masked = false;
    fputs("  ", stdout);
    for (size_t t = 0; t <= seq_len; t++) {
        const int32_t token = t < seq_len ? tokens[t] : targets[seq_len - 1];
        const bool is_masked = t > 0 && targets[t - 1] < 0;
        if (is_masked != masked) {
            print_waiting(waiting);
            fputs(is_masked ? "[-" : "-]", stdout);
            masked = is_masked;
        }
        const size_t before = waiting->count;
        if (tokenizer != NULL) MST_TRY(mst_tokenizer_decode(tokenizer, &token, 1, false, waiting));
        if (waiting->count > before) continue;
        print_waiting(waiting);
        print_special(tokenizer, token);
    }
    print_waiting(waiting);
    fputs(masked ? "-]\n" : "\n", stdout);
done:
    return status;
}

/* A sequence that is to be shown. */
typedef struct shown {
    int32_t *tokens, *targets, *starts; /* [seq_len] */
    mst_byte_list waiting;
} shown;

static void print_place(size_t number, uint64_t sample, const mst_sample_place *place, const shown *s,
                        size_t seq_len) {
    size_t valid = 0;
    for (size_t t = 0; t < seq_len; t++) valid += s->targets[t] >= 0;
    printf("\nsequence %zu: sample %llu, %s, epoch %llu, ", number, (unsigned long long)sample, place->path,
           (unsigned long long)place->epoch);
    if (place->documents > 0)
        printf("%llu document%s", (unsigned long long)place->documents, place->documents == 1 ? "" : "s");
    else
        printf("tokens %llu to %llu", (unsigned long long)place->first_token,
               (unsigned long long)place->first_token + seq_len);
    printf(", %zu of %zu targets count\n", valid, seq_len);
}

/* Prints the documents of a sequence, each with the target behind it, and how much room is left. */
static mst_status print_documents(const mst_tokenizer *tokenizer, uint64_t documents, shown *s,
                                  size_t seq_len) {
    mst_status status = MST_OK;
    size_t begin = 0;
    for (uint64_t i = 0; i < documents; i++) {
        size_t end = begin + 1;
        while (end < seq_len && s->starts[end] == (int32_t)begin) end++;
        printf("  places %zu to %zu\n", begin, end - 1);
        MST_TRY(print_sequence(tokenizer, s->tokens + begin, s->targets + begin, end - begin, &s->waiting));
        begin = end;
    }
    if (begin < seq_len) printf("  places %zu to %zu are empty\n", begin, seq_len - 1);
done:
    return status;
}

/* Prints `micro` sequences of the training order, from sample `first` on. */
static mst_status print_microbatch(mst_data *data, const mst_tokenizer *tokenizer, uint64_t first,
                                   size_t micro, size_t seq_len) {
    mst_status status = MST_OK;
    const size_t bytes = seq_len * sizeof(int32_t);
    shown s = {.tokens = malloc(bytes), .targets = malloc(bytes), .starts = malloc(bytes)};
    MST_CHECK(s.tokens != NULL && s.targets != NULL && s.starts != NULL, MST_ENOMEM,
              "no memory for a sequence of %zu tokens", seq_len);
    for (size_t i = 0; i < micro; i++) {
        mst_sample_place place;
        MST_TRY(mst_data_locate(data, MST_SPLIT_TRAIN, first + i, &place));
        MST_TRY(mst_data_read(data, MST_SPLIT_TRAIN, first + i, 1, s.tokens, s.targets, s.starts));
        print_place(i, first + i, &place, &s, seq_len);
        if (place.documents > 0)
            MST_TRY(print_documents(tokenizer, place.documents, &s, seq_len));
        else
            MST_TRY(print_sequence(tokenizer, s.tokens, s.targets, seq_len, &s.waiting));
    }
done:
    free(s.tokens);
    free(s.targets);
    free(s.starts);
    free(s.waiting.at);
    return status;
}

/* NULL where the data does not say how it was made: tokens are then shown as numbers. */
static mst_status open_tokenizer(const mst_data *data, mst_tokenizer **tokenizer_out) {
    mst_data_tokenizer kind;
    mst_data_tokenizer_of(data, &kind);
    return kind.is_bytes || kind.has_json ? mst_tokenizer_of_data(data, tokenizer_out) : MST_OK;
}

static mst_status show(const cli_args *args) {
    mst_status status = MST_OK;
    mst_config config = {0};
    mst_data *data = NULL;
    mst_tokenizer *tokenizer = NULL;
    const char *const *overrides;
    size_t override_count = cli_texts(args, "set", &overrides);
    uint64_t step = 1, micro = 0, sample = 0;
    MST_CHECK(cli_flag(args, "step") != cli_flag(args, "sample"), MST_ECONFIG,
              "data show: give either --step or --sample");
    MST_TRY(mst_config_load(cli_operands(args)[0], overrides, override_count, stderr, &config));
    const mst_sum_shape *shape = &config.batch.shape;
    const size_t microbatches = shape->leaf * shape->lanes * shape->rounds;
    MST_TRY(mst_sources_count_steps(&config));
    MST_TRY(cli_whole(args, "step", 1, config.run.steps, &step));
    MST_TRY(cli_whole(args, "micro", 0, microbatches - 1, &micro));
    sample = (step - 1) * microbatches * config.batch.micro;
    MST_TRY(cli_whole(args, "sample", 0, UINT64_C(1) << 62, &sample));
    MST_TRY(mst_sources_open(&config, NULL, &data));
    MST_TRY(open_tokenizer(data, &tokenizer));
    if (cli_flag(args, "step")) printf("step %llu, ", (unsigned long long)step);
    printf("microbatch %llu of %zu (from 0): %zu sequences of %zu tokens\n", (unsigned long long)micro,
           microbatches, config.batch.micro, config.data.seq_len);
    MST_TRY(print_microbatch(data, tokenizer, sample + micro * config.batch.micro, config.batch.micro,
                             config.data.seq_len));
done:
    mst_tokenizer_destroy(&tokenizer);
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
                   "every \\n. What stands between [- and -] is read, but is no target of the loss. Of "
                   "documents that are "
                   "packed\n"
                   "(data.packing) each stands for itself, with the places that it takes.",
    .operands = show_operands,
    .options = show_options,
    .example = "muster data show configs/tiny-llama.yaml --step 120 --micro 3",
    .run = show,
};
