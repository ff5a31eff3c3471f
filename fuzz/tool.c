/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A fuzz target in C of the tool `palloc`: any arguments, with files of any bytes. By clang with libFuzzer, AddressSanitizer and
 * UndefinedBehaviorSanitizer.
 *
 * The first byte is how many arguments there are, and each of these is a byte: a word of the list below, or one that is made of the next
 * bytes of the input. The rest of the input is in two files, one of which a child process has locked. Every other name that is made of
 * the input is a link to the first file, so the tool opens a medium of this name.
 */
#define main tool_main
#include "../tools/palloc.c"
#undef main
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define MUST(what) ((what) ? (void)0 : (fprintf(report, "%s:%d: %s\n", __FILE__, __LINE__, #what), fflush(report), abort()))
#define WORDS (sizeof words / sizeof *words)
enum { MOST = 8, LONGEST = 12, LARGEST = 1 << 16 };

/* A word that begins with a slash is a file in the directory of the target. */
static const char *const words[] = {
    "stat",    "check",   "list",     "dump",   "map", "copy", "salvage", "trim", "create", "help",   "--version", "--json", "-l",
    "-o",      "--stop",  "--force",  "--static", "-", "--",   "",        "/m",   "/busy",  "/copy",  "/nothing",  "/dir",   "/m/copy",
    "/full",   "16",       "0",      "64K", "1M",   "-1",      "8Q",   "99999999999999999999", "/busy.live",
};

static FILE *report; /* standard error; the tool's is closed by -close_fd_mask=3 */
static char directory[] = "/dev/shm/palloc-tool-XXXXXX";
static pid_t owner, child;
static int busy = -1, inside, outside; /* inside, outside: the directories while the tool runs, and else */

static char *in_directory(char *path, size_t size, const char *name)
{
    snprintf(path, size, "%s/%s", directory, name);
    return path;
}

/* Removes all files that the tool made. Returns how many of them have the names of unfinished ones. */
static int remove_files(int all)
{
    struct dirent *entry;
    DIR *files = opendir(directory);
    char path[PATH_MAX];
    int unfinished = 0;

    while (files != NULL && (entry = readdir(files)) != NULL) {
        size_t length = strlen(entry->d_name);

        unfinished += length > 4 && strcmp(entry->d_name + length - 4, ".tmp") == 0;
        in_directory(path, sizeof path, entry->d_name);
        if (all || (strcmp(entry->d_name, "busy") != 0 && strcmp(entry->d_name, "dir") != 0 && strcmp(entry->d_name, "full") != 0))
            remove(path);
    }
    closedir(files);
    if (all)
        rmdir(directory);
    return unfinished;
}

static void finish(void)
{
    if (getpid() != owner)
        return;
    kill(child, SIGKILL);
    remove_files(1);
}

static void start(void)
{
    struct rlimit limit = {16 << 20, 16 << 20}; /* a file that would become larger is a full disk */
    char path[PATH_MAX];

    MUST(mkdtemp(directory) != NULL && mkdir(in_directory(path, sizeof path, "dir"), 0700) == 0);
    MUST(symlink("/dev/full", in_directory(path, sizeof path, "full")) == 0);
    owner = getpid();
    inside = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    outside = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    MUST(inside >= 0 && outside >= 0);
    busy = open(in_directory(path, sizeof path, "busy"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    child = fork();
    MUST(child >= 0);
    if (child == 0) {
        /* A lock of this process alone, by an opening of its own. */
        int own = open(path, O_RDWR | O_CLOEXEC);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (own < 0 || flock(own, LOCK_EX) != 0 || getppid() != owner)
            _exit(1);
        for (;;)
            pause();
    }
    while (flock(busy, LOCK_EX | LOCK_NB) == 0) { /* it has not got it yet */
        flock(busy, LOCK_UN);
        usleep(1000);
    }
    atexit(finish);
    signal(SIGXFSZ, SIG_IGN);
    MUST(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    report = fdopen(dup(STDERR_FILENO), "w");
    return report == NULL;
}

static void must_be(const char *name, const uint8_t *data, size_t size)
{
    static uint8_t found[LARGEST + 1];
    char path[PATH_MAX];
    int fd = open(in_directory(path, sizeof path, name), O_RDONLY | O_CLOEXEC);

    MUST(fd >= 0 && pread(fd, found, sizeof found, 0) == (ssize_t)size && memcmp(found, data, size) == 0);
    close(fd);
}

/* The next argument. Writes to `is_link` whether it is the name of a link. */
static void word(char *text, size_t size, const uint8_t **data, size_t *left, int *is_link)
{
    unsigned which = *(*data)++;

    --*left;
    if (which < WORDS) {
        if (words[which][0] == '/')
            in_directory(text, size, words[which] + 1);
        else
            snprintf(text, size, "%s", words[which]);
    } else {
        size_t length = which % LONGEST < *left ? which % LONGEST : *left, i;
        char any[LONGEST + 1] = {0};

        memcpy(any, *data, length);
        *data += length;
        *left -= length;
        for (i = 0; i < length; i++)
            any[i] = any[i] == '/' ? '_' : any[i];
        /* Options and numbers are as they are, all others are names. A name of dots only is another directory's, and that of an
         * unfinished file is left to the tool. */
        length = strlen(any);
        if (length > 4 && strcmp(any + length - 4, ".tmp") == 0)
            any[length - 1] = '_';
        if (any[0] == '-' || isdigit((unsigned char)any[0]))
            snprintf(text, size, "%s", any);
        else
            in_directory(text, size, any[strspn(any, ".")] != 0 ? any : "dots");
        *is_link = which / LONGEST % 2 == 0 && strcmp(any, "copy") != 0; /* what the tool makes has this name */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT, SIGBUS, SIGALRM};
    struct sigaction saved[sizeof signals / sizeof *signals];
    char *argv[MOST + 2] = {"palloc"}, path[PATH_MAX];
    int argc = 1, fd, status, changes = 0, copies = 0, is_link[MOST + 2] = {0};
    size_t i;

    if (size == 0 || size > LARGEST)
        return 0;
    if (busy < 0)
        start();
    size--;
    for (i = *data++ % (MOST + 1); i > 0 && size > 0; i--, argc++) {
        char text[256];

        word(text, sizeof text, &data, &size, &is_link[argc]);
        if (strcmp(argv[argc - 1], "-o") == 0 && strcmp(text, in_directory(path, sizeof path, "busy")) == 0)
            in_directory(text, sizeof text, "copy"); /* the tool replaces what it is told to: all inputs need this file */
        argv[argc] = strdup(text); /* so that nothing is behind it */
        MUST(argv[argc] != NULL);
    }
    fd = open(in_directory(path, sizeof path, "m"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    MUST(fd >= 0 && pwrite(fd, data, size, 0) == (ssize_t)size && close(fd) == 0);
    for (i = 1; i < (size_t)argc; i++)
        if (is_link[i])
            (void)!link(path, argv[i]); /* or there is a file with this name */
    MUST(ftruncate(busy, 0) == 0 && pwrite(busy, data, size, 0) == (ssize_t)size);
    for (i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], NULL, &saved[i]);
    for (i = 1; i < (size_t)argc; i++)
        changes |= strcmp(argv[i], "trim") == 0 || strcmp(argv[i], "-o") == 0;
    copies = argc > 1 && (strcmp(argv[1], "copy") == 0 || strcmp(argv[1], "salvage") == 0);

    json = all_of_it = stops = forced = 0;
    out = static_size = NULL;
    MUST(fchdir(inside) == 0); /* any word can be the name of a file that the tool makes */
    status = tool_main(argc, argv);
    MUST(fchdir(outside) == 0);
    fflush(stdout);
    clearerr(stdout);

    for (i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &saved[i], NULL);
    MUST(status == FINE || status == FOUND || status == TROUBLE);
    if (!changes)
        must_be("m", data, size);
    must_be("busy", data, size);
    in_directory(path, sizeof path, "copy");
    if (access(path, F_OK) == 0) {
        MUST(changes || status != TROUBLE);
        MUST(!copies || palloc_check(path, NULL, NULL) == 0);
    }
    MUST(remove_files(0) == 0 || changes);
    for (i = 1; i < (size_t)argc; i++)
        free(argv[i]);
    return 0;
}

#include "replay.h"
