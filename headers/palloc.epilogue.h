/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

/*
 * Names for the values of errno, for a switch over the reasons why a call failed. "Fails iff" of each
 * function has the values themselves. Other values are those of system calls: write a default.
 */
enum palloc_errno {
    PALLOC_E_INVALID = EINVAL,          /* an argument, or a file that is no medium */
    PALLOC_E_NO_FILE = ENOENT,          /* the file does not exist */
    PALLOC_E_LOCKED = EWOULDBLOCK,      /* the medium is open elsewhere */
    PALLOC_E_DAMAGED = EILSEQ,          /* a marker was overwritten: palloc_error() names the offset */
    PALLOC_E_FULL = ENOSPC,             /* the static medium or the disk is full */
    PALLOC_E_NO_MEMORY = ENOMEM,        /* memory, address space, or a size that no medium holds */
    PALLOC_E_READ_ONLY = EROFS,         /* opened with PALLOC_READONLY */
    PALLOC_E_SYNC_FAILED = EIO,         /* a sync failed, now or before, or the disk has an error */
    PALLOC_E_UNSUPPORTED = ENOTSUP,     /* PALLOC_EXTENDED; PALLOC_SHARED on this system or file system */
#if defined(ESTALE)
    PALLOC_E_NO_WRITER = ESTALE         /* no process has the medium open for writing with PALLOC_SHARED (any more) */
#else
    PALLOC_E_NO_WRITER = EOWNERDEAD     /* Windows has no ESTALE */
#endif
};

/*
 * Returns the address of the byte at `offset`, as palloc_data does for the first byte of a blob. It is faster: it takes no lock and
 * does not ask whether a blob is there. So use it for offsets that are in allocated blobs, such as those that the program has stored
 * itself. Any thread may call it at any time, also while another one makes the medium grow.
 *
 * Returns NULL on failure. Fails iff:
 * - EINVAL: the medium ends at or before `offset`.
 * - ENOSPC, EDQUOT, EFBIG: the file has holes, `offset` is in one, and the disk is full.
 *
 * It reserves space for one byte only: where the medium is a sparse copy of another one, call palloc_data once for each blob that is
 * written to.
 *
 * Precondition: `pt` is an open medium, not NULL.
 */
static inline void *palloc_at(const struct palloc_t *pt, uint64_t offset)
{
    /* The size first: the address is that of the mapping that had this size, or of a later one. */
#if defined(__GNUC__)
    const size_t size = __atomic_load_n(&pt->at_size, __ATOMIC_ACQUIRE);
    char *const base = __atomic_load_n(&pt->at_base, __ATOMIC_RELAXED);
#else
    const size_t size = *(const volatile size_t *)&pt->at_size;
    char *const base = *(char *const volatile *)&pt->at_base;
#endif

    return offset < size ? base + offset : palloc_at_locked(pt, offset);
}
