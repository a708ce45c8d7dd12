/* Errors of a config: one line each, in the form that editors understand. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "muster/terminal.h"
#include "reader.h"

char *config_place_text(config_place place) {
    size_t room = strlen(place.text) + 48;
    char *text = malloc(room);
    if (text == NULL) return NULL;
    if (place.line > 0)
        snprintf(text, room, "%s:%zu:%zu", place.text, place.line, place.column);
    else
        snprintf(text, room, "%s", place.text);
    return text;
}

void config_report(config_reader *reader, config_place place, const char *path, const char *format, ...) {
    reader->error_count++;
    if (reader->errors == NULL) return;
    char *where = config_place_text(place);
    fprintf(reader->errors, "%s: %serror:%s ", where != NULL ? where : place.text,
            mst_terminal_style(reader->errors, MST_STYLE_ERROR),
            mst_terminal_style(reader->errors, MST_STYLE_PLAIN));
    free(where);
    if (*path != '\0') fprintf(reader->errors, "%s: ", path);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(reader->errors, format, arguments);
    va_end(arguments);
    fputc('\n', reader->errors);
}

config_place config_place_at(const config_reader *reader, yaml_mark_t mark) {
    if (reader->is_override) return (config_place){.text = reader->source};
    return (config_place){.text = reader->source, .line = mark.line + 1, .column = mark.column + 1};
}

const char *config_quote(const char *text, char quoted_out[CONFIG_QUOTE_MAX]) {
    enum { ROOM = CONFIG_QUOTE_MAX - 6 }; /* two quotes, three dots, NUL */
    size_t used = 0, i = 0;
    quoted_out[used++] = '\'';
    for (; text[i] != '\0' && i < ROOM; i++) {
        bool control = (unsigned char)text[i] < 0x20 || text[i] == 0x7f;
        quoted_out[used++] = text[i];
        if (control) quoted_out[used - 1] = '?';
    }
    /* Do not cut a UTF-8 character in two: drop what has begun. */
    if (text[i] != '\0') {
        while (used > 1 && ((unsigned char)quoted_out[used - 1] & 0xc0) == 0x80) used--;
        if (used > 1 && (unsigned char)quoted_out[used - 1] >= 0xc0) used--;
        for (int dot = 0; dot < 3; dot++) quoted_out[used++] = '.';
    }
    quoted_out[used++] = '\'';
    quoted_out[used] = '\0';
    return quoted_out;
}
