#include "muster/status.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_MAX = 2048 };

static _Thread_local char message[MESSAGE_MAX];

const char *mst_status_text(mst_status status) {
    switch (status) {
#define CASE_TEXT(code, text)                                                                                \
    case code:                                                                                               \
        return text;
        MST_STATUS_LIST(CASE_TEXT)
#undef CASE_TEXT
    }
    return "unknown status";
}

const char *mst_status_name(mst_status status) {
    switch (status) {
#define CASE_NAME(code, text)                                                                                \
    case code:                                                                                               \
        return #code;
        MST_STATUS_LIST(CASE_NAME)
#undef CASE_NAME
    }
    return "MST_UNKNOWN";
}

/* Names and texts out of foreign files stand in messages, and messages on terminals: characters that steer one (C0 but
 * for line ends and tabs, DEL, and C1 in UTF-8) become '?'. */
static void store(char text[MESSAGE_MAX]) {
    for (unsigned char *c = (unsigned char *)text; *c != '\0'; c++) {
        const bool pair = *c == 0xC2 && c[1] >= 0x80 && c[1] < 0xA0;
        if (pair) *c++ = '?';
        if (pair || *c == 0x7F || (*c < ' ' && *c != '\n' && *c != '\t')) *c = '?';
    }
    memcpy(message, text, MESSAGE_MAX);
}

mst_status(mst_error)(mst_status status, const char *format, ...) {
    char text[MESSAGE_MAX]; /* the arguments may point into the old message */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    store(text);
    return status;
}

mst_status mst_error_context(mst_status status, const char *format, ...) {
    char text[MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t length = strlen(text);
    if (length + 2 < sizeof text) {
        memcpy(text + length, ": ", 3);
        strncat(text, message, sizeof text - length - 3);
    }
    store(text);
    return status;
}

const char *mst_error_message(void) {
    return message;
}
