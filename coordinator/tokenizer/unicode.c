#include "unicode.h"

#include <string.h>
#include <utf8proc.h>

/* Made from the categories that tokenizers 0.23.3 (oniguruma, Unicode 16) gives to each character, less those of Unicode 14
 * (Python 3.11's unicodedata); tests/oracle/check_tokenizer.py compares every character. */
const unicode_range unicode_added[] = {
    {0x897, 0x897, "Mn"},     {0xCF3, 0xCF3, "Mc"},     {0xECE, 0xECE, "Mn"},     {0x1B4E, 0x1B4F, "Po"},
    {0x1B7F, 0x1B7F, "Po"},   {0x1C89, 0x1C89, "Lu"},   {0x1C8A, 0x1C8A, "Ll"},   {0x2427, 0x2429, "So"},
    {0x2FFC, 0x2FFF, "So"},   {0x31E4, 0x31E5, "So"},   {0x31EF, 0x31EF, "So"},   {0xA7CB, 0xA7CC, "Lu"},
    {0xA7CD, 0xA7CD, "Ll"},   {0xA7DA, 0xA7DA, "Lu"},   {0xA7DB, 0xA7DB, "Ll"},   {0xA7DC, 0xA7DC, "Lu"},
    {0x105C0, 0x105F3, "Lo"}, {0x10D40, 0x10D49, "Nd"}, {0x10D4A, 0x10D4D, "Lo"}, {0x10D4E, 0x10D4E, "Lm"},
    {0x10D4F, 0x10D4F, "Lo"}, {0x10D50, 0x10D65, "Lu"}, {0x10D69, 0x10D6D, "Mn"}, {0x10D6E, 0x10D6E, "Pd"},
    {0x10D6F, 0x10D6F, "Lm"}, {0x10D70, 0x10D85, "Ll"}, {0x10D8E, 0x10D8F, "Sm"}, {0x10EC2, 0x10EC4, "Lo"},
    {0x10EFC, 0x10EFF, "Mn"}, {0x1123F, 0x11240, "Lo"}, {0x11241, 0x11241, "Mn"}, {0x11380, 0x11389, "Lo"},
    {0x1138B, 0x1138B, "Lo"}, {0x1138E, 0x1138E, "Lo"}, {0x11390, 0x113B5, "Lo"}, {0x113B7, 0x113B7, "Lo"},
    {0x113B8, 0x113BA, "Mc"}, {0x113BB, 0x113C0, "Mn"}, {0x113C2, 0x113C2, "Mc"}, {0x113C5, 0x113C5, "Mc"},
    {0x113C7, 0x113CA, "Mc"}, {0x113CC, 0x113CD, "Mc"}, {0x113CE, 0x113CE, "Mn"}, {0x113CF, 0x113CF, "Mc"},
    {0x113D0, 0x113D0, "Mn"}, {0x113D1, 0x113D1, "Lo"}, {0x113D2, 0x113D2, "Mn"}, {0x113D3, 0x113D3, "Lo"},
    {0x113D4, 0x113D5, "Po"}, {0x113D7, 0x113D8, "Po"}, {0x113E1, 0x113E2, "Mn"}, {0x116D0, 0x116E3, "Nd"},
    {0x1171E, 0x1171E, "Mc"}, {0x11B00, 0x11B09, "Po"}, {0x11BC0, 0x11BE0, "Lo"}, {0x11BE1, 0x11BE1, "Po"},
    {0x11BF0, 0x11BF9, "Nd"}, {0x11F00, 0x11F01, "Mn"}, {0x11F02, 0x11F02, "Lo"}, {0x11F03, 0x11F03, "Mc"},
    {0x11F04, 0x11F10, "Lo"}, {0x11F12, 0x11F33, "Lo"}, {0x11F34, 0x11F35, "Mc"}, {0x11F36, 0x11F3A, "Mn"},
    {0x11F3E, 0x11F3F, "Mc"}, {0x11F40, 0x11F40, "Mn"}, {0x11F41, 0x11F41, "Mc"}, {0x11F42, 0x11F42, "Mn"},
    {0x11F43, 0x11F4F, "Po"}, {0x11F50, 0x11F59, "Nd"}, {0x11F5A, 0x11F5A, "Mn"}, {0x1342F, 0x1342F, "Lo"},
    {0x13439, 0x1343F, "Cf"}, {0x13440, 0x13440, "Mn"}, {0x13441, 0x13446, "Lo"}, {0x13447, 0x13455, "Mn"},
    {0x13460, 0x143FA, "Lo"}, {0x16100, 0x1611D, "Lo"}, {0x1611E, 0x16129, "Mn"}, {0x1612A, 0x1612C, "Mc"},
    {0x1612D, 0x1612F, "Mn"}, {0x16130, 0x16139, "Nd"}, {0x16D40, 0x16D42, "Lm"}, {0x16D43, 0x16D6A, "Lo"},
    {0x16D6B, 0x16D6C, "Lm"}, {0x16D6D, 0x16D6F, "Po"}, {0x16D70, 0x16D79, "Nd"}, {0x18CFF, 0x18CFF, "Lo"},
    {0x1B132, 0x1B132, "Lo"}, {0x1B155, 0x1B155, "Lo"}, {0x1CC00, 0x1CCEF, "So"}, {0x1CCF0, 0x1CCF9, "Nd"},
    {0x1CD00, 0x1CEB3, "So"}, {0x1D2C0, 0x1D2D3, "No"}, {0x1DF25, 0x1DF2A, "Ll"}, {0x1E030, 0x1E06D, "Lm"},
    {0x1E08F, 0x1E08F, "Mn"}, {0x1E4D0, 0x1E4EA, "Lo"}, {0x1E4EB, 0x1E4EB, "Lm"}, {0x1E4EC, 0x1E4EF, "Mn"},
    {0x1E4F0, 0x1E4F9, "Nd"}, {0x1E5D0, 0x1E5ED, "Lo"}, {0x1E5EE, 0x1E5EF, "Mn"}, {0x1E5F0, 0x1E5F0, "Lo"},
    {0x1E5F1, 0x1E5FA, "Nd"}, {0x1E5FF, 0x1E5FF, "Po"}, {0x1F6DC, 0x1F6DC, "So"}, {0x1F774, 0x1F776, "So"},
    {0x1F77B, 0x1F77F, "So"}, {0x1F7D9, 0x1F7D9, "So"}, {0x1F8B2, 0x1F8BB, "So"}, {0x1F8C0, 0x1F8C1, "So"},
    {0x1FA75, 0x1FA77, "So"}, {0x1FA87, 0x1FA89, "So"}, {0x1FA8F, 0x1FA8F, "So"}, {0x1FAAD, 0x1FAAF, "So"},
    {0x1FABB, 0x1FABF, "So"}, {0x1FAC6, 0x1FAC6, "So"}, {0x1FACE, 0x1FACF, "So"}, {0x1FADA, 0x1FADC, "So"},
    {0x1FADF, 0x1FADF, "So"}, {0x1FAE8, 0x1FAE9, "So"}, {0x1FAF7, 0x1FAF8, "So"}, {0x1FBCB, 0x1FBEF, "So"},
    {0x2B739, 0x2B739, "Lo"}, {0x2EBF0, 0x2EE5D, "Lo"}, {0x31350, 0x323AF, "Lo"},
};
const size_t unicode_added_count = sizeof unicode_added / sizeof *unicode_added;

