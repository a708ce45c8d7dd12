/*
 * An event file is a row of TFRecords: length (8 bytes), CRC of these, the bytes, CRC of them; little-endian. The bytes are a
 * protobuf message Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; } with
 * Summary { repeated Value value = 1; } and Value { string tag = 1; float simple_value = 2; }.
 */
#include "tensorboard.h"

#include <math.h>
#include <string.h>

#include "write.h"

/* A message as it grows. The largest event is a step: 16 values of at most 48 bytes. */
typedef struct message {
    size_t used;
    uint8_t bytes[2048];
} message;

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

uint32_t report_crc32c(const void *data, size_t bytes) {
    /* entry i: the remainder of i after four steps of the polynomial 0x82f63b78 (reflected) */
    static const uint32_t table[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
                                       0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                       0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    uint32_t crc = UINT32_MAX;
    const uint8_t *byte = data;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= byte[i];
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return ~crc;
}

uint32_t report_masked_crc(const void *data, size_t bytes) {
    uint32_t crc = report_crc32c(data, bytes);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

static void put_little(uint8_t *to, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) to[i] = (uint8_t)(value >> (8 * i));
}

static void put_bytes(message *m, const void *bytes, size_t count) {
    if (count > sizeof m->bytes - m->used) return; /* cannot be: see message */
    memcpy(m->bytes + m->used, bytes, count);
    m->used += count;
}

static void put_varint(message *m, uint64_t value) {
    for (; value >= 0x80; value >>= 7) put_bytes(m, &(uint8_t){(uint8_t)(value | 0x80)}, 1);
    put_bytes(m, &(uint8_t){(uint8_t)value}, 1);
}

static void put_key(message *m, unsigned field, unsigned wire) {
    put_varint(m, field << 3 | wire);
}

static void put_field(message *m, unsigned field, const void *bytes, size_t count) {
    put_key(m, field, WIRE_BYTES);
    put_varint(m, count);
    put_bytes(m, bytes, count);
}

static void put_double(message *m, unsigned field, double value) {
    uint64_t bits;
    uint8_t bytes[8];
    memcpy(&bits, &value, sizeof bits);
    put_little(bytes, bits, sizeof bytes);
    put_key(m, field, WIRE_FIXED64);
    put_bytes(m, bytes, sizeof bytes);
}

static void put_float(message *m, unsigned field, float value) {
    uint32_t bits;
    uint8_t bytes[4];
    memcpy(&bits, &value, sizeof bits);
    put_little(bytes, bits, sizeof bytes);
    put_key(m, field, WIRE_FIXED32);
    put_bytes(m, bytes, sizeof bytes);
}

static void write_record(FILE *file, const message *event) {
    uint8_t head[12], tail[4];
    put_little(head, event->used, 8);
    put_little(head + 8, report_masked_crc(head, 8), 4);
    put_little(tail, report_masked_crc(event->bytes, event->used), 4);
    fwrite(head, 1, sizeof head, file);
    fwrite(event->bytes, 1, event->used, file);
    fwrite(tail, 1, sizeof tail, file);
}

static message begin_event(double time) {
    message event = {0};
    put_double(&event, 1, isfinite(time) ? time : 0);
    return event;
}

/* One event with all numbers of a row, under "PREFIX/field". A loss that is not finite stays so: TensorBoard shows it. */
static void write_row(FILE *file, const report_table *table, size_t row, const char *prefix) {
    message event = begin_event(report_time_of(table, row)), summary = {0};
    for (size_t i = 0; i < table->field_count; i++) {
        double number = report_value(table, row, i);
        message value = {0};
        char tag[64];
        if (isnan(number) && !table->fields[i].bits) continue;
        int length = snprintf(tag, sizeof tag, "%s/%s", prefix, table->fields[i].name);
        put_field(&value, 1, tag, (size_t)length);
        put_float(&value, 2, (float)number);
        put_field(&summary, 1, value.bytes, value.used);
    }
    put_key(&event, 2, WIRE_VARINT);
    put_varint(&event, (uint64_t)report_step_of(table, row));
    put_field(&event, 5, summary.bytes, summary.used);
    write_record(file, &event);
}

mst_status report_write_tensorboard(FILE *file, const report_history *history) {
    static const char version[] = "brain.Event:2";
    const report_table *steps = &history->steps, *evals = &history->evals;
    message event = begin_event(steps->count > 0 ? report_time_of(steps, 0) : 0);
    put_field(&event, 3, version, sizeof version - 1);
    write_record(file, &event);
    size_t e = 0;
    for (size_t s = 0; s < steps->count; s++) {
        for (; e < evals->count && report_step_of(evals, e) < report_step_of(steps, s); e++)
            write_row(file, evals, e, "heldout");
        write_row(file, steps, s, "train");
    }
    for (; e < evals->count; e++) write_row(file, evals, e, "heldout");
    return MST_OK;
}
