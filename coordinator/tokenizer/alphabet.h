/* The alphabet of byte-level BPE (GPT-2): the 256 bytes as printable characters, as tokenizer.json spells tokens. Private to the
 * room. */
#ifndef TOKENIZER_ALPHABET_H
#define TOKENIZER_ALPHABET_H

#include <stddef.h>
#include <stdint.h>

/** The character that stands for a byte: itself where it is printable in Latin-1, else one from U+0100 on. */
uint32_t alphabet_character(uint8_t byte);

/** The byte that a character stands for; -1: none. */
int alphabet_byte(uint32_t character);

/**
 * Writes what a token of the file stands for.
 * @param content UTF-8
 * @param bytes_out room for count bytes
 * @retval the bytes written; SIZE_MAX: a character is not of the alphabet
 */
size_t alphabet_bytes(const uint8_t *content, size_t count, uint8_t *bytes_out);

#endif
