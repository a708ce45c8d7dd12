#include "muster/transfer.h"

#include <stddef.h>

static mst_status find_face(mst_queue *queue, const mst_transfer_face **face_out) {
    mst_status status = MST_OK;
    MST_TRY(mst_memory_drive(queue));
    const mst_queue_face *face = mst_queue_face_of(queue);
    MST_CHECK(
        face && face->transfers, MST_EUNSUPPORTED,
        "transfers: they are for devices whose memory is apart from the CPU's; use device.kernels: cuda");
    *face_out = face->transfers;
done:
    return status;
}

mst_status mst_transfer_stream(mst_queue *queue, void **stream_out) {
    mst_status status = MST_OK;
    const mst_transfer_face *face = NULL;
    MST_TRY(find_face(queue, &face));
    *stream_out = face->stream(mst_queue_device(queue));
done:
    return status;
}

mst_status mst_mark_create(mst_queue *queue, mst_mark **mark_out) {
    mst_status status = MST_OK;
    const mst_transfer_face *face = NULL;
    *mark_out = NULL;
    MST_TRY(find_face(queue, &face));
    MST_TRY(face->mark_create(mark_out));
done:
    return status;
}

void mst_mark_destroy(mst_queue *queue, mst_mark **mark) {
    if (*mark) mst_queue_face_of(queue)->transfers->mark_destroy(*mark);
    *mark = NULL;
}

mst_status mst_transfer_follow(mst_queue *queue) {
    return mst_queue_face_of(queue)->transfers->follow(mst_queue_device(queue));
}

mst_status mst_mark_set(mst_queue *queue, mst_mark *mark) {
    return mst_queue_face_of(queue)->transfers->mark_set(mst_queue_device(queue), mark);
}

mst_status mst_mark_set_work(mst_queue *queue, mst_mark *mark) {
    return mst_queue_face_of(queue)->transfers->mark_set_work(mst_queue_device(queue), mark);
}

mst_status mst_mark_passed(mst_queue *queue, mst_mark *mark, bool *passed_out) {
    return mst_queue_face_of(queue)->transfers->mark_passed(mark, passed_out);
}

mst_status mst_mark_wait(mst_queue *queue, mst_mark *mark) {
    return mst_queue_face_of(queue)->transfers->mark_wait(mark);
}

mst_status mst_memory_share(mst_queue *queue, void *memory, mst_shared_memory *name_out) {
    mst_status status = MST_OK;
    const mst_transfer_face *face = NULL;
    MST_TRY(find_face(queue, &face));
    MST_TRY(face->share(memory, name_out));
done:
    return status;
}

mst_status mst_memory_join(mst_queue *queue, const mst_shared_memory *name, void **memory_out) {
    mst_status status = MST_OK;
    const mst_transfer_face *face = NULL;
    *memory_out = NULL;
    MST_TRY(find_face(queue, &face));
    MST_TRY(face->join(name, memory_out));
done:
    return status;
}

void mst_memory_leave(mst_queue *queue, void **memory) {
    if (*memory) mst_queue_face_of(queue)->transfers->leave(*memory);
    *memory = NULL;
}
