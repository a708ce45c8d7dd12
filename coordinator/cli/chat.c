#include "chat.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "muster/chat.h"
#include "muster/convert.h"
#include "muster/terminal.h"

typedef struct chat {
    mst_inference *inference;
    mst_generation wanted;
    mst_chat_template *how;
    mst_chat_options options;
    bool sanitize;
    mst_conversation *conversation;
    mst_generator *generator;
    const char *const *stops;
    size_t stop_count;
    bool live;            /* a person reads along */
    mst_byte_list answer; /* of this turn */
    mst_text_stream *stream;
    uint64_t turns, tokens, prompt, kept; /* so far */
    double seconds;                       /* of drawing */
    bool was_cut;                         /* the model did not see the whole conversation */
} chat;

/* ---- interrupts: one ends the answer, one at the prompt the chat ---- */

static volatile sig_atomic_t interrupted;

static void interrupt(int number) {
    (void)number;
    interrupted = 1;
}

static void catch_interrupts(void) {
    struct sigaction action = {.sa_handler = interrupt}; /* no SA_RESTART: reading a line ends, too */
    sigaction(SIGINT, &action, NULL);
}

/* ---- an answer ---- */

static mst_status write_all(const uint8_t *bytes, size_t count) {
    if (fwrite(bytes, 1, count, stdout) != count || fflush(stdout) != 0)
        return mst_error(MST_EIO, "cannot write to standard output: %s", strerror(errno));
    return MST_OK;
}

/* A part of the answer, which is kept for the next turns. */
static mst_status take_text(void *context, const uint8_t *bytes, size_t count) {
    mst_status status = MST_OK;
    chat *c = context;
    mst_byte_list *answer = &c->answer;
    if (answer->room - answer->count < count) {
        const size_t room = 2 * (answer->count + count);
        uint8_t *grown = realloc(answer->at, room);
        MST_CHECK(grown != NULL, MST_ENOMEM, "out of memory for an answer of %zu bytes", room);
        answer->at = grown;
        answer->room = room;
    }
    if (count > 0) memcpy(answer->at + answer->count, bytes, count);
    answer->count += count;
    MST_TRY(write_all(bytes, count));
done:
    return status;
}

static mst_status take_token(void *context, int32_t token, bool *stop_out) {
    chat *c = context;
    size_t count;
    const uint8_t *bytes = mst_inference_piece(c->inference, token, &count);
    mst_status status = mst_text_stream_push(c->stream, bytes, count, stop_out);
    *stop_out |= interrupted != 0;
    return status;
}

static mst_status generate(chat *c, const mst_token_list *prompt, mst_generated *made) {
    mst_status status = MST_OK;
    MST_TRY(mst_text_stream_create(c->stops, c->stop_count, take_text, c, &c->stream));
    MST_TRY(mst_generator_run(c->generator, prompt->at, prompt->count, &c->wanted, take_token, c, made));
    MST_TRY(mst_text_stream_end(c->stream, true));
    MST_TRY(write_all((const uint8_t *)"\n", 1));
done:
    mst_text_stream_destroy(&c->stream);
    return status;
}

static void count(chat *c, const mst_generated *made, size_t prompt) {
    c->turns++;
    c->tokens += made->tokens;
    c->prompt += made->prompt;
    c->kept += made->kept;
    c->seconds += made->seconds + made->prompt_seconds;
    if (prompt == made->prompt || c->was_cut) return;
    c->was_cut = true;
    fprintf(stderr,
            "muster: the conversation has %zu tokens; from here on the model sees the last %zu (--context)\n",
            prompt, made->prompt);
}

/* One turn: the user's text, and the answer. */
static mst_status answer(chat *c, const char *text, size_t bytes) {
    mst_status status = MST_OK;
    mst_token_list prompt = {0};
    mst_generated made;
    c->answer.count = 0;
    MST_TRY(mst_conversation_add(c->conversation, "user", text, bytes));
    MST_TRY(mst_chat_tokens(c->how, mst_inference_tokenizer(c->inference), c->conversation, &c->options,
                            c->sanitize, &prompt));
    MST_TRY(generate(c, &prompt, &made));
    count(c, &made, prompt.count);
    MST_TRY(mst_conversation_add(c->conversation, "assistant", (const char *)c->answer.at, c->answer.count));
done:
    free(prompt.at);
    return status;
}

/* ---- the chat ---- */

