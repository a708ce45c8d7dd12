/* Templates: where they come from, and their life. */
#include "template.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "parser.h"

enum { FILE_MAX = 16 << 20, PROGRAM_MAX = 256 << 20 /* bytes of a tree */ };

/* ---- one text ---- */

static void program_destroy(chat_program **program) {
    chat_program *old = *program;
    *program = NULL;
    if (old == NULL) return;
    chat_arena_clear(&old->arena);
    free(old->literals.at);
    free(old->name);
    free(old->text);
    free(old);
}

static mst_status collect_literals(const chat_token *tokens, chat_buffer *literals) {
    mst_status status = MST_OK;
    for (; tokens->kind != TOKEN_END; tokens++) {
        if (tokens->kind != TOKEN_TEXT && tokens->kind != TOKEN_STRING) continue;
        MST_TRY(chat_buffer_add(literals, tokens->text));
        MST_TRY(chat_buffer_add(literals, (chat_text){"\0", 1}));
    }
done:
    return status;
}

static mst_status program_read(const char *text, size_t bytes, const char *name, chat_program **program_out) {
    mst_status status = MST_OK;
    chat_tokens tokens = {0};
    chat_program *program = calloc(1, sizeof *program);
    *program_out = NULL;
    MST_CHECK(program != NULL && (program->text = malloc(bytes + 1)) != NULL &&
                  (program->name = strdup(name)) != NULL,
              MST_ENOMEM, "%s: out of memory", name);
    memcpy(program->text, text, bytes);
    program->text[bytes] = '\0';
    program->bytes = bytes;
    program->arena.limit = PROGRAM_MAX;
    MST_TRY(chat_tokens_cut((chat_text){program->text, bytes}, name, &program->arena, &tokens));
    chat_parser parser = {.name = name, .arena = &program->arena, .next = tokens.at};
    MST_TRY(chat_parse(&parser, &program->body));
    program->has_generation = parser.has_generation;
    MST_TRY(collect_literals(tokens.at, &program->literals));
    *program_out = program;
    program = NULL;
done:
    free(tokens.at);
    program_destroy(&program);
    return status;
}

/* ---- life ---- */

static mst_status template_new(const char *name, mst_chat_template **template_out) {
    mst_chat_template *chat = calloc(1, sizeof *chat);
    *template_out = chat;
    if (chat == NULL || (chat->name = strdup(name)) == NULL) {
        mst_chat_template_destroy(template_out);
        return mst_error(MST_ENOMEM, "%s: out of memory", name);
    }
    return MST_OK;
}

void mst_chat_template_destroy(mst_chat_template **chat) {
    mst_chat_template *old = *chat;
    *chat = NULL;
    if (old == NULL) return;
    program_destroy(&old->program);
    program_destroy(&old->with_tools);
    json_decref(old->tokens);
    free(old->name);
    free(old);
}

const char *mst_chat_template_name(const mst_chat_template *chat) {
    return chat->name;
}

const char *mst_chat_template_text(const mst_chat_template *chat, size_t *bytes_out) {
    *bytes_out = chat->program->bytes;
    return chat->program->text;
}

mst_status mst_chat_template_parse(const char *text, size_t bytes, const char *name,
                                   mst_chat_template **template_out) {
    mst_status status = template_new(name, template_out);
    if (status == MST_OK) status = program_read(text, bytes, name, &(*template_out)->program);
    if (status != MST_OK) mst_chat_template_destroy(template_out);
    return status;
}

/* ---- files ---- */

static mst_status read_file(const char *path, chat_buffer *text) {
    mst_status status = MST_OK;
    char part[4096];
    size_t got;
    FILE *file = fopen(path, "rb");
    MST_CHECK(file != NULL, MST_EIO, "%s: %s", path, strerror(errno));
    while ((got = fread(part, 1, sizeof part, file)) > 0) {
        MST_CHECK(text->count + got <= FILE_MAX, MST_EUNSUPPORTED, "%s: more than %d MiB", path,
                  FILE_MAX >> 20);
        MST_TRY(chat_buffer_add(text, (chat_text){part, got}));
    }
    MST_CHECK(!ferror(file), MST_EIO, "%s: %s", path, strerror(errno));
done:
    if (file != NULL) fclose(file);
    return status;
}

