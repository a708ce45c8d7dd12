#include "muster/digest.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#if __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h> /* the same functions, in the widest vectors that the processor has */
#else
#include <xxhash.h>
#endif

struct mst_hasher {
    EVP_MD_CTX *context;
};

/* The algorithm is fetched once: a fetch per digest costs more than hashing a block. */
static const EVP_MD *sha256(void) {
    return EVP_sha256();
}

/* A context of each thread's own, freed when the thread ends. */
static pthread_key_t context_key;
static bool has_context_key;

static void free_context(void *context) {
    EVP_MD_CTX_free(context);
}

static void make_context_key(void) {
    has_context_key = pthread_key_create(&context_key, free_context) == 0;
}

static EVP_MD_CTX *own_context(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_context_key);
    if (!has_context_key) return NULL;
    EVP_MD_CTX *context = pthread_getspecific(context_key);
    if (context != NULL) return context;
    context = EVP_MD_CTX_new();
    if (context != NULL && pthread_setspecific(context_key, context) == 0) return context;
    EVP_MD_CTX_free(context);
    return NULL;
}

mst_status mst_digest_of(const void *data, size_t bytes, mst_digest *digest_out) {
    EVP_MD_CTX *context = own_context();
    if (context == NULL || EVP_DigestInit_ex(context, sha256(), NULL) != 1 ||
        EVP_DigestUpdate(context, data, bytes) != 1 ||
        EVP_DigestFinal_ex(context, digest_out->bytes, NULL) != 1)
        return mst_error(MST_ELIBRARY, "SHA-256 of %zu bytes failed in libcrypto", bytes);
    return MST_OK;
}

uint64_t mst_checksum_of(const void *data, size_t bytes) {
    return XXH3_64bits(data, bytes);
}

mst_status mst_hasher_create(mst_hasher **hasher_out) {
    mst_status status = MST_OK;
    mst_hasher *hasher = calloc(1, sizeof *hasher);
    MST_CHECK(hasher != NULL, MST_ENOMEM, "hasher: out of memory");
    hasher->context = EVP_MD_CTX_new();
    MST_CHECK(hasher->context != NULL, MST_ENOMEM, "hasher: out of memory");
    MST_CHECK(EVP_DigestInit_ex(hasher->context, sha256(), NULL) == 1, MST_ELIBRARY,
              "libcrypto offers no SHA-256");
    *hasher_out = hasher;
    hasher = NULL;
done:
    mst_hasher_destroy(&hasher);
    return status;
}

mst_status mst_hasher_update(mst_hasher *hasher, const void *data, size_t bytes) {
    if (EVP_DigestUpdate(hasher->context, data, bytes) != 1)
        return mst_error(MST_ELIBRARY, "SHA-256: libcrypto refused %zu bytes", bytes);
    return MST_OK;
}

mst_status mst_hasher_finish(mst_hasher *hasher, mst_digest *digest_out) {
    if (EVP_DigestFinal_ex(hasher->context, digest_out->bytes, NULL) != 1 ||
        EVP_DigestInit_ex(hasher->context, sha256(), NULL) != 1)
        return mst_error(MST_ELIBRARY, "SHA-256: libcrypto could not finish the digest");
    return MST_OK;
}

void mst_hasher_destroy(mst_hasher **hasher) {
    if (*hasher == NULL) return;
    EVP_MD_CTX_free((*hasher)->context);
    free(*hasher);
    *hasher = NULL;
}

void mst_digest_to_hex(const mst_digest *digest, char hex_out[MST_DIGEST_HEX]) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < MST_DIGEST_BYTES; i++) {
        hex_out[2 * i] = digits[digest->bytes[i] >> 4];
        hex_out[2 * i + 1] = digits[digest->bytes[i] & 15];
    }
    hex_out[2 * MST_DIGEST_BYTES] = '\0';
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

mst_status mst_digest_from_hex(const char *hex, mst_digest *digest_out) {
    if (strlen(hex) != 2 * MST_DIGEST_BYTES)
        return mst_error(MST_EFORMAT, "'%.80s' is not a SHA-256: 64 hexadecimal digits are needed", hex);
    for (size_t i = 0; i < MST_DIGEST_BYTES; i++) {
        int high = hex_value(hex[2 * i]), low = hex_value(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return mst_error(MST_EFORMAT, "'%s' is not a SHA-256: 64 hexadecimal digits are needed", hex);
        digest_out->bytes[i] = (uint8_t)(high * 16 + low);
    }
    return MST_OK;
}
