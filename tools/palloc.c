/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * palloc: looks into media, checks, copies and salvages them. palloc(1) is its manual.
 *
 * Exit status: 0 fine, 1 found something (violations, losses), 2 trouble.
 */
#include <palloc.h>

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#endif

enum { FINE = 0, FOUND = 1, TROUBLE = 2 };
enum { WORD = 8, MIN_DATA = 16, CLASSES = 64, COLUMNS = 64, ROWS = 16, CELLS = COLUMNS * ROWS };

#define FREE_BIT ((uint64_t)1 << 63)

static int json, all_of_it, stops, forced;
static const char *out, *static_size;

__attribute__((format(printf, 1, 2))) static int trouble(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("palloc: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return TROUBLE;
}

static int usage(FILE *to)
{
    fputs("usage: palloc stat [--json] FILE\n"
          "       palloc check [--json] FILE\n"
          "       palloc list [-l] [--json] FILE\n"
          "       palloc dump [-o OUT] FILE OFFSET\n"
          "       palloc map [-o MAP.svg] FILE\n"
          "       palloc copy [--stop] FILE COPY\n"
          "       palloc salvage [--force] FILE COPY\n"
          "       palloc trim FILE\n"
          "       palloc create [--static SIZE] FILE\n",
          to);
    return to == stdout ? FINE : TROUBLE;
}

/* -------------------------------------------------------------------------------------------------------------------------- progress */

static volatile sig_atomic_t progress_on;
static uint64_t progress_all;
static char progress_of[4096]; /* the file that grows, or "" */

/* How far it is: async-signal-safe, but for the number. */
static void show_progress(int signal_number)
{
    static const char turning[] = "|/-\\";
    static unsigned step;
    char line[64];
    struct stat st;
    int saved = errno, n;

    (void)signal_number;
    if (!progress_on)
        return;
    n = 0;
    line[n++] = '\r';
    if (progress_of[0] != 0 && progress_all > 0 && stat(progress_of, &st) == 0) {
        unsigned percent = (unsigned)((uint64_t)st.st_blocks * 512 >= progress_all ? 100 : (uint64_t)st.st_blocks * 51200 / progress_all);

        line[n++] = (char)(percent >= 100 ? '1' : ' ');
        line[n++] = (char)(percent >= 10 ? '0' + percent / 10 % 10 : ' ');
        line[n++] = (char)('0' + percent % 10);
        line[n++] = '%';
        line[n++] = ' ';
    }
    line[n++] = turning[step++ % 4];
    if (write(STDERR_FILENO, line, (size_t)n) < 0) {
        /* then there is no progress to be seen */
    }
    errno = saved;
    alarm(1);
}

/* Long work begins: shows on a terminal that it goes on, each second. */
static void begin(const char *doing, uint64_t bytes)
{
    struct sigaction action;

    if (!isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "%s, %" PRIu64 " bytes ...\n", doing, bytes);
    memset(&action, 0, sizeof action);
    action.sa_handler = show_progress;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    progress_all = bytes;
    progress_on = 1;
    alarm(1);
}

static void end(void)
{
    if (!progress_on)
        return;
    progress_on = 0;
    alarm(0);
    fputs("\r\033[K", stderr);
}

static uint64_t length_of(const char *file)
{
    struct stat st;

    return stat(file, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* ------------------------------------------------------------------------------------------------------------------ who has it open */

/* The process that has the lock of the file, 0 if there is none or the system does not say. (After a fork(2) it can be over.) */
static long holder(const char *file)
{
    long found = 0;
#if defined(__linux__)
    struct stat st;
    char line[256];
    FILE *locks = fopen("/proc/locks", "r");

    if (locks == NULL || stat(file, &st) != 0) {
        if (locks != NULL)
            fclose(locks);
        return 0;
    }
    while (fgets(line, sizeof line, locks) != NULL) {
        long pid;
        unsigned major_number, minor_number;
        unsigned long long inode;

        /* 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF */
        if (sscanf(line, "%*d: FLOCK %*s %*s %ld %x:%x:%llu", &pid, &major_number, &minor_number, &inode) == 4
            && inode == (unsigned long long)st.st_ino
            && ((major_number == major(st.st_dev) && minor_number == minor(st.st_dev)) || found == 0))
            found = pid;
    }
    fclose(locks);
#else
    (void)file;
#endif
    return found;
}

/* ---------------------------------------------------------------------------------------------------------------- reading a medium */

/*
 * The blocks of a medium, from the library, or from the file itself while it is open for writing elsewhere: then the start markers are
 * followed by pread(2), without the lock, and what another process changes meanwhile may be seen or not.
 */
struct reader {
    struct palloc_t *pt; /* NULL: without the lock */
    int fd;
    uint64_t size;
    uint32_t flags;
    long by; /* without the lock: the process that has it, 0: unknown */
};

typedef int (*block_fn)(void *user, uint64_t ptr, uint64_t size, int is_free);

static uint64_t word_of(const unsigned char *p)
{
    uint64_t word = 0;
    int i;

    for (i = 0; i < WORD; i++)
        word = word << 8 | p[i];
    return word;
}

/* If it fails, errno is 0 where the file ends. */
static int read_word(int fd, uint64_t at, uint64_t *word)
{
    unsigned char bytes[WORD];
    ssize_t n = pread(fd, bytes, WORD, (off_t)at);

    if (n >= 0)
        errno = 0;
    if (n != WORD)
        return 0;
    *word = word_of(bytes);
    return 1;
}

static int reader_open(struct reader *r, const char *file)
{
    struct stat st;
    uint64_t head;

    memset(r, 0, sizeof *r);
    r->pt = palloc_init(file, PALLOC_READONLY);
    if (r->pt != NULL) {
        r->fd = r->pt->descriptor;
        r->size = r->pt->size;
        r->flags = r->pt->flags;
        return 1;
    }
    if (errno != PALLOC_E_LOCKED) {
        trouble("%s", palloc_error());
        return 0;
    }
    r->fd = open(file, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0 || fstat(r->fd, &st) != 0 || !read_word(r->fd, 0, &head) || head >> 32 != 0x50424100) {
        trouble("%s: %s", file, errno != 0 ? strerror(errno) : "no palloc medium");
        if (r->fd >= 0)
            close(r->fd);
        return 0;
    }
    r->size = (uint64_t)st.st_size;
    r->flags = (uint32_t)head;
    r->by = holder(file);
    if (r->by != 0)
        fprintf(stderr, "palloc: %s is open for writing in process %ld: read without the lock, it may change meanwhile\n", file, r->by);
    else
        fprintf(stderr, "palloc: %s is open for writing: read without the lock, it may change meanwhile\n", file);
    return 1;
}

static void reader_close(struct reader *r)
{
    if (r->pt != NULL)
        palloc_close(r->pt);
    else
        close(r->fd);
}

static int reader_walk(struct reader *r, block_fn each, void *user)
{
    uint64_t at = WORD, marker;

    if (r->pt != NULL) {
        /* No `each` ends the walk. */
        return palloc_walk(r->pt, each, user) == 0 ? FINE : trouble("%s", palloc_error());
    }
    while (at + 2 * WORD + MIN_DATA <= r->size) {
        uint64_t n;

        if (!read_word(r->fd, at, &marker)) {
            if (errno != 0)
                return trouble("offset %" PRIu64 ": %s", at, strerror(errno));
            break;
        }
        n = marker & ~FREE_BIT;
        if (n < MIN_DATA || n > r->size - at - 2 * WORD)
            break;
        each(user, at + WORD, n, marker >> 63 != 0);
        at += n + 2 * WORD;
    }
    if (at < r->size)
        fprintf(stderr, "palloc: the chain can be followed up to offset %" PRIu64 " only: it was being changed, or is damaged\n", at);
    return FINE;
}

static const char *kind(const struct reader *r)
{
    return r->flags & PALLOC_DYNAMIC ? "dynamic" : "static";
}

/* The length of the UTF-8 character at `text`; 0 if there is none. */
static int utf8_length(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    int length = at[0] < 0x80 ? 1 : at[0] >= 0xc2 && at[0] < 0xe0 ? 2 : (at[0] & 0xf0) == 0xe0 ? 3 : at[0] >= 0xf0 && at[0] < 0xf5 ? 4 : 0, i;

    for (i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    /* Longer than necessary, half of a pair, or beyond the last one. */
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f))
        return 0;
    return length;
}

/* A JSON string. A byte that is no UTF-8, as names of files can have, becomes \udc80 to \udcff: Python reads that as the byte again. */
static void put_string(const char *text)
{
    putchar('"');
    while (*text != 0) {
        int length = utf8_length(text);

        if (length == 0)
            printf("\\udc%02x", (unsigned)(unsigned char)*text);
        else if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            printf("\\u%04x", (unsigned)(unsigned char)*text);
        else
            printf("%.*s", length, text);
        text += length > 0 ? length : 1;
    }
    putchar('"');
}

/* ------------------------------------------------------------------------------------------------------------------------------ stat */

struct counts {
    uint64_t blobs, live, frees, free, largest;
    uint64_t of_class[CLASSES]; /* blobs of up to 2^i bytes */
};

static int count_block(void *user, uint64_t ptr, uint64_t size, int is_free)
{
    struct counts *c = user;
    unsigned class = 0;

    (void)ptr;
    if (is_free) {
        c->frees++;
        c->free += size;
        c->largest = size > c->largest ? size : c->largest;
        return 0;
    }
    c->blobs++;
    c->live += size;
    while (class < CLASSES - 1 && size > (uint64_t)1 << class)
        class++;
    c->of_class[class]++;
    return 0;
}

/* The readers of a medium that its writer shares, without this process. Whether it does. */
static int find_readers(const char *file, struct palloc_readers *readers)
{
    struct palloc_t *pt = palloc_init(file, PALLOC_READONLY | PALLOC_SHARED);
    int shared = pt != NULL && palloc_get_readers(pt, readers) == 0;

    if (shared)
        readers->open--;
    palloc_close(pt);
    return shared;
}

static void stat_json(const char *file, const struct reader *r, const struct counts *c, const struct palloc_readers *readers)
{
    const char *comma = "";
    unsigned i;

    printf("{\"file\": ");
    put_string(file);
    printf(", \"kind\": \"%s\", \"size\": %" PRIu64 ", \"blobs\": %" PRIu64 ", \"live_bytes\": %" PRIu64 ", \"free_blocks\": %" PRIu64
           ", \"free_bytes\": %" PRIu64 ", \"largest_free\": %" PRIu64 ", \"open_for_writing\": %s, \"process\": %ld, ",
           kind(r), r->size, c->blobs, c->live, c->frees, c->free, c->largest, r->pt == NULL ? "true" : "false", r->by);
    if (readers != NULL)
        printf("\"readers\": {\"open\": %u, \"reading\": %u, \"oldest_process\": %" PRId64 ", \"held_bytes\": %" PRIu64 "}, \"sizes\": {",
               (unsigned)readers->open, (unsigned)readers->reading, readers->oldest_pid, readers->held_bytes);
    else
        printf("\"readers\": null, \"sizes\": {");
    for (i = 0; i < CLASSES; i++)
        if (c->of_class[i] > 0) {
            printf("%s\"%" PRIu64 "\": %" PRIu64, comma, (uint64_t)1 << i, c->of_class[i]);
            comma = ", ";
        }
    printf("}}\n");
}

static void histogram(const struct counts *c)
{
    uint64_t most = 1;
    unsigned i;

    for (i = 0; i < CLASSES; i++)
        most = c->of_class[i] > most ? c->of_class[i] : most;
    for (i = 0; i < CLASSES; i++)
        if (c->of_class[i] > 0)
            printf("  up to %12" PRIu64 " bytes %10" PRIu64 "  %.*s\n", (uint64_t)1 << i, c->of_class[i],
                   (int)(1 + c->of_class[i] * 31 / most), "################################");
}

static int do_stat(const char *file)
{
    struct reader r;
    struct counts c;
    struct palloc_readers readers;
    int result, shared;

    memset(&c, 0, sizeof c);
    if (!reader_open(&r, file))
        return TROUBLE;
    result = reader_walk(&r, count_block, &c);
    shared = r.pt == NULL && find_readers(file, &readers);
    if (shared && r.by == 0) /* in another container, where the lock names nobody */
        r.by = (long)readers.writer_pid;
    if (result == FINE && json) {
        stat_json(file, &r, &c, shared ? &readers : NULL);
    } else if (result == FINE) {
        printf("%s: %s medium of %" PRIu64 " bytes%s", file, kind(&r), r.size, r.pt == NULL ? ", open for writing" : "");
        if (r.pt == NULL && r.by != 0)
            printf(" in process %ld", r.by);
        printf("\nflags %s%s\n", r.flags & PALLOC_DYNAMIC ? "PALLOC_DYNAMIC" : "PALLOC_DEFAULT", r.flags & PALLOC_SYNC ? " PALLOC_SYNC" : "");
        printf("%12" PRIu64 " blobs of %" PRIu64 " bytes\n", c.blobs, c.live);
        printf("%12" PRIu64 " free blocks of %" PRIu64 " bytes, the largest of %" PRIu64 "\n", c.frees, c.free, c.largest);
        if (shared)
            printf("%12u readers have it open, %u of them in a section\n", (unsigned)readers.open, (unsigned)readers.reading);
        if (shared && readers.reading > 0)
            printf("%12" PRIu64 " bytes are freed and held for readers; the oldest section is that of process %" PRId64 "\n",
                   readers.held_bytes, readers.oldest_pid);
        if (c.free > 0)
            printf("%11.1f%% of the free bytes are outside of the largest free block\n",
                   100.0 - 100.0 * (double)c.largest / (double)c.free);
        histogram(&c);
    }
    reader_close(&r);
    return result;
}

/* ----------------------------------------------------------------------------------------------------------------------------- check */

static const char violations[] = "{\"violations\": [";

static void violation(void *user, uint64_t offset, const char *what)
{
    uint64_t *count = user;

    if (json) {
        printf("%s{\"offset\": %" PRIu64 ", \"what\": ", *count > 0 ? ", " : violations, offset);
        put_string(what);
        printf("}");
    } else {
        printf("%12" PRIu64 "  %s\n", offset, what);
    }
    ++*count;
}

static int do_check(const char *file)
{
    uint64_t count = 0;
    int64_t result;

    begin("checking", length_of(file));
    result = palloc_check(file, violation, &count);
    end();
    if (result < 0)
        return trouble("%s", palloc_error());
    if (json)
        printf("%s]}\n", count > 0 ? "" : violations);
    else
        printf("%s: %" PRId64 " violations of the format\n", file, result);
    return result == 0 ? FINE : FOUND;
}

/* ------------------------------------------------------------------------------------------------------------------------------ list */

struct list {
    struct reader *r;
    uint64_t count;
    int result;
};

static int list_block(void *user, uint64_t ptr, uint64_t size, int is_free)
{
    struct list *l = user;
    unsigned char first[24];
    ssize_t n, i;

    if (json) {
        printf("%s\n  {\"offset\": %" PRIu64 ", \"size\": %" PRIu64 ", \"free\": %s}", l->count++ > 0 ? "," : "", ptr, size,
               is_free ? "true" : "false");
        return 0;
    }
    if (!all_of_it && is_free)
        return 0;
    printf("%12" PRIu64 " %12" PRIu64, ptr, size);
    if (all_of_it && is_free)
        printf("  free");
    if (all_of_it && !is_free) {
        n = pread(l->r->fd, first, size < sizeof first ? (size_t)size : sizeof first, (off_t)ptr);
        if (n < 0)
            l->result = trouble("offset %" PRIu64 ": %s", ptr, strerror(errno));
        printf("  blob  ");
        for (i = 0; i < n; i++)
            putchar(isprint(first[i]) ? first[i] : '.');
    }
    putchar('\n');
    return 0;
}

static int do_list(const char *file)
{
    struct reader r;
    struct list l;
    int result;

    if (!reader_open(&r, file))
        return TROUBLE;
    l.r = &r;
    l.count = 0;
    l.result = FINE;
    if (json)
        printf("[");
    result = reader_walk(&r, list_block, &l);
    if (json)
        printf("\n]\n");
    reader_close(&r);
    return l.result == FINE ? result : l.result;
}

/* ------------------------------------------------------------------------------------------------------------------- a file to write */

/*
 * `NAME.PROCESSNUMBER.tmp`, the name of a file that is to be called `name`; as in the library, NAME is the first 100 bytes of a longer name,
 * without a part of a character at the end. Returns 0 if there is no room.
 */
static int temporary_name(char *temporary, size_t size, const char *name, const char *number)
{
    const char *slash = strrchr(name, '/');
    size_t start = slash != NULL ? (size_t)(slash - name) + 1 : 0, end = strlen(name);

    if (end - start > 100)
        for (end = start + 100; end > start + 97 && (name[end] & 0xC0) == 0x80;)
            end--;
    return snprintf(temporary, size, "%.*s.%ld%s.tmp", (int)end, name, (long)getpid(), number) < (int)size;
}

/*
 * The file `out`. A regular file, or one that is new, is written under another name and gets its own when it is whole. Others, such as
 * devices, are written as they are.
 */
struct output {
    FILE *file;
    char path[PATH_MAX];           /* its name */
    char temporary[PATH_MAX + 32]; /* its name until then; "" if it is written as it is */
};

/* Fails for the medium itself, which would be lost. */
static int output_open(struct output *o, int medium)
{
    struct stat st, own;
    int is_there = stat(out, &st) == 0, fd;

    o->temporary[0] = 0;
    if (strcmp(out, "-") == 0) {
        o->file = stdout;
        return 1;
    }
    if (is_there && fstat(medium, &own) == 0 && st.st_dev == own.st_dev && st.st_ino == own.st_ino) {
        trouble("%s is the medium itself", out);
        return 0;
    }
    if (is_there && !S_ISREG(st.st_mode)) {
        o->file = fopen(out, "wb");
    } else {
        if (!is_there || realpath(out, o->path) == NULL) /* a link goes on leading to the file */
            snprintf(o->path, sizeof o->path, "%s", out);
        temporary_name(o->temporary, sizeof o->temporary, o->path, "");
        fd = open(o->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        o->file = fd >= 0 ? fdopen(fd, "wb") : NULL;
        if (o->file != NULL && is_there)
            fchmod(fd, st.st_mode & 0777);
        if (fd >= 0 && o->file == NULL) {
            int error = errno;

            close(fd);
            unlink(o->temporary);
            errno = error;
        }
    }
    if (o->file == NULL)
        trouble("%s: %s", out, strerror(errno));
    return o->file != NULL;
}

/* Everything is written. Of a file that could not be written nothing is left. */
static int output_close(struct output *o)
{
    int error = ferror(o->file) ? errno : 0; /* nothing else was called since */

    if (o->file == stdout)
        return FINE; /* main looks at it */
    if (fflush(o->file) != 0 || (o->temporary[0] != 0 && fsync(fileno(o->file)) != 0))
        error = errno;
    if (fclose(o->file) != 0 && error == 0)
        error = errno;
    if (o->temporary[0] != 0 && error == 0 && rename(o->temporary, o->path) != 0)
        error = errno;
    if (o->temporary[0] != 0 && error != 0)
        unlink(o->temporary);
    return error == 0 ? FINE : trouble("%s: %s", out, strerror(error));
}

/* ------------------------------------------------------------------------------------------------------------------------------ dump */

static void dump_line(uint64_t at, const unsigned char *bytes, size_t n)
{
    size_t i;

    printf("%12" PRIu64 " ", at);
    for (i = 0; i < 16; i++)
        i < n ? printf(" %02x", bytes[i]) : printf("   ");
    printf("  ");
    for (i = 0; i < n; i++)
        putchar(isprint(bytes[i]) ? bytes[i] : '.');
    putchar('\n');
}

static int do_dump(const char *file, const char *offset)
{
    struct palloc_t *pt;
    char *end;
    uint64_t ptr = strtoull(offset, &end, 0), n, i;
    const unsigned char *data;
    struct output to;
    int result = FINE;

    if (end == offset || *end != 0)
        return trouble("%s is no offset", offset);
    pt = palloc_init(file, PALLOC_READONLY);
    data = pt != NULL ? palloc_data(pt, ptr) : NULL;
    n = data != NULL ? palloc_size(pt, ptr) : 0;
    if (n == 0) {
        result = trouble("%s", palloc_error());
    } else if (out == NULL) {
        for (i = 0; i < n; i += 16)
            dump_line(ptr + i, data + i, n - i < 16 ? (size_t)(n - i) : 16);
    } else if (!output_open(&to, pt->descriptor)) {
        result = TROUBLE;
    } else {
        fwrite(data, 1, (size_t)n, to.file);
        result = output_close(&to);
    }
    palloc_close(pt);
    return result;
}

/* ------------------------------------------------------------------------------------------------------------------------------- map */

struct map {
    uint64_t cell; /* bytes of the medium for each cell */
    double live[CELLS], free[CELLS], hole[CELLS];
};

static void map_range(const struct map *m, double *cells, uint64_t at, uint64_t end)
{
    while (at < end && at / m->cell < CELLS) {
        uint64_t stop = (at / m->cell + 1) * m->cell;

        stop = stop < end ? stop : end;
        cells[at / m->cell] += (double)(stop - at);
        at = stop;
    }
}

static int map_block(void *user, uint64_t ptr, uint64_t size, int is_free)
{
    struct map *m = user;

    map_range(m, is_free ? m->free : m->live, ptr - WORD, ptr + size + WORD);
    return 0;
}

/* Where the file has no space on the disk, as far as the system says. */
static void map_holes(struct map *m, const struct reader *r)
{
#if defined(SEEK_HOLE)
    off_t at = 0, end = (off_t)r->size, hole;

    while (at < end && (hole = lseek(r->fd, at, SEEK_HOLE)) >= 0 && hole < end) {
        at = lseek(r->fd, hole, SEEK_DATA);
        at = at < 0 || at > end ? end : at;
        map_range(m, m->hole, (uint64_t)hole, (uint64_t)at);
    }
#else
    (void)m, (void)r;
#endif
}

/* Of the bytes of the blocks there, more than half have no space. */
static int is_hole(const struct map *m, unsigned cell)
{
    return m->hole[cell] * 2 > m->live[cell] + m->free[cell];
}

/* " _.:+#", from nothing live to all of it; blue to red on a terminal. */
static void map_text(const struct map *m, unsigned cells, int colours)
{
    static const char density[] = ".:-=+*%#";
    static const int colour[] = {34, 36, 32, 32, 33, 33, 31, 31};
    unsigned i;

    for (i = 0; i < cells; i++) {
        double all = m->live[i] + m->free[i];
        int level = all > 0 ? (int)(m->live[i] / all * 7.0 + 0.5) : -1;

        if (level < 0)
            putchar(' ');
        else if (is_hole(m, i))
            putchar('_');
        else if (colours)
            printf("\033[%dm%c\033[0m", colour[level], density[level]);
        else
            putchar(density[level]);
        if (i % COLUMNS == COLUMNS - 1 || i == cells - 1)
            putchar('\n');
    }
    printf("%" PRIu64 " bytes to a character: . free, # blobs, between: both, _ no space on the disk\n", m->cell);
}

static int map_svg(const struct map *m, unsigned cells, int medium)
{
    struct output to;
    unsigned i;

    if (!output_open(&to, medium))
        return TROUBLE;
    fprintf(to.file, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\">\n", COLUMNS * 10,
            (int)(cells / COLUMNS + 1) * 10);
    for (i = 0; i < cells; i++) {
        double all = m->live[i] + m->free[i];
        int live = all > 0 ? (int)(m->live[i] / all * 255) : 0;

        if (all > 0 && is_hole(m, i))
            fprintf(to.file, "<rect x=\"%u\" y=\"%u\" width=\"9\" height=\"9\" fill=\"#dddddd\"/>\n", i % COLUMNS * 10, i / COLUMNS * 10);
        else if (all > 0)
            fprintf(to.file, "<rect x=\"%u\" y=\"%u\" width=\"9\" height=\"9\" fill=\"#%02x40%02x\"/>\n", i % COLUMNS * 10,
                    i / COLUMNS * 10, (unsigned)live, (unsigned)(255 - live));
    }
    fprintf(to.file, "</svg>\n");
    return output_close(&to);
}

static int do_map(const char *file)
{
    static struct map m;
    struct reader r;
    unsigned cells;
    int result;

    if (!reader_open(&r, file))
        return TROUBLE;
    m.cell = r.size / CELLS + 1;
    if (m.cell < 16)
        m.cell = 16;
    cells = (unsigned)((r.size + m.cell - 1) / m.cell);
    result = reader_walk(&r, map_block, &m);
    map_holes(&m, &r);
    if (result == FINE && out != NULL)
        result = map_svg(&m, cells, r.fd);
    else if (result == FINE)
        map_text(&m, cells, isatty(STDOUT_FILENO));
    reader_close(&r);
    return result;
}

/* -------------------------------------------------------------------------------------------------------- copy, salvage and create */

/*
 * A medium that another process has open can be copied at one moment only: its stores between two moments would be in the copy in part.
 * There are two such moments without the process's help. A clone is one: the file system protects all pages before it takes them, so no
 * store is in the clone that came after one which is not. Or no thread of the process runs: --stop. Either is what a kill at that moment
 * would leave, and opening the copy repairs it as after a kill.
 */
enum { STOP_TRIES = 500 };

static volatile sig_atomic_t stopped; /* the process that is stopped */

static void go_on(void)
{
    if (stopped != 0)
        kill((pid_t)stopped, SIGCONT);
    stopped = 0;
}

static void interrupted(int signal_number)
{
    static const char full[] = "palloc: the disk is full, or fails\n";

    go_on();
    unlink(progress_of);
    if (signal_number == SIGBUS) { /* a store to a page of the copy for which there is no space */
        if (write(STDERR_FILENO, full, sizeof full - 1) < 0) {
            /* the status says it */
        }
        _exit(TROUBLE);
    }
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

/* The state of a task by its stat file: 'T' is stopped; 0 if it is over. */
static char state_of(const char *path)
{
    char text[512], *end;
    FILE *file = fopen(path, "r");
    size_t n = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;

    if (file != NULL)
        fclose(file);
    text[n] = 0;
    end = strrchr(text, ')');
    return end != NULL && end[1] == ' ' ? end[2] : 0;
}

/* Whether all threads of the process are stopped. */
static int all_stopped(long pid)
{
    char path[300];
    struct dirent *entry;
    DIR *tasks;
    int all = 1;

    snprintf(path, sizeof path, "/proc/%ld/task", pid);
    tasks = opendir(path);
    if (tasks == NULL)
        return 0;
    while ((entry = readdir(tasks)) != NULL) {
        char state;

        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%ld/task/%.20s/stat", pid, entry->d_name);
        state = state_of(path);
        all &= state == 'T' || state == 't' || state == 'Z' || state == 0;
    }
    closedir(tasks);
    return all;
}

static int stop(long pid)
{
    int i;

    if (all_stopped(pid))
        return 1;
    stopped = (sig_atomic_t)pid;
    if (kill((pid_t)pid, SIGSTOP) != 0) {
        stopped = 0;
        trouble("process %ld: %s", pid, strerror(errno));
        return 0;
    }
    for (i = 0; i < STOP_TRIES; i++) {
        if (all_stopped(pid))
            return 1;
        usleep(10000);
    }
    go_on();
    trouble("process %ld does not stop", pid);
    return 0;
}

/* Copies all bytes, and keeps holes. */
static int copy_file(int from, int to, off_t size)
{
    static char buffer[1 << 20];
    off_t at = 0;

    if (ftruncate(to, size) != 0)
        return 0;
    while (at < size) {
        ssize_t n = pread(from, buffer, sizeof buffer, at), done = 0, wrote;

        if (n <= 0)
            return 0;
        if (buffer[0] == 0 && memcmp(buffer, buffer + 1, (size_t)n - 1) == 0) {
            at += n;
            continue;
        }
        for (; done < n; done += wrote) {
            wrote = pwrite(to, buffer + done, (size_t)(n - done), at + done);
            if (wrote <= 0)
                return 0;
        }
        at += n;
    }
    return 1;
}

static int take(const char *file, int from, int to)
{
    struct stat st;
    long pid;
    int done;

#if defined(FICLONE)
    int flags = 0;

    /* btrfs shares blocks only between files that both have NOCOW, or both have not. */
    if (ioctl(from, FS_IOC_GETFLAGS, &flags) == 0 && (flags & FS_NOCOW_FL) != 0)
        ioctl(to, FS_IOC_SETFLAGS, &flags);
    if (!stops && ioctl(to, FICLONE, from) == 0)
        return 1;
#endif
    if (!stops) {
        trouble("%s is open elsewhere, and this file system can't share blocks: the program itself can copy it (palloc_snapshot), or "
                "--stop stops it meanwhile", file);
        return 0;
    }
    pid = holder(file);
    if (pid == 0) {
        trouble("%s: it is not known which process has it open", file);
        return 0;
    }
    if (!stop(pid))
        return 0;
    done = holder(file) == pid && fstat(from, &st) == 0 && copy_file(from, to, st.st_size);
    if (!done)
        trouble("%s: %s", file, strerror(errno));
    go_on();
    return done;
}

/* Brings the entry of a new file to the disk. */
static int sync_directory(const char *file)
{
    char path[PATH_MAX];
    const char *slash = strrchr(file, '/');
    int fd, result;

    snprintf(path, sizeof path, "%.*s", slash != NULL ? (int)(slash - file + 1) : 1, slash != NULL ? file : ".");
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EACCES ? 0 : -1; /* it may be for writing only */
    result = fsync(fd);
    close(fd);
    return result;
}

/* Gives a new file its name, which nothing must have, as the library does. */
static int give_name(const char *temporary, const char *name)
{
    if (link(temporary, name) == 0) {
        unlink(temporary);
        return 0;
    }
    if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS)
        return -1;
    if (access(name, F_OK) != 0) /* a file system without links, such as FAT */
        return rename(temporary, name);
    errno = EEXIST;
    return -1;
}

static int copy_in_use(const char *file, const char *copy)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT, SIGXCPU, SIGBUS};
    char *path = progress_of;
    struct palloc_t *pt = NULL;
    struct stat st;
    int from = -1, to = -1, result = TROUBLE, i;

    if (!temporary_name(path, sizeof progress_of, copy, ""))
        return trouble("%s: %s", copy, strerror(ENAMETOOLONG));
    if (access(copy, F_OK) == 0)
        return trouble("%s: %s", copy, strerror(EEXIST));
    from = open(file, O_RDONLY | O_CLOEXEC);
    to = from >= 0 ? open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    if (to < 0) {
        trouble("%s: %s", from < 0 ? file : copy, strerror(errno));
        if (from >= 0)
            close(from);
        return TROUBLE;
    }
    for (i = 0; i < (int)(sizeof signals / sizeof *signals); i++)
        signal(signals[i], interrupted);
    if (take(file, from, to)) {
        pt = palloc_init(path, PALLOC_DEFAULT); /* repairs it */
        if (pt == NULL || palloc_sync(pt) != 0)
            trouble("%s", palloc_error());
        else if (fstat(from, &st) != 0 || fchmod(to, st.st_mode & 0666) != 0)
            trouble("%s: %s", copy, strerror(errno));
        else
            result = FINE;
        palloc_close(pt);
    }
    if (result == FINE && (fsync(to) != 0 || give_name(path, copy) != 0))
        result = trouble("%s: %s", copy, strerror(errno));
    if (result != FINE)
        unlink(path);
    path[0] = 0; /* from now on, a file of this name is another process's */
    if (result == FINE && sync_directory(copy) != 0) {
        result = trouble("%s: %s", copy, strerror(errno));
        unlink(copy);
    }
    close(to);
    close(from);
    return result;
}

/* By sharing blocks, where the file system can. */
static int do_copy(const char *file, const char *copy)
{
    struct palloc_t *pt = palloc_init(file, PALLOC_READONLY);
    int result = FINE;

    if (pt == NULL && errno == PALLOC_E_LOCKED) {
        begin("copying", length_of(file));
        result = copy_in_use(file, copy);
        end();
        return result;
    }
    if (pt == NULL)
        return trouble("%s", palloc_error());
    temporary_name(progress_of, sizeof progress_of, copy, ".1"); /* its second attempt has this name */
    begin("copying", pt->size);
    if (palloc_snapshot(pt, copy, PALLOC_SNAPSHOT_CLONE) != 0 && (errno != EOPNOTSUPP || palloc_snapshot(pt, copy, 0) != 0))
        result = TROUBLE;
    end();
    if (result != FINE)
        trouble("%s", palloc_error());
    palloc_close(pt);
    return result;
}

static int do_trim(const char *file)
{
    struct palloc_t *pt = palloc_init(file, PALLOC_READONLY); /* a file of zeros is to stay one: it is refused */
    int64_t bytes;

    if (pt != NULL) {
        palloc_close(pt);
        pt = palloc_init(file, PALLOC_DEFAULT);
    }
    if (pt == NULL)
        return trouble("%s", palloc_error());
    begin("trimming", pt->size);
    bytes = palloc_trim(pt, 0);
    end();
    if (bytes < 0)
        trouble("%s", palloc_error());
    else
        printf("%s: %" PRId64 " bytes given back\n", file, bytes);
    palloc_close(pt);
    return bytes < 0 ? TROUBLE : FINE;
}

static void salvaged(void *user, uint64_t offset, const char *what)
{
    (void)user;
    printf("%12" PRIu64 "  %s\n", offset, what);
}

static int do_salvage(const char *file, const char *copy)
{
    struct palloc_salvage found;
    int result;

    temporary_name(progress_of, sizeof progress_of, copy, ".0");
    begin("salvaging", length_of(file));
    result = palloc_salvage(file, copy, forced ? PALLOC_FORCE : 0, salvaged, NULL, &found);
    end();
    if (result != 0)
        return trouble("%s", palloc_error());
    printf("%s: %" PRIu64 " blobs, %" PRIu64 " blocks mended, %" PRIu64 " ranges of %" PRIu64 " bytes lost\n", copy, found.blobs,
           found.healed, found.lost_ranges, found.lost_bytes);
    return found.healed + found.lost_ranges == 0 ? FINE : FOUND;
}

/* "100", "64K", "1M", "2G". */
static int size_of(const char *text, uint64_t *size)
{
    static const char units[] = "KMGT";
    const char *unit;
    char *end;

    errno = 0;
    *size = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *text == '-')
        return 0;
    if (*end == 0)
        return 1;
    unit = strchr(units, toupper((unsigned char)*end));
    if (unit == NULL || end[1] != 0 || *size > (uint64_t)INT64_MAX >> 10 * (unit - units + 1))
        return 0;
    *size <<= 10 * (unit - units + 1);
    return 1;
}

