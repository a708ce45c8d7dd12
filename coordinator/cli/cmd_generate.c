/* muster generate: text that goes on from a prompt, or a conversation. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chat.h"
#include "commands.h"
#include "muster/inference.h"
#include "muster/terminal.h"

enum { PROMPT_MOST = 1 << 30 }; /* bytes of a prompt file */

static const cli_operand operands[] = {{.name = "CKPT", .help = CLI_CKPT_HELP}, {0}};

static const cli_option options[] = {
    {.name = "prompt",
     .letter = 'p',
     .argument = "TEXT",
     .help = "the text to go on from; default: none, the beginning of a document"},
    {.name = "prompt-file",
     .argument = "FILE",
     .help = "the same from a file, byte by byte; -: standard input"},
    {.name = "tokens",
     .letter = 'n',
     .argument = "N",
     .help = "at most so many tokens; default 200, for each answer of a chat as many as the context has"},
    {.name = "temperature",
     .letter = 't',
     .argument = "T",
     .help = "0: always the likeliest token; default 0.8"},
    {.name = "top-p",
     .argument = "P",
     .help = "draw among the likeliest tokens that together have probability P; default 1"},
    {.name = "top-k", .argument = "K", .help = "draw among the K likeliest tokens; default: all"},
    {.name = "seed", .argument = "N", .help = "of the draws; default 0"},
    {.name = "stop",
     .argument = "TEXT",
     .help = "end before this text, which is not printed; may be given several times",
     .repeated = true},
    {.name = "ignore-eos", .help = "go on behind the end of a document"},
    CLI_CHAT_OPTIONS,
    {.name = "tokenizer",
     .argument = "bytes|FILE.json",
     .help = "of a checkpoint that holds none: the tokenizer.json that its data was made with"},
    {.name = "context",
     .argument = "N",
     .help = "tokens that the model sees, at most model.max_seq_len; default: data.seq_len of its training"},
    {.name = "no-prompt", .help = "print only what follows the prompt"},
    {.name = "precision", .argument = "f32|bf16", .help = "default: the one it was trained in"},
    {.name = "threads", .argument = "N", .help = "default: all cores that this process may use"},
    {0}};

/* What the options say. */
typedef struct request {
    mst_generation wanted;
    uint64_t threads;
    uint8_t *prompt; /* owned */
    size_t prompt_bytes;
} request;

/* ---- the prompt ---- */

static mst_status read_all(FILE *file, const char *name, uint8_t **bytes_out, size_t *count_out) {
    mst_status status = MST_OK;
    size_t count = 0, room = 0, read = 1;
    uint8_t *bytes = NULL;
    while (read > 0) {
        if (count == room) {
            MST_CHECK(count < PROMPT_MOST, MST_ECONFIG, "--prompt-file %s has more than %d bytes", name,
                      PROMPT_MOST);
            room = room > 0 ? 2 * room : 4096;
            uint8_t *grown = realloc(bytes, room);
            MST_CHECK(grown != NULL, MST_ENOMEM, "--prompt-file %s: out of memory", name);
            bytes = grown;
        }
        read = fread(bytes + count, 1, room - count, file);
        count += read;
    }
    MST_CHECK(!ferror(file), MST_EIO, "cannot read --prompt-file %s: %s", name, strerror(errno));
    *bytes_out = bytes;
    *count_out = count;
    bytes = NULL;
done:
    free(bytes);
    return status;
}

static mst_status read_prompt(const cli_args *args, request *r) {
    mst_status status = MST_OK;
    const char *text = cli_text(args, "prompt", NULL), *path = cli_text(args, "prompt-file", NULL);
    FILE *file = NULL;
    MST_CHECK(text == NULL || path == NULL, MST_ECONFIG, "--prompt and --prompt-file: give one of them");
    if (path == NULL) {
        r->prompt = (uint8_t *)strdup(text != NULL ? text : "");
        MST_CHECK(r->prompt != NULL, MST_ENOMEM, "prompt: out of memory");
        r->prompt_bytes = strlen((const char *)r->prompt);
        goto done;
    }
    file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    MST_CHECK(file != NULL, MST_ECONFIG, "cannot open --prompt-file %s: %s", path, strerror(errno));
    MST_TRY(read_all(file, path, &r->prompt, &r->prompt_bytes));
done:
    if (file != NULL && file != stdin) fclose(file);
    return status;
}

static mst_status read_request(const cli_args *args, request *r) {
    mst_status status = MST_OK;
    uint64_t top_k = 0, context = 0;
    mst_sampling *sampling = &r->wanted.sampling;
    *sampling = (mst_sampling){.temperature = 0.8, .top_p = 1};
    r->wanted.count = cli_flag(args, "chat") ? 0 : 200;
    MST_TRY(cli_whole(args, "tokens", 1, UINT64_C(1) << 32, &r->wanted.count));
    MST_TRY(cli_real(args, "temperature", 0, 100, &sampling->temperature));
    MST_TRY(cli_real(args, "top-p", 1e-6, 1, &sampling->top_p));
    MST_TRY(cli_whole(args, "top-k", 1, UINT64_C(1) << 32, &top_k));
    MST_TRY(cli_whole(args, "seed", 0, UINT64_MAX, &sampling->seed));
    MST_TRY(cli_whole(args, "context", 1, UINT64_C(1) << 24, &context));
    MST_TRY(cli_whole(args, "threads", 1, 1024, &r->threads));
    sampling->top_k = (size_t)top_k;
    r->wanted.context = (size_t)context;
    for (const char *const *name = (const char *const[]){"chat-template", "sanitize", "system", "date", NULL};
         *name != NULL; name++)
        MST_CHECK(cli_flag(args, "chat") || !cli_flag(args, *name), MST_ECONFIG,
                  "--%s is for a chat: give --chat, too", *name);
    MST_TRY(read_prompt(args, r));
done:
    return status;
}

