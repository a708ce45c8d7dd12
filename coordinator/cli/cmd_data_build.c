/* muster data build */
#include <stdlib.h>
#include <string.h>

#include "chat.h"
#include "commands.h"
#include "inputs.h"
#include "muster/chat.h"
#include "muster/clock.h"
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
    {.name = "chat-template",
     .argument = "chatml|llama3|tulu|FILE",
     .help = "the .jsonl files hold conversations ('messages', or 'prompt' and 'completion'), and this "
             "template makes texts of them; "
             "only what the assistant wrote is a target of the loss. A built-in name, a file in Jinja, a "
             "tokenizer_config.json, or "
             "a model's folder"},
    {.name = "max-tokens",
     .argument = "N",
     .help = "of a conversation: what is behind them is cut off, and one of which nothing of the assistant's "
             "is left is passed over "
             "(default: none is cut)"},
    CLI_SANITIZE_OPTION,
    {.name = "date",
     .argument = "YYYY-MM-DD",
     .help = "what a chat template takes for today (default: there is no such date, and a template that can "
             "do without does)"},
    CLI_INPUT_OPTIONS,
    {.name = "heldout-list",
     .argument = "FILE",
     .help = "write the paths of the files that held-out documents came from, one on each line"},
    {0},
};

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

/* What was done with conversations. */
static void print_chat_report(const mst_chat_report *report, bool sanitized) {
    printf("learned    %llu tokens of the assistant's in %llu conversation%s; %llu cut, %llu passed over\n",
           (unsigned long long)report->targets, (unsigned long long)report->conversations,
           report->conversations == 1 ? "" : "s", (unsigned long long)report->cut,
           (unsigned long long)report->skipped);
    if (report->named > 0)
        printf("note: the messages of %llu conversation%s hold the name of a special token, which %s\n",
               (unsigned long long)report->named, report->named == 1 ? "" : "s",
               sanitized ? "stayed text." : "became that token (--sanitize: it stays text).");
}

/* What turns text into tokens, all owned; zeroed for bytes. */
typedef struct encoding {
    mst_tokenizer *tokenizer;
    mst_encoder *text, *chat; /* one of them at most */
    mst_chat_template *chat_template;
    mst_chat_report report;
} encoding;

static mst_status open_chat(const cli_args *args, encoding *e, const char *name, const char *end) {
    mst_status status = MST_OK;
    uint64_t most = 0;
    MST_CHECK(e->tokenizer != NULL, MST_ECONFIG,
              "data build: --chat-template wants the --tokenizer of the model, which has its special tokens");
    MST_TRY(cli_whole(args, "max-tokens", 1, UINT64_C(1) << 32, &most));
    MST_TRY(mst_chat_template_load(name, &e->chat_template));
    const mst_chat_encoding how = {.date = cli_text(args, "date", NULL),
                                   .sanitize = cli_flag(args, "sanitize"),
                                   .max_tokens = (size_t)most};
    MST_TRY(mst_chat_encoder(e->tokenizer, end, e->chat_template, &how, &e->report, &e->chat));
done:
    return status;
}

/* The tokenizer that a user names, and its encoder; none for bytes. */
static mst_status open_encoding(const cli_args *args, encoding *e) {
    mst_status status = MST_OK;
    const char *name = cli_text(args, "tokenizer", "bytes"), *end = cli_text(args, "end", NULL);
    const char *chat = cli_text(args, "chat-template", NULL);
    const bool bytes = strcmp(name, "bytes") == 0;
    MST_CHECK(end == NULL || !bytes, MST_ECONFIG,
              "data build: --end wants a --tokenizer with special tokens");
    for (const char *const *only = (const char *const[]){"max-tokens", "sanitize", "date", NULL};
         *only != NULL; only++)
        MST_CHECK(chat != NULL || !cli_flag(args, *only), MST_ECONFIG,
                  "data build: --%s is for conversations: give a --chat-template, too", *only);
    if (!bytes) MST_TRY(mst_tokenizer_load(name, &e->tokenizer));
    if (chat != NULL)
        MST_TRY(open_chat(args, e, chat, end));
    else if (!bytes)
        MST_TRY(mst_tokenizer_encoder(e->tokenizer, end, &e->text));
done:
    return status;
}

static void close_encoding(encoding *e) {
    mst_chat_encoder_destroy(&e->chat);
    mst_tokenizer_encoder_destroy(&e->text);
    mst_chat_template_destroy(&e->chat_template);
    mst_tokenizer_destroy(&e->tokenizer);
}

/* The marks of a template that is another model's are ordinary text to this tokenizer. */
static void print_template_note(const cli_args *args, const encoding *e) {
    int32_t ends[2];
    const mst_chat_options options = {.date = cli_text(args, "date", NULL)};
    if (mst_chat_ends(e->chat_template, e->tokenizer, &options, ends) != MST_OK || ends[1] >= 0) return;
    printf("note: %s puts no special token of this tokenizer behind what the assistant says: is it\n"
           "      another model's template?\n",
           mst_chat_template_name(e->chat_template));
}

static mst_status build(const cli_args *args) {
    mst_status status = MST_OK;
    mst_build_report report;
    encoding e = {0};
    mst_build_options options;
    MST_TRY(cli_inputs(args, &options));
    options.heldout_list = cli_text(args, "heldout-list", NULL);
    MST_TRY(open_encoding(args, &e));
    options.encoder = e.chat != NULL ? e.chat : e.text;
    if (e.chat != NULL && options.glob == NULL) options.glob = "*.jsonl*"; /* packed ones, too */
    const double begin = mst_clock_now();
    MST_TRY(mst_data_build(&options, &report));
    print_report(options.output, &report, mst_clock_now() - begin);
    if (e.chat != NULL) {
        print_chat_report(&e.report, cli_flag(args, "sanitize"));
        print_template_note(args, &e);
    }
    if (options.heldout_fraction > 0 && report.heldout_documents == 0)
        printf("note: the held-out split is empty. Documents are held out whole, and there are only %llu: "
               "give more of them\n"
               "      (a .jsonl file has one on each line), or --heldout 0 to say that none is wanted.\n",
               (unsigned long long)report.train_documents);
done:
    close_encoding(&e);
    return status;
}

const cli_command cli_data_build = {
    .name = "data build",
    .summary = "turn text into a token file for training",
    .description =
        "Reads files, and in folders everything below that matches, in bytewise order of the names; hidden\n"
        "files are passed over. A .jsonl file has a document on each line, any other file is one document.\n"
        "Exact duplicates are kept once. The same input gives the same file, byte for byte; its format is\n"
        "described in docs/data-format.md (HDF5: h5py opens it).\n\n"
        "With --chat-template the lines of .jsonl files are conversations for supervised fine-tuning: "
        "docs/sft.md.",
    .operands = cli_input_operands,
    .options = build_options,
    .example = "muster data build texts/ more.jsonl.zst -t tokenizer.json -o tokens.h5 --heldout 0.02\n"
               "muster data build src/ --glob '*.c' -o code.h5\n"
               "muster data build chats.jsonl -t model/tokenizer.json --chat-template model/ -o chats.h5",
    .run = build,
};
