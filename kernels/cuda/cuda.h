/*
 * What the CUDA bodies share with the C files beside them. Private to this folder.
 *
 * Bodies put their work on the stream of the queue's device, which the first body that is called on a queue attaches
 * to it, and return before it has ended. Bits depend on the arguments alone: grids, tiles and partitions follow from
 * the sizes, there are no atomics, and device code is compiled without contraction, with fma where it is written.
 * Pointers that all lie on 16 bytes take wider accesses, with the same bits.
 */
#ifndef MST_CUDA_H
#define MST_CUDA_H

#include "muster/footprint.h"
#include "muster/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mst_product mst_product; /* the matrix library's handle and choices: matmul.c */
typedef struct mst_cudnn mst_cudnn;     /* the attention library's: cudnn/attention.c */

/* The device side of a queue. */
typedef struct mst_cuda {
    void *stream;         /* cudaStream_t */
    void *transfers;      /* cudaStream_t: what moves beside it, transfer.cu */
    void *worked;         /* cudaEvent_t: work that transfers wait for */
    void *scratch;        /* device memory for partial sums; grows at first use only */
    void *staging;        /* pinned memory */
    size_t scratch_bytes; /* of both */
    size_t staging_bytes;
    size_t shared_limit; /* bytes of shared memory that a block may ask for */
    uint64_t basis;      /* of recordings: counts when scratch moves, and when algorithms are chosen anew */
    mst_product *product;
    mst_cudnn *cudnn;
} mst_cuda;

/** The device side of a queue; attached when it is asked for first. @retval MST_EUNSUPPORTED no GPU */
mst_status mst_cuda_of(mst_queue *queue, mst_cuda **cuda_out);

/** Device memory of at least `bytes` until the next call, contents undefined. Two calls in stream order may share it. */
mst_status mst_cuda_scratch(mst_cuda *cuda, size_t bytes, void **memory_out);

/** Pinned host memory of at least `bytes`, likewise. */
mst_status mst_cuda_staging(mst_cuda *cuda, size_t bytes, void **memory_out);

/** Copies between any two kinds of memory in stream order. */
mst_status mst_cuda_copy(mst_cuda *cuda, void *to, const void *from, size_t bytes);

/** The failure of a call of CUDA, in words, with what to do about it: fault.cu. @param error not cudaSuccess
 * @retval MST_ENOMEM device memory is short; MST_ELIBRARY all others */
mst_status mst_cuda_failed(const char *what, int error);

/** PCI address of the GPU that was opened, "" before. */
const char *mst_cuda_device_id(void);

/** Waits for the stream. */
mst_status mst_cuda_sync(mst_cuda *cuda);

/** Opens the matrix library for one stream. @retval MST_EUNSUPPORTED it is not installed */
mst_status mst_product_create(mst_product **product_out);
void mst_product_destroy(mst_product **product);

/** The matrix library's name and version, such as "cublas-13.1.0"; "" when there is none. */
void mst_product_class(char *text, size_t size);

/** The same with the file that it was loaded from, or what to do where there is none. */
void mst_product_describe(char *text, size_t size);
#define MST_CUBLAS_ADVICE "load the CUDA module, or add its folder to LD_LIBRARY_PATH"

/** All choices of algorithms as text: choices.c. @param text_out freed by the caller with free */
mst_status mst_cuda_choices(const mst_cuda *cuda, char **text_out);
/** Makes the choices of a text and forgets all others. @retval MST_EFORMAT, MST_EUNSUPPORTED */
mst_status mst_cuda_choose(mst_cuda *cuda, const char *text);
enum { MST_CHOICE_LINE = 512 }; /* bytes of a line at most, with a final NUL */

/** The device's part of muster/transfer.h: transfer.cu. */
extern const struct mst_transfer_face mst_cuda_transfers;
/** Opens the second stream. @retval MST_ELIBRARY */
mst_status mst_cuda_transfers_open(mst_cuda *cuda);
void mst_cuda_transfers_close(mst_cuda *cuda);

/** The device's part of muster/recording.h, by CUDA graphs: recording.cu. */
extern const struct mst_recording_face mst_cuda_recordings;

/** c = bias in every row, or 0 without one: product.cu. */
mst_status mst_cuda_fill_rows(mst_cuda *cuda, const mst_matmul_args *args);

/** A product by a kernel of our own, for shapes that the matrix library refuses: product.cu. */
mst_status mst_cuda_plain_product(mst_cuda *cuda, const mst_matmul_args *args);

/** Sets the name, the class and every slot for GPU number `device`, modulo those here (NULL: 0). @retval MST_EUNSUPPORTED no such GPU */
mst_status mst_kernels_fill_cuda(const char *device, mst_kernels *table);

/** Their number, the first one's class and memory, or why there is none. Makes no context, whose memory each process would take. */
void mst_cuda_describe(char *text, size_t size);

/** The versions of CUDA that are built in and that the driver is for, and the matrix library. */
void mst_cuda_describe_software(char *text, size_t size);

#define MST_CUDA_DECLARE(slot) mst_##slot##_fn mst_##slot##_cuda;
MST_KERNEL_SLOTS(MST_CUDA_DECLARE)
#undef MST_CUDA_DECLARE

/** Refuses a type that the fast bodies do not compute. @retval MST_EUNSUPPORTED, naming the operation */
static inline mst_status mst_cuda_check_dtype(const char *operation, mst_dtype dtype) {
    if (dtype == MST_F32 || dtype == MST_BF16) return MST_OK;
    return mst_error(MST_EUNSUPPORTED,
                     "%s: %s on device cuda, which computes f32 and bf16; open device ref for it", operation,
                     mst_dtype_name(dtype));
}

#ifdef __cplusplus
}
#endif
#endif