/* ---- the text ---- */

static mst_status print(void *context, const uint8_t *bytes, size_t count) {
    (void)context;
    if (fwrite(bytes, 1, count, stdout) != count || fflush(stdout) != 0)
        return mst_error(MST_EIO, "cannot write to standard output: %s", strerror(errno));
    return MST_OK;
}

typedef struct printer {
    const mst_inference *inference;
    mst_text_stream *stream;
} printer;

static mst_status print_token(void *context, int32_t token, bool *stop_out) {
    const printer *p = context;
    size_t count;
    const uint8_t *bytes = mst_inference_piece(p->inference, token, &count);
    return mst_text_stream_push(p->stream, bytes, count, stop_out);
}

/* What there is to know, on stderr: it does not get into the text. */
static void report(const mst_generated *g, size_t prompt_tokens) {
    if (prompt_tokens > g->prompt)
        fprintf(stderr, "muster: the prompt has %zu tokens; the model saw the last %zu (--context)\n",
                prompt_tokens, g->prompt);
    const double rate = g->tokens > 1 && g->seconds > 0 ? (double)(g->tokens - 1) / g->seconds : 0;
    fprintf(stderr,
            "muster: %" PRIu64
            " token%s, %.1f tokens/s; prompt of %zu token%s in %.3f s; context %zu, %.1f MiB\n",
            g->tokens, g->tokens == 1 ? "" : "s", rate, g->prompt, g->prompt == 1 ? "" : "s",
            g->prompt_seconds, g->context, (double)g->bytes / (1 << 20));
}

static mst_status write_text(const cli_args *args, request *r, mst_inference *inference) {
    mst_status status = MST_OK;
    const char *const *stops;
    const size_t stop_count = cli_texts(args, "stop", &stops);
    printer p = {.inference = inference};
    mst_token_list prompt = {0};
    mst_generated generated;
    MST_TRY(mst_inference_context(inference, r->wanted.context, &r->wanted.context));
    r->wanted.end_tokens[0] = cli_flag(args, "ignore-eos") ? -1 : mst_inference_end_token(inference);
    r->wanted.end_tokens[1] = -1;
    MST_TRY(mst_text_stream_create(stops, stop_count, print, NULL, &p.stream));
    MST_TRY(mst_inference_encode(inference, r->prompt, r->prompt_bytes, &prompt));
    if (!cli_flag(args, "no-prompt")) MST_TRY(print(NULL, r->prompt, r->prompt_bytes));
    MST_TRY(
        mst_inference_generate(inference, prompt.at, prompt.count, &r->wanted, print_token, &p, &generated));
    MST_TRY(mst_text_stream_end(p.stream, mst_terminal_live(stdout)));
    MST_TRY(print(NULL, (const uint8_t *)"\n", 1));
    report(&generated, prompt.count);
done:
    mst_text_stream_destroy(&p.stream);
    free(prompt.at);
    return status;
}

/* What the tokens stand for. Without knowing it, text would be noise on either side of the model. */
static mst_status know_text(const cli_args *args, mst_inference *inference) {
    mst_status status = MST_OK;
    const char *name = cli_text(args, "tokenizer", NULL);
    if (name != NULL) status = mst_inference_take_tokenizer(inference, name);
    if (status != MST_OK) mst_error_context(status, "--tokenizer");
    MST_TRY(status);
    MST_CHECK(
        mst_inference_text_is_known(inference), MST_ECONFIG,
        "%s does not say what its tokens stand for, since its data did not: name the tokenizer.json that "
        "this was made with: --tokenizer FILE.json, or --tokenizer bytes",
        mst_inference_path(inference));
done:
    return status;
}

static mst_status run(const cli_args *args) {
    mst_status status = MST_OK;
    mst_inference *inference = NULL;
    request r = {0};
    MST_TRY(read_request(args, &r));
    MST_TRY(mst_inference_open(cli_operands(args)[0], cli_text(args, "precision", NULL), (int)r.threads,
                               &inference));
    MST_TRY(know_text(args, inference));
    MST_TRY(cli_flag(args, "chat") ? cli_chat(args, inference, &r.wanted) : write_text(args, &r, inference));
done:
    mst_inference_close(&inference);
    free(r.prompt);
    return status;
}

const cli_command cli_generate = {
    .name = "generate",
    .summary = "text that goes on from a prompt, or a chat",
    .description =
        "The text is written as it comes, the prompt first, and then on stderr how fast it went. It ends\n"
        "after --tokens, at the end of a document, or before a --stop text. The same options give\n"
        "the same text on any number of threads. docs/generate.md says more.\n\n"
        "With --chat each line of standard input is a turn of the user's, and the model answers until it\n"
        "ends its turn; in a terminal Ctrl-C ends an answer, Ctrl-D the chat.",
    .operands = operands,
    .options = options,
    .example = "muster generate runs/tiny-llama --prompt \"Once upon a time\" --tokens 100 --seed 1\n"
               "muster generate runs/tiny-llama --prompt-file notes.txt --temperature 0 --stop \".\"\n"
               "muster generate runs/sft --chat --chat-template chatml --system \"You are brief.\"",
    .run = run,
};
