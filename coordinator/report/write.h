/* The formats: what the files of this room share. */
#ifndef REPORT_WRITE_H
#define REPORT_WRITE_H

#include <stdio.h>

#include "facts.h"
#include "history.h"

/* Each writes its format into a file; what the file cannot take shows when it is closed. @retval MST_ENOMEM */
mst_status report_write_csv(FILE *file, const report_history *history);
mst_status report_write_tensorboard(FILE *file, const report_history *history);
/** @param now seconds since 1970: what the page calls now */
mst_status report_write_html(FILE *file, const report_history *history, const report_facts *facts,
                             double now);

#endif
