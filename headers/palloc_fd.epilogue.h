/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* As in palloc.h: the text of the last error in this thread. Never NULL. */
const char *palloc_error(void);

/* The documented names. The types are macros too, for #ifdef. */
#define PALLOC_FD PALLOC_FD
#define PALLOC_FLAGS PALLOC_FLAGS
#define PALLOC_RESPONSE PALLOC_RESPONSE
#define PALLOC_OFFSET PALLOC_OFFSET
#define PALLOC_SIZE PALLOC_SIZE
#define palloc_open palloc_fd_open
#define palloc_init palloc_fd_init
#define palloc_close palloc_fd_close
#define palloc palloc_fd_alloc
#define pfree palloc_fd_free
#define palloc_size palloc_fd_size
#define palloc_next palloc_fd_next
