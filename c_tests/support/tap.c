/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* See ../tap.h. */
#include "../tap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct tap_state tap_;

/* Checks that failed in a child: they end up in its exit status, not in a point. */
static int tap_in_child_(void)
{
    return tap_.pid != 0 && tap_.pid != getpid();
}

static void tap_vdiag_(const char *format, va_list args)
{
    char text[2048];
    const char *line = text;
    int saved = errno;

    vsnprintf(text, sizeof text, format, args);
    flockfile(stdout);
    while (line != NULL) { /* each line of the text is a comment of its own */
        const char *end = strchr(line, '\n');
        printf("# ");
        if (tap_in_child_())
            printf("(child %ld) ", (long)getpid());
        printf("%.*s\n", end != NULL ? (int)(end - line) : (int)strlen(line), line);
        line = end != NULL && end[1] != '\0' ? end + 1 : NULL;
    }
    fflush(stdout);
    funlockfile(stdout);
    errno = saved;
}

void tap_diag_(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    tap_vdiag_(format, args);
    va_end(args);
}

/* Whether a point may be the one that was asked for. */
static int tap_is_asked_for_(const char *name)
{
    const char *only = getenv("TEST_ONLY");

    return only == NULL || strncmp(name, only, strlen(only)) == 0;
}

int tap_runs_(const char *point, const char *call)
{
    const char *part = getenv("TEST_PART");
    size_t len = part != NULL ? strlen(part) : 0;

    if (point != NULL && getenv("TEST_ONLY") != NULL)
        return tap_is_asked_for_(point);
    return part == NULL || (strncmp(call, part, len) == 0 && call[len] == '(');
}

static void tap_end_point_(void)
{
    if (!tap_.open || tap_in_child_())
        return;
    tap_.open = 0;
    if (tap_.bad == 0 && !tap_is_asked_for_(tap_.name))
        return;
    tap_.points++;
    printf("%sok %u - %s%s%s\n", tap_.bad != 0 ? "not " : "", tap_.points, tap_.name,
           tap_.skip[0] != '\0' && tap_.bad == 0 ? " # SKIP " : "", tap_.bad == 0 ? tap_.skip : "");
    fflush(stdout);
    tap_.failed += tap_.bad != 0;
}

void tap_test_(const char *format, ...)
{
    va_list args;
    int saved = errno;

    flockfile(stdout);
    if (tap_.pid == 0)
        tap_.pid = getpid();
    tap_end_point_();
    tap_.open = 1;
    tap_.bad = 0;
    tap_.skip[0] = '\0';
    va_start(args, format);
    vsnprintf(tap_.name, sizeof tap_.name, format, args);
    va_end(args);
    funlockfile(stdout);
    errno = saved;
}

void tap_skip_(const char *reason)
{
    snprintf(tap_.skip, sizeof tap_.skip, "%s", reason[0] != '\0' ? reason : "no reason given");
}

/* One check's result; what the caller prints next belongs to it. Checks outside of a point make one. */
static int tap_result_(int holds)
{
    if (tap_.open && holds)
        return 1;
    flockfile(stdout);
    if (!tap_.open)
        tap_test_("checks before the first TEST");
    if (!holds && tap_in_child_() && tap_.pid > 0) {
        tap_.pid = -tap_.pid; /* from now on tap_done() in this child returns 1 */
    }
    tap_.bad += !holds;
    funlockfile(stdout);
    return holds;
}

int tap_check_(int holds, const char *what, const char *file, int line)
{
    if (!tap_result_(holds))
        tap_diag_("%s:%d: failed: %s", file, line, what);
    return holds;
}

int tap_eq_u_(uint64_t got, uint64_t want, const char *got_text, const char *want_text,
                            const char *file, int line)
{
    if (!tap_result_(got == want))
        tap_diag_("%s:%d: failed: %s == %s\n    got:  %llu (0x%llx)\n    want: %llu (0x%llx)", file, line, got_text,
                  want_text, (unsigned long long)got, (unsigned long long)got, (unsigned long long)want,
                  (unsigned long long)want);
    return got == want;
}

int tap_eq_i_(int64_t got, int64_t want, const char *got_text, const char *want_text, const char *file,
                            int line)
{
    if (!tap_result_(got == want))
        tap_diag_("%s:%d: failed: %s == %s\n    got:  %lld\n    want: %lld", file, line, got_text, want_text,
                  (long long)got, (long long)want);
    return got == want;
}