/* The template that came with the model. */
static mst_status load_carried(const char *checkpoint, mst_chat_template **how) {
    mst_status status = MST_OK;
    char *jinja = NULL, *config = NULL;
    size_t jinja_bytes = 0, config_bytes = 0;
    MST_TRY(mst_hf_carried(checkpoint, "chat_template.jinja", &jinja, &jinja_bytes));
    MST_TRY(mst_hf_carried(checkpoint, "tokenizer_config.json", &config, &config_bytes));
    MST_CHECK(
        jinja != NULL || config != NULL, MST_ECONFIG,
        "no chat template came with %s: --chat wants a --chat-template: a file, a model's folder, or one "
        "of %s",
        checkpoint, mst_chat_template_names());
    status = mst_chat_template_carried(jinja, jinja_bytes, config, config_bytes, checkpoint, how);
    if (status != MST_OK)
        mst_error_context(status,
                          "the chat template that came with the model (--chat-template names another)");
done:
    free(jinja);
    free(config);
    return status;
}

static mst_status open_chat(const cli_args *args, chat *c) {
    mst_status status = MST_OK;
    const char *name = cli_text(args, "chat-template", NULL), *system = cli_text(args, "system", NULL);
    static const char *const others[] = {"prompt", "prompt-file", "no-prompt", "ignore-eos"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        MST_CHECK(!cli_flag(args, others[i]), MST_ECONFIG,
                  "--%s is not for a chat, whose turns come from standard input and end by themselves",
                  others[i]);
    MST_TRY(name != NULL ? mst_chat_template_load(name, &c->how)
                         : load_carried(mst_inference_path(c->inference), &c->how));
    c->options = (mst_chat_options){.date = cli_text(args, "date", NULL), .reply = true};
    c->sanitize = cli_flag(args, "sanitize");
    MST_TRY(mst_conversation_create(&c->conversation));
    if (system != NULL) MST_TRY(mst_conversation_add(c->conversation, "system", system, strlen(system)));
    c->stop_count = cli_texts(args, "stop", &c->stops);
    MST_TRY(mst_inference_context(c->inference, c->wanted.context, &c->wanted.context));
    if (c->wanted.count == 0) c->wanted.count = c->wanted.context;
    MST_TRY(mst_chat_ends(c->how, mst_inference_tokenizer(c->inference), &c->options, c->wanted.end_tokens));
    if (c->wanted.end_tokens[1] < 0)
        fprintf(stderr,
                "muster: %s puts no special token of this model's behind an answer: is it another model's "
                "template?\n",
                mst_chat_template_name(c->how));
    MST_TRY(mst_generator_create(c->inference, c->wanted.context, &c->generator));
done:
    return status;
}

static void close_chat(chat *c) {
    mst_generator_destroy(&c->generator);
    mst_conversation_destroy(&c->conversation);
    mst_chat_template_destroy(&c->how);
    free(c->answer.at);
}

/* The next line without its newline; false: the input has ended, or was interrupted. */
static bool read_line(const chat *c, char **line, size_t *room, size_t *bytes_out) {
    if (c->live) fputs("> ", stderr);
    interrupted = 0;
    const ssize_t length = getline(line, room, stdin);
    if (c->live && (length < 0 || interrupted)) fputc('\n', stderr);
    if (length < 0 || interrupted) return false;
    *bytes_out = (size_t)length - ((*line)[length - 1] == '\n');
    return true;
}

static void report(const chat *c) {
    fprintf(stderr,
            "muster: %" PRIu64 " turn%s, %" PRIu64 " token%s, %.1f tokens/s; %" PRIu64 " of %" PRIu64
            " tokens of prompts were kept from the turn before\n",
            c->turns, c->turns == 1 ? "" : "s", c->tokens, c->tokens == 1 ? "" : "s",
            c->seconds > 0 ? (double)c->tokens / c->seconds : 0, c->kept, c->prompt);
}

mst_status cli_chat(const cli_args *args, mst_inference *inference, const mst_generation *wanted) {
    mst_status status = MST_OK;
    char *line = NULL;
    size_t room = 0, bytes = 0;
    chat c = {.inference = inference, .wanted = *wanted};
    MST_TRY(open_chat(args, &c));
    c.live = isatty(STDIN_FILENO) && mst_terminal_live(stdout);
    if (c.live) catch_interrupts();
    while (read_line(&c, &line, &room, &bytes))
        if (bytes > 0) MST_TRY(answer(&c, line, bytes));
    MST_CHECK(!ferror(stdin) || interrupted, MST_EIO, "cannot read standard input: %s", strerror(errno));
    report(&c);
done:
    close_chat(&c);
    free(line);
    return status;
}
