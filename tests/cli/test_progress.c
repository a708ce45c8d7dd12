/* The live line, seen through a small terminal: it fits, stays one line, makes way for
 * messages, and leaves nothing behind. */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "progress.h"
#include "test.h"

enum { ROWS = 64, COLUMNS_MAX = 256 };

/* What a terminal shows after some output. Knows CR, LF, erase to the end of the line, colours, UTF-8. */
typedef struct screen {
    char cell[ROWS][COLUMNS_MAX + 1]; /* a character that is not ASCII stands as '#' */
    size_t row, column, widest, redraws, colors;
} screen;

static void screen_put(screen *s, char c) {
    if (s->column >= COLUMNS_MAX) return;
    s->cell[s->row][s->column++] = c;
    if (s->column > s->widest) s->widest = s->column;
}

static void screen_feed(screen *s, const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '\r') {
            s->column = 0;
        } else if (c == '\n') {
            s->row = s->row + 1 < ROWS ? s->row + 1 : s->row;
        } else if (c == '\033') {
            size_t end = i + 2;
            while (end < length && (text[end] < '@' || text[end] > '~')) end++;
            if (text[end] == 'K') {
                memset(s->cell[s->row] + s->column, ' ', COLUMNS_MAX - s->column);
                s->redraws++;
            }
            s->colors += text[end] == 'm';
            CHECK(text[end] == 'K' || text[end] == 'm', "escape ending in %c", text[end]);
            i = end;
        } else if (c < 0x80 || c >= 0xc0) {
            screen_put(s, c < 0x80 ? (char)c : '#');
        }
    }
}

/* A row without the blanks at its end. */
static const char *screen_row(screen *s, size_t row) {
    char *text = s->cell[row];
    size_t length = strlen(text);
    while (length > 0 && text[length - 1] == ' ') length--;
    text[length] = '\0';
    return text;
}

static void screen_clear(screen *s) {
    *s = (screen){0};
    for (size_t row = 0; row < ROWS; row++) memset(s->cell[row], ' ', COLUMNS_MAX);
}

/* ---- a pseudo-terminal ---- */

typedef struct terminal {
    int master;
    FILE *file; /* the side that a program sees */
} terminal;

static terminal terminal_open(unsigned short columns) {
    terminal t = {.master = posix_openpt(O_RDWR | O_NOCTTY)};
    if (t.master < 0 || grantpt(t.master) != 0 || unlockpt(t.master) != 0) SKIP("no pseudo-terminal");
    t.file = fopen(ptsname(t.master), "w");
    if (t.file == NULL) SKIP("no pseudo-terminal");
    struct winsize size = {.ws_row = 24, .ws_col = columns};
    CHECK(ioctl(t.master, TIOCSWINSZ, &size) == 0, "size");
    CHECK(fcntl(t.master, F_SETFL, O_NONBLOCK) == 0, "nonblocking");
    return t;
}

static void terminal_read(terminal *t, screen *s) {
    char text[65536];
    ssize_t got;
    fflush(t->file);
    tcdrain(fileno(t->file));
    while ((got = read(t->master, text, sizeof text)) > 0) screen_feed(s, text, (size_t)got);
}

static void terminal_close(terminal *t) {
    fclose(t->file);
    close(t->master);
}

/* ---- the tests ---- */

static void show(mst_progress *p, uint64_t step, uint64_t steps, double seconds, bool updated) {
    const mst_step_report report = {
        .loss = 3.14159, .grad_norm = 0.5, .rate = 3e-4, .updated = updated, .finite = updated};
    const mst_position position = {.step = step};
    const mst_metrics_step_fields fields = {.report = &report,
                                            .position = &position,
                                            .steps = steps,
                                            .seconds = seconds,
                                            .tokens_per_second = 12345,
                                            .flops = 182e9,
                                            .peak_share = 0.79};
    mst_progress_step(p, &fields);
}

