/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A disk with a volatile cache, and the machine that it is in.
 *
 *     disk BASE LOG SOCKET SECONDS PATIENCE COMMAND...
 *
 * Listens on SOCKET and runs COMMAND (qemu), which uses two exports of NBD: "disk", whose contents are BASE at first, and "records". A
 * write or a flush of the one and a write to the other are appended to LOG, in the order in which they were answered: one thread does
 * all, so there is one order. BASE stays as it is.
 *
 * COMMAND gets SIGKILL between two requests: when records have come for SECONDS, or after one with OP_END or OP_BROKEN. Then this
 * succeeds. It fails if COMMAND ends before, or if no record comes for PATIENCE seconds.
 */
#include "power.h"

#include <endian.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#define RECORDS_SIZE (64 * MIB)

/* The network block device, as its doc/proto.md describes it. */
enum {
    OPT_EXPORT_NAME = 1,
    OPT_ABORT = 2,
    OPT_GO = 7,
    REP_ACK = 1,
    REP_INFO = 3,
    INFO_EXPORT = 0,
    INFO_BLOCK_SIZE = 3,
    CMD_READ = 0,
    CMD_WRITE = 1,
    CMD_DISC = 2,
    CMD_FLUSH = 3
};
#define REP_ERR_UNSUP UINT32_C(0x80000001)
#define OPT_REPLY_MAGIC UINT64_C(0x3e889045565a9)
#define REQUEST_MAGIC UINT32_C(0x25609513)
#define REPLY_MAGIC UINT32_C(0x67446698)
#define HANDSHAKE_FLAGS 3 /* fixed newstyle, no zeroes */
#define EXPORT_FLAGS 5    /* has flags, has flush */
#define LARGEST_REQUEST (32u << 20)

struct export {
    const char *name;
    uint8_t *bytes;
    uint64_t size;
    int is_disk;
};

struct request {
    uint32_t magic;
    uint16_t flags, type;
    uint64_t cookie, offset;
    uint32_t size;
} __attribute__((packed));

struct reply {
    uint32_t magic, error;
    uint64_t cookie;
} __attribute__((packed));

static struct export exports[2] = {{"disk", NULL, 0, 1}, {"records", NULL, RECORDS_SIZE, 0}};
static FILE *log_file;
static uint64_t records;
static int is_last; /* the power is cut now */

static int get(int fd, void *bytes, size_t size)
{
    uint8_t *at = bytes;

    while (size > 0) {
        ssize_t n = read(fd, at, size);
        if (n <= 0)
            return 0;
        at += n;
        size -= (size_t)n;
    }
    return 1;
}

static int put(int fd, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;

    while (size > 0) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
        if (n <= 0)
            return 0;
        at += n;
        size -= (size_t)n;
    }
    return 1;
}

static void append(int type, uint64_t offset, const void *bytes, uint32_t size)
{
    struct entry entry;

    memset(&entry, 0, sizeof entry);
    entry.type = type;
    entry.size = size;
    entry.offset = offset;
    REQUIRE(fwrite(&entry, sizeof entry, 1, log_file) == 1);
    REQUIRE(size == 0 || fwrite(bytes, size, 1, log_file) == 1);
}

/* ------------------------------------------------------------------------------------------------------------------- negotiation */

static int put_option_reply(int fd, uint32_t option, uint32_t type, const void *bytes, uint32_t size)
{
    uint8_t head[20];

    put64(head, OPT_REPLY_MAGIC);
    put32(head + 8, option);
    put32(head + 12, type);
    put32(head + 16, size);
    return put(fd, head, sizeof head) && (size == 0 || put(fd, bytes, size));
}

static struct export *export_named(const uint8_t *name, uint32_t size)
{
    size_t i;

    for (i = 0; i < 2; i++)
        if (strlen(exports[i].name) == size && memcmp(exports[i].name, name, size) == 0)
            return &exports[i];
    return NULL;
}

/* Returns what the client wants to use, NULL if it goes away. */
static struct export *negotiate(int fd)
{
    static uint8_t data[65536];
    uint8_t head[18];