static bool is_tail(uint8_t byte) {
    return (byte & 0xC0) == 0x80;
}

size_t utf8_length(const uint8_t *text, size_t count) {
    if (count == 0) return 0;
    uint8_t a = text[0];
    if (a < 0x80) return 1;
    if (a < 0xC2 || a > 0xF4 || count < 2 || !is_tail(text[1])) return 0;
    if (a < 0xE0) return 2;
    if (count < 3 || !is_tail(text[2])) return 0;
    if (a < 0xF0) return (a == 0xE0 && text[1] < 0xA0) || (a == 0xED && text[1] > 0x9F) ? 0 : 3;
    if (count < 4 || !is_tail(text[3])) return 0;
    return (a == 0xF0 && text[1] < 0x90) || (a == 0xF4 && text[1] > 0x8F) ? 0 : 4;
}

uint32_t utf8_decode(const uint8_t *text, size_t *length_out) {
    uint32_t a = text[0];
    if (a < 0x80) {
        *length_out = 1;
        return a;
    }
    *length_out = a < 0xE0 ? 2 : a < 0xF0 ? 3 : 4;
    uint32_t character = a & (0x7Fu >> *length_out);
    for (size_t i = 1; i < *length_out; i++) character = character << 6 | (text[i] & 0x3Fu);
    return character;
}

