/* Built without cuDNN's headers: all attention is our own. */
#include <string.h>

#include "face.h"

mst_status mst_cudnn_create(void *stream, mst_cudnn **cudnn_out) {
    (void)stream;
    *cudnn_out = NULL;
    return MST_OK;
}

void mst_cudnn_destroy(mst_cudnn **cudnn) {
    (void)cudnn;
}

void mst_cudnn_class(char *text, size_t size) {
    if (size > 0) text[0] = '\0';
}

mst_status mst_cudnn_attention(mst_cuda *cuda, const mst_attention_args *args, bool backward,
                               bool *served_out) {
    (void)cuda, (void)args, (void)backward;
    *served_out = false;
    return MST_OK;
}

size_t mst_cudnn_choice_count(const mst_cudnn *cudnn) {
    (void)cudnn;
    return 0;
}

void mst_cudnn_choice_print(const mst_cudnn *cudnn, size_t i, char *line, size_t size) {
    (void)cudnn, (void)i;
    if (size > 0) line[0] = '\0';
}

mst_status mst_cudnn_choice_take(mst_cudnn *cudnn, const char *line) {
    const size_t length = strlen(line), own = strlen("=own");
    (void)cudnn;
    if (length > own && strcmp(line + length - own, "=own") == 0) return MST_OK;
    return mst_error(MST_EUNSUPPORTED,
                     "attention: this muster was built without cuDNN; the run needs it: '%.200s'", line);
}

void mst_cudnn_forget(mst_cudnn *cudnn) {
    (void)cudnn;
}
