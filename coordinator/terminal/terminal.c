#include "muster/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The value of a variable; "" also when it is not set. */
static const char *value_of(const char *name) {
    const char *value = getenv(name);
    return value != NULL ? value : "";
}

bool mst_terminal_live(FILE *file) {
    int number = fileno(file); /* -1: a stream in memory */
    if (number < 0 || !isatty(number) || *value_of("OMPI_COMM_WORLD_SIZE") != '\0') return false;
    const char *term = value_of("TERM");
    return *term != '\0' && strcmp(term, "dumb") != 0;
}

bool mst_terminal_colors(FILE *file) {
    return mst_terminal_live(file) && *value_of("NO_COLOR") == '\0';
}

size_t mst_terminal_columns(FILE *file, size_t otherwise) {
    struct winsize size;
    int number = fileno(file);
    if (number < 0 || ioctl(number, TIOCGWINSZ, &size) != 0 || size.ws_col < 2) return otherwise;
    return size.ws_col;
}

/* Only the eight colours that every terminal has and its owner can choose; none of black or white, which may
 * be the background. */
const char *mst_terminal_style(FILE *file, mst_style style) {
    static const char *const escapes[MST_STYLES] = {
        [MST_STYLE_PLAIN] = "\033[0m",   [MST_STYLE_ERROR] = "\033[1;31m", [MST_STYLE_NOTE] = "\033[33m",
        [MST_STYLE_HEADING] = "\033[1m", [MST_STYLE_BAR] = "\033[32m",     [MST_STYLE_DIM] = "\033[2m"};
    return mst_terminal_colors(file) ? escapes[style] : "";
}

void mst_terminal_message(FILE *file, const char *message) {
    static const char *const words[] = {"note:", "warning:"};
    size_t marked = 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strncmp(message, words[i], strlen(words[i])) == 0) marked = strlen(words[i]);
    const bool styled = marked > 0;
    /* At once, so that a launcher that gathers the output of many puts nothing in between. */
    fprintf(file, "%s%.*s%s%s\n", styled ? mst_terminal_style(file, MST_STYLE_NOTE) : "", (int)marked,
            message, styled ? mst_terminal_style(file, MST_STYLE_PLAIN) : "", message + marked);
}
