#include "normalize.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "lists.h"
#include "unicode.h"

/* Characters that are their own NFC, of combining class 0, and never the second of a composition: before each of them the text may be
 * cut. Only ranges that are wholly so; tests/oracle/check_patterns.py compares every character and many pairs. */
static bool is_plain(uint32_t c) {
    static const struct {
        uint32_t first, last;
    } ranges[] = {{0x400, 0x482},     {0x48A, 0x52F},    {0x5D0, 0x5EA},   {0x620, 0x64A},
                  {0x2010, 0x2027},   {0x2030, 0x205E},  {0x20A0, 0x20BF}, {0x2190, 0x21FF},
                  {0x2500, 0x25FF},   {0x3001, 0x3029},  {0x3041, 0x3096}, {0x30A1, 0x30FA},
                  {0x4E00, 0x9FFF},   {0xAC00, 0xD7A3},  {0xFF01, 0xFF5E}, {0x1F300, 0x1FAFF},
                  {0x20000, 0x2A6DF}, {0x2A700, 0x2B738}};
    if (c < 0x300) return true;
    if (c < 0x400) return (c >= 0x388 && c <= 0x3FF) || c == 0x386;
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (c <= ranges[i].last) return c >= ranges[i].first;
    return false;
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

/* Of what is not plain, the character before it is part: they may join. */
static mst_status normalize_run(const uint8_t *text, size_t count, mst_byte_list *out) {
    mst_status status = MST_OK;
    for (size_t at = 0; at < count && status == MST_OK;) {
        size_t plain = plain_span(text + at, count - at);
        size_t keep = at + plain == count || plain == 0 ? plain : utf8_before(text + at, plain);
        size_t end = at + plain + stretch(text + at + plain, count - at - plain);
        status = append(out, text + at, keep);
        if (status == MST_OK && at + keep < end) status = append_nfc(out, text + at + keep, end - at - keep);
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