size_t utf8_before(const uint8_t *text, size_t count) {
    size_t at = count - 1;
    while (at > 0 && is_tail(text[at])) at--;
    return at;
}

size_t utf8_encode(uint32_t character, uint8_t out[4]) {
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)character, out);
}

/* How many bytes at the beginning are ASCII, eight at a time. */
static size_t ascii_span(const uint8_t *text, size_t count) {
    size_t at = 0;
    for (uint64_t eight; at + 8 <= count; at += 8) {
        memcpy(&eight, text + at, 8);
        if ((eight & 0x8080808080808080u) != 0) break;
    }
    while (at < count && text[at] < 0x80) at++;
    return at;
}

size_t utf8_span(const uint8_t *text, size_t count, bool *unusual_out) {
    size_t at = 0, length;
    *unusual_out = false;
    while ((at += ascii_span(text + at, count - at)) < count) {
        length = utf8_length(text + at, count - at);
        if (length == 0) break;
        if (length > 2 && !*unusual_out) *unusual_out = unicode_is_unusual(utf8_decode(text + at, &length));
        at += length;
    }
    return at;
}

static const unicode_range *find_added(uint32_t character) {
    size_t low = 0, high = unicode_added_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (unicode_added[middle].last < character)
            low = middle + 1;
        else
            high = middle;
    }
    return low < unicode_added_count && unicode_added[low].first <= character ? &unicode_added[low] : NULL;
}

bool unicode_is_unusual(uint32_t character) {
    /* most scripts, at a glance: Devanagari to the CJK ideographs but for what follows, Hangul */
    if (character < 0x0897 ||
        (character >= 0x3000 && character < 0xA7CB && character != 0x31E4 && character != 0x31E5 &&
         character != 0x31EF) ||
        (character >= 0xAB70 && character < 0xFFFF))
        return false;
    return character == 0x180E || find_added(character) != NULL;
}

/* The two letters of a category, of Unicode 16. */
static const char *category(uint32_t character) {
    const unicode_range *added = find_added(character);
    return added != NULL ? added->category : utf8proc_category_string((utf8proc_int32_t)character);
}

bool unicode_is_numeric(uint32_t character) {
    if (character < 0x80) return character >= '0' && character <= '9';
    bool in_17 =
        (character >= 0x11DE0 && character <= 0x11DE9) || (character >= 0x16FF4 && character <= 0x16FF6);
    return in_17 || category(character)[0] == 'N';
}

bool unicode_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
           c == 0x3000;
}

/* Other_Alphabetic, so far as it lies outside of the categories L, M, N: circled and squared letters. */
static bool is_letter_symbol(uint32_t c) {
    return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
           (c >= 0x1F170 && c <= 0x1F189);
}

bool unicode_is_word(uint32_t character) {
    const char *kind = category(character);
    return kind[0] == 'L' || kind[0] == 'M' || strcmp(kind, "Nd") == 0 || strcmp(kind, "Nl") == 0 ||
           strcmp(kind, "Pc") == 0 || character == 0x200C || character == 0x200D ||
           is_letter_symbol(character);
}
