/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Shared by the programs vmem_*.c. */
#ifndef VMEM_UTIL_H
#define VMEM_UTIL_H

#include "portable.h"

#include <vmem.h>

#define TAP_ERROR_TEXT() vmem_get_error_message()
#include "support/emulated.h"
#include "support/random.h"
#include "tap.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

/* A call that should fail did, and its message has this text in it. */
#define CHECK_FAILS(call, text) both_((uintptr_t)(call) == 0, text, "fails: " #call, __FILE__, __LINE__)
/* A call that should succeed did; else its message is shown. */
#define CHECK_DOES(call) does_(!!(call), #call, __FILE__, __LINE__)

static inline int both_(int failed, const char *text, const char *what, const char *file, int line)
{
    return tap_check_(failed, what, file, line) && tap_contains_(vmem_get_error_message(), text, what, file, line);
}

static inline int does_(int done, const char *what, const char *file, int line)
{
    if (!tap_check_(done, what, file, line))
        DIAG("%s", vmem_get_error_message());
    return done;
}

/*
 * A size that no reservation can have beside what there is. A 32-bit process has room for SIZE_MAX / 2 under some kernels, but not
 * twice: the first one is held until the program ends.
 */
static inline size_t too_much(void)
{
    static void *half;

    if (sizeof(void *) == 4 && half == NULL)
        half = mmap(NULL, SIZE_MAX / 2 - MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return SIZE_MAX / 2 - MIB;
}

enum access { READS, WRITES, RUNS };

#ifndef _WIN32

/* Runs f(p) in a child. Returns the signal that killed it, or minus its exit status. */
static inline int in_child(int (*f)(void *), void *p)
{
    int status = 0;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        _exit(f(p));
    }
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

#endif

static inline int read_byte(void *p)
{
    (void)*(volatile unsigned char *)p;
    return 0;
}

static inline int write_byte(void *p)
{
    volatile unsigned char *byte = (volatile unsigned char *)p;
    *byte = *byte;
#ifndef _WIN32 /* where it is not a child's */
    *byte = 1;
#endif
    return 0;
}

static inline int run_code(void *p)
{
    void (*code)(void);
    memcpy(&code, &p, sizeof code);
    code();
    return 0;
}

/* Whether the access is a fault. */
static inline int faults(void *p, enum access access)
{
    int (*f)(void *) = access == READS ? read_byte : access == WRITES ? write_byte : run_code;
#ifdef _WIN32
    return fault_in(f, p);
#else
    int end = in_child(f, p);

    if (end != 0 && end != SIGSEGV && end != SIGBUS && end != SIGILL)
        DIAG("the child ended with %d", end);
    return end == SIGSEGV || end == SIGBUS;
#endif
}

/* Neither readable nor writable. */
static inline int inaccessible(void *p)
{
    return faults(p, READS) && faults(p, WRITES);
}

static inline int all_bytes(const unsigned char *p, size_t size, unsigned char value)
{
    size_t i;

    for (i = 0; i < size; i++)
        if (p[i] != value) {
            DIAG("byte %zu is %u, not %u", i, p[i], value);
            return 0;
        }
    return 1;
}

/* Two reservations side by side: returns the lower one, or NULL if the system does not place them so. The others go again. */
static inline unsigned char *adjacent(size_t size)
{
    unsigned char *p[64], *low = NULL;
    size_t i, j, n = 0;

    while (n < 64 && (p[n] = (unsigned char *)vmem_reserve(size)) != NULL)
        n++;
    for (i = 0; i < n && low == NULL; i++)
        for (j = 0; j < n && low == NULL; j++)
            if (p[i] + size == p[j])
                low = p[i];
    for (i = 0; i < n; i++)
        if (low == NULL || (p[i] != low && p[i] != low + size))
            vmem_release(p[i], size);
    return low;
}

/* The first run at p. */
static inline VMemRangeInfo info_at(void *p)
{
    VMemRangeInfo info;

    memset(&info, 0, sizeof info);
    CHECK_EQ_U(vmem_query_range_info(p, 1, &info, 1), 1);
    return info;
}

static inline int is_state(void *p, int commited, VMemProtect protect)
{
    VMemRangeInfo info = info_at(p);

    return CHECK_EQ_U(info.is_commited, commited) &&
           CHECK_STR(vmem_get_protect_name(info.protect), vmem_get_protect_name(protect));
}

/* A number in a line "key: N kB" of a file of /proc, in bytes; -1 if there is none. */
static inline long long proc_number(const char *path, const char *key)
{
    char line[512];
    long long number = -1;
    FILE *file = fopen(path, "r");

    while (file != NULL && number < 0 && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            number = strtoll(line + strlen(key), NULL, 10) * 1024;
    if (file != NULL)
        fclose(file);
    return number;
}

#ifdef _WIN32

/* How much of the range is in memory. */
static inline long long in_memory(void *p, size_t size)
{
    long long bytes = 0;
    size_t page = vmem_get_page_size(), at;

    for (at = 0; at < size; at += page) {
        PSAPI_WORKING_SET_EX_INFORMATION info;

        memset(&info, 0, sizeof info);
        info.VirtualAddress = (char *)p + at;
        if (QueryWorkingSetEx(GetCurrentProcess(), &info, sizeof info) && info.VirtualAttributes.Valid)
            bytes += (long long)page;
    }
    return bytes;
}

#else

static inline long long resident(void)
{
    return proc_number("/proc/self/status", "VmRSS:");
}

#endif

/* Bytes of address space that this process uses; -1 if the system does not say. */
static inline long long address_space_in_use(void)
{
    return proc_number("/proc/self/status", "VmSize:");
}

/* Bytes that are locked. */
static inline long long locked(void)
{
    return proc_number("/proc/self/status", "VmLck:");
}
#ifdef _WIN32 /* which does not report it */
#define CHECK_LOCKED(before, bytes) ((void)(before))
#else
#define CHECK_LOCKED(before, bytes) CHECK_EQ_I(locked() - (before), (bytes))
#endif

#endif
