/* The documents of a file: a text file is one, a .jsonl file has one on each line. */
#ifndef MUSTER_DATA_DOCUMENTS_H
#define MUSTER_DATA_DOCUMENTS_H

#include <stdbool.h>

#include "muster/digest.h"

/* Who takes the documents: pieces of any size, in order, then the end. A document may have no pieces. */
typedef struct document_sink {
    mst_status (*piece)(void *context, const uint8_t *bytes, size_t count);
    mst_status (*end)(void *context);
    void *context;
    bool records; /* a document is a whole line, an object; there are only .jsonl files */
} document_sink;

/* The file as it lies on the disk, packed or not. */
typedef struct document_file {
    uint64_t bytes;
    mst_digest digest;
} document_file;

/**
 * Gives every document of a file to the sink.
 *
 * Files named *.jsonl or *.ndjson (and .gz, .zst) are read line by line, each an object with a text in
 * `field`; for a sink of records the object itself is the document. Blank lines and a byte order mark are passed over. All other files are one document, byte by byte.
 * @retval MST_EIO; MST_EFORMAT damaged, with file and line; MST_ECONFIG records are wanted of another file; MST_ENOMEM; what the
 * sink returned, for records with file and line
 */
mst_status documents_read(const char *path, const char *field, const document_sink *sink,
                          document_file *file_out);

#endif
