/* The usual line of metrics, read without building a JSON object: a run of a million steps is mostly these. */
#ifndef REPORT_SCAN_H
#define REPORT_SCAN_H

#include "history.h"

/**
 * Reads a flat JSON object of plain numbers and plain texts, as muster writes them for a step or an evaluation.
 *
 * Not collective.
 * @param line `length` bytes, followed by a byte that is no part of a number (its newline)
 * @param event the kind of line wanted, "step" or "eval": it must come first
 * @param row_out [2 + count] step, time, fields; NaN where a field is not given
 * @return false when it is anything else, good or bad: then a JSON parser has to judge it
 */
bool report_scan(const char *line, size_t length, const char *event, const report_field *fields, size_t count,
                 double *row_out);

#endif