/* On btrfs, pages that are copied when they are written need space for each store: palloc_init creates its files without that, too. */
static void avoid_copies(int fd)
{
#if defined(__linux__)
    int flags = 0;
    struct statfs of;

    if (fstatfs(fd, &of) == 0 && of.f_type == BTRFS_SUPER_MAGIC && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags |= FS_NOCOW_FL;
        ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
#else
    (void)fd;
#endif
}

static int do_create(const char *file)
{
    const char *size = static_size;
    uint64_t bytes = 0;
    struct palloc_t *pt;
    int fd;

    if (size != NULL && !size_of(size, &bytes))
        return trouble("%s is no size", size);
    fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0660);
    if (fd >= 0)
        avoid_copies(fd);
    if (fd < 0 || (size != NULL && ftruncate(fd, (off_t)bytes) != 0)) {
        trouble("%s: %s", file, strerror(errno));
        if (fd >= 0 && close(fd) == 0)
            unlink(file);
        return TROUBLE;
    }
    close(fd);
    pt = palloc_init(file, size != NULL ? PALLOC_DEFAULT : PALLOC_DYNAMIC);
    if (pt == NULL) {
        trouble("%s", palloc_error());
        unlink(file);
        return TROUBLE;
    }
    palloc_close(pt);
    return FINE;
}

