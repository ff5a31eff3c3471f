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
    PALLOC_E_UNSUPPORTED = ENOTSUP      /* PALLOC_EXTENDED */
};
