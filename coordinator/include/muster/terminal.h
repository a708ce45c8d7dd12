/* What the stream that a person may look at can show: colours, a line that is drawn again, how many columns.
 * Piped output stays plain text. */
#ifndef MUSTER_TERMINAL_H
#define MUSTER_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mst_style {
    MST_STYLE_PLAIN, /* ends every other style */
    MST_STYLE_ERROR,
    MST_STYLE_NOTE, /* notes and warnings */
    MST_STYLE_HEADING,
    MST_STYLE_BAR,
    MST_STYLE_DIM,
    MST_STYLES
} mst_style;

/** Whether the stream is a terminal that obeys escape sequences (TERM is set, and not "dumb"). The terminals
 * that mpirun gives its ranks do not count: what they get may go on into a file. Not collective. */
bool mst_terminal_live(FILE *file);

/** Whether text there may have colours: it is live, and NO_COLOR is not set, or empty. Not collective. */
bool mst_terminal_colors(FILE *file);

/** The terminal's width, or `otherwise` where the stream is none or does not say. Not collective. */
size_t mst_terminal_columns(FILE *file, size_t otherwise);

/** What to print to begin a style: an escape sequence, or "" where the stream may not have colours. Not
 * collective; the text is constant. */
const char *mst_terminal_style(FILE *file, mst_style style);

/** Prints a message, as a line, that may begin with "note:" or "warning:"; that word gets the style of notes. Not
 * collective. */
void mst_terminal_message(FILE *file, const char *message);

#ifdef __cplusplus
}
#endif
#endif
