/* The byte tokenizer, as a tokenizer.json like any other. */
#include <stdlib.h>

#include "muster/tokenizer.h"

/* GPT-2's way to write bytes in JSON: printable ones of Latin-1 as themselves, the others, in order, from U+0100 on. */
static unsigned character_of(unsigned byte) {
    unsigned others = 0;
    for (unsigned b = 0; b <= byte; b++) {
        bool itself = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        if (b == byte) return itself ? b : 0x100 + others;
        others += !itself;
    }
    return 0;
}

mst_status mst_tokenizer_bytes(mst_tokenizer **tokenizer_out) {
    char *json = NULL;
    size_t length = 0;
    FILE *text = open_memstream(&json, &length);
    *tokenizer_out = NULL;
    if (text == NULL) return mst_error(MST_ENOMEM, "no memory for the byte tokenizer");
    fputs("{\"version\": \"1.0\", \"normalizer\": null, \"added_tokens\": [", text);
    fprintf(text, "{\"id\": %d, \"content\": \"<eos>\", \"special\": true},", MST_BYTE_EOS);
    fprintf(text, "{\"id\": %d, \"content\": \"<pad>\", \"special\": true}],", MST_BYTE_PAD);
    fputs("\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false},"
          "\"decoder\": {\"type\": \"ByteLevel\"}, \"post_processor\": null,"
          "\"model\": {\"type\": \"BPE\", \"merges\": [], \"vocab\": {",
          text);
    for (unsigned byte = 0; byte < MST_BYTE_EOS; byte++)
        fprintf(text, "%s\"\\u%04x\": %u", byte > 0 ? "," : "", character_of(byte), byte);
    fputs("}}}", text);
    bool complete = ferror(text) == 0;
    if ((fclose(text) == 0) & complete) {
        mst_status status = mst_tokenizer_parse(json, length, "the byte tokenizer", tokenizer_out);
        free(json);
        return status;
    }
    free(json);
    return mst_error(MST_ENOMEM, "no memory for the byte tokenizer");
}
