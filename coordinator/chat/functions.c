/* Functions that a template may call. namespace() and dict() are made by the parser. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "callable.h"

enum { RANGE_MAX = 1000000 };

static mst_status raise_exception(chat_renderer *r, const chat_value *self, const chat_arguments *arguments,
                                  chat_value *value_out) {
    char buffer[32];
    chat_text text;
    (void)r;
    (void)self;
    *value_out = chat_none();
    mst_status status = chat_value_text(&arguments->at[0], buffer, &text);
    if (status != MST_OK) return status;
    return mst_error(MST_EFORMAT, "the template refuses the conversation: %.*s",
                     (int)(text.count < 300 ? text.count : 300), text.at);
}

static mst_status range(chat_renderer *r, const chat_value *self, const chat_arguments *arguments,
                        chat_value *value_out) {
    mst_status status = MST_OK;
    int64_t bounds[3] = {0, 0, 1};
    void *memory = NULL;
    size_t count = 0;
    (void)self;
    for (size_t i = 0; i < 3; i++) {
        if (!arguments->given[i]) continue;
        MST_CHECK(arguments->at[i].kind == KIND_INT, MST_EFORMAT, "range of %s",
                  chat_kind_name(arguments->at[i].kind));
        bounds[i] = arguments->at[i].integer;
        MST_CHECK(bounds[i] >= -RANGE_MAX && bounds[i] <= RANGE_MAX, MST_EUNSUPPORTED,
                  "range with numbers beyond %d", RANGE_MAX);
    }
    const bool one = !arguments->given[1];
    const int64_t first = one ? 0 : bounds[0], last = one ? bounds[0] : bounds[1], step = bounds[2];
    MST_CHECK(step != 0, MST_EFORMAT, "range in steps of 0");
    if (step > 0 ? first < last : first > last)
        count = (size_t)((step > 0 ? last - first + step - 1 : last - first + step + 1) / step);
    MST_TRY(chat_take(r, (count + 1) * sizeof(chat_value), &memory));
    *value_out = (chat_value){.kind = KIND_LIST, .list = {memory, count}};
    for (size_t i = 0; i < count; i++) value_out->list.at[i] = chat_int(first + (int64_t)i * step);
done:
    return status;
}

/* One of strftime's conversions that speak of a day, in English; false: another one. */
static bool format_day(const struct tm *day, char conversion, char text[16]) {
    static const char *const days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                       "Thursday", "Friday", "Saturday"};
    static const char *const months[] = {"January",   "February", "March",    "April",
                                         "May",       "June",     "July",     "August",
                                         "September", "October",  "November", "December"};
    const char *name = strchr("aA", conversion) != NULL ? days[day->tm_wday] : months[day->tm_mon];
    if (conversion == 'a' || conversion == 'b')
        snprintf(text, 16, "%.3s", name);
    else if (conversion == 'A' || conversion == 'B')
        snprintf(text, 16, "%s", name);
    else if (conversion == 'Y')
        snprintf(text, 16, "%d", day->tm_year + 1900);
    else if (conversion == 'd' || conversion == 'm' || conversion == 'y')
        snprintf(text, 16, "%02d",
                 conversion == 'd'   ? day->tm_mday
                 : conversion == 'm' ? day->tm_mon + 1
                                     : day->tm_year % 100);
    else if (conversion == 'j')
        snprintf(text, 16, "%03d", day->tm_yday + 1);
    else
        snprintf(text, 16, "%%");
    return strchr("aAbBYdmyj%", conversion) != NULL && conversion != '\0';
}

static mst_status strftime_now(chat_renderer *r, const chat_value *self, const chat_arguments *arguments,
                               chat_value *value_out) {
    mst_status status = MST_OK;
    struct tm day = {0};
    chat_buffer text = {0};
    const chat_value *format = &arguments->at[0];
    (void)self;
    MST_CHECK(r->date != NULL, MST_ECONFIG,
              "the template asks for today's date; give one, so that the text does not depend on the day");
    MST_CHECK(format->kind == KIND_STRING, MST_EFORMAT, "strftime_now of %s", chat_kind_name(format->kind));
    const char *end = strptime(r->date, "%Y-%m-%d", &day);
    MST_CHECK(end != NULL && *end == '\0' && day.tm_year >= 0 && day.tm_year <= 8099, MST_ECONFIG,
              "the date '%s' is not YYYY-MM-DD", r->date);
    for (size_t i = 0; i < format->text.count; i++) {
        const char *c = format->text.at + i;
        char part[16] = {0};
        if (*c != '%') {
            MST_TRY(chat_buffer_add(&text, (chat_text){c, 1}));
            continue;
        }
        const char conversion = ++i < format->text.count ? c[1] : '\0';
        MST_CHECK(format_day(&day, conversion, part), MST_EUNSUPPORTED,
                  "strftime_now: only %%a %%A %%b %%B %%d %%m %%y %%Y %%j are supported, not %%%c",
                  conversion);
        MST_TRY(chat_buffer_add(&text, chat_text_of(part)));
    }
    const chat_text whole = {text.at, text.count};
    MST_TRY(chat_join(r, &whole, 1, value_out));
done:
    free(text.at);
    return status;
}

static const chat_callable functions[] = {{"raise_exception", "message", 1, raise_exception},
                                          {"range", "start stop step", 1, range},
                                          {"strftime_now", "format", 1, strftime_now}};

const chat_callable *chat_find_function(chat_text name) {
    return chat_find_in(functions, sizeof functions / sizeof *functions, name);
}
