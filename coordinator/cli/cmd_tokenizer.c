/* muster tokenizer train */
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "inputs.h"
#include "muster/tokenizer.h"
#include "output.h"

#define END_OF_TEXT "<|endoftext|>" /* GPT-2's, which every reader knows */

enum { VOCAB_MOST = 1 << 20, THREADS_MOST = 1024 };

static const cli_option train_options[] = {
    {.name = "vocab",
     .argument = "N",
     .required = true,
     .help = "how many tokens, with the 256 bytes and the special tokens; often 32000 to 50000, and a "
             "multiple of "
             "64 is fast"},
    {.name = "output",
     .letter = 'o',
     .argument = "FILE.json",
     .required = true,
     .help = "the tokenizer.json; an older one is replaced only when the new one is complete"},
    {.name = "pattern",
     .argument = "gpt2|cl100k|qwen2",
     .help =
         "how text is cut into words before: gpt2, cl100k (Llama 3 has that, too) or qwen2 (default: gpt2)"},
    {.name = "digits", .help = "each digit is a token of its own, as for SmolLM2"},
    {.name = "special",
     .argument = "NAME",
     .repeated = true,
     .help =
         "a special token, such as '<|im_start|>'; may be given often. The first one is always " END_OF_TEXT},
    CLI_INPUT_OPTIONS,
    {.name = "threads",
     .argument = "N",
     .help = "threads that count words; no effect on the result (default: one for each core)"},
    {0},
};

/* The special tokens: the default one, and then those that were named. [*count_out], for the caller to free. */
static mst_status special_tokens(const cli_args *args, const char ***names_out, size_t *count_out) {
    mst_status status = MST_OK;
    const char *const *given;
    size_t count = cli_texts(args, "special", &given), used = 0;
    const char **names = calloc(count + 1, sizeof *names);
    MST_CHECK(names != NULL, MST_ENOMEM, "no memory for %zu special tokens", count);
    names[used++] = END_OF_TEXT;
    for (size_t i = 0; i < count; i++)
        if (strcmp(given[i], END_OF_TEXT) != 0) names[used++] = given[i];
    *names_out = names;
    *count_out = used;
done:
    return status;
}

static void print_report(const mst_tokenizer_training *training, const mst_tokenizer_report *report,
                         const char *output) {
    const double tokens = report->tokens > 0 ? (double)report->tokens : 1;
    const size_t size = 256 + training->special_count + report->merges;
    printf("read       %llu document%s, %.1f MB\n", (unsigned long long)report->documents,
           report->documents == 1 ? "" : "s", (double)report->bytes * 1e-6);
    printf("words      %llu, %llu of them different\n", (unsigned long long)report->words,
           (unsigned long long)report->distinct_words);
    printf("tokens     %zu: %zu special, 256 bytes, %zu merged\n", size, training->special_count,
           report->merges);
    printf("text       %.3f bytes per token\n", (double)report->bytes / tokens);
    printf("time       %.1f s\n", report->seconds);
    printf("wrote      %s\n", output);
    if (size < training->vocab_size)
        printf("note: %zu tokens and not %zu: no further pair stands twice in this text. Give more text.\n",
               size, training->vocab_size);
}

static mst_status train(const cli_args *args) {
    mst_status status = MST_OK;
    mst_tokenizer_report report;
    const char **special = NULL, *output = cli_text(args, "output", "");
    char *json = NULL;
    size_t special_count = 0;
    uint64_t vocab = 0, threads = 0;
    mst_build_options text;
    MST_TRY(cli_inputs(args, &text));
    MST_TRY(special_tokens(args, &special, &special_count));
    MST_TRY(cli_whole(args, "vocab", 256 + special_count, VOCAB_MOST, &vocab));
    MST_TRY(cli_whole(args, "threads", 1, THREADS_MOST, &threads));
    MST_TRY(cli_output_check(output));
    const mst_tokenizer_training training = {.text = &text,
                                             .vocab_size = (size_t)vocab,
                                             .special = special,
                                             .special_count = special_count,
                                             .pattern = cli_text(args, "pattern", NULL),
                                             .digits = cli_flag(args, "digits"),
                                             .threads = (size_t)threads,
                                             .progress = stderr};
    MST_TRY(mst_tokenizer_train(&training, &json, &report));
    MST_TRY(cli_output_write(output, json, strlen(json)));
    print_report(&training, &report, output);
done:
    free(json);
    free(special);
    return status;
}

const cli_command cli_tokenizer_train = {
    .name = "tokenizer train",
    .summary = "learn a vocabulary from text",
    .description =
        "Learns byte-level BPE from text and writes it in Hugging Face's format, which their libraries\n"
        "read, too. Reads what 'data build' with the same words would put into the training split: each\n"
        "document once, and none of those that are held out. The same text gives the same file.",
    .operands = cli_input_operands,
    .options = train_options,
    .example = "muster tokenizer train texts/ more.jsonl.zst --vocab 32000 -o tokenizer.json\n"
               "muster tokenizer train src/ --glob '*.c' --vocab 4096 --digits -o code.json",
    .run = train,
};
