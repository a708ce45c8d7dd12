/* Status codes and error messages, used by every room. */
#ifndef MUSTER_STATUS_H
#define MUSTER_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* One list: code, text. The code says what kind of failure it is;
 * the message (mst_error_message) says the rest. */
#define MST_STATUS_LIST(X)                                                                                   \
    X(MST_OK, "no error")                                                                                    \
    X(MST_EINVAL, "invalid argument")                                                                        \
    X(MST_ECONFIG, "the command or the config is wrong")                                                     \
    X(MST_ENOMEM, "out of memory")                                                                           \
    X(MST_EIO, "input or output failed")                                                                     \
    X(MST_EFORMAT, "damaged, or not in the expected format")                                                 \
    X(MST_EUNSUPPORTED, "not supported here")                                                                \
    X(MST_ENONFINITE, "a loss or gradient is not finite")                                                    \
    X(MST_EMPI, "MPI failed")                                                                                \
    X(MST_EHDF5, "HDF5 failed")                                                                              \
    X(MST_ELIBRARY, "a mathematics library failed")                                                          \
    X(MST_EPEER, "another rank failed")                                                                      \
    X(MST_ESTOPPED, "stopped on request")                                                                    \
    X(MST_ELOST, "another process has taken over")                                                           \
    X(MST_EINTERNAL, "internal error")

typedef enum mst_status {
#define MST_STATUS_ENUM(code, text) code,
    MST_STATUS_LIST(MST_STATUS_ENUM)
#undef MST_STATUS_ENUM
} mst_status;

/** The one-line text of a status code. Not collective. Never NULL; static storage. */
const char *mst_status_text(mst_status status);

/** The symbol of a status code, such as "MST_EIO". Not collective. Never NULL; static storage. */
const char *mst_status_name(mst_status status);

/**
 * Records the message of a failure for this thread and returns its code.
 *
 * Not collective.
 * @param status what failed; not MST_OK
 * @param format printf format of one line: operation, value, limit, what to do next; no trailing newline
 * @retval status always
 * Memory: one fixed buffer per thread; a longer message is cut.
 * Threads: safe, each thread has its own message.
 */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
mst_status
mst_error(mst_status status, const char *format, ...);

#ifdef __clang_analyzer__ /* it cannot know that mst_error returns its status, never MST_OK */
#define mst_error(status, ...) ((void)mst_error((status), __VA_ARGS__), (status))
#endif

/** Puts "prefix: " (printf-formatted) before this thread's message,
 * to say where it happened. Returns status. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
mst_status
mst_error_context(mst_status status, const char *format, ...);

/** This thread's last message ("" if none). Not collective. Valid until the thread's next mst_error. */
const char *mst_error_message(void);

/*
 * For functions with `mst_status status = MST_OK;` and one `done:` label that cleans up and returns it. All
 * stay on in release builds. The first error wins: clean-up code must not overwrite status.
 */
#define MST_CHECK(condition, code, ...)                                                                      \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            status = mst_error((code), __VA_ARGS__);                                                         \
            goto done;                                                                                       \
        }                                                                                                    \
    } while (0)

#define MST_TRY(call)                                                                                        \
    do {                                                                                                     \
        status = (call);                                                                                     \
        if (status != MST_OK) goto done;                                                                     \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
