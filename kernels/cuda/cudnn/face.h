/*
 * Attention by cuDNN, which has faster kernels than ours, but takes memory that grows with the square of the sequence where its
 * sums are to follow one order. Private to kernels/cuda. Where the program is built without cuDNN's headers, none.c stands
 * for the others.
 */
#ifndef MST_CUDNN_FACE_H
#define MST_CUDNN_FACE_H

#include "../cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MST_CUDNN_ADVICE "load its module, or add its folder to LD_LIBRARY_PATH"

/** What belongs to one stream. The library is opened when it is wanted first. @retval MST_ENOMEM */
mst_status mst_cudnn_create(void *stream, mst_cudnn **cudnn_out);
void mst_cudnn_destroy(mst_cudnn **cudnn);

/** The library's name and version, such as "cudnn-9.19.0"; "" when there is none. */
void mst_cudnn_class(char *text, size_t size);

/** A pass of attention, if a choice was made for its kind, or if the library has an algorithm for it that adds in one order
 * and needs at most args->workspace bytes. @param served_out false: nothing was done */
mst_status mst_cudnn_attention(mst_cuda *cuda, const mst_attention_args *args, bool backward,
                               bool *served_out);

/** What was chosen, as lines of text without their ends. */
size_t mst_cudnn_choice_count(const mst_cudnn *cudnn);
void mst_cudnn_choice_print(const mst_cudnn *cudnn, size_t i, char *line, size_t size);

/** Makes the choice of a line. @retval MST_EFORMAT; MST_EUNSUPPORTED the library does not offer it, or is not there */
mst_status mst_cudnn_choice_take(mst_cudnn *cudnn, const char *line);
void mst_cudnn_forget(mst_cudnn *cudnn);

#ifdef __cplusplus
}
#endif
#endif
