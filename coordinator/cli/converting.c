#include "converting.h"

#include <stdio.h>

void cli_converting_show(void *context, uint64_t done, uint64_t all) {
    cli_converting *c = context;
    const unsigned percent = all == 0 ? 100 : (unsigned)((double)done / (double)all * 100);
    if (!c->live || percent == c->percent) return;
    c->percent = percent;
    fprintf(stderr, "\r\033[K%s %u%%", c->verb, percent);
}

void cli_converting_end(const cli_converting *c) {
    if (c->live) fputs("\r\033[K", stderr);
}

static void say(void *context, const char *text) {
    cli_converting_end(context);
    fprintf(stderr, "note: %s\n", text);
}

mst_hf_notes cli_converting_notes(cli_converting *c) {
    return (mst_hf_notes){.say = say, .context = c};
}