/* Only texts are taken, so numbers may be of any size: transformers writes 10^30 for a length without a limit. */
static mst_status parse_json(const char *text, size_t bytes, const char *path, json_t **json_out) {
    mst_status status = MST_OK;
    json_error_t error;
    *json_out = json_loadb(text, bytes, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    MST_CHECK(json_is_object(*json_out), MST_EFORMAT, "%s:%d: no object of JSON: %s", path,
              *json_out != NULL ? 1 : error.line, *json_out != NULL ? "it is something else" : error.text);
done:
    if (status != MST_OK) {
        json_decref(*json_out);
        *json_out = NULL;
    }
    return status;
}

/* The texts of the fields that end with _token: each a text, or an object with a `content`. */
static mst_status read_tokens(json_t *config, mst_chat_template *chat) {
    mst_status status = MST_OK;
    const char *key;
    json_t *value;
    json_decref(chat->tokens);
    chat->tokens = json_object();
    MST_CHECK(chat->tokens != NULL, MST_ENOMEM, "%s: out of memory", chat->name);
    json_object_foreach(config, key, value) {
        json_t *text = json_is_object(value) ? json_object_get(value, "content") : value;
        if (!chat_text_ends(chat_text_of(key), chat_text_of("_token")) || !json_is_string(text)) continue;
        MST_CHECK(json_object_set(chat->tokens, key, text) == 0, MST_ENOMEM, "%s: out of memory", chat->name);
    }
done:
    return status;
}

/* Several templates with names: `default`, and `tool_use` for conversations with tools. */
static mst_status read_named(const json_t *list, const char *path, mst_chat_template *chat) {
    mst_status status = MST_OK;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i), *text = json_object_get(entry, "template");
        const char *name = json_string_value(json_object_get(entry, "name"));
        MST_CHECK(name != NULL && json_is_string(text), MST_EFORMAT,
                  "%s: an element of chat_template has no texts `name` and `template`", path);
        chat_program **program = strcmp(name, "default") == 0    ? &chat->program
                                 : strcmp(name, "tool_use") == 0 ? &chat->with_tools
                                                                 : NULL;
        if (program == NULL) continue;
        program_destroy(program);
        MST_TRY(program_read(json_string_value(text), json_string_length(text), path, program));
    }
    MST_CHECK(chat->program != NULL, MST_EFORMAT, "%s: no chat_template has the name `default`", path);
done:
    return status;
}

/* A tokenizer_config.json; its template only where there is none yet. */
static mst_status parse_config(const char *content, size_t bytes, const char *path, mst_chat_template *chat) {
    mst_status status = MST_OK;
    json_t *config = NULL;
    MST_TRY(parse_json(content, bytes, path, &config));
    MST_TRY(read_tokens(config, chat));
    if (chat->program != NULL) goto done;
    const json_t *text = json_object_get(config, "chat_template");
    if (json_is_array(text))
        MST_TRY(read_named(text, path, chat));
    else if (json_is_string(text))
        MST_TRY(program_read(json_string_value(text), json_string_length(text), path, &chat->program));
    MST_CHECK(chat->program != NULL, MST_EFORMAT, "%s has no chat_template", path);
done:
    json_decref(config);
    return status;
}

static mst_status read_config(const char *path, mst_chat_template *chat) {
    chat_buffer text = {0};
    mst_status status = read_file(path, &text);
    if (status == MST_OK) status = parse_config(text.at != NULL ? text.at : "", text.count, path, chat);
    free(text.at);
    return status;
}

static mst_status read_jinja(const char *path, mst_chat_template *chat) {
    chat_buffer text = {0};
    mst_status status = read_file(path, &text);
    if (status == MST_OK)
        status = program_read(text.at != NULL ? text.at : "", text.count, path, &chat->program);
    free(text.at);
    return status;
}