/* ------------------------------------------------------------------------------------------------------------------------------ main */

static int do_help(void)
{
    return usage(stdout);
}

static int do_version(void)
{
    printf("palloc %s\n", palloc_version());
    return FINE;
}

static const struct command {
    const char *name, *options;
    int (*none)(void);
    int (*one)(const char *);
    int (*two)(const char *, const char *);
} commands[] = {
    {"stat", " --json ", NULL, do_stat, NULL},
    {"check", " --json ", NULL, do_check, NULL},
    {"list", " -l --json ", NULL, do_list, NULL},
    {"dump", " -o ", NULL, NULL, do_dump},
    {"map", " -o ", NULL, do_map, NULL},
    {"copy", " --stop ", NULL, NULL, do_copy},
    {"salvage", " --force ", NULL, NULL, do_salvage},
    {"trim", " ", NULL, do_trim, NULL},
    {"create", " --static ", NULL, do_create, NULL},
    {"help", " ", do_help, NULL, NULL},
    {"--help", " ", do_help, NULL, NULL},
    {"--version", " ", do_version, NULL, NULL},
};

static const struct option {
    const char *name;
    int *flag;
    const char **value; /* or NULL: it has none */
} all_options[] = {
    {"--json", &json, NULL}, {"-l", &all_of_it, NULL}, {"--stop", &stops, NULL}, {"--force", &forced, NULL}, {"-o", NULL, &out},
    {"--static", NULL, &static_size},
};