static const char *tap_errno_name_(int number)
{
#define TAP_NAME_(name) if (number == name) return #name
    if (number == EAGAIN && number == EWOULDBLOCK)
        return "EWOULDBLOCK or EAGAIN";
    TAP_NAME_(EAGAIN);
    TAP_NAME_(EWOULDBLOCK);
    TAP_NAME_(EACCES);
    TAP_NAME_(EBADF);
    TAP_NAME_(EBUSY);
    TAP_NAME_(EDOM);
    TAP_NAME_(EEXIST);
    TAP_NAME_(EFAULT);
    TAP_NAME_(EFBIG);
    TAP_NAME_(EILSEQ);
    TAP_NAME_(EINTR);
    TAP_NAME_(EINVAL);
    TAP_NAME_(EIO);
    TAP_NAME_(EISDIR);
    TAP_NAME_(ELOOP);
    TAP_NAME_(EMFILE);
    TAP_NAME_(ENAMETOOLONG);
    TAP_NAME_(ENFILE);
    TAP_NAME_(ENODEV);
    TAP_NAME_(ENOENT);
    TAP_NAME_(ENOLCK);
    TAP_NAME_(ENOMEM);
    TAP_NAME_(ENOSPC);
    TAP_NAME_(ENOSYS);
    TAP_NAME_(ENOTDIR);
    TAP_NAME_(ENOTSUP);
    TAP_NAME_(ENXIO);
    TAP_NAME_(EOVERFLOW);
    TAP_NAME_(EPERM);
    TAP_NAME_(EPIPE);
    TAP_NAME_(ERANGE);
    TAP_NAME_(EROFS);
    TAP_NAME_(ESPIPE);
    TAP_NAME_(ETXTBSY);
#undef TAP_NAME_
    return number == 0 ? "0" : "?";
}

int tap_errno_(int got, int want, const char *error_text, const char *file, int line)
{
    if (!tap_result_(got == want))
        tap_diag_("%s:%d: failed: errno == %s\n    got:  %d (%s, %s)\n    want: %d (%s)\n    error text: %s", file, line,
                  tap_errno_name_(want), got, tap_errno_name_(got), strerror(got), want, tap_errno_name_(want),
                  error_text != NULL ? error_text : "(null)");
    errno = got;
    return got == want;
}

int tap_str_(const char *got, const char *want, const char *what, const char *file, int line)
{
    int holds = got != NULL && want != NULL && strcmp(got, want) == 0;

    if (!tap_result_(holds))
        tap_diag_("%s:%d: failed: %s\n    got:  \"%s\"\n    want: \"%s\"", file, line, what, got != NULL ? got : "(null)",
                  want != NULL ? want : "(null)");
    return holds;
}

int tap_contains_(const char *text, const char *part, const char *what, const char *file, int line)
{
    int holds = text != NULL && part != NULL && strstr(text, part) != NULL;

    if (!tap_result_(holds))
        tap_diag_("%s:%d: failed: %s\n    got:  \"%s\"\n    want: text with \"%s\" in it", file, line, what,
                  text != NULL ? text : "(null)", part != NULL ? part : "(null)");
    return holds;
}

int tap_mem_(const void *got, const void *want, size_t size, const char *what, const char *file, int line)
{
    const unsigned char *a = got, *b = want;
    size_t at = 0;
    int holds;

    if (a != NULL && b != NULL)
        while (at < size && a[at] == b[at])
            at++;
    holds = at == size;
    if (!tap_result_(holds)) {
        if (a == NULL || b == NULL)
            tap_diag_("%s:%d: failed: %s: NULL", file, line, what);
        else
            tap_diag_("%s:%d: failed: %s: byte %llu of %llu\n    got:  0x%02x\n    want: 0x%02x", file, line, what,
                      (unsigned long long)at, (unsigned long long)size, a[at], b[at]);
    }
    return holds;
}

unsigned tap_seconds(unsigned n)
{
    const char *limit = getenv("TEST_TIMEOUT"); /* of a whole program; usually 300 */
    unsigned times = limit != NULL ? (unsigned)atoi(limit) / 300 : 1;

    return times > 1 ? n * times : n;
}

unsigned tap_every(unsigned n)
{
    return tap_seconds(1) >= 10 ? n : 1;
}

void tap_bail_(void)
{
    if (!tap_in_child_()) {
        tap_end_point_();
        printf("Bail out!\n");
        fflush(stdout);
    }
    _exit(1);
}

int tap_done(void)
{
    if (tap_in_child_())
        return tap_.pid < 0;
    flockfile(stdout);
    tap_end_point_();
    printf("1..%u\n", tap_.points);
    fflush(stdout);
    funlockfile(stdout);
    return tap_.failed != 0;
}
