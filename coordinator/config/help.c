/* The schema as a commented config: what --help-config prints is itself a config to begin with. */
#include <string.h>

#include "schema.h"

enum { HELP_WIDTH = 100 };

/* "  # text", as many lines as it takes. */
static void print_comment(FILE *file, const char *text) {
    size_t column = 0;
    while (*text != '\0') {
        size_t length = strcspn(text, " ");
        if (column > 0 && column + 1 + length > HELP_WIDTH) {
            fputc('\n', file);
            column = 0;
        }
        column += (size_t)fprintf(file, column == 0 ? "  # %.*s" : " %.*s", (int)length, text);
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', file);
}

static void print_key(FILE *file, const config_key *key) {
    char kind[160], line[400];
    config_key_describe(key, kind, sizeof kind);
    const char *fallback = key->fallback != NULL ? key->fallback : key->derived;
    snprintf(line, sizeof line, "(%s%s%s%s%s%s)", kind, key->unit != NULL ? ", in " : "",
             key->unit != NULL ? key->unit : "", fallback != NULL ? "; default: " : "; required",
             fallback != NULL ? fallback : "", key->fixed ? "; fixed in a run" : "");
    fputc('\n', file);
    print_comment(file, key->meaning);
    print_comment(file, line);
    /* Required keys are live, the others are there to be uncommented. */
    fprintf(file, "  %s%s: %s\n", fallback != NULL ? "# " : "", config_key_name(key),
            key->fallback != NULL ? key->fallback : key->example);
}

void mst_config_print_help(FILE *file) {
    fputs(
        "# Every key of a muster config. This text is a config itself: the keys that must be given are live, "
        "with an\n"
        "# example; those in comments show their default (or, where it depends on other keys, an example).\n"
        "# Paths start at the folder of the config file. On the command line: --set section.key=value.\n"
        "# 'Fixed in a run': part of what defines its result, and may not change once it has begun.\n",
        file);
    for (size_t s = 0; s < config_section_count; s++) {
        fprintf(file, "\n%s: # %s\n", config_sections[s].name, config_sections[s].meaning);
        for (size_t i = 0; i < config_key_count; i++)
            if (config_key_in(&config_keys[i], &config_sections[s])) print_key(file, &config_keys[i]);
    }
}