static bool is_file(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && !S_ISDIR(info.st_mode);
}

/* A folder of a model: chat_template.jinja is the newer place, and wins. */
static mst_status read_folder(const char *folder, mst_chat_template *chat) {
    mst_status status = MST_OK;
    char *jinja = NULL, *config = NULL;
    if (asprintf(&jinja, "%s/chat_template.jinja", folder) < 0) jinja = NULL;
    if (asprintf(&config, "%s/tokenizer_config.json", folder) < 0) config = NULL;
    MST_CHECK(jinja != NULL && config != NULL, MST_ENOMEM, "%s: out of memory", folder);
    const bool has_jinja = is_file(jinja), has_config = is_file(config);
    MST_CHECK(has_jinja || has_config, MST_ECONFIG,
              "the folder '%s' has neither chat_template.jinja nor tokenizer_config.json", folder);
    if (has_jinja) MST_TRY(read_jinja(jinja, chat));
    if (has_config) MST_TRY(read_config(config, chat));
done:
    free(jinja);
    free(config);
    return status;
}

/* A file in Jinja, with the special tokens of a tokenizer_config.json beside it. */
static mst_status read_beside(const char *path, mst_chat_template *chat) {
    mst_status status = MST_OK;
    char *config = NULL;
    const char *slash = strrchr(path, '/');
    const int folder = slash != NULL ? (int)(slash - path) + 1 : 0;
    if (asprintf(&config, "%.*stokenizer_config.json", folder, path) < 0) config = NULL;
    MST_CHECK(config != NULL, MST_ENOMEM, "%s: out of memory", path);
    MST_TRY(read_jinja(path, chat));
    if (is_file(config)) MST_TRY(read_config(config, chat));
done:
    free(config);
    return status;
}

static mst_status read_builtin(const char *text, const char *tokens, mst_chat_template *chat) {
    mst_status status = MST_OK;
    chat->tokens = json_loads(tokens, 0, NULL);
    MST_CHECK(chat->tokens != NULL, MST_ENOMEM, "%s: out of memory", chat->name);
    MST_TRY(program_read(text, strlen(text), chat->name, &chat->program));
done:
    return status;
}

mst_status mst_chat_template_carried(const char *jinja, size_t jinja_bytes, const char *config,
                                     size_t config_bytes, const char *name,
                                     mst_chat_template **template_out) {
    mst_status status = MST_OK;
    mst_chat_template *chat = NULL;
    *template_out = NULL;
    MST_TRY(template_new(name, &chat));
    if (jinja != NULL) MST_TRY(program_read(jinja, jinja_bytes, name, &chat->program));
    if (config != NULL) MST_TRY(parse_config(config, config_bytes, name, chat));
    MST_CHECK(chat->program != NULL, MST_ECONFIG, "%s has no chat template", name);
    *template_out = chat;
    chat = NULL;
done:
    mst_chat_template_destroy(&chat);
    return status;
}

mst_status mst_chat_template_load(const char *name, mst_chat_template **template_out) {
    mst_status status = MST_OK;
    struct stat info;
    const char *text, *tokens;
    mst_chat_template *chat = NULL;
    *template_out = NULL;
    MST_TRY(template_new(name, &chat));
    if (chat_builtin(name, &text, &tokens)) {
        MST_TRY(read_builtin(text, tokens, chat));
    } else {
        MST_CHECK(stat(name, &info) == 0, MST_ECONFIG,
                  "'%s' is neither a file or folder nor one of the templates %s", name,
                  mst_chat_template_names());
        if (S_ISDIR(info.st_mode))
            MST_TRY(read_folder(name, chat));
        else if (chat_text_ends(chat_text_of(name), chat_text_of(".json")))
            MST_TRY(read_config(name, chat));
        else
            MST_TRY(read_beside(name, chat));
    }
    *template_out = chat;
    chat = NULL;
done:
    mst_chat_template_destroy(&chat);
    return status;
}