static void test_live(void) {
    screen s;
    terminal t = terminal_open(110);
    mst_progress *p = NULL;
    screen_clear(&s);
    CHECK_OK(mst_progress_begin(t.file, &p));
    mst_progress_message(p, "before %s", "all");
    show(p, 250, 1000, 2, true);
    terminal_read(&t, &s);
    CHECK(strcmp(screen_row(&s, 0), "before all") == 0, "%s", screen_row(&s, 0));
    CHECK(strcmp(screen_row(&s, 1),
                 "250/1000  ======-------------------   25%  loss 3.1416  12.3k tok/s  182 GFLOP/s "
                 "(79% of peak)  25m00s left") == 0,
          "'%s'", screen_row(&s, 1));
    CHECK(s.row == 1 && s.colors > 0, "one line, in colours");

    /* Faster than can be seen: nothing is drawn. */
    size_t redraws = s.redraws;
    for (uint64_t step = 251; step < 260; step++) show(p, step, 1000, 1e-3, true);
    terminal_read(&t, &s);
    CHECK(s.redraws - redraws <= 1, "%zu redraws", s.redraws - redraws);

    mst_progress_message(p, "in between");
    terminal_read(&t, &s);
    CHECK(strcmp(screen_row(&s, 1), "in between") == 0, "%s", screen_row(&s, 1));
    CHECK(strncmp(screen_row(&s, 2), "259/1000  ", 10) == 0, "%s", screen_row(&s, 2));

    show(p, 1000, 1000, 2, false);
    mst_progress_end(&p);
    terminal_read(&t, &s);
    CHECK(p == NULL, "ended");
    CHECK(strncmp(screen_row(&s, 2), "step 1000/1000  loss 3.1416 skipped  norm 0.500  lr 3.00e-04  ", 62) ==
              0,
          "%s", screen_row(&s, 2));
    CHECK(strstr(screen_row(&s, 2), "left") == NULL, "%s", screen_row(&s, 2));
    CHECK(s.row == 3 && s.column == 0, "the cursor stands on a new line");
    terminal_close(&t);
}

/* However narrow: one line that does not wrap, and more of it the wider it is. */
static void test_widths(const char *name) {
    size_t before = 0;
    for (unsigned short columns = 2; columns <= 200; columns = (unsigned short)(columns + 3)) {
        screen s;
        terminal t = terminal_open(columns);
        mst_progress *p = NULL;
        screen_clear(&s);
        CHECK_OK(mst_progress_begin(t.file, &p));
        show(p, 123456, 1000000, 0.5, true);
        terminal_read(&t, &s);
        CHECK(s.row == 0 && s.widest < columns, "%s: %zu of %u columns", name, s.widest, columns);
        CHECK(s.widest + 4 >= before, "%s: %u columns: %zu used, less than before, %zu", name, columns,
              s.widest, before);
        if (columns >= 120) CHECK(strstr(screen_row(&s, 0), "GFLOP/s") != NULL, "%s", screen_row(&s, 0));
        before = s.widest;
        mst_progress_end(&p);
        terminal_close(&t);
    }
}

static void test_no_color(void) {
    screen s;
    terminal t = terminal_open(80);
    mst_progress *p = NULL;
    screen_clear(&s);
    setenv("NO_COLOR", "1", 1);
    CHECK_OK(mst_progress_begin(t.file, &p));
    unsetenv("NO_COLOR");
    show(p, 1, 2, 2, true);
    terminal_read(&t, &s);
    CHECK(s.colors == 0 && s.redraws == 1, "%zu colours", s.colors);
    mst_progress_end(&p);
    terminal_close(&t);
}

/* Not a terminal: the first step and the last as lines, the others too soon to be worth one. */
static void test_plain(void) {
    char *text = NULL;
    size_t length;
    mst_progress *p = NULL;
    FILE *file = open_memstream(&text, &length);
    CHECK_OK(mst_progress_begin(file, &p));
    for (uint64_t step = 1; step <= 50; step++) show(p, step, 50, 0.01, true);
    mst_progress_message(p, "words");
    mst_progress_end(&p);
    fclose(file);
    size_t lines = 0;
    for (const char *c = text; *c != '\0'; c++) {
        lines += *c == '\n';
        CHECK(*c == '\n' || (unsigned char)*c >= 0x20, "control character %d", *c);
    }
    CHECK(
        lines == 3 &&
            strncmp(text,
                    "step 1/50  loss 3.1416  norm 0.500  lr 3.00e-04  12.3k tok/s  182 GFLOP/s (79% of peak)",
                    85) == 0,
        "%s", text);
    CHECK(strstr(text, "\nstep 50/50  ") != NULL && strstr(text, "\nwords\n") != NULL, "%s", text);
    free(text);
}

int main(void) {
    unsetenv("NO_COLOR");
    setenv("TERM", "xterm", 1);
    setenv("LC_ALL", "C", 1);
    test_live();
    test_widths("ASCII");
    setenv("LC_ALL", "C.UTF-8", 1);
    test_widths("UTF-8");
    setenv("LC_ALL", "C", 1);
    test_no_color();
    test_plain();
    return test_finish("test_progress");
}
