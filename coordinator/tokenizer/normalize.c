#include "normalize.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "lists.h"
#include "unicode.h"

typedef struct range {
    uint32_t first, last;
} range;

/* Characters that are their own NFC, of combining class 0, and never the second of a composition: before each of them the text may be
 * cut. Only ranges that are wholly so. U+11A7 is among them because utf8proc 2.8 takes it for a final consonant, and loses it. */
static const range plain[] = {{0x0, 0x2FF},       {0x386, 0x386},    {0x388, 0x3FF},   {0x400, 0x482},
                              {0x48A, 0x52F},     {0x5D0, 0x5EA},    {0x620, 0x64A},   {0x11A7, 0x11A7},
                              {0x2010, 0x2027},   {0x2030, 0x205E},  {0x20A0, 0x20BF}, {0x2190, 0x21FF},
                              {0x2500, 0x25FF},   {0x3001, 0x3029},  {0x3041, 0x3096}, {0x30A1, 0x30FA},
                              {0x4E00, 0x9FFF},   {0xAC00, 0xD7A3},  {0xFF01, 0xFF5E}, {0x1F300, 0x1FAFF},
                              {0x20000, 0x2A6DF}, {0x2A700, 0x2B738}};

/* Characters of Unicode 10 to 14 that combine. Hugging Face's tokenizers normalizes by Unicode 9, for which these are plain; so are
 * those of unicode_added. Found by asking it for each character of Python 3.11's unicodedata that has a combining class. */
static const range newer[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},
    {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0xA82C, 0xA82C},   {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85},
    {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11930, 0x11930},
    {0x11935, 0x11935}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0},
    {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45},
    {0x11D97, 0x11D97}, {0x16FF0, 0x16FF1}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}};

static bool is_among(const range *ranges, size_t count, uint32_t c) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (ranges[middle].last < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && ranges[low].first <= c;
}

static bool is_newer(uint32_t c) {
    return is_among(newer, sizeof newer / sizeof *newer, c) || (c != 0x180E && unicode_is_unusual(c));
}

static bool is_plain(uint32_t c) {
    return c < 0x300 || is_among(plain, sizeof plain / sizeof *plain, c) || is_newer(c);
}

/* How many bytes of UTF-8 at the beginning are plain. */
static size_t plain_span(const uint8_t *text, size_t count) {
    size_t at = 0, length;
    while (at < count && is_plain(utf8_decode(text + at, &length))) at += length;
    return at;
}

bool normalize_is_plain(const uint8_t *text, size_t count) {
    bool unusual;
    for (size_t at = 0; at < count;) {
        size_t span = utf8_span(text + at, count - at, &unusual);
        if (plain_span(text + at, span) < span) return false;
        at += span + (at + span < count);
    }
    return true;
}

static mst_status append(mst_byte_list *out, const uint8_t *text, size_t count) {
    mst_status status = byte_list_reserve(out, count);
    if (status != MST_OK || count == 0) return status;
    memcpy(out->at + out->count, text, count);
    out->count += count;
    return MST_OK;
}

static mst_status append_nfc(mst_byte_list *out, const uint8_t *text, size_t count) {
    utf8proc_uint8_t *made = NULL;
    utf8proc_ssize_t length = utf8proc_map(text, (utf8proc_ssize_t)count, &made,
                                           (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (length < 0) return mst_error(MST_ENOMEM, "NFC: %s", utf8proc_errmsg(length));
    mst_status status = append(out, made, (size_t)length);
    free(made);
    return status;
}

/* Where a stretch that is not plain ends: the next plain character. */
static size_t stretch(const uint8_t *text, size_t count) {
    size_t at = 0, length;
    while (at < count && !is_plain(utf8_decode(text + at, &length))) at += length;
    return at;
}

/* Where what is not plain, from text[at] on, begins to matter: at the character before it, which it may join. A newer one it must not
 * even meet. */
static size_t reach_back(const uint8_t *text, size_t from, size_t at) {
    size_t before = at > from ? utf8_before(text, at) : at, length;
    return before < at && is_newer(utf8_decode(text + before, &length)) ? at : before;
}

static mst_status normalize_run(const uint8_t *text, size_t count, mst_byte_list *out) {
    mst_status status = MST_OK;
    for (size_t at = 0; at < count && status == MST_OK;) {
        size_t odd = at + plain_span(text + at, count - at),
               start = odd < count ? reach_back(text, at, odd) : odd;
        size_t end = odd + stretch(text + odd, count - odd);
        status = append(out, text + at, start - at);
        if (status == MST_OK && start < end) status = append_nfc(out, text + start, end - start);
        at = end;
    }
    return status;
}

mst_status normalize_nfc(const uint8_t *text, size_t count, mst_byte_list *out) {
    mst_status status = MST_OK;
    bool unusual;
    for (size_t at = 0; at < count && status == MST_OK;) {
        size_t span = utf8_span(text + at, count - at, &unusual);
        status = normalize_run(text + at, span, out);
        at += span;
        if (at < count && status == MST_OK) status = append(out, text + at++, 1);
    }
    return status;
}
