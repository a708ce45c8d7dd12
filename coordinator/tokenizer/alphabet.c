#include "alphabet.h"

#include "unicode.h"

/* The bytes that do not stand for themselves are 0 to 32, 127 to 160 and 173; they are U+0100 and so on, in this order. */
uint32_t alphabet_character(uint8_t byte) {
    if (byte <= 32) return 0x100u + byte;
    if (byte < 127) return byte;
    if (byte <= 160) return 0x100u + 33 + byte - 127;
    return byte == 173 ? 0x100u + 33 + 34 : byte;
}

int alphabet_byte(uint32_t character) {
    uint32_t at = character - 0x100;
    if (character < 0x100) return alphabet_character((uint8_t)character) == character ? (int)character : -1;
    return at < 33 ? (int)at : at < 33 + 34 ? (int)(at - 33 + 127) : at == 33 + 34 ? 173 : -1;
}

size_t alphabet_bytes(const uint8_t *content, size_t count, uint8_t *bytes_out) {
    size_t written = 0, length;
    for (size_t at = 0; at < count; at += length) {
        int byte = alphabet_byte(utf8_decode(content + at, &length));
        if (byte < 0) return SIZE_MAX;
        bytes_out[written++] = (uint8_t)byte;
    }
    return written;
}
