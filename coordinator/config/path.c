/* Paths of a config, made absolute so that the config stored in a run means the same from everywhere. */
#include <stdlib.h>
#include <string.h>

#include "reader.h"

char *config_path_absolute(const char *folder, const char *path) {
    if (*path == '/') return strdup(path);
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/') length--;
    /* A leading ../ can be taken off by hand, because `folder` has no symbolic links;
     * one further in cannot. */
    for (;;) {
        if (strncmp(path, "./", 2) == 0) {
            path += 2;
        } else if (strncmp(path, "../", 3) == 0) {
            path += 3;
            while (length > 1 && folder[length - 1] != '/') length--;
            while (length > 1 && folder[length - 1] == '/') length--;
        } else {
            break;
        }
        while (*path == '/') path++;
    }
    size_t room = length + strlen(path) + 2;
    char *joined = malloc(room);
    if (joined != NULL)
        snprintf(joined, room, "%.*s%s%s", (int)length, folder,
                 length > 0 && folder[length - 1] == '/' ? "" : "/", path);
    return joined;
}

uint32_t config_utf8_next(const char **text) {
    static const uint32_t smallest[] = {0, 0x80, 0x800, 0x10000}; /* by number of bytes that follow */
    const unsigned char *byte = (const unsigned char *)*text;
    int more = byte[0] < 0x80 ? 0 : byte[0] >= 0xf0 ? 3 : byte[0] >= 0xe0 ? 2 : 1;
    uint32_t code = more == 0 ? byte[0] : byte[0] & (0x3fu >> more);
    if ((byte[0] >= 0x80 && byte[0] < 0xc0) || byte[0] >= 0xf8) return UINT32_MAX;
    for (int i = 1; i <= more; i++) {
        if ((byte[i] & 0xc0) != 0x80) return UINT32_MAX;
        code = code << 6 | (byte[i] & 0x3f);
    }
    if (code < smallest[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return UINT32_MAX;
    *text += more + 1;
    return code;
}
