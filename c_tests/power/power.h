/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Shared by the programs of the power cuts: the acknowledgements that guest.c writes, the log that disk.c keeps, and that images.c reads.
 * All three run on the same machine, so the bytes are those of C.
 */
#ifndef POWER_H
#define POWER_H

#include "../palloc_util.h"

#define SECTOR 512

/* One operation on the medium, with the results that a twin of the medium gave. `left_out`: which of its `syncs` is left out. */
enum kind {
    OP_NONE,
    OP_INIT,   /* size: of the medium */
    OP_ALLOC,  /* asked; result: offset, 0 if the medium is full; size: palloc_size; grows: the file got longer */
    OP_FREE,   /* ptr */
    OP_RESIZE, /* ptr, asked; result: offset, 0 if the medium is full; size: palloc_size */
    OP_WRITE,  /* ptr, id: the pattern of `id` over the whole blob, by pwrite(2) */
    OP_STORE,  /* ptr, id: the same through palloc_data */
    OP_SYNC,   /* size: of the medium */
    OP_REOPEN, /* size: of the medium */
    OP_COMMIT, /* a transaction, `tx` */
    OP_LOSS,   /* asked: how many media were stored to, synced and read again; result: how many of them were not as stored */
    OP_END,    /* the guest is done */
    OP_BROKEN, /* an operation failed that must not: `text` says why */
    OP_COUNT
};

#define TX_NEW 3
#define TX_FREED 2

/* A transaction: new blobs with patterns, blobs that it frees, and one that it stores a pattern over. Unused places are 0. */
struct tx {
    struct {
        uint64_t ptr, size, asked, id; /* ptr 0: the medium was full; size: in MODE_THREADS the least that it can be */
    } new[TX_NEW];
    uint64_t freed[TX_FREED];
    uint64_t stored, id;
    uint64_t cancelled; /* by palloc_cancel */
};

struct op {
    uint64_t kind, ptr, asked, id, result, size, grows, syncs, left_out;
    uint64_t has_record; /* the operation before is a transaction with a record, which is outstanding */
    struct tx tx;
};

/* While one commits alone, the others wait, and then commit as a group. */
#define THREADS 4

/* The record that a thread writes when an operation begins. The operations of its records before have returned. */
struct record {
    uint64_t magic, number, thread;
    struct op next;
    char text[SECTOR - 3 * 8 - sizeof(struct op)];
};

static inline int changes_blobs(const struct tx *tx)
{
    return !tx->cancelled && (tx->freed[0] != 0 || tx->freed[1] != 0 || tx->stored != 0);
}

/* The name that a mutant has for the operation. */
static inline const char *operation_name(const struct op *op, uint64_t old_size)
{
    if (op->has_record && (op->kind == OP_FREE || op->kind == OP_ALLOC))
        return "next";
    switch (op->kind) {
    case OP_INIT:
        return "init";
    case OP_ALLOC:
        return op->grows ? "growth" : "alloc";
    case OP_FREE:
        return "free";
    case OP_SYNC:
        return "sync";
    case OP_REOPEN:
        return "reopen";
    case OP_COMMIT:
        return changes_blobs(&op->tx) ? "commit" : "new";
    case OP_RESIZE:
        if (op->result == 0)
            return "resize";
        return op->result != op->ptr ? "move" : op->size < old_size ? "shrink" : "grow";
    default:
        return "write";
    }
}

#define RECORD_MAGIC UINT64_C(0x706f776572637574)

/* An entry of the log, `size` bytes follow. */
struct entry {
    enum { ENTRY_WRITE, ENTRY_FLUSH, ENTRY_RECORD } type;
    uint32_t size;
    uint64_t offset;
};

/* How a medium is used. */
enum mode {
    MODE_FIRST,   /* palloc.h, a dynamic medium with PALLOC_SYNC */
    MODE_STATIC,  /* palloc.h, a static medium with PALLOC_SYNC */
    MODE_SECOND,  /* finwo/palloc.h, a dynamic medium with PALLOC_SYNC */
    MODE_PLAIN,   /* palloc.h, a dynamic medium, palloc_sync now and then */
    MODE_THREADS, /* palloc.h, a dynamic medium with PALLOC_SYNC, transactions of THREADS at once */
    MODE_SHARED,  /* as MODE_FIRST, with PALLOC_SHARED and a live reader */
    MODE_LOSS,    /* no power cut: store, sync, drop the cache, read */
    MODE_COUNT
};

static const char *const mode_names[MODE_COUNT] = {"first", "static", "second", "plain", "threads", "shared", "loss"};

static inline enum mode mode_of(const char *name)
{
    int mode = 0;

    while (mode < MODE_COUNT && strcmp(name, mode_names[mode]) != 0)
        mode++;
    REQUIRE(mode < MODE_COUNT);
    return (enum mode)mode;
}

/* A static medium is made of a file of this size. */
#define STATIC_SIZE (MIB + 8)

#define MOST_BLOBS 96

/* How many media are stored to, synced and read again. */
#define LOSS_MEDIA 12

#endif
