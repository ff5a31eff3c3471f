/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A small harness that speaks TAP. A program is a series of test points:
 *
 *     int main(void)
 *     {
 *         TEST("a-new-dynamic-medium-has-8-bytes");    begins a point; what follows up to the next TEST belongs to it
 *         CHECK(pt != NULL);
 *         CHECK_EQ_U(pt->size, 8);
 *         TEST("full-disk-is-ENOSPC");
 *         if (geteuid() != 0)
 *             SKIP("needs root to mount a file system");
 *         return tap_done();
 *     }
 *
 * A point is one line, "ok N - name" or "not ok N - name", with a "# ..." line above it for each check that failed.
 *
 *     TEST(name)  TESTF(format, ...)      begin a point; the name states the fact that is proved, and has no '#' in it
 *     PART(call)                          calls a function with points in it, unless another part or point was asked for
 *     POINT(name, call)                   a point that is one call, unless another part or point was asked for
 *     SKIP(reason)                        the point counts as skipped, unless one of its checks fails
 *     CHECK(cond)
 *     CHECK_EQ_U(got, want)               uint64_t, size_t, offsets
 *     CHECK_EQ_I(got, want)               int, int64_t, off_t
 *     CHECK_ERRNO(want)                   errno is `want`; errno itself stays as it was
 *     CHECK_STR(got, want)
 *     CHECK_STR_CONTAINS(text, part)
 *     CHECK_MEM(got, want, size)          prints the first byte that differs
 *     REQUIRE(cond)                       a CHECK that ends the program when it fails
 *     DIAG(format, ...)                   a "# ..." line
 *     tap_seconds(n)                      n seconds, and more of them where TEST_TIMEOUT says that all is slow: for alarm()
 *     tap_every(n)                        n where TEST_TIMEOUT says that all is slow, else 1: of very many cases, try each n-th
 *     tap_done()                          ends the last point, prints the plan, and returns what main should return
 *
 * `c_tests/run.sh PROGRAM:NAME` asks for one part, by the name of its function, or for one point: TEST_PART and TEST_ONLY then have the
 * names. A part has to pass alone, so it makes the media that it needs. Of the points in it, only those are printed whose names begin with
 * TEST_ONLY, and those that fail.
 *
 * The checks are expressions that are 1 when they hold: if (!CHECK(p)) return; They evaluate each argument once.
 * Threads may use the checks, and every line is flushed, so that a crash loses nothing. A child that a point forks may use the checks and
 * ends with _exit(tap_done()): it prints diagnostics only, and returns 1 if one of its own checks failed, for the parent to CHECK.
 * A failed CHECK_ERRNO prints palloc_error() too; with another library's text, define TAP_ERROR_TEXT() before this file.
 */
#ifndef TAP_H
#define TAP_H

#include "portable.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef TAP_ERROR_TEXT
#define TAP_ERROR_TEXT() palloc_error()
#endif

#define TEST(name) tap_test_("%s", (name))
#define TESTF(...) tap_test_(__VA_ARGS__)
#define PART(call) (tap_runs_(NULL, #call) ? (void)(call) : (void)0)
#define POINT(name, call) (tap_runs_((name), #call) ? (TEST(name), (void)(call)) : (void)0)
#define SKIP(reason) tap_skip_(reason)
#define CHECK(cond) tap_check_(!!(cond), #cond, __FILE__, __LINE__)
#define CHECK_EQ_U(got, want) tap_eq_u_((uint64_t)(got), (uint64_t)(want), #got, #want, __FILE__, __LINE__)
#define CHECK_EQ_I(got, want) tap_eq_i_((int64_t)(got), (int64_t)(want), #got, #want, __FILE__, __LINE__)
#define CHECK_ERRNO(want) tap_errno_(errno, (want), TAP_ERROR_TEXT(), __FILE__, __LINE__)
#define CHECK_STR(got, want) tap_str_((got), (want), #got, __FILE__, __LINE__)
#define CHECK_STR_CONTAINS(text, part) tap_contains_((text), (part), #text, __FILE__, __LINE__)
#define CHECK_MEM(got, want, size) tap_mem_((got), (want), (size_t)(size), #got, __FILE__, __LINE__)
#define REQUIRE(cond) ((void)(CHECK(cond) || (tap_bail_(), 0)))
#define DIAG(...) tap_diag_(__VA_ARGS__)

#if defined(__MINGW_PRINTF_FORMAT)
#define TAP_PRINTF_ __attribute__((format(__MINGW_PRINTF_FORMAT, 1, 2)))
#elif defined(__GNUC__)
#define TAP_PRINTF_ __attribute__((format(printf, 1, 2)))
#else
#define TAP_PRINTF_
#endif

/* The lock of stdout guards it against other threads. */
extern struct tap_state {
    pid_t pid;           /* of the process that prints the points */
    int open;            /* a point has begun */
    unsigned points;     /* printed so far */
    unsigned failed;     /* points that failed */
    unsigned bad;        /* checks that failed in this point */
    char name[256];
    char skip[256];      /* why it is skipped, "" if it is not */
} tap_;

TAP_PRINTF_ void tap_diag_(const char *format, ...);
TAP_PRINTF_ void tap_test_(const char *format, ...);
int tap_runs_(const char *point, const char *call);
void tap_skip_(const char *reason);

int tap_check_(int holds, const char *what, const char *file, int line);
int tap_eq_u_(uint64_t got, uint64_t want, const char *got_text, const char *want_text,
                            const char *file, int line);
int tap_eq_i_(int64_t got, int64_t want, const char *got_text, const char *want_text, const char *file,
                            int line);
int tap_errno_(int got, int want, const char *error_text, const char *file, int line);
int tap_str_(const char *got, const char *want, const char *what, const char *file, int line);
int tap_contains_(const char *text, const char *part, const char *what, const char *file, int line);
int tap_mem_(const void *got, const void *want, size_t size, const char *what, const char *file, int line);
unsigned tap_seconds(unsigned n);
unsigned tap_every(unsigned n);
void tap_bail_(void);
int tap_done(void);

#endif