    memcpy(head, "NBDMAGICIHAVEOPT", 16);
    head[16] = 0;
    head[17] = HANDSHAKE_FLAGS;
    if (!put(fd, head, 18) || !get(fd, head, 4))
        return NULL;
    while (get(fd, head, 16)) {
        uint32_t option = (uint32_t)(get64(head + 8) >> 32), size = (uint32_t)get64(head + 8), name_size;
        struct export *export;

        if (size > sizeof data || !get(fd, data, size) || option == OPT_ABORT)
            return NULL;
        if (option == OPT_EXPORT_NAME && (export = export_named(data, size)) != NULL) {
            uint8_t answer[10];
            put64(answer, export->size);
            answer[8] = 0;
            answer[9] = EXPORT_FLAGS;
            return put(fd, answer, sizeof answer) ? export : NULL;
        }
        if (option == OPT_GO && size >= 6 && (name_size = be32toh(*(uint32_t *)(void *)data)) <= size - 6
            && (export = export_named(data + 4, name_size)) != NULL) {
            uint8_t info[12], sizes[14] = {0, INFO_BLOCK_SIZE};
            info[0] = 0;
            info[1] = INFO_EXPORT;
            put64(info + 2, export->size);
            info[10] = 0;
            info[11] = EXPORT_FLAGS;
            put32(sizes + 2, SECTOR);
            put32(sizes + 6, 4096);
            put32(sizes + 10, LARGEST_REQUEST);
            if (put_option_reply(fd, option, REP_INFO, info, sizeof info)
                && put_option_reply(fd, option, REP_INFO, sizes, sizeof sizes) && put_option_reply(fd, option, REP_ACK, NULL, 0))
                return export;
            return NULL;
        }
        if (!put_option_reply(fd, option, REP_ERR_UNSUP, NULL, 0))
            return NULL;
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------------------------------------------- requests */

static void take_record(const void *bytes, uint32_t size)
{
    const struct record *record = bytes;

    if (size != sizeof *record || record->magic != RECORD_MAGIC)
        return;
    append(ENTRY_RECORD, 0, record, size);
    records++;
    is_last |= record->next.kind == OP_END || record->next.kind == OP_BROKEN;
}

/* Answers one request; 0 when the client goes away. */
static int serve(int fd, struct export *export)
{
    static uint8_t data[LARGEST_REQUEST];
    struct request request;
    struct reply reply;
    uint64_t offset;
    uint32_t size;
    int reads = 0;

    if (!get(fd, &request, sizeof request) || be32toh(request.magic) != REQUEST_MAGIC)
        return 0;
    offset = be64toh(request.offset);
    size = be32toh(request.size);
    reply.magic = htobe32(REPLY_MAGIC);
    reply.error = 0;
    reply.cookie = request.cookie;
    switch (be16toh(request.type)) {
    case CMD_READ:
        reads = size <= sizeof data && offset <= export->size && size <= export->size - offset;
        if (!reads)
            reply.error = htobe32(EINVAL);
        break;
    case CMD_WRITE:
        if (size > sizeof data || !get(fd, data, size))
            return 0;
        if (offset > export->size || size > export->size - offset) {
            reply.error = htobe32(ENOSPC);
            break;
        }
        memcpy(export->bytes + offset, data, size);
        if (export->is_disk)
            append(ENTRY_WRITE, offset, data, size);
        else
            take_record(data, size);
        break;
    case CMD_FLUSH:
        if (export->is_disk)
            append(ENTRY_FLUSH, 0, NULL, 0);
        break;
    case CMD_DISC:
        return 0;
    default:
        reply.error = htobe32(EINVAL);
    }
    return put(fd, &reply, sizeof reply) && (!reads || put(fd, export->bytes + offset, size));
}

/* -------------------------------------------------------------------------------------------------------------------------- main */

static int listen_on(const char *path)
{
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    REQUIRE(strlen(path) < sizeof address.sun_path);
    strcpy(address.sun_path, path);
    unlink(path);
    REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 8) == 0);
    return fd;
}

/* The base image, privately: what is written to it is gone with this process. */
static void load(const char *base)
{
    int fd = open(base, O_RDONLY | O_CLOEXEC);

    exports[0].size = file_size(base);
    exports[0].bytes = mmap(NULL, exports[0].size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    exports[1].bytes = mmap(NULL, RECORDS_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(fd >= 0 && exports[0].bytes != MAP_FAILED && exports[1].bytes != MAP_FAILED);
    close(fd);
}

int main(int argc, char **argv)
{
    struct pollfd fds[8];
    struct export *export_of[8];
    uint64_t countdown, seen = 0;
    time_t first = 0, last = time(NULL);
    struct rng rng;
    int count = 1, gone = 0, i, seconds, patience;
    pid_t child;

    REQUIRE(argc > 6);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* and so the child when this process goes */
    load(argv[1]);
    log_file = fopen(argv[2], "wb");
    REQUIRE(log_file != NULL);
    seconds = atoi(argv[4]);
    patience = atoi(argv[5]);
    rng.state = (uint64_t)getpid();
    countdown = rng_below(&rng, 40);
    fds[0].fd = listen_on(argv[3]);
    child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp(argv[6], argv + 6);
        _exit(127);
    }
    while (!is_last && !gone && time(NULL) - last < patience) {
        for (i = 0; i < count; i++) {
            fds[i].events = POLLIN;
            fds[i].revents = 0;
        }
        if (poll(fds, (nfds_t)count, 1000) == 0)
            gone = waitpid(child, NULL, WNOHANG) == child;
        for (i = 1; i < count && !is_last && !gone; i++) {
            if (fds[i].revents == 0)
                continue;
            if (first != 0 && time(NULL) - first >= seconds && countdown-- == 0)
                is_last = 1;
            else
                gone = !serve(fds[i].fd, export_of[i]);
            if (records != seen) {
                seen = records;
                last = time(NULL);
                first = first != 0 ? first : last;
            }
        }
        if ((fds[0].revents & POLLIN) != 0 && count < 8) {
            fds[count].fd = accept4(fds[0].fd, NULL, NULL, SOCK_CLOEXEC);
            export_of[count] = fds[count].fd >= 0 ? negotiate(fds[count].fd) : NULL;
            if (export_of[count] != NULL)
                count++;
            else if (fds[count].fd >= 0)
                close(fds[count].fd);
        }
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    unlink(argv[3]);
    return fclose(log_file) == 0 && is_last ? 0 : 1;
}