/* Sets an option of the command; `next` is the argument behind it, or NULL. Returns how many arguments that takes, 0 if it is no option
 * of the command. */
static int set_option(const struct command *command, const char *name, const char *next)
{
    char word[16];
    unsigned i;

    if (snprintf(word, sizeof word, " %s ", name) >= (int)sizeof word || strstr(command->options, word) == NULL)
        return 0;
    for (i = 0; strcmp(all_options[i].name, name) != 0; i++) {
    }
    if (all_options[i].value == NULL) {
        *all_options[i].flag = 1;
        return 1;
    }
    *all_options[i].value = next;
    return next != NULL ? 2 : 0;
}

int main(int argc, char **argv)
{
    const char *names[2] = {NULL, NULL};
    const struct command *command = commands, *end = commands + sizeof commands / sizeof *commands;
    int count = 0, result, i, n, options = 1;

    do /* no file becomes a standard stream that is closed */
        i = open("/dev/null", O_RDONLY);
    while (i >= 0 && i <= STDERR_FILENO);
    close(i);
    signal(SIGXFSZ, SIG_IGN); /* a file that exceeds the limit is EFBIG */
    while (command < end && (argc < 2 || strcmp(command->name, argv[1]) != 0))
        command++;
    if (command == end)
        return usage(stderr);
    for (i = 2; i < argc; i += n) {
        n = 1;
        if (options && strcmp(argv[i], "--") == 0)
            options = 0;
        else if (options && argv[i][0] == '-')
            n = set_option(command, argv[i], argv[i + 1]);
        else if (count < 2)
            names[count++] = argv[i];
        else
            n = 0;
        if (n == 0)
            return usage(stderr);
    }
    if (count == 0 && command->none != NULL)
        result = command->none();
    else if (count == 1 && command->one != NULL)
        result = command->one(names[0]);
    else if (count == 2 && command->two != NULL)
        result = command->two(names[0], names[1]);
    else
        return usage(stderr);
    errno = EIO; /* of an earlier write */
    if (fflush(stdout) != 0 || ferror(stdout))
        return trouble("the output: %s", strerror(errno));
    return result;
}
